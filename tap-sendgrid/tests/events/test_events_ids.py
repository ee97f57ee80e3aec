"""An event's id is the same for ever, and does not depend on what came with it."""

from __future__ import annotations

import hashlib
from typing import Any

import pytest
from tap_sendgrid.events.parse import parse_body
from tap_sendgrid.events.values import hashed_id

from .conftest import record_of


def test_the_hash_is_the_same_for_ever() -> None:
    event = {
        "timestamp": 1760011712,
        "event": "unsubscribe",
        "email": "zoë@example.com",
        "score": 1.5,
        "big": 12345678901234567890,
        "nested": {"b": [True, None], "a": "\n😀"},
    }
    canonical = (
        rb'{"big":12345678901234567890,"email":"zo\u00eb@example.com","event":"unsubscribe",'
        rb'"nested":{"a":"\n\ud83d\ude00","b":[true,null]},"score":1.5,"timestamp":1760011712}'
    )
    expected = "b4a18df67c4593c1b1ae60f166f6705f027be4c6b33f7a9e7ed01a98eb3a474f"
    assert hashlib.sha256(canonical).hexdigest() == expected
    assert record_of(event)["id"] == expected


@pytest.mark.parametrize("given_id", [None, "", 5, ["x"], {}])
def test_an_sg_event_id_that_is_none_is_not_used(given_id: Any) -> None:
    event = {"event": "unsubscribe", "email": "a@x.io", "sg_event_id": given_id}
    assert record_of(event)["id"] == hashed_id(event)
    assert len(hashed_id(event)) == 64


def test_the_hash_does_not_depend_on_the_neighbours_or_the_spacing() -> None:
    event = b'{"event":"unsubscribe","email":"a@x.io","n":1.50,"big":%d}' % 10**30
    bodies = [
        b"[" + event + b"]\r\n",
        b"[" + event + b',{"event":"open","x":NaN,"y":"\xff"}]',
        b"[ " + event.replace(b",", b" , ") + b"]",
    ]
    ids = {record_of(parse_body(body).events[0])["id"] for body in bodies}
    assert len(ids) == 1
