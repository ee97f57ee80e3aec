"""Event Webhook settings: several webhooks per account, signing keys, the test button.

Source: official spec webhooks; error texts are exact. The forms without an id are those of the
single webhook of old: they act on the oldest one.
"""

from __future__ import annotations

import time
import uuid
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from anyio import to_thread
from starlette.responses import Response

from sendgrid_simulator.http import ApiError, Area, Call, json_response
from sendgrid_simulator.oauth import TokenSource
from sendgrid_simulator.post import new_pool, post
from sendgrid_simulator.signing import DELIVERY_HEADERS, public_key_text, sign_body
from sendgrid_simulator.testbutton import test_body
from sendgrid_simulator.times import iso

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey

    from sendgrid_simulator.account import Account

_SETTINGS = "user.webhooks.event.settings"
area = Area(f"{_SETTINGS}.read")
BASE = "/v3/user/webhooks/event"

#: Setting flag by event name, where the two differ.
FLAG_OF_EVENT = {"spamreport": "spam_report"}
FLAGS = (
    "group_resubscribe",
    "delivered",
    "group_unsubscribe",
    "spam_report",
    "bounce",
    "deferred",
    "unsubscribe",
    "processed",
    "open",
    "click",
    "dropped",
    "account_status_change",
)
_TEXTS = ("friendly_name", "oauth_client_id", "oauth_token_url")


@dataclass
class Webhook:
    """One Event Webhook. ``created_date`` is None for the oldest, which predates several."""

    id: str
    url: str
    enabled: bool = False
    flags: dict[str, bool] = field(default_factory=lambda: dict.fromkeys(FLAGS, False))
    friendly_name: str | None = None
    oauth_client_id: str | None = None
    oauth_client_secret: str | None = field(default=None, repr=False)
    oauth_token_url: str | None = None
    private_key: EllipticCurvePrivateKey | None = field(default=None, repr=False)
    created_date: int | None = None
    updated_date: int = 0

    @property
    def public_key(self) -> str:
        """The public key of the signature, empty while signing is off."""
        return "" if self.private_key is None else public_key_text(self.private_key)

    def wants(self, event: str) -> bool:
        """Whether events of this name are posted to it."""
        return self.enabled and self.flags.get(FLAG_OF_EVENT.get(event, event), False)


def token_source(
    client_id: str | None, secret: str | None, token_url: str | None
) -> TokenSource | None:
    """Where tokens come from, if the webhook has OAuth."""
    if not client_id or not token_url:
        return None
    return TokenSource(client_id, secret or "", token_url)


def _render(webhook: Webhook, *, account_status: bool = False) -> dict[str, Any]:
    flags = {
        name: value
        for name, value in webhook.flags.items()
        if account_status or name != "account_status_change"
    }
    body: dict[str, Any] = {
        "enabled": webhook.enabled,
        "url": webhook.url,
        **flags,
        "id": webhook.id,
    }
    body |= {name: getattr(webhook, name) for name in _TEXTS}
    created = webhook.created_date
    body["created_date"] = None if created is None else iso(created)
    body["updated_date"] = iso(webhook.updated_date)
    return body | ({"public_key": webhook.public_key} if webhook.private_key else {})


def _invalid_id() -> ApiError:
    return ApiError(404, "Invalid id provided.", {})


def _find(call: Call) -> Webhook:
    """The webhook with the id in the path; the oldest when the path has none."""
    webhooks = call.account.webhooks
    wanted = call.request.path_params.get("id")
    if wanted is None and webhooks:
        return webhooks[0]
    for webhook in webhooks:
        if webhook.id == wanted:
            return webhook
    raise _invalid_id()


def _change(account: Account, webhook: Webhook, body: dict[str, Any]) -> None:
    """Applies a settings body; nothing is changed when it is refused."""
    url = body.get("url", webhook.url)
    parts = urlsplit(url) if isinstance(url, str) else None
    if parts is None or parts.scheme not in ("http", "https") or not parts.hostname:
        raise ApiError(400, f"'{url}' is not a valid url", {})
    for other in account.webhooks:
        if other.url == url and other is not webhook:
            message = f"Webhook at '{url}' already exists. Please provide a unique URL."
            raise ApiError(400, message, {"id": other.id, "url": url})
    for name in ("enabled", *FLAGS):
        if not isinstance(body.get(name, False), bool):
            raise ApiError(400, f"{name} must be a boolean", {"field": name})
    client = body.get("oauth_client_id", webhook.oauth_client_id)
    token_url = body.get("oauth_token_url", webhook.oauth_token_url)
    if bool(client) is not bool(token_url):
        missing = "oauth_token_url" if client else "oauth_client_id"
        raise ApiError(400, f"{missing} is required", {"field": missing})
    webhook.url = str(url)
    webhook.enabled = body.get("enabled", webhook.enabled)
    webhook.flags.update({name: body[name] for name in FLAGS if name in body})
    for name in (*_TEXTS, "oauth_client_secret"):
        if name in body:
            setattr(webhook, name, body[name])
    webhook.updated_date = int(time.time())


