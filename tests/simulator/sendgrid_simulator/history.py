"""History: Email Logs (``/v3/logs``) and Email Activity (``/v3/messages``).

Source: official specs logs and email_activity, Twilio docs "Email Activity". The messages are those
that the webhook sender posts, with the same event ids. No paging in either.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import msgspec

from sendgrid_simulator.http import ApiError, Area, Call, forbidden, json_response
from sendgrid_simulator.sgql import Language, Query, QueryError, parse
from sendgrid_simulator.times import DAY, date_of, iso

if TYPE_CHECKING:
    from starlette.responses import Response

    from sendgrid_simulator.account import Account
    from sendgrid_simulator.messages import Message

logs_area = Area()
activity_area = Area("messages.read", "email_activity.read", eu=False)

_BASE = ("event", "email", "sg_message_id", "sg_event_id", "timestamp", "category")
_DELIVERY = (*_BASE, "smtp-id", "ip", "tls", "asm_group_id", "cert_err")
_READER = (*_BASE, "ip", "useragent", "asm_group_id")
#: What the logs say of each event; the rest of what the webhook says is not in their schema.
LOGGED: dict[str, tuple[str, ...]] = {
    "processed": (*_BASE, "smtp-id", "send_at", "pool", "asm_group_id"),
    "deferred": (*_DELIVERY, "response", "attempt", "domain", "from"),
    "delivered": (*_DELIVERY, "response"),
    "bounce": (*_DELIVERY, "bounce_classification", "reason", "status", "type"),
    "dropped": (*_BASE, "smtp-id", "reason", "pool", "asm_group_id", "message"),
    "open": (*_READER, "url", "sg_content_type", "sg_machine_open"),
    "click": (*_READER, "url", "url_offset"),
    "spamreport": _BASE,
    "unsubscribe": (*_BASE, "ip", "useragent", "reseller_id", "date"),
    "group_unsubscribe": _READER,
    "group_resubscribe": _READER,
}


def status_of(message: Message) -> str:
    """The message's status, as its events tell: a late bounce outdoes a delivery."""
    status = "processed"
    for event in message.events:
        name = event["event"]
        if name == "bounce":
            return "blocked" if event["type"] == "blocked" else "bounced"
        if name == "dropped":
            return "dropped"
        if name in ("delivered", "open", "click"):
            status = "delivered"
        elif name == "deferred" and status == "processed":
            status = "deferred"
    return status


def reason_of(message: Message) -> str:
    """Why it was dropped, bounced or deferred, or what the receiving server said."""
    texts = [event.get("reason") or event.get("response") or "" for event in message.events]
    return next((text for text in reversed(texts) if text), "")


def categories_of(message: Message) -> list[str]:
    """The message's categories."""
    category = message.events[0].get("category", [])
    return [category] if isinstance(category, str) else list(category)


def summary(message: Message) -> dict[str, Any]:
    """A row of ``POST /v3/logs``."""
    row = {
        "from_email": message.from_email,
        "sg_message_id": message.message_id,
        "subject": message.subject,
        "to_email": message.to_email,
        "status": status_of(message),
        "sg_message_id_created_at": iso(message.created_at),
    }
    reason = reason_of(message)
    return row | ({"reason": reason} if reason else {})


def _value(message: Message, name: str) -> Any:
    if name == "sg_message_id_created_at":
        return message.created_at
    if name == "sg_message_id":
        return message.message_id
    if name == "status":
        return status_of(message)
    if name == "reason":
        return reason_of(message)
    if name == "categories":
        return categories_of(message)
    return getattr(message, name)


_LOG_FIELDS = {"sg_message_id", "subject", "to_email", "status", "reason", "categories"}
_LOGS = Language(
    _value,
    (_LOG_FIELDS | {"sg_message_id_created_at"}).__contains__,
    ("sg_message_id_created_at",),
    "sg_message_id_created_at",
    plain=True,
)


def _parse(text: str, language: Language) -> Query:
    try:
        return parse(text, language)
    except QueryError as error:
        raise ApiError(400, f"invalid syntax: {error}", {"field": "query"}) from None


def oldest_kept(account: Account) -> float:
    """The instant before which messages are gone from the logs."""
    now = time.time() if account.options.anchor is None else account.anchor
    return now - account.options.retention_days * DAY


