"""Saves what can be read of a damaged SQLite log."""

from __future__ import annotations

import os
import sqlite3
import zlib
from collections.abc import Iterator
from contextlib import closing, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from tap_sendgrid.event_log.base import EventLogError
from tap_sendgrid.event_log.micros import from_micros, to_micros
from tap_sendgrid.event_log.sqlite_file import as_log_error, connect, translated
from tap_sendgrid.event_log.sqlite_rows import HEADERS, as_json, headers_of
from tap_sendgrid.event_log.sqlite_schema import check_file_is_log, create_log, sync

BATCH_ROWS = 200
_COPIED_WHOLE = ("positions", "settings", "counts", "quarantine")


@dataclass
class RepairResult:
    """What came of it.

    Attributes:
        damaged_file: Where the damaged log was moved to.
        deliveries: How many deliveries were saved.
        lost: Ranges of offsets (first, last) within which nothing could be read. Offsets that
            were never given are in them too: what was there cannot be known.
        quarantined: How many bodies did not match their checksum; they are in quarantine.
        mended: How many of the saved deliveries have lost what stood beside their body: they are
            without headers, or have the time of the repair as that of their arrival.
    """

    damaged_file: Path
    deliveries: int = 0
    lost: list[tuple[int, int]] = field(default_factory=list)
    quarantined: int = 0
    mended: int = 0


def repair_log(path: str | Path) -> RepairResult:
    """Copy every readable delivery, at its offset, into a new log that takes the old one's place.

    Args:
        path: The damaged log; no receiver or tap may have it open.

    Raises:
        EventLogError: The log is in use, or is not even a database any more, or was none of ours:
            an empty log is not to take the place of somebody's database.
    """
    path = Path(path)
    if not path.exists():
        raise EventLogError("unavailable", f"there is no event log at {path}")
    try:
        check_file_is_log(path)
    except OSError as error:
        raise EventLogError(
            "unavailable", f"the event log {path} cannot be opened ({error.strerror})"
        ) from error
    stamp = datetime.now(UTC).strftime("%Y%m%dT%H%M%SZ")
    result = RepairResult(path.with_name(f"{path.name}.damaged-{stamp}"))
    new = path.with_name(f".{path.name}.repaired-{os.getpid()}")
    with translated(path), closing(_open_damaged(path)) as old:
        _take_alone(old, path)
        create_log(new)
        with closing(connect(new, 0)) as copy:
            copy.execute("BEGIN")
            _copy_tables(old, copy)
            _copy_deliveries(old, copy, result)
            copy.execute("COMMIT")
        sync(new)
    for suffix in ("", "-wal", "-shm"):
        with suppress(FileNotFoundError):
            Path(f"{path}{suffix}").replace(f"{result.damaged_file}{suffix}")
    new.replace(path)
    sync(path.parent)
    return result


def _open_damaged(path: Path) -> sqlite3.Connection:
    """A connection to a file that SQLite would not open otherwise."""
    uri = f"{path.absolute().as_uri()}?mode=rw"
    old = sqlite3.connect(uri, uri=True, timeout=0, isolation_level=None)
    # With this SQLite opens a file that is shorter than its first page says.
    old.execute("PRAGMA writable_schema = ON")
    return old


def _take_alone(old: sqlite3.Connection, path: Path) -> None:
    """Make sure that no other process has the log open: it would go on writing to the old file."""
    old.execute("PRAGMA locking_mode = EXCLUSIVE")
    try:
        old.execute("BEGIN EXCLUSIVE")
        old.execute("COMMIT")
    except sqlite3.Error as error:
        problem = as_log_error(path, error)
        if problem.kind == "locked":
            raise EventLogError(
                "locked", f"the event log {path} is in use: stop the receiver and the tap first"
            ) from error
        if problem.kind != "corrupt":
            raise


