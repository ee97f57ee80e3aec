"""History from the Email Logs API: 30 days, all plans, events in the webhook's own words.

Sources: the official OpenAPI document of ``/v3/logs`` (tsg_logs_v3) and
https://www.twilio.com/docs/sendgrid/api-reference/email-logs .
"""

from __future__ import annotations

from datetime import datetime
from typing import Any, Final

from tap_sendgrid.history.source import (
    ROW_CAP,
    Event,
    Listing,
    MessageEvents,
    Source,
    timestamp,
)

EVENT_CAP: Final = 100

# Events that the logs name and the webhook does not send.
LOGS_ONLY: Final = frozenset({"received", "cancel_drop"})

# Told once for the message here, with each event by the webhook.
_OF_THE_MESSAGE: Final = (
    "category",
    "marketing_campaign_id",
    "marketing_campaign_name",
    "marketing_campaign_split_id",
    "marketing_campaign_version",
)


class LogsSource(Source):
    """Messages by the instant at which SendGrid made their id, which never changes."""

    name = "/v3/logs"
    gives_event_ids = True
    status_conditions = tuple(
        f"status IN ('{status}')"
        for status in ("processed", "delivered", "deferred", "dropped", "bounced", "blocked")
    )

    def _query(self, query: str) -> Listing:
        answer = self._client.post(self.name, {"query": query, "limit": ROW_CAP})
        messages = answer.get("messages") or []
        return Listing([m["sg_message_id"] for m in messages], len(messages) >= ROW_CAP)

    def _between(self, start: datetime, end: datetime) -> str:
        field = "sg_message_id_created_at"
        return f"{field} >= {timestamp(start)} AND {field} < {timestamp(end)}"

    def _convert(self, message: dict[str, Any]) -> MessageEvents:
        events = message.get("events") or []
        converted = [webhook_event(event, message) for event in events]
        return MessageEvents([event for event in converted if event], len(events) >= EVENT_CAP)


def webhook_event(event: Event, message: dict[str, Any]) -> Event | None:
    """An event of the logs as the webhook sends it; None if the webhook never does.

    Custom arguments go back to the top level, where a key that the event has wins; keys are sorted
    as SendGrid sorts them. What the logs leave out cannot be put back: docs/history.md.
    """
    if event.get("event") in LOGS_ONLY:
        return None
    result: dict[str, Any] = {k: message[k] for k in _OF_THE_MESSAGE if message.get(k)}
    result.update(event)
    custom = result.pop("custom_args", None) or message.get("custom_args") or {}
    return dict(sorted({**custom, **result}.items()))
