"""Brings SendGrid to post to us: creates or updates the webhook, signed, and keeps its key."""

from __future__ import annotations

import json
import logging
import secrets
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

from tap_sendgrid.api.client import Client
from tap_sendgrid.api.errors import NotFound, SendGridError, ServiceUnavailable
from tap_sendgrid.event_log import EventLog, EventLogError, open_event_log
from tap_sendgrid.webhook.addresses import web_address
from tap_sendgrid.webhook.forward import begin
from tap_sendgrid.webhook.keys import store_key
from tap_sendgrid.webhook.settings_api import EVENT_FLAGS, Webhook, WebhookSettingsApi
from tap_sendgrid.webhook.signature import BadPublicKey

logger = logging.getLogger("sendgrid-webhook.register")

PATH_TOKEN_SETTING = "webhook.path_token"  # noqa: S105 - the name under which it is kept
STATUS_TOKEN_SETTING = "webhook.status_token"  # noqa: S105
WEBHOOK_IDS_SETTING = "webhook.ids"
FORWARD_SETTING = "webhook.forward_to"
FRIENDLY_NAME = "tap-sendgrid event log"


class RegistrationError(Exception):
    """The webhook cannot be set up as asked; the message says what to ask instead."""


def shared_token(log: EventLog, setting: str, given: str | None = None) -> str:
    """A secret of the receiver, one per log, so that every process and command has the same.

    The one that was given last; made once when none was.
    """
    stored = log.get(setting)
    if given and given != stored:
        log.put(setting, given)
    return given or stored or log.put_if_absent(setting, secrets.token_urlsafe(32))


def token_to_come(event_log_url: str) -> str:
    """The path token that the log has or would get; nothing is made, neither it nor the log.

    Raises:
        EventLogError: The log is there, and cannot be read.
    """
    token = None
    try:
        with closing(open_event_log(event_log_url, create=False)) as log:
            token = log.get(PATH_TOKEN_SETTING)
    except EventLogError as problem:
        if problem.kind != "missing":
            raise
    return token or secrets.token_urlsafe(32)


def stored_list(log: EventLog, setting: str) -> list[str]:
    """A list kept in the log."""
    return [str(item) for item in json.loads(log.get(setting) or "[]")]


def add_to_list(log: EventLog, setting: str, item: str) -> None:
    """Add to a list kept in the log what is not in it yet."""
    items = stored_list(log, setting)
    if item not in items:
        log.put(setting, json.dumps([*items, item]))


def ids_setting(subuser: str | None) -> str:
    """Where the ids of the webhooks stand that :func:`register` set up in an account.

    Each account has its own: a subuser's webhook is unknown to the others.
    """
    return f"{WEBHOOK_IDS_SETTING}.{subuser}" if subuser else WEBHOOK_IDS_SETTING


def fetch_keys(client: Client, log: EventLog) -> None:
    """Ask SendGrid for the present keys of the webhooks that :func:`register` set up.

    Asks once: a delivery waits meanwhile, and so does the receiver's stop. A webhook of which the
    key cannot be had does not keep the keys of the others from being fetched.

    Raises:
        ServiceUnavailable: SendGrid does not answer, so that there is no use in asking on.
    """
    api = WebhookSettingsApi(client)
    setting = ids_setting(api.subuser)
    ids = stored_list(log, setting)
    if not ids:
        logger.info("`register` has set up no webhook for %s", api.subuser or "the account itself")
    gone = []
    answered = False
    with client.impatient():
        for webhook_id in ids:
            try:
                key = api.public_key(webhook_id)
                answered = True
                if key:
                    store_key(log, webhook_id, key)
            except ServiceUnavailable:
                raise
            except (SendGridError, BadPublicKey) as problem:
                logger.warning("No key of webhook %s: %s", webhook_id, problem)
                if isinstance(problem, NotFound):
                    gone.append(webhook_id)
    if gone and answered:
        # If none was known, the address may be wrong, or the account another one. Their keys stay:
        # SendGrid goes on repeating what it signed with them.
        left = [each for each in stored_list(log, setting) if each not in gone]
        log.put(setting, json.dumps(left))


def delivery_url(base: str, path_token: str) -> str:
    """The address SendGrid is to post to.

    Raises:
        RegistrationError: ``base`` is no address that SendGrid could reach.
    """
    parts = web_address(base)
    if parts is None or parts.query:
        raise RegistrationError(
            f"{base!r} is no public address: write https://events.example.com, where a request "
            "reaches this receiver"
        )
    return f"{base.rstrip('/')}/{path_token}"


@dataclass(frozen=True)
class Registration:
    """What is to be set up.

    Attributes:
        url: Full address, with the secret path.
        replace: Id, or URL, of a webhook to take over when the plan allows no further one.
        forward_replaced: Send copies to the URL that is replaced.
        oauth: ``oauth_client_id``, ``oauth_client_secret``, ``oauth_token_url``; or empty.
    """

    url: str
    replace: str | None = None
    forward_replaced: bool = True
    oauth: dict[str, str] = field(default_factory=dict, repr=False)


