"""Damaged deliveries by the thousand: no crash, and whatever is read can be written.

TAP_SENDGRID_FUZZ_INPUTS=1000000 runs the long form.
"""

from __future__ import annotations

import json
import os
import random
from typing import Any

import jsonschema
import msgspec
from tap_sendgrid.events.fields import EVENT_TYPES
from tap_sendgrid.events.reader import convert_delivery
from tap_sendgrid.events.schema import event_schema

from .conftest import ALL, SAMPLES, as_body, as_delivery

INPUTS = int(os.environ.get("TAP_SENDGRID_FUZZ_INPUTS", "5000"))
VALIDATORS = {e.stream: jsonschema.Draft202012Validator(event_schema(e)) for e in EVENT_TYPES}
FRAGMENTS = [
    b'"', b"\\", b"{", b"}", b"[", b"]", b",", b":", b"null", b"NaN", b"1e999", b"-", b"\xff",
    b"\xc3", b"\\ud800", b"\\u0000", b"\x00", b'"timestamp":"soon"', b'"event":[]',
    b'"id":1,"id":2', b"9" * 30, b"[" * 50, b'{"a":' * 40, b"\r\n", b" ", b'"sg_event_id":""',
    b"\xf0\x9f\x98\x80", b"0.1e-400",
]  # fmt: skip
ODD_VALUES: list[Any] = [
    None, True, 0, -1, 2**64, 1.5, 1e300, "", "x" * 300, [], {}, [[]], {"a": {"b": [1]}}, "\ud800",
    "1760011712345", 10**18, ["a", 1], {"index": "x"}, "\x00",
]  # fmt: skip


def damaged(rng: random.Random) -> bytes:
    """A delivery with values exchanged, and perhaps bytes."""
    events = [dict(rng.choice(SAMPLES)) for _ in range(rng.randrange(1, 4))]
    for event in events:
        for _ in range(rng.randrange(3)):
            key = rng.choice([*event, "type", "id", "custom_args", "\ud800", ""])
            event[key] = rng.choice(ODD_VALUES)
    try:
        body = bytearray(as_body(events))
    except UnicodeEncodeError:
        body = bytearray(json.dumps(events).encode())
    for _ in range(rng.choice((0, 1, 1, 2, 5))):
        at = rng.randrange(len(body) + 1)
        match rng.randrange(4):
            case 0:
                body[at:at] = rng.choice(FRAGMENTS)
            case 1:
                del body[at : at + rng.randrange(1, 20)]
            case 2:
                body[at : at + 1] = bytes([rng.randrange(256)])
            case _:
                body[at:at] = body[at : at + rng.randrange(60)]
    return bytes(body)


def test_damaged_deliveries() -> None:
    rng = random.Random(20261123)
    read = rejected = 0
    for number in range(INPUTS):
        body = damaged(rng)
        converted = convert_delivery(ALL, as_delivery(body))
        read += len(converted.records)
        rejected += bool(converted.rejected)
        for stream, record in converted.records:
            line = msgspec.json.encode(record)
            assert msgspec.json.decode(line) == record, body
            assert json.loads(line) == record, body
            if number % 20 == 0:
                VALIDATORS[stream].validate(record)
        assert converted == convert_delivery(ALL, as_delivery(body))
    assert read > INPUTS / 2
    assert rejected > INPUTS / 10
