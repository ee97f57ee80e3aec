"""Every backend of the event log, each test with an empty log of its own."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from tap_sendgrid.event_log import EventLog, open_event_log


@pytest.fixture(params=["sqlite"])
def log_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """The address of a log that does not exist yet."""
    return f"sqlite:///{tmp_path / 'events.db'}"


@pytest.fixture
def log(log_url: str) -> Iterator[EventLog]:
    """An empty log."""
    event_log = open_event_log(log_url)
    yield event_log
    event_log.close()
