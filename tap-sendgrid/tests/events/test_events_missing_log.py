"""No log at its address: not made yet, or gone."""

from __future__ import annotations

from pathlib import Path

import pytest
from tap_sendgrid.event_log import EventLogError

from .conftest import RunTap

STATE = {
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