def _copy_tables(old: sqlite3.Connection, copy: sqlite3.Connection) -> None:
    """Copy the small tables, as far as they can be read."""
    # One text with a flipped bit must not be the end of its table.
    old.text_factory = lambda text: text.decode(errors="replace")
    for table in _COPIED_WHOLE:
        with suppress(sqlite3.Error):
            for row in old.execute(f"SELECT * FROM {table}"):  # noqa: S608 - our own names
                marks = ", ".join("?" * len(row))
                copy.execute(f"INSERT OR REPLACE INTO {table} VALUES ({marks})", row)  # noqa: S608
    for number, headers in copy.execute(f"SELECT id, {HEADERS} FROM quarantine").fetchall():  # noqa: S608
        if headers_of(headers) is None:
            copy.execute("UPDATE quarantine SET headers = '{}' WHERE id = ?", (number,))


def _copy_deliveries(
    old: sqlite3.Connection, copy: sqlite3.Connection, result: RepairResult
) -> None:
    """Copy deliveries; the next offset to be given stays beyond all that were ever given."""
    end = _end(old)
    previous = None
    now = to_micros(datetime.now(UTC))
    for offset, received_at, checksum, headers, body in _readable(old, end):
        if previous is not None and offset > previous + 1:
            result.lost.append((previous + 1, offset - 1))
        previous = offset
        found, moment = headers_of(headers), received_at if _is_moment(received_at) else now
        beside = (moment, as_json(found or {}))
        if zlib.crc32(body) != checksum:
            copy.execute(
                "INSERT OR IGNORE INTO quarantine (log_offset, reason, quarantined_at, "
                "received_at, headers, body) VALUES (?, ?, ?, ?, ?, ?)",
                (offset, "damaged on disk", now, *beside, body),
            )
            result.quarantined += 1
            continue
        copy.execute(
            "INSERT INTO deliveries (offset, checksum, received_at, headers, body) "
            "VALUES (?, ?, ?, ?, ?)",
            (offset, checksum, *beside, body),
        )
        result.deliveries += 1
        result.mended += found is None or moment != received_at
    if end > (previous or 0):
        result.lost.append(((previous or 0) + 1, end))
    copy.execute("DELETE FROM sqlite_sequence WHERE name = 'deliveries'")
    copy.execute("INSERT INTO sqlite_sequence VALUES ('deliveries', ?)", (end,))


def _end(old: sqlite3.Connection) -> int:
    """The highest offset that any readable part knows of."""
    end = 0
    for sql in (
        "SELECT seq FROM sqlite_sequence WHERE name = 'deliveries'",
        "SELECT max(offset) FROM deliveries",
        "SELECT max(log_offset) FROM positions",
    ):
        with suppress(sqlite3.Error):
            row = old.execute(sql).fetchone()
            end = max(end, (row and row[0]) or 0)
    return end


def _readable(old: sqlite3.Connection, end: int) -> Iterator[tuple[Any, ...]]:
    """Every row that can be read and looks like one, in order.

    Runs of good rows are read together; from a bad place on, one offset after the other is tried.
    """
    columns = f"SELECT offset, received_at, checksum, {HEADERS}, body FROM deliveries "  # noqa: S608
    after = 0
    while after < end:
        sql = columns + "WHERE offset > ? ORDER BY offset LIMIT ?"
        found = 0
        for row in _rows(old, sql, after, BATCH_ROWS):
            if not _is_row(row, after, end):
                break
            yield row
            after, found = row[0], found + 1
        if found < BATCH_ROWS and after < end:
            after += 1
            for row in _rows(old, columns + "WHERE offset = ?", after):
                if _is_row(row, after - 1, after):
                    yield row


def _rows(old: sqlite3.Connection, sql: str, *values: int) -> Iterator[tuple[Any, ...]]:
    """The rows of a query up to the first that cannot be read."""
    with suppress(sqlite3.Error, OverflowError):
        yield from old.execute(sql, values)


def _is_row(row: tuple[Any, ...], after: int, until: int) -> bool:
    """Whether a row has the right types, and an offset where it may be."""
    types = tuple(type(value) for value in row)
    return types == (int, int, int, bytes, bytes) and after < row[0] <= until


def _is_moment(micros: int) -> bool:
    """Whether a time of arrival is one that can be told."""
    try:
        from_micros(micros)
    except OverflowError:
        return False
    return True
