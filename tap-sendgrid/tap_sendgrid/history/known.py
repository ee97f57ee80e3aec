"""Which events the log has already, where their ids cannot tell.

An event that SendGrid's records give without ``sg_event_id`` (``/v3/messages``), or that the
webhook sent without one (some unsubscribes), has no id in common with its other self.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Final

from tap_sendgrid.event_log import EventLog
from tap_sendgrid.events.parse import parse_body
from tap_sendgrid.history.source import Event

CLOCK_SKEW: Final = timedelta(hours=1)
"""An event arrives after it happened, but SendGrid's clock and the receiver's are two."""


def known_events(
    log: EventLog, since: datetime, *, without_id_only: bool
) -> Callable[[Event], bool]:
    """Whether the log has an event of the same message (or recipient), word and second.

    Args:
        log: Read from the deliveries that arrived an hour before ``since`` on.
        since: Events before this do not matter.
        without_id_only: Look only at the events in the log that have no ``sg_event_id``.
    """
    seen: set[int] = set()
    now = datetime.now(UTC)
    for logged in log.find(since - CLOCK_SKEW, now + CLOCK_SKEW):
        for event in parse_body(logged.delivery.body).events:
            if not (without_id_only and event.get("sg_event_id")):
                seen.add(_key(event, "sg_message_id" if event.get("sg_message_id") else "email"))
    return lambda event: (
        bool(seen) and (_key(event, "sg_message_id") in seen or _key(event, "email") in seen)
    )


def trimmed_before(log: EventLog) -> datetime | None:
    """The moment from which on the log has every delivery; None if nothing was ever trimmed.

    That is the arrival of the first delivery that is left; now, when none is.
    """
    if log.status().first == 1:
        return None
    return log.arrival_after(0) or datetime.now(UTC)


def _key(event: Event, by: str) -> int:
    return hash(repr([by, *(event.get(name) for name in (by, "event", "timestamp"))]))
