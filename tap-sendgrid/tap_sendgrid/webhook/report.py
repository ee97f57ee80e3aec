"""How receiver, log and consumers are doing: the one source of status page and ``status``."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime

from tap_sendgrid.event_log import EventLog, LogStatus, MinuteCount
from tap_sendgrid.webhook.forward import problem_setting

HOUR_MINUTES = 60
DAY_MINUTES = 24 * 60


@dataclass(frozen=True)
class ConsumerReport:
    """A consumer of the log.

    Attributes:
        name: As it calls itself.
        offset: Up to where it has committed.
        waiting: Deliveries behind that, at most.
        oldest_waiting_seconds: Age of the oldest of them; None when there is none.
        committed_at: When it last committed.
        problem: What keeps a forwarder from going on; empty: nothing.
    """

    name: str
    offset: int
    waiting: int
    oldest_waiting_seconds: float | None
    committed_at: datetime
    problem: str


@dataclass(frozen=True)
class QuarantineReport:
    """A delivery in quarantine, without its content."""

    id: int
    offset: int | None
    reason: str
    received_at: datetime
    size: int


@dataclass(frozen=True)
class Report:
    """Everything at one moment.

    Attributes:
        now: That moment.
        log: The extent of the log.
        consumers: Who reads it.
        quarantine: The first of what is in quarantine.
        minutes: Events of the last hour by minute and type, oldest minute first.
        hour: Everything counted in the last hour, by name.
        day: Everything counted in the last day, by name.
    """

    now: datetime
    log: LogStatus
    consumers: list[ConsumerReport]
    quarantine: list[QuarantineReport]
    minutes: list[tuple[int, dict[str, int]]]
    hour: dict[str, int]
    day: dict[str, int]

    @property
    def events(self) -> dict[str, int]:
        """Events of the last hour by type, most first."""
        return _named("event:", self.hour)

    @property
    def quiet_seconds(self) -> float | None:
        """How long ago the last delivery came; None when none is stored."""
        if self.log.last_received_at is None:
            return None
        return max(0.0, (self.now - self.log.last_received_at).total_seconds())

    def refused(self) -> list[tuple[str, int, int]]:
        """Reason, number in the last hour, number in the last day of what was refused."""
        day = _named("refused:", self.day)
        return [(reason, self.hour.get(f"refused:{reason}", 0), n) for reason, n in day.items()]


def make_report(log: EventLog, quarantine_limit: int = 20) -> Report:
    """Ask the log; costs the same whatever its size.

    Raises:
        EventLogError: The log cannot be read.
    """
    now = datetime.now(UTC)
    this_minute = int(time.time()) // 60
    status = log.status()
    counts = log.counts(this_minute - DAY_MINUTES + 1)
    first_minute = this_minute - HOUR_MINUTES + 1
    consumers = []
    for position in log.positions():
        arrival = log.arrival_after(position.offset)
        consumers.append(
            ConsumerReport(
                position.consumer,
                position.offset,
                max(0, status.end - position.offset),
                None if arrival is None else max(0.0, (now - arrival).total_seconds()),
                position.committed_at,
                log.get(problem_setting(position.consumer)) or "",
            )
        )
    return Report(
        now=now,
        log=status,
        consumers=consumers,
        quarantine=[
            QuarantineReport(q.id, q.offset, q.reason, q.delivery.received_at, len(q.delivery.body))
            for q in log.quarantined(limit=quarantine_limit)
        ],
        minutes=_by_minute(counts, first_minute, this_minute),
        hour=_totals(c for c in counts if c.minute >= first_minute),
        day=_totals(counts),
    )


def _by_minute(
    counts: list[MinuteCount], first: int, last: int
) -> list[tuple[int, dict[str, int]]]:
    minutes: dict[int, dict[str, int]] = {minute: {} for minute in range(first, last + 1)}
    for count in counts:
        if count.minute in minutes and count.name.startswith("event:"):
            minutes[count.minute][count.name.removeprefix("event:")] = count.total
    return list(minutes.items())


def _totals(counts: Iterable[MinuteCount]) -> dict[str, int]:
    totals: Counter[str] = Counter()
    for count in counts:
        totals[count.name] += count.total
    return dict(totals)


def _named(prefix: str, totals: dict[str, int]) -> dict[str, int]:
    """The totals whose names begin with a prefix, most first, without it."""
    found = [
        (name.removeprefix(prefix), n) for name, n in totals.items() if name.startswith(prefix)
    ]
    return dict(sorted(found, key=lambda item: (-item[1], item[0])))


def duration(seconds: float | None) -> str:
    """A length of time for people: ``12 s``, ``5 min``, ``3.5 h``, ``2.1 days``."""
    if seconds is None:
        return "none"
    if seconds < 120:
        return f"{seconds:.0f} s"
    if seconds < 7200:
        return f"{seconds / 60:.0f} min"
    if seconds < 172_800:
        return f"{seconds / 3600:.1f} h"
    return f"{seconds / 86400:.1f} days"


def size(number: int) -> str:
    """A number of bytes for people."""
    value = float(number)
    for unit in ("B", "KB", "MB", "GB"):
        if value < 1000:
            return f"{value:.0f} {unit}" if unit == "B" else f"{value:.1f} {unit}"
        value /= 1000
    return f"{value:.1f} TB"
