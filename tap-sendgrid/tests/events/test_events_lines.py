"""Records put together from texts: byte for byte those that the converter makes."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from tap_sendgrid.events import lines as lines_module
from tap_sendgrid.events.convert import Converter
from tap_sendgrid.events.fields import EVENT_TYPES
from tap_sendgrid.events.lines import LineMaker

from .conftest import SAMPLES
from .test_events_convert import events

RECEIVED = "2026-01-02T03:04:05.678901Z"
OPEN = {"event": "open", "email": "a@example.com", "sg_event_id": "x", "timestamp": 1760011712}

SELECTIONS: list[dict[str, tuple[str, ...]]] = [
    {e.stream: () for e in EVENT_TYPES},
    {e.stream: ("email", "smtp_id", "category", "custom_args") for e in EVENT_TYPES},
    {e.stream: ("occurred_at",) for e in EVENT_TYPES},
    {"delivered": ("tls", "timestamp"), "_open": ()},
]
MAKERS = [(LineMaker(c), c) for c in map(Converter, SELECTIONS)]


def record_of(converter: Converter, event: dict[str, Any]) -> tuple[str, bytes]:
    """What the converter makes of the event, as JSON."""
    converted = converter.convert(event, RECEIVED)
    assert converted is not None
    stream, record = converted
    return stream, msgspec.json.encode(record)


def line_of(maker: LineMaker, event: dict[str, Any]) -> tuple[str, bytes] | None:
    return maker.line(event, msgspec.json.encode(event), RECEIVED)


def check(event: dict[str, Any]) -> list[bool]:
    """Of each selection, whether the event's record could be put together; if so, it is right."""
    made = []
    for maker, converter in MAKERS:
        before = msgspec.json.encode(event)
        line = line_of(maker, event)
        assert msgspec.json.encode(event) == before
        if line is not None:
            stream, written = record_of(converter, event)
            assert line[0] == stream
            # The order of keys differs where a value made the converter look into the event.
            assert msgspec.json.decode(line[1]) == msgspec.json.decode(written)
            assert sorted(line[1]) == sorted(written)
        made.append(line is not None)
    return made


@pytest.mark.parametrize("event", SAMPLES, ids=lambda event: event["event"])
def test_what_sendgrid_sends_is_put_together(event: dict[str, Any]) -> None:
    maker, converter = MAKERS[0]
    if b"\\" in msgspec.json.encode(event):
        assert line_of(maker, event) is None
    else:
        assert line_of(maker, event) == record_of(converter, event)
    check(event)


@settings(max_examples=300)
@given(events)
def test_any_event(event: dict[str, Any]) -> None:
    check(event)


@settings(max_examples=300)
@given(events)
def test_usual_events_with_something_odd(event: dict[str, Any]) -> None:
    for sample in (OPEN, *SAMPLES[::5]):
        check({**sample, **event, "sg_event_id": "x", "timestamp": 1760011712})


def test_values_that_python_takes_for_equal_stay_apart() -> None:
    for value in ([1], [True], [1.0], ["1"], [1], "1", 1, 1.0, None, True, "true", {"a": 1}, []):
        assert check({**OPEN, "category": value, "sg_machine_open": value})


@pytest.mark.parametrize(
    "change",
    [
        {"sg_event_id": ""},
        {"sg_event_id": 7},
        {"timestamp": -1},
        {"timestamp": True},
        {"timestamp": "1760011712"},
        {"timestamp": 1760011712000},
        {"event": ["open"]},
        {"event": 5},
        {"email": None},
        {"email": 'a"b'},
        {"email": "a\nb"},
        {"x": 1},
        {"x": {}},
        {'x"y': "z"},
        {"id": "mine"},
        {"asm_group_id": 2**63},
        {"asm_group_id": "many"},
        {"sg_machine_open": "perhaps"},
    ],
    ids=str,
)
def test_what_is_unusual_is_left_to_the_converter(change: dict[str, Any]) -> None:
    assert line_of(MAKERS[0][0], OPEN) is not None
    assert line_of(MAKERS[0][0], {**OPEN, **change}) is None
    for key in ("event", "sg_event_id", "timestamp"):
        assert line_of(MAKERS[0][0], {k: v for k, v in OPEN.items() if k != key}) is None


def test_what_was_read_the_careful_way_is_left_to_the_converter() -> None:
    assert MAKERS[0][0].line(OPEN, b"", RECEIVED) is None


def test_streams_that_are_not_selected_give_nothing() -> None:
    maker = LineMaker(Converter({"click": ()}))
    assert line_of(maker, OPEN) is None


def test_unknown_words_have_a_stream_as_well() -> None:
    line = line_of(MAKERS[0][0], {**OPEN, "event": "new"})
    assert line is not None
    assert line[0] == "other_event"


def test_ever_new_keys_words_and_values_do_not_fill_the_memory(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(lines_module, "_MAX_TEMPLATES", 10)
    monkeypatch.setattr(lines_module, "_MAX_TEXTS", 10)
    maker, converter = LineMaker(MAKERS[0][1]), MAKERS[0][1]
    for n in range(35):
        for event in (
            {**OPEN, f"key{n}": "v", "category": [f"c{n}"]},
            {**OPEN, "event": f"word{n}", "category": ["long" * 1000, f"c{n}"]},
        ):
            assert line_of(maker, event) == record_of(converter, event)
    assert sum(map(len, maker._templates.values())) <= 10
    assert len(maker._texts["category"]) <= 10
    assert all(len(text) <= 1000 for text in maker._texts["category"].values())
