"""Events to records: every key finds its place, once, under the right name and type."""

from __future__ import annotations

import json
from datetime import datetime, timedelta, timezone
from typing import Any

import jsonschema
import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tap_sendgrid.events import convert as convert_module
from tap_sendgrid.events.convert import Converter
from tap_sendgrid.events.fields import EVENT_TYPES, FIELDS, fields_of
from tap_sendgrid.events.schema import event_schema
from tap_sendgrid.events.values import hashed_id, iso

from .conftest import ALL, RECEIVED, convert, record_of

SCHEMAS = {e.stream: event_schema(e) for e in EVENT_TYPES}
VALIDATORS = {name: jsonschema.Draft202012Validator(schema) for name, schema in SCHEMAS.items()}
STREAM_OF = {e.word: e.stream for e in EVENT_TYPES}
SELECTIVE = Converter(
    {e.stream: ("email", "category", "tls", "pool", "occurred_at") for e in EVENT_TYPES}
)


def test_every_sample_of_the_reference(samples: list[dict[str, Any]]) -> None:
    for sample in samples:
        stream, record = convert(sample)
        assert stream == STREAM_OF[sample["event"]]
        VALIDATORS[stream].validate(record)
        custom = {"order_id": "A-17"} if "order_id" in sample else None
        assert record.pop("custom_args", None) == custom
        expected = {k.replace("-", "_"): v for k, v in sample.items() if k != "order_id"}
        if "category" in sample:
            expected["category"] = json.dumps(sample["category"], separators=(",", ":"))
        if "send_at" in sample:
            expected["send_at"] = int(sample["send_at"])
        assert record.pop("id") == sample["sg_event_id"]
        assert record.pop("received_at") == RECEIVED
        assert record.pop("occurred_at").startswith("2025-10-")
        assert record == expected


def test_the_worked_example_of_the_layout() -> None:
    stream, record = convert(
        {
            "email": "a@x.io",
            "timestamp": 1513299569,
            "smtp-id": "<14c5@x>",
            "event": "click",
            "category": ["cat facts", "digest"],
            "sg_event_id": "ev1",
            "sg_message_id": "m1.filter",
            "url": "http://x.io",
            "url_offset": {"index": 0, "type": "html"},
            "ip": "1.2.3.4",
            "useragent": "Mozilla",
            "asm_group_id": 10,
            "orderRef": "A-7",
            "newsletter": {},
            "reason": None,
        }
    )
    assert stream == "click"
    assert record == {
        "id": "ev1",
        "received_at": RECEIVED,
        "occurred_at": "2017-12-15T00:59:29.000000Z",
        "asm_group_id": 10,
        "category": '["cat facts","digest"]',
        "email": "a@x.io",
        "event": "click",
        "ip": "1.2.3.4",
        "newsletter": {},
        "sg_event_id": "ev1",
        "sg_message_id": "m1.filter",
        "smtp_id": "<14c5@x>",
        "timestamp": 1513299569,
        "url": "http://x.io",
        "url_offset": {"index": 0, "type": "html"},
        "useragent": "Mozilla",
        "custom_args": {"orderRef": "A-7", "reason": None},
    }


@pytest.mark.parametrize(
    ("word", "stream"),
    [(e.word, e.stream) for e in EVENT_TYPES if e.word]
    + [
        ("received", "other_event"),
        ("_open", "other_event"),
        ("OPEN", "other_event"),
        ("", "other_event"),
        (None, "other_event"),
        (1, "other_event"),
        (["open"], "other_event"),
        ({"open": 1}, "other_event"),
    ],
)
def test_routing(word: Any, stream: str) -> None:
    got, record = convert({"event": word, "sg_event_id": "x"})
    assert got == stream
    VALIDATORS[stream].validate(record)
    if word is not None:
        text = json.dumps(word, separators=(",", ":"))
        assert record["event"] == (word if isinstance(word, str) else text)


def test_an_event_without_a_name_is_another_event() -> None:
    stream, record = convert({"email": "a@x.io"})
    assert stream == "other_event"
    assert "event" not in record


def test_a_custom_argument_may_have_the_name_of_another_events_field() -> None:
    event = {"event": "delivered", "sg_event_id": "x", "type": "welcome", "url": "u"}
    assert record_of(event)["custom_args"] == {"type": "welcome", "url": "u"}
    assert record_of({**event, "event": "bounce"})["type"] == "welcome"


@pytest.mark.parametrize("key", ["id", "received_at", "occurred_at", "custom_args", "smtp_id"])
def test_a_custom_argument_cannot_displace_what_the_record_has_of_its_own(key: str) -> None:
    record = record_of({"event": "open", "sg_event_id": "x", "smtp-id": "<a>", key: "mine"})
    assert record["id"] == "x"
    assert record["received_at"] == RECEIVED
    assert record["smtp_id"] == "<a>"
    assert record["custom_args"] == {key: "mine"}


