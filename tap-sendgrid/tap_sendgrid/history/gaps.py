"""Finds the days on which the log has fewer events than SendGrid's statistics.

Source: ``GET /v3/stats`` (tsg_stats_v3): what happened per day, whatever became of the webhook.
"""

from __future__ import annotations

from array import array
from collections import defaultdict
from dataclasses import dataclass
from datetime import UTC, date, datetime
from hashlib import blake2b
from typing import Any, Final

from tap_sendgrid.api.client import Client
from tap_sendgrid.api.errors import MISREAD, Forbidden, SendGridError, UnexpectedAnswer
from tap_sendgrid.event_log import EventLog
from tap_sendgrid.events.convert import Converter
from tap_sendgrid.events.fields import EVENT_TYPES
from tap_sendgrid.events.reader import convert_delivery
from tap_sendgrid.history.known import CLOCK_SKEW

# What the statistics call it -> which of our counts it is. Requests are what was asked for, unique
# counts are per message: the webhook has no such events.
METRICS: Final = {
    "processed": "processed",
    "delivered": "delivered",
    "deferred": "deferred",
    "bounces": "bounce",
    "blocks": "blocked",
    "opens": "open",
    "clicks": "click",
    "spam_reports": "spamreport",
    "unsubscribes": "unsubscribe",
    "bounce_drops": "dropped",
    "spam_report_drops": "dropped",
    "unsubscribe_drops": "dropped",
    "invalid_emails": "dropped",
}

Counts = dict[tuple[date, str], int]


@dataclass(frozen=True, slots=True)
class Gap:
    """A day and a kind of event of which the log has fewer than SendGrid counted."""

    day: date
    kind: str
    sendgrid: int
    log: int

    @property
    def missing(self) -> int:
        """How many events are missing, at least."""
        return self.sendgrid - self.log


def find_gaps(ours: Counts, theirs: Counts, tolerance: float = 0.0) -> list[Gap]:
    """The days and kinds that fall short by more than a share (0.01: one of a hundred)."""
    return [
        Gap(day, kind, count, ours.get((day, kind), 0))
        for (day, kind), count in sorted(theirs.items())
        if ours.get((day, kind), 0) < count * (1 - tolerance)
    ]


def count_statistics(client: Client, first: date, last: date) -> Counts:
    """SendGrid's counts of the days ``first`` to ``last``, both included.

    Raises:
        SendGridError: Among others, the key lacks the permission.
    """
    counts: Counts = defaultdict(int)
    params = {"start_date": str(first), "end_date": str(last), "aggregated_by": "day"}
    try:
        rows = client.get("/v3/stats", params)
    except Forbidden as problem:
        raise SendGridError(
            f"this API key may not read statistics ({problem.answer}). Give it the permission "
            "Stats (stats.read) in SendGrid under Settings > API Keys."
        ) from None
    try:
        for row in rows or []:
            day = date.fromisoformat(row["date"][:10])
            if not first <= day <= last:
                continue
            for stat in row.get("stats") or []:
                for metric, kind in METRICS.items():
                    counts[day, kind] += stat.get("metrics", {}).get(metric) or 0
    except MISREAD as problem:
        raise UnexpectedAnswer(
            f"SendGrid's statistics have another form than documented ({problem!r})"
        ) from problem
    return dict(counts)


def count_log(log: EventLog, first: date, last: date) -> Counts:
    """The log's distinct events of the days ``first`` to ``last`` (UTC), both included.

    Eight bytes per event are held; events that came again, or were backfilled, count once.
    """
    seen: dict[tuple[date, str], array[int]] = defaultdict(lambda: array("Q"))
    converter = Converter({event_type.stream: () for event_type in EVENT_TYPES})
    since = datetime(first.year, first.month, first.day, tzinfo=UTC)
    low = since.timestamp()
    high = low + 86_400 * ((last - first).days + 1)
    # From the first day on, whenever it came: a backfill may have brought it much later.
    for logged in log.find(since - CLOCK_SKEW, datetime.now(UTC) + CLOCK_SKEW):
        for _, record in convert_delivery(converter, logged.delivery).records:
            timestamp = record.get("timestamp")
            if timestamp is not None and low <= timestamp < high:
                day = datetime.fromtimestamp(timestamp, UTC).date()
                seen[day, _kind(record)].append(_short(record["id"]))
    return {key: len(set(ids)) for key, ids in seen.items()}


def _kind(record: dict[str, Any]) -> str:
    word = record.get("event")
    return "blocked" if word == "bounce" and record.get("type") == "blocked" else str(word)


def _short(event_id: str) -> int:
    return int.from_bytes(blake2b(event_id.encode(), digest_size=8).digest(), "big")
