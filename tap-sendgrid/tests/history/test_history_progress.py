"""Backfills that are interrupted: what is kept of them, and when it is gone on with."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from itertools import count
from typing import Any

import pytest
from sendgrid_simulator import Simulator
from sendgrid_simulator.options import Fault
from tap_sendgrid.api.errors import SendGridError
from tap_sendgrid.event_log import EventLog
from tap_sendgrid.history.backfill import PROGRESS_KEY, Request, backfill
from tap_sendgrid.history.logs import LogsSource

from .conftest import (
    MESSAGES,
    client_of,
    first_message_at,
    records_in,
    run,
    webhook_events,
    with_event_id,
)

MakeSimulator = Callable[..., Simulator]


def at_message(source: LogsSource, number: int, happen: Callable[[], object]) -> None:
    """Have something happen when so many messages are asked for."""
    ask, asked = source.message, count(1)

    def message(message_id: str) -> Any:
        if next(asked) == number:
            happen()
        return ask(message_id)

    source.message = message  # type: ignore[method-assign]


def interrupt() -> None:
    """What happens when somebody presses Ctrl+C."""
    raise KeyboardInterrupt


def test_an_interrupted_run_goes_on_where_it_stopped(
    make_simulator: MakeSimulator, log: EventLog
) -> None:
    simulator = make_simulator()
    source = LogsSource(client_of(simulator))
    request = Request(first_message_at(simulator), datetime.now(UTC), concurrency=1)
    at_message(source, 150, interrupt)
    with pytest.raises(KeyboardInterrupt):
        backfill(source, log, request, say=print)
    assert log.get(PROGRESS_KEY)
    before = len(records_in(log))
    assert before > 0
    said: list[str] = []
    result = backfill(LogsSource(client_of(simulator)), log, request, say=said.append)
    assert said[0].startswith("Going on from ")
    assert 0 < result.messages < MESSAGES
    ids = [record["id"] for record in records_in(log)]
    assert len(ids) == len(set(ids))
    assert {e["sg_event_id"] for e in with_event_id(webhook_events(simulator))} <= set(ids)
    assert log.get(PROGRESS_KEY) == ""
    again = backfill(LogsSource(client_of(simulator)), log, request, say=said.append)
    assert again.messages == MESSAGES  # a run that came to its end is not gone on with


def test_another_span_or_a_restart_begins_anew(simulator: Simulator, log: EventLog) -> None:
    first = first_message_at(simulator)
    stored = {
        "source": "/v3/logs",
        "since": first.isoformat(),
        "events_since": first.isoformat(),
        "position": (first + timedelta(days=1)).isoformat(),
    }
    for request in ({"restart": True}, {"since": first - timedelta(hours=1)}):
        log.put(PROGRESS_KEY, json.dumps(stored))
        assert run(simulator, log, **request).messages == MESSAGES
    log.put(PROGRESS_KEY, json.dumps(stored))
    assert run(simulator, log).messages == MESSAGES - 100


def test_progress_that_left_out_events_that_are_asked_for_now_is_not_taken_up(
    simulator: Simulator, log: EventLog
) -> None:
    """The same messages were listed, but for a later --since and a longer --lookback."""
    first = first_message_at(simulator)
    messages = list(simulator.account.messages)
    later = datetime.fromtimestamp(messages[300].created_at, UTC)
    source = LogsSource(client_of(simulator))
    at_message(source, 200, interrupt)
    narrow = Request(later, datetime.now(UTC), later - first, concurrency=1)
    with pytest.raises(KeyboardInterrupt):
        backfill(source, log, narrow, say=print)
    assert log.get(PROGRESS_KEY)
    run(simulator, log)
    ids = {record["id"] for record in records_in(log)}
    assert {e["sg_event_id"] for e in with_event_id(webhook_events(simulator))} <= ids


@pytest.mark.parametrize(
    "other",
    [
        {"events_since": None},  # as releases before this one stored it
        {"subuser": "north"},
    ],
)
def test_progress_of_another_kind_is_not_taken_up(
    simulator: Simulator, log: EventLog, other: dict[str, Any]
) -> None:
    first = first_message_at(simulator).isoformat()
    position = (first_message_at(simulator) + timedelta(days=1)).isoformat()
    stored = {"source": "/v3/logs", "since": first, "events_since": first, "position": position}
    log.put(PROGRESS_KEY, json.dumps({**stored, **other}))
    assert run(simulator, log).messages == MESSAGES


def test_a_failure_of_sendgrid_ends_the_run_and_keeps_what_is_done(
    make_simulator: MakeSimulator, log: EventLog, monkeypatch: pytest.MonkeyPatch
) -> None:
    from tap_sendgrid.api.client import Client

    simulator = make_simulator()
    client = Client(simulator.api_key, simulator.url, sleep=lambda _: None)
    source = LogsSource(client)
    fault = Fault("status", "/v3/logs/", status=500, times=1000)
    at_message(source, 100, lambda: simulator.faults.append(fault))
    request = Request(first_message_at(simulator), datetime.now(UTC), concurrency=4)
    with pytest.raises(SendGridError, match="did not answer"):
        backfill(source, log, request, say=print)
    assert len(records_in(log)) > 0
    assert log.get(PROGRESS_KEY)
