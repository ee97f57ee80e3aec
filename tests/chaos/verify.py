"""The verdict: what was acknowledged is there exactly once, and nothing else is."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass, field
from typing import Any

from tap_sendgrid.event_log import open_event_log
from tap_sendgrid.events import event_stream_classes

from chaos.load import Ledger

Query = Callable[[str], list[tuple[Any, ...]]]
STREAMS = [stream.event_type.stream for stream in event_stream_classes]
STATUSES = {"Running", "Success", "Partial", "Failure"}


@dataclass
class Verdict:
    """What was found; all lists are empty when all is well.

    Attributes:
        rows: Rows of all event tables.
        lost: Acknowledged events that are not in their table.
        lost_from_activity: Acknowledged events that are not in ``activity``.
        twice: Events that are more than once in the event tables, or in ``activity``.
        unknown: Rows that no event was sent for, or that are in another event's table.
        lost_spoiled: Acknowledged bodies that were no JSON and are not in quarantine.
        forwarded_lost: SHA-256 of acknowledged bodies that the endpoint never took.
        forwarded_spoiled: SHA-256 of bodies that it got otherwise than SendGrid had sent them.
        odd: What reports, states and positions say that cannot be.
        trimmed: Offsets that retention dropped from the log while the run went on.
    """

    rows: int = 0
    lost: list[int] = field(default_factory=list)
    lost_from_activity: list[int] = field(default_factory=list)
    twice: list[int] = field(default_factory=list)
    unknown: list[tuple[str, object]] = field(default_factory=list)
    lost_spoiled: list[bytes] = field(default_factory=list)
    forwarded_lost: list[bytes] = field(default_factory=list)
    forwarded_spoiled: list[bytes] = field(default_factory=list)
    odd: list[str] = field(default_factory=list)
    trimmed: int = 0

    @property
    def good(self) -> bool:
        """Whether all is well."""
        return not (
            self.lost
            or self.lost_from_activity
            or self.twice
            or self.unknown
            or self.lost_spoiled
            or self.forwarded_lost
            or self.forwarded_spoiled
            or self.odd
        )

    def problems(self) -> list[str]:
        """What is wrong, in a few lines."""
        found = [
            (f"{name}: {len(items):,}, e.g. {items[:5]}")
            for name, items in vars(self).items()
            if isinstance(items, list) and items and name != "odd"
        ]
        return found + self.odd


def judge_rows(query: Query, ledger: Ledger, verdict: Verdict) -> None:
    """Hold the tables and ``activity`` against the record of what was sent."""
    in_tables: Counter[int] = Counter()
    columns: dict[str, set[str]] = {}
    for table, column in query(
        "SELECT table_name, column_name FROM information_schema.columns "
        "WHERE table_schema = 'sendgrid'"
    ):
        columns.setdefault(table, set()).add(column)
    for table in sorted(set(columns) & set(STREAMS)):
        number_of = '"number"' if "number" in columns[table] else "NULL"
        for number, id_ in query(f'SELECT {number_of}, id FROM sendgrid."{table}"'):
            verdict.rows += 1
            if number is None or not 0 <= number < len(ledger.tables):
                verdict.unknown.append((table, id_))
            elif ledger.tables[number] != table:
                verdict.unknown.append((table, number))
            else:
                in_tables[number] += 1
    in_activity = Counter(number for (number,) in query('SELECT "number" FROM sendgrid.activity'))
    verdict.unknown += [("activity", n) for n in in_activity if n not in in_tables]
    for number, acknowledged in enumerate(ledger.acknowledged):
        if acknowledged and number not in in_tables:
            verdict.lost.append(number)
        if acknowledged and number not in in_activity:
            verdict.lost_from_activity.append(number)
    twice = {n for counts in (in_tables, in_activity) for n, count in counts.items() if count > 1}
    verdict.twice = sorted(twice)


def judge_reports(query: Query, verdict: Verdict) -> None:
    """Every row is in exactly one run's report: they were written in the same transactions."""
    reported: dict[str, int] = dict(
        query("SELECT table_name, sum(rows_inserted) FROM sendgrid.sync_reports GROUP BY 1")
    )
    for table in sorted(set(reported) & set(STREAMS)):
        ((rows,),) = query(f'SELECT count(*) FROM sendgrid."{table}"')
        if rows != reported[table]:
            verdict.odd.append(
                f"sync_reports tells of {reported[table]} rows inserted into {table}, it has {rows}"
            )
    strange = query("SELECT DISTINCT status FROM sendgrid.sync_reports")
    if unknown := {status for (status,) in strange} - STATUSES:
        verdict.odd.append(f"sync_reports has the status {unknown}")


def judge_log(
    event_log_url: str,
    state: dict[str, Any],
    consumers: tuple[str, ...],
    ledger: Ledger,
    verdict: Verdict,
) -> None:
    """Hold quarantine, positions and state against the log."""
    with closing(open_event_log(event_log_url, create=False)) as log:
        kept: set[bytes] = set()
        after = 0
        while page := log.quarantined(after=after):
            kept.update(item.delivery.body for item in page)
            after = page[-1].id
        verdict.lost_spoiled = sorted(ledger.spoiled - kept)
        end = log.end()
        positions = {p.consumer: p.offset for p in log.positions()}
        for consumer in consumers:
            if not 0 <= positions.get(consumer, 0) <= end:
                verdict.odd.append(f"{consumer} is at {positions.get(consumer)} of {end}")
        bookmarks = {
            name: bookmark.get("replication_key_value")
            for name, bookmark in state.get("bookmarks", {}).items()
        }
        if set(bookmarks.values()) != {end} or set(bookmarks) != set(STREAMS):
            verdict.odd.append(f"the log ends at {end}, the state says {bookmarks}")
        verdict.odd += log.check()
        status = log.status()
        verdict.trimmed = status.first - 1
