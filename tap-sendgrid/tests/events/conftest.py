"""A real event log in a file, and the tap run over it in this process."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import hypothesis
import msgspec
import pytest
from tap_sendgrid.event_log import Delivery, EventLog, open_event_log
from tap_sendgrid.events import event_stream_classes
from tap_sendgrid.events.convert import Converter
from tap_sendgrid.events.fields import EVENT_TYPES
from tap_sendgrid.tap import TapSendGrid

# Tests share the machine with others: how long an example takes says nothing.
hypothesis.settings.register_profile("events", deadline=None)
hypothesis.settings.load_profile("events")

SAMPLES = [
    json.loads(line)
    for line in (Path(__file__).parent / "samples.jsonl").read_text("utf-8").splitlines()
]
EVENT_STREAMS = [stream_class.name for stream_class in event_stream_classes]
ALL = Converter({e.stream: () for e in EVENT_TYPES})
RECEIVED = "2026-01-02T03:04:05.678901Z"
START = datetime(2026, 1, 2, 3, 4, 5, 678901, tzinfo=UTC)

Message = dict[str, Any]


def as_body(events: Sequence[object]) -> bytes:
    """Events framed as SendGrid frames them."""
    return b"[" + b",\r\n".join(map(msgspec.json.encode, events)) + b"]\r\n"


def as_delivery(events: Sequence[object] | bytes, seconds: int = 0) -> Delivery:
    """A delivery that came some seconds after START."""
    body = events if isinstance(events, bytes) else as_body(events)
    return Delivery(body, START + timedelta(seconds=seconds), {"content-type": "application/json"})


def convert(event: dict[str, Any]) -> tuple[str, dict[str, Any]]:
    """The stream of an event and its record, with everything selected."""
    converted = ALL.convert(event, RECEIVED)
    assert converted is not None
    return converted


def record_of(event: dict[str, Any]) -> dict[str, Any]:
    return convert(event)[1]


@pytest.fixture
def log_url(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path / 'events.db'}"


@pytest.fixture
def log(log_url: str) -> Any:
    log = open_event_log(log_url)
    yield log
    log.close()


@pytest.fixture
def samples() -> list[Message]:
    return [dict(sample) for sample in SAMPLES]


def catalog_of(tap: TapSendGrid, selected: Sequence[str], without: Sequence[str] = ()) -> Any:
    """The tap's catalog with some streams selected, less some `stream.property[.part]`."""
    catalog = tap.catalog_dict
    for stream in catalog["streams"]:
        name = stream["tap_stream_id"]
        for entry in stream["metadata"]:
            crumb = entry["breadcrumb"]
            if not crumb:
                entry["metadata"]["selected"] = name in selected
            elif ".".join([name, *crumb[1::2]]) in without:
                entry["metadata"]["selected"] = False
    return catalog


RunTap = Callable[..., list[Message]]


@pytest.fixture
def run_tap(log_url: str, capsysbinary: pytest.CaptureFixture[bytes]) -> RunTap:
    """Run the tap over the log and give the messages that it wrote."""

    def run(
        *,
        state: Any = None,
        selected: Sequence[str] = EVENT_STREAMS,
        without: Sequence[str] = (),
        **config: Any,
    ) -> list[Message]:
        config = {"event_log_url": log_url, **config}
        catalog = catalog_of(TapSendGrid(config=config), selected, without)
        tap = TapSendGrid(config=config, catalog=catalog, state=state)
        capsysbinary.readouterr()
        tap.sync_all()
        return [json.loads(line) for line in capsysbinary.readouterr().out.splitlines()]

    return run


def records(messages: Sequence[Message], stream: str | None = None) -> list[Message]:
    return [
        m["record"] for m in messages if m["type"] == "RECORD" and stream in (None, m["stream"])
    ]


def last_state(messages: Sequence[Message]) -> Any:
    return [m["value"] for m in messages if m["type"] == "STATE"][-1]


def bookmarks(state: Any) -> dict[str, int]:
    return {
        name: bookmark["replication_key_value"] for name, bookmark in state["bookmarks"].items()
    }


def fill(log: EventLog, count: int, *, per_delivery: int = 1) -> list[str]:
    """Deliveries of opens with the ids e0, e1, …; gives the ids."""
    ids = [f"e{n}" for n in range(count)]
    log.append(
        [
            as_delivery([{"event": "open", "sg_event_id": i} for i in ids[n : n + per_delivery]])
            for n in range(0, count, per_delivery)
        ]
    )
    return ids
