"""A look into a delivery's body: is it events, and of which types?"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import msgspec

from tap_sendgrid.webhook.settings_api import EVENT_FLAGS

# The settings' word for a spam report is not the one that stands in events.
KNOWN_EVENTS = frozenset(EVENT_FLAGS) - {"spam_report"} | {"spamreport"}
OTHER = "other"


class _Event(msgspec.Struct):
    event: Any = None


_fast = msgspec.json.Decoder(list[_Event])
_any = msgspec.json.Decoder(list[Any])


@dataclass(frozen=True, slots=True)
class BodySummary:
    """How many events of each type a body has, or why it has none.

    Attributes:
        events: Number by event type; types that SendGrid does not document count as ``other``.
        problem: Why the body cannot be read as a list of events; None when it can.
    """

    events: Mapping[str, int] = field(default_factory=dict)
    problem: str | None = None


def summarise(body: bytes) -> BodySummary:
    """Count the events of a body; takes any bytes."""
    try:
        names = [event.event for event in _fast.decode(body)]
    except (msgspec.MsgspecError, RecursionError, UnicodeDecodeError):
        try:
            # Slower, for a list of events with something strange among them.
            names = [e.get("event") if isinstance(e, dict) else None for e in _any.decode(body)]
        except (msgspec.MsgspecError, UnicodeDecodeError) as problem:
            return BodySummary(problem=f"not a JSON list of events: {problem}")
        except RecursionError:
            return BodySummary(problem="not a list of events: nested too deeply")
    known = (n if isinstance(n, str) and n in KNOWN_EVENTS else OTHER for n in names)
    return BodySummary(dict(Counter(known)))