@pytest.mark.parametrize(
    ("sent", "seconds", "occurred_at"),
    [
        (1760011712, 1760011712, "2025-10-09T12:08:32.000000Z"),
        ("1760011712", 1760011712, "2025-10-09T12:08:32.000000Z"),
        (1760011712345, 1760011712, "2025-10-09T12:08:32.345000Z"),
        ("1760011712345", 1760011712, "2025-10-09T12:08:32.345000Z"),
        (1760011712345678, 1760011712, "2025-10-09T12:08:32.345678Z"),
        (1760011712345678901, 1760011712, "2025-10-09T12:08:32.345678Z"),
        (1760011712.5, 1760011712, "2025-10-09T12:08:32.500000Z"),
        (0, 0, "1970-01-01T00:00:00.000000Z"),
    ],
)
def test_timestamps_become_seconds(sent: Any, seconds: int, occurred_at: str) -> None:
    record = record_of({"event": "open", "sg_event_id": "x", "timestamp": sent})
    assert (record["timestamp"], record["occurred_at"]) == (seconds, occurred_at)
    assert "custom_args" not in record


@pytest.mark.parametrize(
    "sent",
    [None, "", "soon", "01", "+1", "1.5", "\uff11", -1, 10**25, "1" * 30, True, [1], {"s": 1}],
)
def test_a_timestamp_that_is_none_is_kept_beside(sent: Any) -> None:
    stream, record = convert({"event": "open", "sg_event_id": "x", "timestamp": sent})
    assert "timestamp" not in record
    assert record["custom_args"] == {"timestamp": str(sent) if sent == 10**25 else sent}
    VALIDATORS[stream].validate(record)


@pytest.mark.parametrize(
    ("event", "key", "sent", "held"),
    [
        ("delivered", "tls", 1, 1),
        ("delivered", "tls", True, 1),
        ("delivered", "tls", "1", 1),
        ("delivered", "tls", 1.0, 1),
        ("deferred", "attempt", 5, "5"),
        ("deferred", "attempt", "5", "5"),
        ("processed", "pool", {"id": 210, "name": "n"}, {"id": "210", "name": "n"}),
        ("processed", "send_at", 0, 0),
        ("open", "send_at", "1760011707000", 1760011707000),
        ("open", "sg_machine_open", False, False),
        ("open", "sg_machine_open", 1, True),
        ("open", "sg_machine_open", "false", False),
        ("open", "marketing_campaign_id", "7", 7),
        ("open", "category", "one", "one"),
        ("open", "category", [], "[]"),
        ("open", "category", ['a"b', "é"], '["a\\"b","é"]'),
        ("open", "category", 5, "5"),
        ("open", "email", {"a": 1}, '{"a":1}'),
        ("open", "email", False, "false"),
        ("open", "email", None, None),
        ("click", "url_offset", {"index": "3", "type": "html"}, {"index": 3, "type": "html"}),
        ("click", "url_offset", {"index": 3, "new": [1]}, {"index": 3, "new": [1]}),
        ("click", "url_offset", None, None),
    ],
)
def test_a_field_holds_its_kind(event: str, key: str, sent: Any, held: Any) -> None:
    stream, record = convert({"event": event, "sg_event_id": "x", key: sent})
    assert record[key] == held
    assert type(record[key]) is type(held)
    assert "custom_args" not in record
    VALIDATORS[stream].validate(record)


@pytest.mark.parametrize(
    ("event", "key", "sent"),
    [
        ("delivered", "tls", "yes"),
        ("delivered", "tls", "01"),
        ("delivered", "tls", 1.5),
        ("delivered", "tls", [1]),
        ("open", "sg_machine_open", "maybe"),
        ("open", "sg_machine_open", 2),
        ("open", "marketing_campaign_id", "spring"),
        ("click", "url_offset", "3"),
        ("click", "url_offset", {"index": "third"}),
        ("processed", "pool", [1]),
    ],
)
def test_a_value_that_does_not_fit_its_field_is_kept_beside(
    event: str, key: str, sent: Any
) -> None:
    stream, record = convert({"event": event, "sg_event_id": "x", key: sent})
    assert key not in record
    assert record["custom_args"] == {key: sent}
    VALIDATORS[stream].validate(record)


def test_integers_beyond_64_bits_become_text() -> None:
    record = record_of(
        {
            "event": "delivered",
            "sg_event_id": "x",
            "tls": 2**63,
            "big": -(2**63) - 1,
            "top": 2**63 - 1,
        }
    )
    assert record["custom_args"] == {
        "tls": "9223372036854775808",
        "big": "-9223372036854775809",
        "top": 2**63 - 1,
    }