def find_messages(account: Account, query: Query, limit: int) -> list[Message]:
    """The newest messages that match and are still kept, at most ``limit``."""
    book = account.messages
    hits: list[Message] = []
    for index in reversed(book.between(max(query.low, oldest_kept(account)), query.high)):
        if len(hits) >= limit:
            break
        message = book.get(index)
        if query.test(message):
            hits.append(message)
    return hits


def _subuser(call: Call, user_id: str) -> Account:
    """The account that a parent asks about: itself, or a subuser by number."""
    if not user_id:
        return call.account
    for account in call.simulator.subusers.values():
        if str(account.user_id) == user_id and not call.account.username:
            return account
    raise forbidden()


@logs_area.on("POST", "/v3/logs")
def search_logs(call: Call) -> Response:
    """Messages of the last 30 days, newest first, at most ``limit`` (10, up to 1,000)."""
    body = call.json_object()
    limit = body.get("limit", 10)
    if not isinstance(limit, int) or not 1 <= limit <= 1000:
        raise ApiError(400, "limit must be between 1 and 1000", {"field": "limit"})
    subusers = body.get("subusers") or []
    if not isinstance(subusers, list) or len(subusers) > 1:
        raise ApiError(400, "only one subuser is allowed", {"field": "subusers"})
    account = _subuser(call, str(subusers[0]) if subusers else "")
    text = body.get("query") or ""
    query = _parse(text, _LOGS) if text.strip() else Query(lambda _message: True)
    found = find_messages(account, query, min(limit, account.options.logs_row_cap))
    rows = [summary(message) for message in found]
    return json_response({"messages": None if call.null_result else rows})


def log_event(message: Message, number: int) -> dict[str, Any]:
    """One event in the logs' words: custom args nested, only what their schema defines."""
    event, event_id = message.events[number], message.ids[number]
    shown = {name: event[name] for name in LOGGED[event["event"]] if name in event}
    # An id and a message id are there even where the webhook leaves them out.
    shown |= {"sg_event_id": event_id, "sg_message_id": message.message_id}
    if "category" in shown:
        shown["category"] = categories_of(message)
    if shown.get("sg_machine_open") is False:
        del shown["sg_machine_open"]
    if event["event"] == "unsubscribe":
        shown["date"] = date_of(event["timestamp"])
    if "reseller_id" in shown:
        shown["reseller_id"] = str(shown["reseller_id"])
    # "type" and the like are custom arguments wherever the event does not define them.
    return shown | ({"custom_args": message.custom_args} if message.custom_args else {})


def _outbound_ip(message: Message) -> str:
    """The address that the message was sent from: delivery events have it."""
    return next((e["ip"] for e in message.events if "smtp-id" in e and "ip" in e), "192.0.2.1")


def _received(message: Message, user_id: int) -> dict[str, Any]:
    """The event that only the logs have: SendGrid received the request."""
    head = message.message_id.partition(".")[0]
    return {
        "event": "received",
        "email": message.to_email,
        "recv_msgid": head,
        "sg_event_id": f"rcvd-{user_id}-{head}",
        "timestamp": message.created_at,
        "client_ip": "203.0.113.7",
        "protocol": "HTTP",
        "recipient_count": 1,
        "size": 1234 + message.index % 1000,
        "api_version": "3",
    }


@logs_area.on("GET", "/v3/logs/{id}")
def one_log(call: Call) -> Response:
    """A message with its newest events, at most 100; 404 when it is older than 30 days."""
    account = _subuser(call, call.query("subuser"))
    message = account.messages.find(call.param("id"))
    if message is None or message.created_at < oldest_kept(account):
        raise ApiError(404, "not found", {"field": "sg_message_id"})
    numbers = [n for n, event in enumerate(message.events) if event["event"] in LOGGED]
    events = [_received(message, account.user_id)]
    events += [log_event(message, number) for number in numbers]
    events = events[-account.options.logs_event_cap :]
    body: dict[str, Any] = {
        "from_email": message.from_email,
        "sg_message_id": message.message_id,
        "subject": message.subject,
        "to_email": message.to_email,
        "status": status_of(message),
        "api_key_id": account.api_key.split(".")[1],
        "client_ip": "203.0.113.7",
        "outbound_ip": _outbound_ip(message),
        "outbound_ip_type": "shared",
        "category": categories_of(message),
        "custom_args": message.custom_args,
        "events": None if call.null_result else events,
    }
    if message.group:
        body["asm_group_id"] = message.group
    for name in ("id", "name", "split_id", "version"):
        if (key := f"marketing_campaign_{name}") in message.marketing:
            body[key] = message.marketing[key]
    return json_response(body)


