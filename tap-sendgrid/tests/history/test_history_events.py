"""From what the logs tell of a message to the events and deliveries that the webhook would send."""

from __future__ import annotations

from datetime import UTC, datetime

import msgspec
import pytest
from tap_sendgrid.event_log import Delivery
from tap_sendgrid.history.backfill import as_deliveries
from tap_sendgrid.history.logs import webhook_event


def test_custom_arguments_come_back_to_the_top_level_and_lose_against_fields() -> None:
    event = {
        "event": "bounce",
        "type": "blocked",
        "timestamp": 1,
        "custom_args": {"type": "mine", "A": "1", "é": "2"},
    }
    message = {"category": ["a"], "marketing_campaign_id": 7, "subject": "not in the webhook"}
    converted = webhook_event(event, message)
    assert converted is not None
    assert list(converted) == sorted(converted)
    assert converted == {
        "A": "1",
        "category": ["a"],
        "event": "bounce",
        "marketing_campaign_id": 7,
        "timestamp": 1,
        "type": "blocked",
        "é": "2",
    }


@pytest.mark.parametrize("word", ["received", "cancel_drop"])
def test_what_only_the_logs_name_is_left_out(word: str) -> None:
    assert webhook_event({"event": word}, {}) is None


def test_deliveries_are_framed_and_sized_as_sendgrids() -> None:
    now = datetime.now(UTC)
    assert list(as_deliveries([], now)) == []
    (one,) = as_deliveries([{"a": "é"}, {"b": 1}], now)
    assert one == Delivery(
        '[{"a":"é"},\r\n{"b":1}]\r\n'.encode(),
        now,
        {"content-type": "application/json", "x-source": "backfill"},
    )
    many = list(as_deliveries([{"n": n, "text": "x" * 1000} for n in range(3000)], now))
    assert [len(msgspec.json.decode(d.body)) for d in many] == [687, 686, 686, 686, 255]
    assert [e["n"] for d in many for e in msgspec.json.decode(d.body)] == list(range(3000))
    assert len(list(as_deliveries([{}] * 2001, now))) == 3
