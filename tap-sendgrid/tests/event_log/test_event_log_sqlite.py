"""What the SQLite log promises beyond the contract: its file, its faults, its costs."""

from __future__ import annotations

import os
import sqlite3
import stat
import statistics
import threading
import time
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from tap_sendgrid.event_log import Delivery, EventLogError, open_event_log
from tap_sendgrid.event_log.sqlite import SQLiteEventLog

NOW = datetime(2026, 11, 23, 8, 0, tzinfo=UTC)


def delivery(body: bytes, received_at: datetime = NOW) -> Delivery:
    return Delivery(body, received_at)


# -- addresses and the file --------------------------------------------------------------------


def test_addresses(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    open_event_log("sqlite:///a%20log.db").close()
    assert (tmp_path / "a log.db").exists()
    open_event_log(f"sqlite:///{tmp_path}/deep/er/events.db").close()
    assert (tmp_path / "deep/er/events.db").exists()


@pytest.mark.parametrize(
    "url",
    [
        "sqlite://events.db",
        "sqlite:///",
        "events.db",
        "mysql://x/y",
        "sqlite:///a.db?max_byte=1",
        "sqlite:///a.db?max_bytes=many",
    ],
)
def test_an_address_that_is_none_says_how_to_write_it(url: str) -> None:
    with pytest.raises(EventLogError, match=r"sqlite:///|known are|numbers"):
        open_event_log(url)


def test_only_the_owner_may_read_it(tmp_path: Path) -> None:
    old = os.umask(0)
    try:
        log = SQLiteEventLog(tmp_path / "new/events.db")
        log.append([delivery(b"secret")])
        assert stat.S_IMODE((tmp_path / "new").stat().st_mode) == 0o700
        files = sorted((tmp_path / "new").iterdir())
        assert [file.name for file in files] == ["events.db", "events.db-shm", "events.db-wal"]
        assert {stat.S_IMODE(file.stat().st_mode) for file in files} == {0o600}
        log.close()
    finally:
        os.umask(old)


def test_a_folder_that_anybody_may_write_to_is_refused(tmp_path: Path) -> None:
    folder = tmp_path / "open"
    folder.mkdir()
    folder.chmod(0o777)
    with pytest.raises(EventLogError, match="chmod o-w"):
        SQLiteEventLog(folder / "events.db")
    folder.chmod(0o1777)  # as /tmp is: nobody can replace another's file
    SQLiteEventLog(folder / "events.db").close()


@pytest.mark.parametrize("content", [b"", b"not a database at all, but long enough" * 50])
def test_what_is_no_log_is_refused_and_left_alone(path: Path, content: bytes) -> None:
    path.write_bytes(content)
    with pytest.raises(EventLogError, match="is not an event log") as caught:
        SQLiteEventLog(path)
    assert caught.value.kind == "not_a_log"
    assert path.read_bytes() == content


def test_another_database_is_no_log(path: Path) -> None:
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("CREATE TABLE deliveries (a)")
    with pytest.raises(EventLogError, match="is not an event log"):
        SQLiteEventLog(path)


def test_a_log_of_a_newer_release_is_refused(path: Path) -> None:
    SQLiteEventLog(path).close()
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("PRAGMA user_version = 99")
    with pytest.raises(EventLogError, match="pip install --upgrade"):
        SQLiteEventLog(path)


def test_a_folder_that_cannot_be_made_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(EventLogError, match="cannot be opened") as caught:
        SQLiteEventLog(tmp_path / "file/events.db")
    assert caught.value.kind == "unavailable"


def test_many_may_make_it_at_once(path: Path) -> None:
    logs: list[SQLiteEventLog] = []
    threads = [threading.Thread(target=lambda: logs.append(SQLiteEventLog(path))) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    identities = {log.get("log.identity") for log in logs}
    for log in logs:
        log.append([delivery(b"x")])
    assert logs[0].end() == 8
    assert len(identities) == 1
    for log in logs:
        log.close()
    assert [file.name for file in path.parent.iterdir()] == ["events.db"]


# -- faults ------------------------------------------------------------------------------------


def test_a_lock_that_does_not_go_away_is_told(path: Path) -> None:
    log = SQLiteEventLog(path, timeout=0.2)
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        started = time.monotonic()
        with pytest.raises(EventLogError, match="another process holds") as caught:
            log.append([delivery(b"x")])
        assert caught.value.kind == "locked"
        assert time.monotonic() - started < 2
        other.execute("ROLLBACK")
    assert log.append([delivery(b"x")]) == [1]
    log.close()


def test_a_full_disk_is_told_keeps_what_was_there_and_ends_by_itself(path: Path) -> None:
    log = open_event_log(f"sqlite:///{path}?max_bytes=400000")

    def fill() -> None:
        while True:
            log.append([delivery(b"x" * 20_000)])

    with pytest.raises(EventLogError, match="no space is left") as caught:
        fill()
    assert caught.value.kind == "full"
    stored = log.end()
    assert stored > 5
    assert len(list(log.read(0))) == stored
    with pytest.raises(EventLogError, match="no space is left"):
        log.append([delivery(b"x" * 20_000)])
    log.commit("tap", stored)
    assert log.trim(NOW + timedelta(days=1)).deliveries == stored
    assert log.append([delivery(b"x" * 20_000)]) == [stored + 1]
    assert log.check() == []
    log.close()


def test_a_log_that_was_moved_takes_nothing_more(path: Path) -> None:
    log = SQLiteEventLog(path)
    log.append([delivery(b"x")])
    path.rename(path.with_name("elsewhere.db"))
    with pytest.raises(EventLogError, match="moved or deleted") as caught:
        log.append([delivery(b"lost")])
    assert caught.value.kind == "unavailable"
    assert not path.exists()
    path.with_name("elsewhere.db").rename(path)
    assert log.append([delivery(b"y")]) == [2]
    log.close()


# -- costs -------------------------------------------------------------------------------------


def test_trimming_gives_the_space_back(path: Path) -> None:
    log = SQLiteEventLog(path)
    for number in range(40):
        age = timedelta(days=40) if number < 36 else timedelta()
        log.append([delivery(os.urandom(100_000), NOW - age)] * 5)
    full = log.status().size_bytes
    log.commit("tap", log.end())
    assert log.trim(NOW - timedelta(days=30)).deliveries == 180
    assert log.status().size_bytes < full * 0.15, "the write-ahead log included"
    log.close()
    assert path.stat().st_size < full * 0.15
    log = SQLiteEventLog(path)
    assert [len(logged.delivery.body) for logged in log.read(0)] == [100_000] * 20
    assert log.check() == []
    log.close()


def test_reads_are_searches_whatever_the_size(path: Path) -> None:
    SQLiteEventLog(path).close()
    queries = {
        "SELECT body FROM deliveries WHERE offset > 5 AND offset <= 9 ORDER BY offset": "PK",
        "SELECT min(offset), max(offset) FROM deliveries "
        "WHERE received_at >= 1 AND received_at < 5": "COVERING INDEX",
        "SELECT received_at FROM deliveries WHERE offset > 5 ORDER BY offset LIMIT 1": "PK",
    }
    with closing(sqlite3.connect(path)) as connection:
        for sql, how in queries.items():
            plan = " ".join(row[3] for row in connection.execute("EXPLAIN QUERY PLAN " + sql))
            assert plan.startswith("SEARCH"), plan
            assert ("PRIMARY KEY" if how == "PK" else how) in plan


def test_a_tap_gets_its_turn_beside_a_receiver_under_full_load(path: Path) -> None:
    busy, tap = SQLiteEventLog(path), SQLiteEventLog(path, timeout=5)
    stop = threading.Event()

    def load() -> None:
        while not stop.is_set():
            busy.append([delivery(b"x" * 100_000)])

    thread = threading.Thread(target=load)
    thread.start()
    waits = []
    try:
        for _ in range(40):
            started = time.monotonic()
            tap.commit("tap", tap.end())
            waits.append(time.monotonic() - started)
    finally:
        stop.set()
        thread.join()
    assert statistics.median(waits) < 0.5
    busy.close()
    tap.close()
