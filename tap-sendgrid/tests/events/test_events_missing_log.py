"""No log at its address, or another one, or one without what the state still needs."""

from __future__ import annotations

import shutil
import sqlite3
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from tap_sendgrid.event_log import EventLogError, open_event_log

from .conftest import RunTap, as_delivery, bookmarks, fill, last_state, records

STATE: dict[str, Any] = {
    "bookmarks": {"click": {"replication_key": "log_offset", "replication_key_value": 7}},
}


def test_before_the_first_delivery_there_is_nothing_to_sync(
    run_tap: RunTap, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    messages = run_tap(selected=["click"])
    assert {message["type"] for message in messages} == {"SCHEMA"}
    assert "Start the receiver" in caplog.text
    assert not (tmp_path / "events.db").exists()


@pytest.mark.parametrize("follow", [True, False])
def test_no_empty_log_is_made_in_place_of_one_that_was_read(
    run_tap: RunTap, tmp_path: Path, follow: bool
) -> None:
    with pytest.raises(EventLogError) as caught:
        run_tap(selected=["click"], state=STATE, follow=follow)
    assert caught.value.kind == "missing"
    assert not (tmp_path / "events.db").exists()


def test_another_log_in_its_place_is_refused_however_long_it_is(
    run_tap: RunTap, log_url: str, tmp_path: Path
) -> None:
    with closing(open_event_log(log_url)) as log:
        fill(log, 5)
    state = last_state(run_tap())
    (tmp_path / "events.db").rename(tmp_path / "old.db")
    with closing(open_event_log(log_url)) as log:
        ids = fill(log, 8)
    with pytest.raises(EventLogError, match="is not the one that the state") as caught:
        run_tap(state=state)
    assert caught.value.kind == "position"
    assert [record["id"] for record in records(run_tap())] == ids  # as the message advises
    (tmp_path / "old.db").replace(tmp_path / "events.db")
    assert last_state(run_tap(state=state)) == state


def add(log_url: str, *seconds: int) -> None:
    """Deliveries of an open each, so many seconds after START."""
    with closing(open_event_log(log_url)) as log:
        for second in seconds:
            event = {"event": "open", "sg_event_id": f"at{second}"}
            log.append([as_delivery([event], second)])


def test_a_log_that_is_put_back_from_a_backup_is_refused_however_long_it_is(
    run_tap: RunTap, log_url: str, tmp_path: Path
) -> None:
    add(log_url, 1, 2)
    shutil.copy(tmp_path / "events.db", tmp_path / "backup.db")
    early = last_state(run_tap(selected=["_open"]))
    add(log_url, 3, 4)
    late = last_state(run_tap(selected=["_open"], state=early))
    (tmp_path / "backup.db").replace(tmp_path / "events.db")
    add(log_url, 5, 6, 7)
    with pytest.raises(EventLogError, match="was put back from a backup") as caught:
        run_tap(selected=["_open"], state=late)
    assert caught.value.kind == "position"
    assert "has a delivery of 2026-01-02 03:04:11.678901+00:00 at offset 4" in str(caught.value)
    again = [record["id"] for record in records(run_tap(selected=["_open"], state=early))]
    assert again == ["at5", "at6", "at7"]  # what the backup has is as it was
    for bookmark in late["bookmarks"].values():  # of an older version
        del bookmark["last_delivery"]
    assert [record["id"] for record in records(run_tap(selected=["_open"], state=late))] == ["at7"]


def test_each_bookmark_has_the_last_delivery_that_its_stream_read(
    run_tap: RunTap, log_url: str
) -> None:
    add(log_url, 1, 2, 3)
    state = last_state(run_tap(selected=["click"]))
    add(log_url, 4)
    state = last_state(run_tap(selected=["_open"], state=state))
    with sqlite3.connect(log_url.removeprefix("sqlite:///")) as connection:
        connection.execute("DELETE FROM deliveries WHERE offset = 4")  # a gap, before the end too
        connection.execute("UPDATE sqlite_sequence SET seq = 6")
    connection.close()
    state = last_state(run_tap(selected=["click", "_open"], state=state))
    assert bookmarks(state) == {"click": 6, "_open": 6}
    last = {name: mark["last_delivery"] for name, mark in state["bookmarks"].items()}
    start = 1_767_323_045_678_901
    assert last == {
        "click": {"offset": 3, "received_at": start + 3_000_000},
        "_open": {"offset": 4, "received_at": start + 4_000_000},
    }
    assert records(run_tap(selected=["click", "_open"], state=state)) == []


@pytest.mark.parametrize("what", ["trimmed", "damaged"])
def test_a_last_delivery_that_is_gone_is_no_hindrance(
    run_tap: RunTap, log_url: str, what: str
) -> None:
    add(log_url, 1, 2)
    state = last_state(run_tap(selected=["_open"]))
    add(log_url, 3)
    with (
        closing(open_event_log(log_url)) as log,
        closing(
            sqlite3.connect(log_url.removeprefix("sqlite:///"), isolation_level=None)
        ) as connection,
    ):
        if what == "trimmed":
            log.commit("tap-sendgrid", 2)
            assert log.trim(datetime.now(UTC)).deliveries == 2
        else:
            connection.execute("UPDATE deliveries SET checksum = 1 WHERE offset = 2")
    assert [r["id"] for r in records(run_tap(selected=["_open"], state=state))] == ["at3"]


def test_a_log_that_is_moved_away_is_read_no_further(log_url: str, tmp_path: Path) -> None:
    with closing(open_event_log(log_url)) as log:
        fill(log, 2)
        assert log.end() == 2
        (tmp_path / "events.db").rename(tmp_path / "old.db")
        with closing(open_event_log(log_url)) as other:
            fill(other, 5)
        with pytest.raises(EventLogError, match="moved or deleted"):
            log.end()
        with pytest.raises(EventLogError, match="moved or deleted"):
            list(log.read(0, 2))


def test_a_state_that_does_not_say_which_log_is_taken_as_it_is(
    run_tap: RunTap, log_url: str
) -> None:
    with closing(open_event_log(log_url)) as log:
        fill(log, 9)
    messages = run_tap(selected=["click"], state=STATE)
    assert bookmarks(last_state(messages)) == {"click": 9}
    with closing(open_event_log(log_url)) as log:
        assert last_state(messages)["bookmarks"]["click"]["log"] == log.identity()


def test_what_was_trimmed_before_it_was_read_is_told(
    run_tap: RunTap, log_url: str, caplog: pytest.LogCaptureFixture
) -> None:
    with closing(open_event_log(log_url)) as log:
        fill(log, 10)
        state = {"bookmarks": {"_open": {**STATE["bookmarks"]["click"]}}}
        log.commit("another", 9)
        log.trim(datetime.now(UTC) + timedelta(days=1))
    assert [record["id"] for record in records(run_tap(selected=["_open"], state=state))] == ["e9"]
    assert "no longer has what came after the state of _open (offset 7)" in caplog.text
    caplog.clear()
    state["bookmarks"]["_open"]["replication_key_value"] = 9
    run_tap(selected=["_open"], state=state)
    assert "no longer has" not in caplog.text
