"""The connections to a SQLite log file: one that writes, some that read, and what errors mean."""

from __future__ import annotations

import sqlite3
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from tap_sendgrid.event_log.base import EventLogError
from tap_sendgrid.event_log.sqlite_schema import (
    PAGE_BYTES,
    check_folder,
    check_is_log,
    create_log,
)

_LOCKED = {sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED}
_CORRUPT = {sqlite3.SQLITE_CORRUPT}


@contextmanager
def translated(path: Path) -> Iterator[None]:
    """Turn SQLite's errors into the log's, with what to do about them."""
    try:
        yield
    except sqlite3.Error as error:
        raise as_log_error(path, error) from error


def as_log_error(path: Path, error: sqlite3.Error) -> EventLogError:
    """What a SQLite error means for the log at ``path``."""
    code = (getattr(error, "sqlite_errorcode", None) or 0) & 0xFF
    if code in _LOCKED:
        return EventLogError(
            "locked", f"another process holds the event log {path} for too long: try again"
        )
    if code == sqlite3.SQLITE_FULL:
        return EventLogError(
            "full",
            f"no space is left for the event log {path}: free some on its disk, or run "
            "`sendgrid-webhook trim`",
        )
    if code in _CORRUPT:
        return EventLogError(
            "corrupt",
            f"the event log {path} is damaged ({error}): stop the receiver and run "
            "`sendgrid-webhook repair`",
        )
    if code == sqlite3.SQLITE_NOTADB:
        return EventLogError(
            "not_a_log", f"{path} is not an event log: give another path in event_log_url"
        )
    return EventLogError(
        "unavailable",
        f"the event log {path} cannot be used ({error}): look at the permissions of the file "
        "and its folder, and at the disk",
    )


def connect(path: Path, timeout: float, *, max_bytes: int | None = None) -> sqlite3.Connection:
    """A connection in which a commit returns only when its data is on disk.

    ``isolation_level=None``: transactions are written out where they are needed.
    """
    uri = f"{path.absolute().as_uri()}?mode=rw"
    connection = sqlite3.connect(
        uri, uri=True, timeout=timeout, isolation_level=None, check_same_thread=False
    )
    try:
        connection.execute("PRAGMA synchronous = FULL")
        # A burst must not leave a huge write-ahead log behind for ever.
        connection.execute(f"PRAGMA journal_size_limit = {64 << 20}")
        if max_bytes is not None:
            connection.execute(f"PRAGMA max_page_count = {max(1, max_bytes // PAGE_BYTES)}")
    except BaseException:
        connection.close()
        raise
    return connection


class LogFile:
    """A log file, open; safe to use from several threads at once.

    Args:
        path: The file.
        create: Make the log if it does not exist.
        max_bytes: Refuse to grow beyond this.
        timeout: Seconds to wait for a lock.

    Raises:
        EventLogError: The file cannot be opened, or is not a log.
    """

    def __init__(self, path: Path, *, create: bool, max_bytes: int | None, timeout: float) -> None:
        self.path = path
        self._timeout = timeout
        self._lock = threading.Lock()
        self._idle_readers: list[sqlite3.Connection] = []
        self._closed = False
        try:
            if not path.exists():
                if not create:
                    raise EventLogError(
                        "missing",
                        f"there is no event log at {path}: start `sendgrid-webhook serve` with "
                        "the same event_log_url, or correct it",
                    )
                create_log(path)
            check_folder(path.parent)
            with translated(path):
                # Another process that opens or closes the same log locks it for a moment.
                self._writer = connect(path, timeout, max_bytes=max_bytes)
            self._identity = self._find_identity()
        except OSError as error:
            raise EventLogError(
                "unavailable",
                f"the event log {path} cannot be opened ({error.strerror}): check event_log_url "
                "and the permissions of that folder",
            ) from error
        try:
            with translated(path):
                check_is_log(self._writer, path)
                self._writer.execute("PRAGMA busy_timeout = 0")  # from here on _begin waits
        except BaseException:
            self._writer.close()
            raise

    @contextmanager
    def transaction(self) -> Iterator[sqlite3.Connection]:
        """One write transaction: on disk when the block is left, or undone."""
        with self._lock, translated(self.path):
            self._check_in_place()
            self._begin()
            try:
                yield self._writer
                self._writer.execute("COMMIT")
            except BaseException:
                if self._writer.in_transaction:
                    with suppress(sqlite3.Error):
                        self._writer.execute("ROLLBACK")
                raise

    @contextmanager
    def reader(self) -> Iterator[sqlite3.Connection]:
        """A connection that is nobody else's as long as the block runs."""
        self._check_in_place()
        try:
            connection = self._idle_readers.pop()
        except IndexError:
            with translated(self.path):
                connection = connect(self.path, self._timeout)
        try:
            yield connection
        except BaseException:
            connection.close()
            raise
        if self._closed:
            connection.close()
        else:
            self._idle_readers.append(connection)

    def rows(self, sql: str, *values: int | str) -> list[tuple[Any, ...]]:
        """All rows of a small query."""
        with self.reader() as connection, translated(self.path):
            return connection.execute(sql, values).fetchall()

    def row(self, sql: str, *values: int | str) -> tuple[Any, ...] | None:
        """The first row of a query."""
        return next(iter(self.rows(sql, *values)), None)

    def vacuum(self, pages: int) -> bool:
        """Shrink the file by up to so many free pages; False when none was left."""
        with self.transaction() as connection:
            (free,) = connection.execute("PRAGMA freelist_count").fetchone()
            for _ in range(min(free, pages)):
                # One at a time: execute() stops after the first page whatever the number says.
                connection.execute("PRAGMA incremental_vacuum(1)")
            return bool(free)

    def checkpoint(self) -> None:
        """Bring the write-ahead log into the file and empty it, unless somebody is using it.

        The file shrinks by what was vacuumed only then, and both are counted meanwhile.
        """
        with self._lock, suppress(sqlite3.Error):
            self._writer.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()

    def size_bytes(self) -> int:
        """What the log and its write-ahead log take on disk."""
        files = (self.path, self.path.with_name(self.path.name + "-wal"))
        return sum(file.stat().st_size for file in files if file.exists())

    def close(self) -> None:
        """Close every connection."""
        with self._lock:
            self._closed = True
            self._writer.close()
            while self._idle_readers:
                self._idle_readers.pop().close()

    def _begin(self) -> None:
        """Wait for our turn to write.

        SQLite's own waiting sleeps up to 100 ms between tries, so that beside a receiver under
        full load, which leaves gaps of a fraction of a millisecond, a tap would never get one.
        """
        deadline = time.monotonic() + self._timeout
        while True:
            try:
                self._writer.execute("BEGIN IMMEDIATE")
            except sqlite3.OperationalError as error:
                locked = error.sqlite_errorcode & 0xFF in _LOCKED
                if not locked or time.monotonic() >= deadline:
                    raise
                time.sleep(0.001)
            else:
                return

    def _find_identity(self) -> tuple[int, int]:
        """Which file stands at the path now."""
        found = self.path.stat()
        return found.st_dev, found.st_ino

    def _check_in_place(self) -> None:
        """Refuse a file that was moved or deleted.

        What is written to it nobody would find again; who reads it would never see what comes to
        the one in its place.
        """
        try:
            in_place = self._find_identity() == self._identity
        except OSError:
            in_place = False
        if not in_place:
            raise EventLogError(
                "unavailable",
                f"the event log {self.path} was moved or deleted while in use: put it back, or "
                "restart to begin a new one",
            )
