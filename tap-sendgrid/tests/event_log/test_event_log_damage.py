"""A damaged SQLite log: damage is found, never read over, and repaired with all that is left."""

from __future__ import annotations

import os
import sqlite3
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path

import pytest
from tap_sendgrid.event_log import Delivery, EventLogError
from tap_sendgrid.event_log.sqlite import SQLiteEventLog
from tap_sendgrid.event_log.sqlite_repair import repair_log

NOW = datetime(2026, 11, 23, 8, 0, tzinfo=UTC)


def delivery(body: bytes) -> Delivery:
    return Delivery(body, NOW)


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