# -- Email Activity: an add-on --------------------------------------------------------------------

_ACTIVITY_STATUS = {"processed": "processed", "deferred": "processed", "delivered": "delivered"}
_NAMES = {"open": "opened", "click": "clicked", "bounce": "bounced", "spamreport": "spam_report"}
_ACTIVITY_FIELDS = [
    "msg_id",
    "from_email",
    "to_email",
    "subject",
    "status",
    "template_id",
    "api_key_id",
    "asm_group_id",
    "teammate",
    "outbound_ip",
    "marketing_campaign_name",
    "marketing_campaign_id",
    "clicks",
    "events",
    "categories",
    "last_event_time",
]


def _activity_value(message: Message, name: str) -> Any:
    if name.startswith("unique_args["):
        return message.custom_args.get(name[12:-1])
    values: dict[str, Any] = {
        "msg_id": message.message_id,
        "status": _ACTIVITY_STATUS.get(status_of(message), "not_delivered"),
        "clicks": sum(event["event"] == "click" for event in message.events),
        "events": [_NAMES.get(event["event"], event["event"]) for event in message.events],
        "last_event_time": message.events[-1]["timestamp"],
        "asm_group_id": message.group,
        "categories": categories_of(message),
        **message.marketing,
    }
    return values.get(name, getattr(message, name, None))


_ACTIVITY = Language(
    _activity_value,
    lambda name: name in _ACTIVITY_FIELDS or name.startswith("unique_args["),
    ("last_event_time",),
    "last_event_time",
)


def _activity_row(message: Message) -> dict[str, Any]:
    return {
        "from_email": message.from_email,
        "msg_id": message.message_id,
        "subject": message.subject,
        "to_email": message.to_email,
        "status": _activity_value(message, "status"),
        "opens_count": sum(event["event"] == "open" for event in message.events),
        "clicks_count": _activity_value(message, "clicks"),
        "last_event_time": iso(_activity_value(message, "last_event_time")),
    }


def _needs_add_on(call: Call) -> Account:
    if not call.account.options.email_activity:
        raise forbidden()
    return call.account


@activity_area.on("GET", "/v3/messages")
def activity(call: Call) -> Response:
    """Messages of the last 30 days by query, ten of them or up to 1,000; there is no paging."""
    account = _needs_add_on(call)
    limit = call.integer("limit", 10, 1, 1000)
    query = _parse(call.query("query"), _ACTIVITY) if call.query("query") else None
    test = query.test if query else lambda _message: True
    # last_event_time moves after the message was made, so it does not narrow the walk.
    found = find_messages(account, Query(test), limit)
    rows = [_activity_row(message) for message in found]
    return json_response({"messages": None if call.null_result else rows})


@activity_area.on("GET", "/v3/messages/{id}")
def one_activity(call: Call) -> Response:
    """One message with its events, in the words of Email Activity: no sg_event_id."""
    account = _needs_add_on(call)
    message = account.messages.find(call.param("id"))
    if message is None or message.created_at < oldest_kept(account):
        raise ApiError(404, "not found", {"field": "message_id"})
    events = []
    for event in message.events:
        if event["event"] not in LOGGED:
            continue
        name = _NAMES.get(event["event"], event["event"])
        row: dict[str, Any] = {"event_name": name, "processed": iso(event["timestamp"])}
        if reason := event.get("reason") or event.get("response"):
            row["reason"] = reason
        if "attempt" in event:
            row["attempt_num"] = int(event["attempt"]) + 1
        if "url" in event:
            row["url"] = event["url"]
        if "useragent" in event:
            row["http_user_agent"] = event["useragent"]
        if name == "bounced":
            row["bounce_type"] = "soft" if event["type"] == "blocked" else "hard"
        events.append(row)
    row = _activity_row(message)
    body = {name: row[name] for name in ("from_email", "msg_id", "subject", "to_email", "status")}
    body |= {
        "template_id": str(message.marketing.get("template_id", "")),
        "teammate": "",
        "api_key_id": account.api_key.split(".")[1],
        "originating_ip": "203.0.113.7",
        "outbound_ip": _outbound_ip(message),
        "outbound_ip_type": "shared",
        "categories": categories_of(message),
        "unique_args": msgspec.json.encode(message.custom_args).decode(),
        "events": events,
    }
    return json_response(body | ({"asm_group_id": message.group} if message.group else {}))
