"""No log at its address, or another one, or one without what the state still needs."""

from __future__ import annotations

from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from tap_sendgrid.event_log import EventLogError, open_event_log

from .conftest import RunTap, bookmarks, fill, last_state, records

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
