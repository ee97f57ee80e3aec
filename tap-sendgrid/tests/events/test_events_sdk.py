"""The SDK's standard tests, over a log that holds every kind of event."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from singer_sdk import Stream
from singer_sdk.testing import SuiteConfig, get_tap_test_class
from tap_sendgrid.event_log import open_event_log
from tap_sendgrid.events import event_stream_classes
from tap_sendgrid.events.fields import EVENT_TYPES, EventType, fields_of
from tap_sendgrid.tap import TapSendGrid

from .conftest import as_delivery

FOLDER = tempfile.TemporaryDirectory(prefix="tap-sendgrid-")
LOG_URL = f"sqlite:///{FOLDER.name}/events.db"


VALUES = {"string": "x", "category": ["x"], "integer": 1, "boolean": True}


def complete_event(event_type: EventType) -> dict[str, Any]:
    """An event with every field that SendGrid defines for it, and a custom argument."""
    event: dict[str, Any] = {"timestamp": 1760011712, "my_arg": "A-17"}
    for field in fields_of(event_type.word).values():
        if field.kind == "object":
            event[field.key] = {name: VALUES[kind] for name, kind in field.parts.items()}
        else:
            event[field.key] = VALUES[field.kind]
    word = event_type.word or "new_word"
    return {**event, "event": word, "sg_event_id": f"id-of-{word}"}


class EventsOnly(TapSendGrid):
    """The event streams need no key and no network."""

    def discover_streams(self) -> Sequence[Stream]:
        return [stream_class(self) for stream_class in event_stream_classes]


@pytest.fixture(scope="module", autouse=True)
def _filled_log() -> Any:
    log = open_event_log(LOG_URL)
    if not log.end():
        log.append([as_delivery(list(map(complete_event, EVENT_TYPES)))])
    log.close()
    yield
    assert Path(FOLDER.name).exists()


TestEventStreams = get_tap_test_class(
    EventsOnly,
    config={"event_log_url": LOG_URL},
    suite_config=SuiteConfig(max_records_limit=20),
)


def test_the_connection_test_reads_the_log(capsysbinary: pytest.CaptureFixture[bytes]) -> None:
    tap = EventsOnly(config={"event_log_url": LOG_URL})
    assert tap.run_sync_dry_run(1)
    tap.message_writer.flush()
    assert capsysbinary.readouterr().out.count(b'"type":"RECORD"') == 13