@area.on("POST", f"{BASE}/settings", f"{_SETTINGS}.create", f"{_SETTINGS}.update")
def create(call: Call) -> Response:
    """A new webhook; its URL must be unique, its number within the plan."""
    account = call.account
    now = int(time.time())
    webhook = Webhook(str(uuid.uuid1()), "", created_date=now)
    _change(account, webhook, call.json_object())
    if len(account.webhooks) >= account.options.max_webhooks:
        text = "You have reached the maximum number of webhooks per your current billing plan."
        raise ApiError(400, text, {})
    account.webhooks.append(webhook)
    return json_response(_render(webhook, account_status=True), 201)


def _include(call: Call) -> bool:
    return "account_status_change" in call.query("include")


@area.on("GET", f"{BASE}/settings/all")
def all_settings(call: Call) -> Response:
    """Every webhook, and how many the plan allows."""
    account = call.account
    rows = [_render(webhook, account_status=_include(call)) for webhook in account.webhooks]
    if not rows and account.options.empty_webhook:
        rows = [{}]
    return json_response({"max_allowed": account.options.max_webhooks, "webhooks": rows})


def signed(call: Call) -> Response:
    """The public key; without an id that of the oldest webhook, with an empty id."""
    webhook = _find(call)
    shown = webhook.id if "id" in call.request.path_params else ""
    return json_response({"id": shown, "public_key": webhook.public_key})


def sign(call: Call) -> Response:
    """Turns signing on (a new key pair) or off (the pair is gone)."""
    webhook = _find(call)
    enabled = call.json_object().get("enabled")
    if not isinstance(enabled, bool):
        raise ApiError(400, "enabled must be a boolean", {"field": "enabled"})
    if enabled and webhook.private_key is None:
        webhook.private_key = call.account.new_signing_key()
    elif not enabled:
        webhook.private_key = None
    return signed(call)


def one(call: Call) -> Response:
    """One webhook."""
    return json_response(_render(_find(call), account_status=_include(call)))


def update(call: Call) -> Response:
    """Changes what the body names."""
    webhook = _find(call)
    if call.account.webhooks.index(webhook) >= call.account.options.max_webhooks:
        text = "This webhook cannot be modified based on your current billing plan."
        raise ApiError(400, text, {})
    _change(call.account, webhook, call.json_object())
    return json_response(_render(webhook, account_status=_include(call)))


@area.on(
    "POST", f"{BASE}/test", "user.webhooks.event.test.create", "user.webhooks.event.test.update"
)
async def test(call: Call) -> Response:
    """Posts the eleven test events, whatever the flags; signed when this webhook is."""
    body = call.json_object()
    url = body.get("url")
    if not isinstance(url, str) or urlsplit(url).scheme not in ("http", "https"):
        raise ApiError(400, f"'{url}' is not a valid url", {})
    webhooks = call.account.webhooks
    chosen = [w for w in webhooks if w.id == body.get("id")] if body.get("id") else webhooks[:1]
    if body.get("id") and not chosen:
        raise _invalid_id()
    payload = test_body(int(time.time()))
    key = chosen[0].private_key if chosen else None
    headers = sign_body(payload, key) if key else dict(DELIVERY_HEADERS)
    saved = chosen[0].oauth_client_secret if chosen else None
    tokens = token_source(
        body.get("oauth_client_id"),
        body.get("oauth_client_secret") or saved,
        body.get("oauth_token_url"),
    )
    send = partial(post, new_pool(1), url, payload, headers, tokens=tokens)
    await to_thread.run_sync(send)
    return Response(status_code=204)


for _suffix in ("", "/{id}"):
    area.on("GET", f"{BASE}/settings/signed{_suffix}")(signed)
    area.on("PATCH", f"{BASE}/settings/signed{_suffix}", f"{_SETTINGS}.update")(sign)
for _suffix in ("", "/{id}"):
    area.on("GET", f"{BASE}/settings{_suffix}")(one)
    area.on("PATCH", f"{BASE}/settings{_suffix}", f"{_SETTINGS}.update")(update)


@area.on("DELETE", f"{BASE}/settings/{{id}}", f"{_SETTINGS}.delete", f"{_SETTINGS}.update")
def delete(call: Call) -> Response:
    """Removes a webhook."""
    call.account.webhooks.remove(_find(call))
    return Response(status_code=204)
