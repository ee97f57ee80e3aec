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
from tap_sendgrid.history.messages import MessagesSource
from tap_sendgrid.history.source import Source

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
        "began": datetime.now(UTC).isoformat(),
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
    stored["began"] = datetime.now(UTC).isoformat()
    log.put(PROGRESS_KEY, json.dumps({**stored, **other}))
    assert run(simulator, log).messages == MESSAGES


def half_done(simulator: Simulator, name: str, began: datetime | None) -> str:
    """The progress of a run that has the messages of the first day."""
    first = first_message_at(simulator)
    stored = {"source": name, "since": first, "events_since": first, "began": began}
    return json.dumps({**stored, "position": first + timedelta(days=1)}, default=str)


def ids_asked_for(source: Source) -> list[str]:
    """A list that fills with the ids of the messages that a source is asked for."""
    ask, asked = source.message, []

    def message(message_id: str) -> Any:
        asked.append(message_id)
        return ask(message_id)

    source.message = message  # type: ignore[method-assign]
    return asked


@pytest.mark.parametrize("hours", [2, None])  # None: stored by an earlier release
def test_messages_read_long_ago_may_have_newer_events_and_are_read_again(
    simulator: Simulator, log: EventLog, hours: int | None
) -> None:
    now = datetime.now(UTC)
    began = now - timedelta(hours=hours) if hours else None
    log.put(PROGRESS_KEY, half_done(simulator, "/v3/logs", began))
    source = LogsSource(client_of(simulator))
    asked = ids_asked_for(source)
    said: list[str] = []
    request = Request(first_message_at(simulator), now)
    backfill(source, log, request, say=said.append)
    ids = [message.message_id for message in simulator.account.messages]
    assert sorted(asked) == sorted(ids)
    assert set(asked[-100:]) == set(ids[:100])  # at the end, so that every run gets further
    assert any("once more" in line for line in said)
    assert log.get(PROGRESS_KEY) == ""


def test_a_second_interruption_while_messages_are_read_again(
    simulator: Simulator, log: EventLog
) -> None:
    now = datetime.now(UTC)
    log.put(PROGRESS_KEY, half_done(simulator, "/v3/logs", now - timedelta(hours=2)))
    request = Request(first_message_at(simulator), now, concurrency=1)
    source = LogsSource(client_of(simulator))
    at_message(source, MESSAGES - 20, interrupt)
    with pytest.raises(KeyboardInterrupt):
        backfill(source, log, request, say=print)
    source = LogsSource(client_of(simulator))
    asked = ids_asked_for(source)
    backfill(source, log, request, say=print)
    ids = [message.message_id for message in simulator.account.messages]
    assert len(asked) == len(set(asked)) < MESSAGES
    assert set(asked) >= set(ids[80:])


def test_messages_that_are_found_by_their_last_event_are_not_read_again(
    make_simulator: MakeSimulator, log: EventLog
) -> None:
    """A newer event brings them into a window that is still to come."""
    limits = {"/v3/messages": (10_000, 60.0)}
    simulator = make_simulator(email_activity=True, messages=40, rate_limits=limits)
    began = datetime.now(UTC) - timedelta(days=1)
    log.put(PROGRESS_KEY, half_done(simulator, "/v3/messages", began))
    source = MessagesSource(client_of(simulator))
    request = Request(first_message_at(simulator), datetime.now(UTC))
    assert 0 < backfill(source, log, request, say=print).messages < 40


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