def register(
    api: WebhookSettingsApi, log: EventLog | None, wish: Registration, say: Callable[[str], None]
) -> None:
    """Set the webhook up, and say each step.

    Args:
        api: SendGrid.
        log: Where the key and the webhook's id are kept; None: only say what would be done.
        wish: What is to be set up.
        say: Takes a line for the person who runs it.

    Raises:
        RegistrationError: No place is left for a further webhook, or SendGrid gives no key.
        SendGridError: SendGrid refuses.
    """
    webhooks, allowed = api.all()
    for webhook in webhooks:
        say(f"SendGrid has webhook {webhook.id or '(the oldest)'}: {_describe(webhook, wish)}")
    settings: dict[str, Any] = {
        "enabled": True,
        "url": wish.url,
        **dict.fromkeys(EVENT_FLAGS, True),
        **wish.oauth,
    }
    target = _choose(webhooks, allowed, wish)
    would = "Would " if log is None else ""
    if target is None:
        say(_capital(f"{would}create a webhook with all {len(EVENT_FLAGS)} event types, signed"))
        if log is None:
            return
        target = api.create({**settings, "friendly_name": FRIENDLY_NAME})
    else:
        changes = _changes(target, wish)
        if changes:
            say(_capital(f"{would}update webhook {target.id or '(the oldest)'}: {changes}"))
        foreign = target.url if target.url != wish.url and target.url else ""
        if foreign and wish.forward_replaced and not _is_ours(target, wish):
            say(
                f"{would or 'Will '}pass every delivery on to {_without_secrets(foreign)} "
                "(`serve` does so by itself)"
            )
            if log is not None:
                add_to_list(log, FORWARD_SETTING, foreign)
                begin(log, foreign)
        if log is None:
            return
        if changes or wish.oauth:
            api.update(target.id, settings)
    key = api.public_key(target.id) or api.enable_signing(target.id)
    if not key:
        raise RegistrationError(
            "SendGrid gave no signature key: look at Settings > Mail Settings > Event Webhooks "
            "whether Signed Event Webhook is on, and run the command again"
        )
    store_key(log, target.id, key)
    add_to_list(log, ids_setting(api.subuser), target.id)
    say("Signing is on and its public key is stored in the event log")


def _choose(webhooks: list[Webhook], allowed: int | None, wish: Registration) -> Webhook | None:
    """The webhook to update; None to create one."""
    if wish.replace:
        for webhook in webhooks:
            if wish.replace in (webhook.id, webhook.url):
                return webhook
        raise RegistrationError(f"SendGrid has no webhook {wish.replace!r}")
    for webhook in webhooks:
        if webhook.url == wish.url:
            return webhook
    for webhook in webhooks:
        if _is_ours(webhook, wish):
            return webhook
    if allowed is not None and len(webhooks) >= allowed:
        listed = "\n".join(f"  {w.id or w.url}  {_without_secrets(w.url)}" for w in webhooks)
        raise RegistrationError(
            f"the plan allows {allowed} webhook(s) and all are taken:\n{listed}\n"
            "Run the command again with --replace ID: deliveries then come here, and are passed "
            "on to the URL that was there (unless --no-forward is given)"
        )
    return None


def _is_ours(webhook: Webhook, wish: Registration) -> bool:
    """Whether an earlier ``register`` made it, with another address or token."""
    same_host = urlsplit(webhook.url).netloc == urlsplit(wish.url).netloc
    return webhook.friendly_name == FRIENDLY_NAME and same_host


def _changes(webhook: Webhook, wish: Registration) -> str:
    """What an update changes, in words; empty when nothing."""
    changes = []
    if webhook.url != wish.url:
        changes.append(f"its URL was {_without_secrets(webhook.url)}")
    if not webhook.enabled:
        changes.append("it was off")
    if webhook.events_off:
        changes.append(f"it did not send {', '.join(webhook.events_off)}")
    return "; ".join(changes)


def _describe(webhook: Webhook, wish: Registration) -> str:
    parts = [_without_secrets(webhook.url)]
    if webhook.url == wish.url:
        parts.append("posts to us")
    parts.append("enabled" if webhook.enabled else "off")
    parts.append("signed" if webhook.public_key else "not signed")
    if webhook.events_off:
        parts.append(f"without {', '.join(webhook.events_off)}")
    return ", ".join(parts)


def _without_secrets(url: str) -> str:
    """A URL without user, password, path and query: any of them may be a secret."""
    parts = urlsplit(url)
    more = "/…" if parts.path.strip("/") or parts.query else ""
    return f"{parts.scheme}://{parts.hostname or ''}{f':{parts.port}' if parts.port else ''}{more}"


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]
