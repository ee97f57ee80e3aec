"""``tap-sendgrid --test``: looks at everything a run needs and tells, a line each, what to mend."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from tap_sendgrid.api import scopes
from tap_sendgrid.api.account import Account
from tap_sendgrid.api.errors import (
    MISREAD,
    Forbidden,
    InvalidCredentials,
    InvalidSetting,
    IPRestricted,
    MissingScope,
    SendGridError,
)
from tap_sendgrid.api.generation import Generation
from tap_sendgrid.api.pages import rows_of
from tap_sendgrid.event_log import EventLog, EventLogError, open_event_log, shown
from tap_sendgrid.events.reader import consumer_of, log_url
from tap_sendgrid.objects.base import MarketingStream, ObjectStream
from tap_sendgrid.webhook.settings_api import EVENT_FLAGS

if TYPE_CHECKING:
    from tap_sendgrid.tap import TapSendGrid

Level = Literal["ok", "note", "FAIL"]

_WEBHOOKS = "/v3/user/webhooks/event/settings/all"
_WEBHOOK_SCOPE = ("user.webhooks.event.settings.read",)
_READ_SECONDS = 3.0
# Events about the account are not about mail: that they are off is no finding.
_EVENT_FLAGS = tuple(flag for flag in EVENT_FLAGS if flag != "account_status_change")


@dataclass(frozen=True)
class Finding:
    """One line of the doctor's report.

    Attributes:
        level: ``ok``; ``note``: works, but look at it; ``FAIL``: a sync will not do what is asked.
        about: What was looked at.
        text: What was found.
        mend: What to do about it; empty when it is well.
    """

    level: Level
    about: str
    text: str
    mend: str = ""

    def __str__(self) -> str:
        mend = f" -> {self.mend}" if self.mend else ""
        return f"{self.level:<4}  {self.about}: {self.text}{mend}"


def examine(tap: TapSendGrid) -> Iterator[Finding]:
    """Everything that a run of this tap needs, in the order in which it would fail."""
    selected = [stream for stream in tap.streams.values() if stream.selected]
    objects = [stream for stream in selected if isinstance(stream, ObjectStream)]
    settings = tap.api_settings
    if objects:
        yield from _start_date(tap)
    if settings.api_key:
        for subuser in settings.subusers or (None,):
            about = f" ({subuser})" if subuser else ""
            yield from _account(tap, tap.account(subuser), objects, about)
    elif objects:
        names = ", ".join(stream.name for stream in objects)
        yield Finding(
            "FAIL",
            "API key",
            f"none is set, and these selected streams need one: {names}",
            "set TAP_SENDGRID_API_KEY, or select event streams only",
        )
    else:
        yield Finding("note", "API key", "none is set; event streams do not need one")
    if len(selected) > len(objects):
        yield _event_log(tap)


def _start_date(tap: TapSendGrid) -> Iterator[Finding]:
    try:
        tap.check_start_date()
    except InvalidSetting as problem:
        yield Finding("FAIL", "Setting", str(problem))


def _account(
    tap: TapSendGrid, account: Account, objects: Sequence[ObjectStream], about: str
) -> Iterator[Finding]:
    settings = tap.api_settings
    try:
        held = account.scopes()
    except InvalidCredentials as problem:
        yield Finding("FAIL", f"API key{about}", " ".join(str(problem).split()))
        return
    except IPRestricted as problem:
        yield Finding("FAIL", f"IP access{about}", str(problem))
        return
    except (SendGridError, *MISREAD) as problem:
        yield Finding("FAIL", f"SendGrid{about}", str(problem), "check api_url and the network")
        return
    yield Finding(
        "ok", f"API key{about}", f"{settings.api_url} knows it (key id {settings.key_id})"
    )
    yield Finding("ok", f"IP access{about}", "this machine's address is allowed")
    yield from _scopes(account, objects, held, about)
    yield _region(tap, objects)
    marketing = any(isinstance(stream, MarketingStream) for stream in objects)
    if marketing and settings.region != "eu":
        yield _generation(account, about)
    yield from _webhook(tap, account, held, about)


def _scopes(
    account: Account, objects: Sequence[ObjectStream], held: frozenset[str], about: str
) -> Iterator[Finding]:
    lacking: dict[tuple[str, ...], list[str]] = {}
    for stream in objects:
        needed = stream.scopes
        if isinstance(stream, MarketingStream):
            needed = (*scopes.MARKETING, *scopes.LEGACY)
        if not scopes.allows(held, needed):
            lacking.setdefault(needed, []).append(stream.name)
    for needed, lackers in lacking.items():
        yield Finding(
            "FAIL",
            f"Scopes{about}",
            f"the key lacks {' or '.join(needed)}, which {', '.join(lackers)} need",
            "give it to the key under Settings > API Keys, or deselect the streams",
        )
    if not lacking:
        names = ", ".join(stream.name for stream in objects) or "no object stream is selected"
        yield Finding("ok", f"Scopes{about}", f"enough for what is selected ({names})")


def _region(tap: TapSendGrid, objects: Sequence[ObjectStream]) -> Finding:
    region = tap.api_settings.region
    if region == "eu" and (absent := [stream.name for stream in objects if not stream.eu]):
        return Finding(
            "note",
            "Region",
            f"eu; SendGrid has no EU host for {', '.join(absent)}: they stay empty",
            "deselect them, or read them with region: global",
        )
    return Finding("ok", "Region", region)


def _generation(account: Account, about: str) -> Finding:
    name = f"Marketing Campaigns{about}"
    try:
        generation = account.generation()
        fields = account.custom_fields()
    except MissingScope:
        return Finding("note", name, "cannot be told without the scope above")
    except Forbidden as problem:
        better = account.explain(problem, scopes.MARKETING, "Marketing Campaigns")
        return Finding("FAIL", name, str(better), "set api_generation: auto")
    except (SendGridError, *MISREAD) as problem:
        return Finding("FAIL", name, str(problem), "try again later")
    if generation is Generation.NONE:
        return Finding("note", name, "this account does not use it: its collections stay empty")
    return Finding("ok", name, f"{generation.value} generation, {len(fields)} custom field(s)")


def _webhook(
    tap: TapSendGrid, account: Account, held: frozenset[str], about: str
) -> Iterator[Finding]:
    name = f"Webhook{about}"
    register = "sendgrid-webhook register"
    if not scopes.allows(held, _WEBHOOK_SCOPE):
        yield Finding(
            "note",
            name,
            f"cannot be looked at: the key lacks {_WEBHOOK_SCOPE[0]}",
            "give it to the key, or look under Settings > Mail Settings > Event Webhooks",
        )
        return
    try:
        answer = account.client.get(_WEBHOOKS, {"include": "account_status_change"})
        hooks = rows_of(answer, "webhooks")
    except SendGridError as problem:
        yield Finding("note", name, f"cannot be looked at: {problem}")
        return
    wanted = tap.config.get("webhook_url")
    if wanted:
        hooks = [hook for hook in hooks if str(hook.get("url", "")).startswith(str(wanted))]
    if not hooks:
        found = f"SendGrid has none for {wanted}" if wanted else "SendGrid has none"
        yield Finding("note", name, f"{found}: no events arrive", register)
    for hook in hooks:
        yield _one_webhook(hook, f"{name} {hook.get('friendly_name') or hook.get('id')}", register)


def _one_webhook(hook: dict[str, Any], name: str, register: str) -> Finding:
    if not hook.get("enabled"):
        return Finding("note", name, "it is switched off: no events arrive", register)
    if absent := [flag for flag in _EVENT_FLAGS if not hook.get(flag)]:
        return Finding("note", name, f"it does not post {', '.join(absent)}", register)
    if not hook.get("public_key"):
        return Finding("note", name, "signing is off: anybody could post events", register)
    return Finding("ok", name, "on, signed, all events")


def _event_log(tap: TapSendGrid) -> Finding:
    url = log_url(tap)
    try:
        log = open_event_log(url, create=False)
    except EventLogError as problem:
        return Finding("note", "Event log", str(problem))  # which says what to do
    try:
        status = log.status()
        consumer = consumer_of(tap)
        _read_a_while(log, next((p.offset for p in log.positions() if p.consumer == consumer), 0))
    except EventLogError as problem:
        return Finding("FAIL", "Event log", str(problem))
    finally:
        log.close()
    last = "never" if status.last_received_at is None else status.last_received_at.isoformat()
    return Finding(
        "ok", "Event log", f"{shown(url)}, end at offset {status.end}, last delivery {last}"
    )


def _read_a_while(log: EventLog, after: int) -> None:
    """Read what a run would read next, as far as some seconds go.

    Raises:
        EventLogError: A delivery is damaged.
    """
    until = time.monotonic() + _READ_SECONDS
    for _ in log.read(after):
        if time.monotonic() > until:
            return