def test_deep_nesting_becomes_text_at_some_depth() -> None:
    value: Any = "core"
    for _ in range(200):
        value = [value]
    custom = record_of({"event": "open", "sg_event_id": "x", "deep": value})["custom_args"]["deep"]
    depth = 0
    while isinstance(custom, list):
        (custom,) = custom
        depth += 1
    assert depth == 32
    assert custom == "[" * 168 + '"core"' + "]" * 168


# Selection


def test_only_what_is_selected_is_converted() -> None:
    converter = Converter({"_open": ("email", "custom_args", "occurred_at")})
    assert converter.convert({"event": "click"}, RECEIVED) is None
    assert converter.convert({"event": "what"}, RECEIVED) is None
    event = {"event": "open", "sg_event_id": "x", "email": "a", "o": 1, "timestamp": 1, "ip": "i"}
    assert converter.convert(event, RECEIVED) == (
        "_open",
        {
            "id": "x",
            "received_at": RECEIVED,
            "event": "open",
            "sg_event_id": "x",
            "timestamp": 1,
            "ip": "i",
        },
    )


def test_a_deselected_property_does_not_come_back_as_a_custom_argument() -> None:
    converter = Converter({"delivered": ("tls", "timestamp")})
    event = {"event": "delivered", "sg_event_id": "x", "tls": "yes", "timestamp": "soon"}
    converted = converter.convert(event, RECEIVED)
    assert converted is not None
    assert set(converted[1]) == {"id", "received_at", "event", "sg_event_id"}


# What holds of every event

keys = st.sampled_from([*(f.key for f in FIELDS), "timestamp", "id", "custom_args"]) | st.text()
values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text()
    | st.sampled_from(["", "0", "1", "1760011712", "true", 1760011712, 1760011712000]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=6,
)
words = st.sampled_from([e.word for e in EVENT_TYPES if e.word]) | st.text()
events = st.builds(
    lambda event, word: {**event, "event": word}, st.dictionaries(keys, values, max_size=12), words
) | st.dictionaries(keys, values, max_size=6)


@settings(max_examples=300)
@given(events)
def test_no_event_loses_a_key_and_every_record_is_valid(event: dict[str, Any]) -> None:
    before = msgspec.json.encode(event)
    stream, record = convert(event)
    assert msgspec.json.encode(event) == before  # the event itself is not changed
    VALIDATORS[stream].validate(record)
    word = event.get("event")
    known = fields_of(word if isinstance(word, str) and word in STREAM_OF else None)
    custom = record.get("custom_args", {})
    for key in event:
        name = known[key].name if key in known else key if key == "timestamp" else None
        assert (name is not None and name in record) != (key in custom), key
    assert set(custom) <= set(event)
    msgspec.json.encode(record)


@settings(max_examples=300)
@given(events)
def test_the_quick_way_gives_what_the_thorough_one_gives(event: dict[str, Any]) -> None:
    check_both_ways(event)


def check_both_ways(event: dict[str, Any]) -> bool:
    """Whether the event goes the quick way; if so, the record is the same."""
    for converter in (ALL, SELECTIVE):
        word = event.get("event")
        stream = converter._by_word.get(word if isinstance(word, str) else None, converter._other)
        assert stream is not None
        quick = stream.usual_record(event, RECEIVED)
        if quick is None:
            return False
        assert quick == stream.record(event, RECEIVED)
        assert all(type(quick[k]) is type(v) for k, v in stream.record(event, RECEIVED).items())
    return True


def test_what_sendgrid_sends_goes_the_quick_way(samples: list[dict[str, Any]]) -> None:
    assert all(map(check_both_ways, samples))


def test_ever_new_keys_do_not_fill_the_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(convert_module, "_MAX_PLANS", 10)
    converter = Converter({"_open": ()})
    for number in range(35):
        event = {"event": "open", "sg_event_id": "x", "timestamp": 1, f"key{number}": "v"}
        converted = converter.convert(event, RECEIVED)
        assert converted is not None
        assert converted[1]["custom_args"] == {f"key{number}": "v"}
    stream = converter._by_word["open"]
    assert stream is not None
    assert len(stream._plans) <= 10


@given(events, st.randoms())
def test_the_id_does_not_depend_on_the_order_of_keys(event: dict[str, Any], random: Any) -> None:
    shuffled = list(event.items())
    random.shuffle(shuffled)
    assert record_of(dict(shuffled)) == record_of(event)


@given(events, events)
def test_different_events_have_different_hashes(one: dict[str, Any], two: dict[str, Any]) -> None:
    if json.dumps(one, sort_keys=True) != json.dumps(two, sort_keys=True):
        assert hashed_id(one) != hashed_id(two)


def test_the_moment_is_written_in_one_format() -> None:
    east = timezone(timedelta(hours=5, minutes=30))
    assert iso(datetime(2026, 1, 2, 8, 34, 5, tzinfo=east)) == "2026-01-02T03:04:05.000000Z"
