"""What a SQLite log file is: its tables, where it may lie, how it is made and recognised."""

from __future__ import annotations

import os
import sqlite3
import stat
import tempfile
import uuid
from contextlib import closing
from pathlib import Path

from tap_sendgrid.event_log.base import IDENTITY, EventLogError

APPLICATION_ID = 0x53474C47  # "SGLG", so that no other database is taken for a log
SCHEMA_VERSION = 1
PAGE_BYTES = 8192
"""Measured with 440 KB and 400 byte deliveries: the best of both among 4, 8, 16 and 64 KiB."""

# AUTOINCREMENT: an offset is never given twice, also after the newest deliveries were trimmed.
# The body comes last: reading the other columns does not touch its overflow pages.
SCHEMA = """
CREATE TABLE deliveries (
    offset INTEGER PRIMARY KEY AUTOINCREMENT,
    received_at INTEGER NOT NULL,  -- microseconds since 1970, UTC
    checksum INTEGER NOT NULL,     -- CRC-32 of the body
    headers TEXT NOT NULL,         -- a JSON object
    body BLOB NOT NULL
);
CREATE INDEX deliveries_received_at ON deliveries (received_at);
CREATE TABLE quarantine (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    log_offset INTEGER UNIQUE,
    reason TEXT NOT NULL,
    quarantined_at INTEGER NOT NULL,
    received_at INTEGER NOT NULL,
    headers TEXT NOT NULL,
    body BLOB NOT NULL
);
CREATE TABLE positions (
    consumer TEXT PRIMARY KEY, log_offset INTEGER NOT NULL, committed_at INTEGER NOT NULL
) WITHOUT ROWID;
CREATE TABLE settings (key TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE leases (
    name TEXT PRIMARY KEY, owner TEXT NOT NULL, until REAL NOT NULL  -- epoch seconds
) WITHOUT ROWID;
CREATE TABLE counts (
    minute INTEGER, name TEXT, n INTEGER NOT NULL, PRIMARY KEY (minute, name)
) WITHOUT ROWID;
"""


def create_log(path: Path) -> None:
    """Make an empty log, readable by its owner only; one that appears meanwhile is left alone.

    It is built under another name and put in place whole, so neither a crash nor a second
    process that does the same can leave half a log.
    """
    folder = path.parent
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    check_folder(folder)
    handle, name = tempfile.mkstemp(prefix=f".{path.name}.", suffix=".new", dir=folder)
    os.close(handle)
    new = Path(name)  # mkstemp makes it 0600
    try:
        with closing(sqlite3.connect(new, isolation_level=None)) as connection:
            connection.execute("PRAGMA synchronous = FULL")
            connection.execute(f"PRAGMA page_size = {PAGE_BYTES}")
            connection.execute("PRAGMA auto_vacuum = INCREMENTAL")
            connection.execute("PRAGMA journal_mode = WAL")
            connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
            connection.execute(f"PRAGMA user_version = {SCHEMA_VERSION}")
            connection.executescript(f"BEGIN; {SCHEMA} COMMIT;")
            connection.execute("INSERT INTO settings VALUES (?, ?)", (IDENTITY, str(uuid.uuid4())))
        sync(new)
        try:
            os.link(new, path)
        except FileExistsError:
            return
        sync(folder)
    finally:
        new.unlink(missing_ok=True)


def sync(path: Path) -> None:
    """Bring a file, or the names in a folder, to disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def check_folder(folder: Path) -> None:
    """Refuse a folder in which any user may put another file in the log's place.

    Raises:
        EventLogError: The folder is writable for everybody and not sticky.
    """
    mode = folder.stat().st_mode
    if mode & stat.S_IWOTH and not mode & stat.S_ISVTX:
        raise EventLogError(
            "unavailable",
            f"every user may replace files in {folder}: run `chmod o-w {folder}` or choose "
            "another folder in event_log_url",
        )


def check_is_log(connection: sqlite3.Connection, path: Path) -> None:
    """Refuse what is not a log, or is one of a newer kind.

    Raises:
        EventLogError: The database was made by something else, or by a newer release.
    """
    (application,) = connection.execute("PRAGMA application_id").fetchone()
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    _check_marks(application, version, path)


def check_file_is_log(path: Path) -> None:
    """The same for a file that SQLite may not be able to open any more.

    Raises:
        EventLogError: The file was made by something else, or by a newer release.
        OSError: It cannot be read.
    """
    with path.open("rb") as file:
        head = file.read(100)
    if not head:  # which SQLite takes for a database without tables
        raise EventLogError("not_a_log", f"{path} is empty, so it is not an event log")
    if not head.startswith(b"SQLite format 3\0"):
        return  # damaged beyond telling; SQLite opens it only if its write-ahead log has more
    # https://sqlite.org/fileformat2.html#the_database_header
    _check_marks(int.from_bytes(head[68:72]), int.from_bytes(head[60:64]), path)


def _check_marks(application: int, version: int, path: Path) -> None:
    if application != APPLICATION_ID:
        raise EventLogError(
            "not_a_log", f"{path} is not an event log: give another path in event_log_url"
        )
    if version > SCHEMA_VERSION:
        raise EventLogError(
            "not_a_log",
            f"the event log {path} was made by a newer tap-sendgrid (format {version}, known is "
            f"{SCHEMA_VERSION}): run `pip install --upgrade tap-sendgrid`",
        )
