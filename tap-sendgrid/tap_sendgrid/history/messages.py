"""History from the Email Activity API, for accounts that have the add-on: 6 requests a minute.

Sources: the official OpenAPI document (tsg_email_activity_v3) and
https://www.twilio.com/docs/sendgrid/api-reference/email-activity .
"""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from tap_sendgrid.history.source import (
    ROW_CAP,
    Event,
    Listing,
    MessageEvents,
    Source,
    timestamp,
)

_WORDS: Final = {
    "bounced": "bounce",
    "opened": "open",
    "clicked": "click",
    "spam_report": "spamreport",
}
_BOUNCE_TYPES: Final = {"hard": "bounce", "soft": "blocked"}
_RENAMED: Final = {"attempt_num": "attempt", "http_user_agent": "useragent", "url": "url"}


class MessagesSource(Source):
    """Messages by the instant of their last event; events carry no ``sg_event_id``."""

    name = "/v3/messages"
    gives_event_ids = False
    status_conditions = tuple(
        f'status="{status}"' for status in ("processed", "delivered", "not_delivered")
    )

    def _query(self, query: str) -> Listing:
        answer = self._client.get(self.name, {"query": query, "limit": ROW_CAP})
        messages = answer.get("messages") or []
        return Listing([m["msg_id"] for m in messages], len(messages) >= ROW_CAP)

    def _between(self, start: datetime, end: datetime) -> str:
        last = end - timedelta(seconds=1)  # BETWEEN includes both ends; times are whole seconds
        return f"last_event_time BETWEEN {timestamp(start)} AND {timestamp(last)}"

    def _convert(self, message: dict[str, Any]) -> MessageEvents:
        return MessageEvents([webhook_event(e, message) for e in message.get("events") or []])


def webhook_event(event: Event, message: dict[str, Any]) -> Event:
    """An event of the activity feed in the webhook's words, keys sorted."""
    name = str(event.get("event_name"))
    word = _WORDS.get(name, name)
    result: dict[str, Any] = {
        "event": word,
        "email": message.get("to_email"),
        "sg_message_id": message.get("msg_id"),
    }
    happened = event.get("processed")
    if isinstance(happened, str):
        result["timestamp"] = _epoch_seconds(happened)
    for theirs, ours in _RENAMED.items():
        if event.get(theirs) not in (None, ""):
            result[ours] = event[theirs]
    if "attempt" in result:
        result["attempt"] = str(result["attempt"])
    if event.get("reason"):
        result["response" if word in ("delivered", "deferred") else "reason"] = event["reason"]
    if event.get("bounce_type"):
        result["type"] = _BOUNCE_TYPES.get(event["bounce_type"], event["bounce_type"])
    if word in ("deferred", "delivered", "bounce") and message.get("outbound_ip"):
        result["ip"] = message["outbound_ip"]
    if message.get("categories"):
        result["category"] = message["categories"]
    if message.get("asm_group_id"):
        result["asm_group_id"] = message["asm_group_id"]
    return dict(sorted({**_unique_args(message), **result}.items()))


def _unique_args(message: dict[str, Any]) -> dict[str, Any]:
    """The custom arguments, which this API gives as JSON in a text."""
    args = message.get("unique_args")
    if isinstance(args, str):
        try:
            args = json.loads(args)
        except ValueError:
            return {"unique_args": args} if args else {}
    return args if isinstance(args, dict) else {}


def _epoch_seconds(text: str) -> int:
    moment = datetime.fromisoformat(text)
    return int((moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp())
