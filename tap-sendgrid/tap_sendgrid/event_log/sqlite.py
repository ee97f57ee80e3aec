"""The event log in one SQLite file: the default, for one machine.

Writers take turns (SQLite has one at a time), so offsets become visible in their order and the
highest one committed is the high-water mark. Readers see a snapshot and hold nobody up.
"""

from __future__ import annotations

import sqlite3
import time
import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path

from tap_sendgrid.event_log.base import (
    FORWARDER_PREFIX,
    Delivery,
    EventLog,
    EventLogError,
    LoggedDelivery,
    LogStatus,
    MinuteCount,
    Position,
    Quarantined,
    Trimmed,
)
from tap_sendgrid.event_log.micros import from_micros, to_micros
from tap_sendgrid.event_log.sqlite_file import LogFile, as_log_error, translated
from tap_sendgrid.event_log.sqlite_rows import (
    BAD_HEADERS,
    HEADERS,
    DamagedRowError,
    as_json,
    delivery_of,
    headers_of,
)

READ_BATCH_BYTES = 8 << 20
READ_BATCH_ROWS = 2000
INSERTED_TOGETHER = 64
TRIM_BATCH_ROWS = 1000
VACUUM_PAGES = 2000
KEPT_MINUTES = 24 * 60


class SQLiteEventLog(EventLog):
    """A log in a SQLite file; safe to use from several threads and processes at once.

    Args:
        path: The file; its folder is made if it is missing.
        create: Make the log if it does not exist.
        max_bytes: Refuse to grow beyond this (kind ``full``).
        timeout: Seconds to wait for a lock before giving up (kind ``locked``).

    Raises:
        EventLogError: The file cannot be opened, or is not a log.
    """

    def __init__(
        self,
        path: str | Path,
        *,
        create: bool = True,
        max_bytes: int | None = None,
        timeout: float = 5.0,
    ) -> None:
        self.path = Path(path)
        self._file = LogFile(self.path, create=create, max_bytes=max_bytes, timeout=timeout)

    # -- writing and reading ------------------------------------------------------------------

    def append(self, deliveries: Sequence[Delivery], *, repeats: bool = False) -> list[int]:
        """Store deliveries in one transaction; return their offsets when it is on disk."""
        if not deliveries:
            return []
        rows = [
            (to_micros(d.received_at), zlib.crc32(d.body), as_json(d.headers), d.body)
            for d in deliveries
        ]
        with self._file.transaction() as connection:
            start = 0
            while start < len(rows):
                # Many rows in one statement: each statement gives the interpreter lock away, and
                # gets it back late beside a busy event loop. Sizes are powers of two, so that
                # few statements have to be prepared.
                count = min(INSERTED_TOGETHER, 1 << ((len(rows) - start).bit_length() - 1))
                part = rows[start : start + count]
                marks = ", ".join(["(?, ?, ?, ?)"] * count)
                connection.execute(
                    "INSERT INTO deliveries (received_at, checksum, headers, body) VALUES "  # noqa: S608
                    + marks,
                    [value for row in part for value in row],
                )
                start += count
            # No other writer can come between, so the rows got the last offsets.
            (last,) = connection.execute("SELECT last_insert_rowid()").fetchone()
        return list(range(last - len(rows) + 1, last + 1))

    def read(self, after: int, until: int | None = None) -> Iterator[LoggedDelivery]:
        """Deliveries with ``after < offset <= until`` in order, a few megabytes at a time.

        Raises:
            EventLogError: ``corrupt`` where a delivery is damaged; those before it are yielded.
        """
        last = self.end() if until is None else until
        with self._file.reader() as connection:
            while after < last:
                batch: list[tuple[int, int, int, bytes, bytes]] = []
                size = 0
                with translated(self.path):
                    # The cursor is closed after each batch: an open one would keep the
                    # write-ahead log from being emptied for as long as the consumer works.
                    cursor = connection.execute(
                        f"SELECT offset, received_at, checksum, {HEADERS}, body FROM deliveries "  # noqa: S608
                        "WHERE offset > ? AND offset <= ? ORDER BY offset LIMIT ?",
                        (after, last, READ_BATCH_ROWS),
                    )
                    for row in cursor:
                        batch.append(row)
                        size += len(row[4])
                        if size >= READ_BATCH_BYTES:
                            break
                    cursor.close()
                if not batch:
                    return
                for offset, received_at, checksum, headers, body in batch:
                    try:
                        delivery = delivery_of(received_at, checksum, headers, body)
                    except DamagedRowError as damage:
                        raise EventLogError(
                            "corrupt",
                            f"delivery {offset} of the event log {self.path} is damaged (it "
                            f"{damage}): stop the receiver and run `sendgrid-webhook repair`",
                        ) from None
                    yield LoggedDelivery(offset, delivery)
                after = batch[-1][0]

    def end(self) -> int:
        """The highest offset ever committed."""
        row = self._file.row("SELECT seq FROM sqlite_sequence WHERE name = 'deliveries'")
        return int(row[0]) if row else 0

    def status(self) -> LogStatus:
        """The extent of the log."""
        end = self.end()
        first = self._file.row("SELECT min(offset) FROM deliveries")
        last = self._file.row("SELECT received_at FROM deliveries ORDER BY offset DESC LIMIT 1")
        quarantined = self._file.row("SELECT count(*) FROM quarantine")
        return LogStatus(
            first=end + 1 if first is None or first[0] is None else int(first[0]),
            end=end,
            size_bytes=self._file.size_bytes(),
            quarantined=int(quarantined[0]) if quarantined else 0,
            last_received_at=from_micros(last[0]) if last else None,
        )

    def arrival_after(self, offset: int) -> datetime | None:
        """When the first delivery after ``offset`` arrived."""
        row = self._file.row(
            "SELECT received_at FROM deliveries WHERE offset > ? ORDER BY offset LIMIT 1", offset
        )
        return from_micros(row[0]) if row else None

    def find(self, since: datetime, until: datetime) -> Iterator[LoggedDelivery]:
        """Deliveries that arrived at ``since <= received_at < until``, in offset order."""
        row = self._file.row(
            "SELECT min(offset), max(offset) FROM deliveries "
            "WHERE received_at >= ? AND received_at < ?",
            to_micros(since),
            to_micros(until),
        )
        if row is None or row[0] is None:
            return
        # Clocks of several receivers differ a little, so some between may be outside.
        for logged in self.read(row[0] - 1, row[1]):
            if since <= logged.delivery.received_at < until:
                yield logged

    # -- consumers and retention --------------------------------------------------------------

    def commit(self, consumer: str, offset: int) -> None:
        """Record how far a consumer is; never moves back."""
        if offset < 0 or offset > self.end():
            raise EventLogError(
                "position",
                f"{consumer} commits offset {offset}, but the event log {self.path} ends at "
                f"{self.end()}: its state belongs to another log",
            )
        with self._file.transaction() as connection:
            connection.execute(
                "INSERT INTO positions VALUES (?, ?, ?) ON CONFLICT (consumer) DO UPDATE SET "
                "log_offset = max(log_offset, excluded.log_offset), "
                "committed_at = excluded.committed_at",
                (consumer, offset, to_micros(datetime.now(UTC))),
            )

    def positions(self) -> list[Position]:
        """Every consumer that ever committed, by name."""
        rows = self._file.rows(
            "SELECT consumer, log_offset, committed_at FROM positions ORDER BY 1"
        )
        return [
            Position(consumer, offset, from_micros(at)) for consumer, offset, at in sorted(rows)
        ]

    def forget(self, consumer: str) -> bool:
        """Drop a consumer; True if there was one."""
        with self._file.transaction() as connection:
            cursor = connection.execute("DELETE FROM positions WHERE consumer = ?", (consumer,))
            return cursor.rowcount > 0

    def trim(self, before: datetime) -> Trimmed:
        """Remove what is older than ``before`` and committed by all; cost grows with that only."""
        positions = self.positions()
        if all(p.consumer.startswith(FORWARDER_PREFIX) for p in positions):
            return Trimmed(0, ("(no tap has committed yet)",))
        floor = min(p.offset for p in positions)
        removed = 0
        while count := self._trim_batch(floor, to_micros(before)):
            removed += count
            while self._file.vacuum(VACUUM_PAGES):
                pass
        if removed:
            self._file.checkpoint()
        oldest = self._file.row(
            "SELECT offset, received_at FROM deliveries ORDER BY offset LIMIT 1"
        )
        if oldest is None or oldest[1] >= to_micros(before):
            return Trimmed(removed)
        return Trimmed(removed, tuple(p.consumer for p in positions if p.offset < oldest[0]))

    def _trim_batch(self, floor: int, before: int) -> int:
        """Delete a bounded number of deliveries, so that writers wait for a moment at most."""
        with self._file.transaction() as connection:
            rows = connection.execute(
                "SELECT offset, received_at FROM deliveries WHERE offset <= ? "
                "ORDER BY offset LIMIT ?",
                (floor, TRIM_BATCH_ROWS),
            ).fetchall()
            young = next((i for i, row in enumerate(rows) if row[1] >= before), len(rows))
            if young:
                connection.execute(
                    "DELETE FROM deliveries WHERE offset <= ?", (rows[young - 1][0],)
                )
            return young

    # -- quarantine ---------------------------------------------------------------------------

    def quarantine(self, delivery: Delivery, reason: str, offset: int | None = None) -> None:
        """Set a delivery aside."""
        with self._file.transaction() as connection:
            connection.execute(
                "INSERT OR IGNORE INTO quarantine "
                "(log_offset, reason, quarantined_at, received_at, headers, body) "
                "VALUES (?, ?, ?, ?, ?, ?)",
                (
                    offset,
                    reason,
                    to_micros(datetime.now(UTC)),
                    to_micros(delivery.received_at),
                    as_json(delivery.headers),
                    delivery.body,
                ),
            )

    def quarantined(self, after: int = 0, limit: int = 100) -> list[Quarantined]:
        """What is in quarantine."""
        rows = self._file.rows(
            f"SELECT id, log_offset, reason, quarantined_at, received_at, {HEADERS}, body "  # noqa: S608
            "FROM quarantine WHERE id > ? ORDER BY id LIMIT ?",
            after,
            limit,
        )
        return [
            Quarantined(
                number,
                offset,
                reason,
                from_micros(quarantined_at),
                Delivery(body, from_micros(received_at), headers_of(headers) or {}),
            )
            for number, offset, reason, quarantined_at, received_at, headers, body in rows
        ]

    def release(self, ids: Iterable[int]) -> list[int]:
        """Move deliveries from quarantine to the end of the log, all or none."""
        offsets = []
        with self._file.transaction() as connection:
            for number in ids:
                row = connection.execute(
                    "DELETE FROM quarantine WHERE id = ? "  # noqa: S608
                    f"RETURNING received_at, {HEADERS}, body",
                    (number,),
                ).fetchone()
                if row is not None:
                    cursor = connection.execute(
                        "INSERT INTO deliveries (received_at, checksum, headers, body) "
                        "VALUES (?, ?, ?, ?)",
                        (row[0], zlib.crc32(row[2]), as_json(headers_of(row[1]) or {}), row[2]),
                    )
                    offsets.append(int(cursor.lastrowid or 0))
        return offsets

    def discard(self, ids: Iterable[int]) -> int:
        """Delete deliveries from quarantine for good."""
        with self._file.transaction() as connection:
            cursor = connection.executemany(
                "DELETE FROM quarantine WHERE id = ?", [(number,) for number in ids]
            )
            return cursor.rowcount

    # -- shared settings and counts -----------------------------------------------------------

    def get(self, key: str) -> str | None:
        """A shared setting."""
        row = self._file.row("SELECT value FROM settings WHERE key = ?", key)
        return str(row[0]) if row else None

    def put(self, key: str, value: str) -> None:
        """Store a shared setting."""
        with self._file.transaction() as connection:
            connection.execute("INSERT OR REPLACE INTO settings VALUES (?, ?)", (key, value))

    def put_if_absent(self, key: str, value: str) -> str:
        """Store a shared setting unless there is one; return the one that stands."""
        with self._file.transaction() as connection:
            connection.execute("INSERT OR IGNORE INTO settings VALUES (?, ?)", (key, value))
        return self.get(key) or value

    def lease(self, name: str, owner: str, seconds: float) -> bool:
        """Take or renew a lease."""
        now = time.time()
        with self._file.transaction() as connection:
            cursor = connection.execute(
                "INSERT INTO leases VALUES (?, ?, ?) ON CONFLICT (name) DO UPDATE SET "
                "owner = excluded.owner, until = excluded.until "
                "WHERE owner = excluded.owner OR until < ?",
                (name, owner, now + seconds, now),
            )
            return cursor.rowcount > 0

    def add_counts(self, minute: int, counts: Mapping[str, int]) -> None:
        """Add to the counts of a minute."""
        with self._file.transaction() as connection:
            connection.executemany(
                "INSERT INTO counts VALUES (?, ?, ?) "
                "ON CONFLICT (minute, name) DO UPDATE SET n = n + excluded.n",
                [(minute, name, n) for name, n in counts.items()],
            )
            connection.execute(
                "DELETE FROM counts WHERE minute < ?", (int(time.time()) // 60 - KEPT_MINUTES,)
            )

    def counts(self, since_minute: int) -> list[MinuteCount]:
        """The counts from a minute on, by minute and name."""
        rows = self._file.rows(
            "SELECT minute, name, n FROM counts WHERE minute >= ? ORDER BY 1, 2", since_minute
        )
        return [MinuteCount(*row) for row in rows]

    def check(self) -> list[str]:
        """Read every page and every delivery."""
        with self._file.reader() as connection:
            try:
                found = [str(r[0]) for r in connection.execute("PRAGMA integrity_check(20)")]
                problems = [] if found == ["ok"] else found
                for offset, *row in connection.execute(
                    f"SELECT offset, received_at, checksum, {HEADERS}, body FROM deliveries "  # noqa: S608
                    "ORDER BY offset"
                ):
                    try:
                        delivery_of(*row)
                    except DamagedRowError as damage:
                        problems.append(f"delivery {offset} {damage}")
                problems += [
                    f"delivery {number} in quarantine {BAD_HEADERS}"
                    for number, headers in connection.execute(
                        f"SELECT id, {HEADERS} FROM quarantine ORDER BY id"  # noqa: S608
                    )
                    if headers_of(headers) is None
                ]
            except sqlite3.Error as error:
                problems = [str(as_log_error(self.path, error))]
        return problems

    def close(self) -> None:
        """Let go of the file; the log must not be used afterwards."""
        self._file.close()
