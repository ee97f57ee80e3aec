"""Bodies of all kinds: read whole, or rejected with a reason."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tap_sendgrid.events.parse import parse_body, read_carefully

json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=10,
)
json_events = st.dictionaries(st.text(), json_values, max_size=8)


def test_sendgrid_framing_is_read() -> None:
    body = b'[{"event":"open","email":"caf\xc3\xa9@x.io"},\r\n{"event":"click"}]\r\n'
    parsed = parse_body(body)
    assert parsed.events == [{"event": "open", "email": "café@x.io"}, {"event": "click"}]
    assert parsed.rejected == []


def test_the_test_button_escapes_brackets() -> None:
    parsed = parse_body(b'[{"smtp-id":"\\u003c14c5@ismtpd\\u003e"}]')
    assert parsed.events == [{"smtp-id": "<14c5@ismtpd>"}]


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (b"", "the body is empty"),
        (b" \r\n", "the body is empty"),
        (b"hello", "not JSON: Expecting value: line 1 column 1 (char 0)"),
        (b'[{"event":"open"}', "not JSON"),
        (b'[{"event":"open"}]x', "not JSON: Extra data"),
        (b'"open"', "the body is a JSON string, not an array of events"),
        (b"null", "the body is a JSON null"),
        (b"12", "the body is a JSON number"),
        (b"true", "the body is a JSON boolean"),
        (b"[" * 100_000 + b"]" * 100_000, "nested too deep to read"),
        (b'[{"a":' * 50_000, "nested too deep to read"),
    ],
)
def test_what_is_no_delivery_is_rejected_with_a_reason(body: bytes, reason: str) -> None:
    parsed = parse_body(body)
    assert parsed.events == []
    assert len(parsed.rejected) == 1
    assert reason in parsed.rejected[0]


def test_elements_that_are_no_objects_are_rejected_one_by_one() -> None:
    parsed = parse_body(b'[{"event":"open"},1,["x"],{"event":"click"},null]')
    assert [event["event"] for event in parsed.events] == ["open", "click"]
    assert parsed.rejected == [
        "element 1 of 5 is a JSON number, not an object",
        "element 2 of 5 is a JSON array, not an object",
        "element 4 of 5 is a JSON null, not an object",
    ]


def test_a_single_object_counts_as_an_array_of_one() -> None:
    assert parse_body(b'{"event":"open"}').events == [{"event": "open"}]


@pytest.mark.parametrize(
    ("value", "read"),
    [
        (b'"\xff\xfe"', "\\xff\\xfe"),
        (b'"ok\xc3"', "ok\\xc3"),
        (b'"\\ud800"', "\\ud800"),
        (b'"\\ud83d\\ude00"', "😀"),
        (b'"a\x01b"', "a\x01b"),
        (b'"\\u0000"', "\x00"),
        (b"NaN", "NaN"),
        (b"-Infinity", "-Infinity"),
        (b"1e400", "1e400"),
        (b"1.5e-400446744073709551616", "1.5e-400446744073709551616"),
        (b"0.12345678901234567891", "0.12345678901234567891"),
        (b"1.50", 1.5),
        (b"1e2", 100.0),
        (b"123456789012345678901234567890", 123456789012345678901234567890),
        (b"9" * 5000, "9" * 5000),
    ],
)
def test_odd_values_are_kept(value: bytes, read: Any) -> None:
    parsed = parse_body(b'[{"k":' + value + b"}]")
    assert parsed.events == [{"k": read}]
    assert parsed.rejected == []


def test_a_byte_order_mark_is_no_obstacle() -> None:
    assert parse_body(b"\xef\xbb\xbf[{}]").events == [{}]


@pytest.mark.parametrize("space", [b"", b" ", b"\n"])
def test_a_key_that_stands_twice_loses_nothing(space: bytes) -> None:
    body = b'[{"a":1,' + space + b'"b":{"x":1,"x":2},"a":2,"a":3}]'
    assert parse_body(body).events == [
        {"a": 3, "b": {"x": 2, "_repeated": {"x": [1]}}, "_repeated": {"a": [1, 2]}}
    ]


def test_a_key_called_repeated_does_not_hide_the_repeated_ones() -> None:
    parsed = parse_body(b'[{"_repeated":1,"a":1,"a":2}]')
    assert parsed.events == [{"_repeated": 1, "a": 2, "__repeated": {"a": [1]}}]


@given(st.lists(json_events, max_size=4))
def test_both_ways_of_reading_agree(events: list[dict[str, Any]]) -> None:
    compact = msgspec.json.encode(events)
    loose = json.dumps(events, indent=1).encode()
    assert parse_body(compact).events == parse_body(loose).events == read_carefully(compact)


@given(st.binary(max_size=200) | st.text(alphabet='[]{}":,\\ud80019eE+-. \n', max_size=60))
def test_no_body_is_too_strange(body: bytes | str) -> None:
    parsed = parse_body(body if isinstance(body, bytes) else body.encode())
    assert parsed.events or parsed.rejected or body
    msgspec.json.encode(parsed.events)  # what was read can be written
