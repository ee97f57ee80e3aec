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
from tap_sendgrid.event_log.sqlite_repair import repair_log

NOW = datetime(2026, 11, 23, 8, 0, tzinfo=UTC)


def delivery(body: bytes, received_at: datetime = NOW) -> Delivery:
    return Delivery(body, received_at)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "events.db"


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


def write_bodies(path: Path, count: int) -> dict[int, bytes]:
    log = SQLiteEventLog(path)
    stored = {}
    for number in range(count):
        body = (b"delivery %06d " % number) * 100
        [offset] = log.append([delivery(body)])
        stored[offset] = body
    log.commit("tap", count // 2)
    log.put("webhook.path_token", "kept")
    log.close()
    return stored


def test_a_flipped_bit_is_found_and_the_delivery_set_aside(path: Path) -> None:
    stored = write_bodies(path, 20)
    content = path.read_bytes()
    path.write_bytes(content.replace(b"delivery 000007 ", b"delivery 0000X7 ", 1))
    log = SQLiteEventLog(path)
    assert log.check() == ["delivery 8 does not match its checksum"]
    read = []
    with pytest.raises(EventLogError, match=r"delivery 8 .* damaged.*repair") as caught:
        read.extend(logged.offset for logged in log.read(0))
    assert caught.value.kind == "corrupt"
    assert log.append([delivery(b"still writable")]) == [21]
    with pytest.raises(EventLogError, match="in use"):
        repair_log(path)
    log.close()

    result = repair_log(path)
    assert (result.deliveries, result.quarantined) == (20, 1)
    repaired = SQLiteEventLog(path, create=False)
    found = {logged.offset: logged.delivery.body for logged in repaired.read(0)}
    del stored[8]
    assert {**stored, 21: b"still writable"} == found
    assert repaired.quarantined()[0].offset == 8
    assert repaired.check() == []
    repaired.close()


@pytest.mark.parametrize(
    ("column", "value", "problem"),
    [
        ("headers", '{"content-ty', "has headers that cannot be read"),
        ("headers", b'{"content-type": "\xff"}', "has headers that cannot be read"),
        ("received_at", 1 << 62, "has an impossible time of arrival"),
    ],
)
def test_a_delivery_is_damaged_when_what_stands_beside_its_body_is(
    path: Path, column: str, value: object, problem: str
) -> None:
    stored = write_bodies(path, 3)
    with closing(sqlite3.connect(path)) as connection, connection:
        # A cast of bytes to text is stored as it is, like a flipped bit in a text.
        sql = (
            f"UPDATE deliveries SET {column} = {'CAST(? AS TEXT)' if column == 'headers' else '?'}"
        )
        connection.execute(f"{sql} WHERE offset = 2", (value,))
    log = SQLiteEventLog(path)
    assert log.check() == [f"delivery 2 {problem}"]
    read = []
    with pytest.raises(EventLogError, match=r"delivery 2 .* damaged.*repair") as caught:
        read.extend(logged.offset for logged in log.read(0))
    assert caught.value.kind == "corrupt"
    assert read == [1]
    log.close()

    result = repair_log(path)
    assert (result.deliveries, result.mended, result.lost, result.quarantined) == (3, 1, [], 0)
    repaired = SQLiteEventLog(path, create=False)
    assert repaired.check() == []
    assert {logged.offset: logged.delivery.body for logged in repaired.read(0)} == stored
    repaired.close()


def test_damaged_headers_in_quarantine_are_found_and_do_not_get_back_into_the_log(
    path: Path,
) -> None:
    log = SQLiteEventLog(path)
    for number in (1, 2):
        log.quarantine(Delivery(b"%d" % number, NOW, {"content-type": "x"}), "why", number)
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("UPDATE quarantine SET headers = '{' WHERE id = 1")
        connection.execute(
            "UPDATE quarantine SET headers = CAST(? AS TEXT) WHERE id = 2", (b"\xff",)
        )
    assert log.check() == [
        f"delivery {number} in quarantine has headers that cannot be read" for number in (1, 2)
    ]
    assert [dict(item.delivery.headers) for item in log.quarantined()] == [{}, {}]
    assert log.release([1]) == [1]
    assert [logged.delivery.body for logged in log.read(0)] == [b"1"]
    log.close()
    repair_log(path)
    repaired = SQLiteEventLog(path)
    assert [item.delivery.body for item in repaired.quarantined()] == [b"2"]
    assert repaired.check() == []
    repaired.close()


@pytest.mark.parametrize("kind", ["other", "newer", "empty", "text", "folder"])
def test_what_is_no_log_is_not_repaired(path: Path, kind: str) -> None:
    if kind == "newer":
        SQLiteEventLog(path).close()
    with closing(sqlite3.connect(path)) as connection:
        if kind == "other":
            connection.execute("CREATE TABLE customers (name)")
        elif kind == "newer":
            connection.execute("PRAGMA user_version = 99")
    if kind == "text":
        path.write_bytes(b"not a database at all, but long enough" * 50)
    if kind == "folder":
        path.unlink()
        path.mkdir()
    before = None if kind == "folder" else path.read_bytes()
    with pytest.raises(
        EventLogError, match=r"not an event log|newer tap-sendgrid|cannot be opened"
    ):
        repair_log(path)
    assert before is None or path.read_bytes() == before
    assert [file.name for file in path.parent.iterdir()] == [path.name]


@pytest.mark.parametrize("cut", [0.35, 0.6, 0.95])
def test_a_torn_file_gives_up_what_is_readable_at_its_offsets(path: Path, cut: float) -> None:
    stored = write_bodies(path, 400)
    size = path.stat().st_size
    os.truncate(path, int(size * cut))
    with pytest.raises(EventLogError, match="sendgrid-webhook repair") as caught:
        SQLiteEventLog(path)
    assert caught.value.kind == "corrupt"

    result = repair_log(path)
    repaired = SQLiteEventLog(path, create=False)
    found = {logged.offset: logged.delivery.body for logged in repaired.read(0)}
    assert found.items() <= stored.items()
    assert len(found) == result.deliveries > 400 * (cut - 0.3)
    lost = {offset for first, last in result.lost for offset in range(first, last + 1)}
    aside = {q.offset for q in repaired.quarantined()}
    assert found.keys() | lost | aside == stored.keys()
    assert len(aside) == result.quarantined <= 1
    assert repaired.append([delivery(b"next")])[0] > max(found)
    assert repaired.get("webhook.path_token") == "kept"
    assert [p.offset for p in repaired.positions()] == [200]
    assert repaired.check() == []
    repaired.close()
    assert result.damaged_file.exists()


def test_pages_of_garbage_in_the_middle(path: Path) -> None:
    stored = write_bodies(path, 400)
    with path.open("r+b") as file:
        size = path.stat().st_size
        for place in (0.3, 0.5, 0.7):
            file.seek(int(size * place) // 8192 * 8192)
            file.write(os.urandom(8192))
    result = repair_log(path)
    repaired = SQLiteEventLog(path)
    found = {logged.offset: logged.delivery.body for logged in repaired.read(0)}
    assert found.items() <= stored.items()
    assert len(found) > 300
    assert result.deliveries == len(found)
    assert repaired.append([delivery(b"next")]) == [401]
    repaired.close()


# -- costs -------------------------------------------------------------------------------------


def test_trimming_gives_the_space_back(path: Path) -> None:
    log = SQLiteEventLog(path)
    for number in range(40):
        age = timedelta(days=40) if number < 36 else timedelta()
        log.append([delivery(os.urandom(100_000), NOW - age)] * 5)
    full = log.status().size_bytes
    log.commit("tap", log.end())
    assert log.trim(NOW - timedelta(days=30)).deliveries == 180
    log.close()  # empties the write-ahead log into the file
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
