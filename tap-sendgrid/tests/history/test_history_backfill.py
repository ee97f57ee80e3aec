"""Backfill from a SendGrid with messages: everything, once, as the webhook would have sent it."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from sendgrid_simulator import Simulator
from sendgrid_simulator.options import Fault
from tap_sendgrid.api.errors import SendGridError
from tap_sendgrid.event_log import Delivery, EventLog
from tap_sendgrid.events.fields import _MARKETING
from tap_sendgrid.history.backfill import Request, as_deliveries, backfill
from tap_sendgrid.history.cli import choose_source
from tap_sendgrid.history.logs import LogsSource

from .conftest import (
    MESSAGES,
    Command,
    client_of,
    first_message_at,
    records_in,
    run,
    webhook_events,
    with_event_id,
)

MakeSimulator = Callable[..., Simulator]

# What the logs leave out, or tell otherwise: docs/history.md. None: on every event.
NOT_IN_THE_LOGS: dict[str, set[str] | None] = {
    "sg_machine_open": None,  # only true is told
    "url": {"group_unsubscribe", "group_resubscribe"},
    "status": {"dropped"},
    "asm_group_id": {"spamreport", "unsubscribe"},
    "smtp_id": {"spamreport", "unsubscribe", "group_unsubscribe", "group_resubscribe"},
    "useragent": {"unsubscribe"},
    "send_at": {"open", "click", "spamreport", "unsubscribe", "group_unsubscribe",
                "group_resubscribe"},
    **{name: None for name, _, _ in _MARKETING if not name.startswith("marketing_campaign_")},
    "newsletter": None,
    "sg_content_type": None,
}  # fmt: skip
ONLY_IN_THE_LOGS = {"sg_message_id": {"bounce", "unsubscribe"}, "date": {"unsubscribe"}}


def comparable(record: dict[str, Any]) -> dict[str, Any]:
    """A record without what the logs cannot tell."""
    word = record["event"]
    left_out = {
        name
        for name, words in {**NOT_IN_THE_LOGS, **ONLY_IN_THE_LOGS}.items()
        if words is None or word in words
    } | {"received_at"}
    result = {name: value for name, value in record.items() if name not in left_out}
    if not result.get("category", "[").startswith("["):
        result["category"] = json.dumps([result["category"]])
    return result


def test_a_backfilled_event_is_the_event_that_the_webhook_sends(
    simulator: Simulator, log: EventLog
) -> None:
    events = webhook_events(simulator)
    log.append(list(as_deliveries(events, datetime(2026, 1, 1, tzinfo=UTC))))
    by_webhook = {record["id"]: record for record in records_in(log)}
    end = log.end()
    result = run(simulator, log)
    assert result.messages == MESSAGES
    by_backfill = {record["id"]: record for record in records_in(log)[len(events) :]}
    ids = {event["sg_event_id"] for event in with_event_id(events)}
    assert ids <= set(by_backfill)
    assert len({record["event"] for record in by_backfill.values()}) == 11
    for event_id in ids:
        assert comparable(by_backfill[event_id]) == comparable(by_webhook[event_id])
    for logged in log.read(end):
        assert logged.delivery.headers["x-source"] == "backfill"


def test_a_backfilled_event_differs_only_in_what_is_documented(
    simulator: Simulator, log: EventLog
) -> None:
    run(simulator, log)
    by_backfill = {record["id"]: record for record in records_in(log)}
    for event in with_event_id(webhook_events(simulator)):
        record = by_backfill[event["sg_event_id"]]
        keys = {key.replace("-", "_") for key in event}
        ours = set(record) - {"id", "received_at", "occurred_at", "custom_args"}
        ours |= set(record.get("custom_args", ()))
        for name in keys - ours:
            words = NOT_IN_THE_LOGS[name]
            assert words is None or event["event"] in words, (name, event)
        for name in ours - keys:
            assert event["event"] in ONLY_IN_THE_LOGS[name], (name, event)


def test_what_the_webhook_sent_without_an_id_is_not_fetched_again(
    simulator: Simulator, log: EventLog, command: Command
) -> None:
    without_id = [e for e in webhook_events(simulator) if "sg_event_id" not in e]
    assert without_id
    since = first_message_at(simulator)
    log.append(list(as_deliveries(without_id, datetime.now(UTC))))
    result = command(simulator, "backfill", "--since", since.isoformat())
    assert result.exit_code == 0, result.output
    assert f"{len(without_id)} more are in the log already, under other ids." in result.output
    found = [r for r in records_in(log) if r["event"] == "unsubscribe" and "sg_event_id" not in r]
    assert len(found) == len(without_id)


def trimmed_log(log: EventLog, now: datetime) -> None:
    """Three deliveries, of the last three days; the first of them was read and trimmed."""
    log.append([Delivery(b"[]", now - timedelta(days=day), {}) for day in (3, 2, 1)])
    log.commit("tap-sendgrid", 3)
    assert log.trim(now - timedelta(days=2, hours=1)).deliveries == 1


@pytest.mark.parametrize(
    ("source", "which"),
    [("logs", "without an id (some unsubscribes)"), ("messages", "/v3/messages gives no ids")],
)
def test_what_was_trimmed_is_fetched_again_only_on_request(
    make_simulator: MakeSimulator, log: EventLog, command: Command, source: str, which: str
) -> None:
    now = datetime.now(UTC).replace(microsecond=5)
    trimmed_log(log, now)
    limits = {"/v3/messages": (1000, 1.0)}
    simulator = make_simulator(messages=0, email_activity=True, rate_limits=limits)
    backfill = ("backfill", "--source", source, "--since")
    refused = command(simulator, *backfill, "3d")
    assert refused.exit_code == 1
    border = now - timedelta(days=2)
    said = " ".join(refused.output.split())
    assert f"no delivery from before {border:%Y-%m-%d %H:%M:%S} (UTC) any more" in said
    assert which in said
    assert "--allow-doubles" in said
    (since,) = re.findall(r"--since (\S+) or later", said)  # as it advises
    assert command(simulator, *backfill, since).exit_code == 0
    assert command(simulator, *backfill, "3d", "--allow-doubles").exit_code == 0
    log.trim(now)
    assert "trimmed" in command(simulator, *backfill, "3d").output


def test_a_log_that_was_never_trimmed_takes_every_span(
    make_simulator: MakeSimulator, log: EventLog, command: Command
) -> None:
    log.append([Delivery(b"[]", datetime.now(UTC), {})])
    result = command(make_simulator(messages=0), "backfill", "--since", "20d")
    assert result.exit_code == 0, result.output


def test_no_message_is_missed_when_windows_are_full(
    make_simulator: MakeSimulator, log: EventLog, monkeypatch: pytest.MonkeyPatch
) -> None:
    from tap_sendgrid.history import logs

    simulator = make_simulator(logs_row_cap=7)
    monkeypatch.setattr(logs, "ROW_CAP", 7)
    result = run(simulator, log)
    assert result.messages == MESSAGES
    assert result.too_many == []
    assert len({r["id"] for r in records_in(log)}) == len(records_in(log))


def test_a_second_with_too_many_messages_is_asked_by_status(
    make_simulator: MakeSimulator, log: EventLog, monkeypatch: pytest.MonkeyPatch
) -> None:
    from tap_sendgrid.history import logs

    simulator = make_simulator(logs_row_cap=20, messages=60)
    simulator.account.messages.span = 3  # twenty messages a second, of several statuses
    monkeypatch.setattr(logs, "ROW_CAP", 20)
    result = run(simulator, log)
    assert result.messages == 60
    assert result.too_many == []


def test_a_second_that_cannot_be_had_whole_is_named(
    make_simulator: MakeSimulator,
    log: EventLog,
    command: Command,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from tap_sendgrid.history import logs

    simulator = make_simulator(logs_row_cap=3, messages=60)
    simulator.account.messages.span = 2
    monkeypatch.setattr(logs, "ROW_CAP", 3)
    since = first_message_at(simulator)
    result = command(simulator, "backfill", "--since", since.isoformat(), "--lookback", "0")
    assert result.exit_code == 1
    assert f"INCOMPLETE: more messages of one status were sent at {since:%Y-%m-%d %H:%M:%S}" in (
        result.output
    )


def test_a_message_with_more_events_than_the_cap_is_named(
    make_simulator: MakeSimulator, log: EventLog, monkeypatch: pytest.MonkeyPatch
) -> None:
    from tap_sendgrid.history import logs

    simulator = make_simulator(logs_event_cap=3)
    monkeypatch.setattr(logs, "EVENT_CAP", 3)
    result = run(simulator, log)
    assert 0 < len(result.truncated) < MESSAGES


def test_only_events_of_the_span_and_messages_from_before_it(
    simulator: Simulator, log: EventLog
) -> None:
    messages = list(simulator.account.messages)
    since = datetime.fromtimestamp(messages[200].created_at, UTC)
    run(simulator, log, since=since, lookback=timedelta(days=10))
    found = {record["id"] for record in records_in(log)}
    wanted = {
        e["sg_event_id"]
        for e in with_event_id(webhook_events(simulator))
        if e["timestamp"] >= since.timestamp()
    }
    assert wanted <= found
    assert min(record["timestamp"] for record in records_in(log)) >= since.timestamp()
    old = [m for m in messages if m.created_at < since.timestamp()]
    assert any(e.get("sg_event_id") in found for m in old for e in m.events)


def test_a_message_that_is_gone_when_it_is_asked_for(simulator: Simulator, log: EventLog) -> None:
    source = LogsSource(client_of(simulator))
    now = datetime.now(UTC)
    listing = source.list(first_message_at(simulator), now)
    source.list = lambda start, end: listing  # type: ignore[method-assign]
    simulator.options.retention_days = 0
    request = Request(now - timedelta(minutes=5), now)
    result = backfill(source, log, request, say=print)
    assert (result.vanished, result.messages) == (len(listing.ids), 0)


def test_rate_limits_are_kept(make_simulator: MakeSimulator, log: EventLog) -> None:
    simulator = make_simulator(messages=30, rate_limit=(12, 1.0))
    result = run(simulator, log, concurrency=8)
    assert result.messages == 30
    refused = [r for r in simulator.requests if r.status == 429]
    assert len(refused) <= 8  # at most what was on its way when the budget ended


@pytest.mark.parametrize("details", [None, [], 5, {"events": [1]}, {"events": {"a": 1}}])
def test_a_message_of_another_form_is_named_and_the_rest_goes_on(
    simulator: Simulator, log: EventLog, details: Any
) -> None:
    client = client_of(simulator)
    get = client.get
    source = LogsSource(client)
    odd = next(iter(simulator.account.messages)).message_id
    client.get = lambda path, *a: details if odd in path else get(path, *a)  # type: ignore[method-assign]
    request = Request(first_message_at(simulator), datetime.now(UTC))
    result = backfill(source, log, request, say=print)
    assert result.messages == MESSAGES - 1
    (problem,) = result.unreadable
    assert odd in problem


def test_a_listing_of_another_form_ends_the_run(simulator: Simulator, log: EventLog) -> None:
    client = client_of(simulator)
    client.post = lambda path, body: {"messages": [{"id": 1}]}  # type: ignore[method-assign]
    request = Request(first_message_at(simulator), datetime.now(UTC))
    with pytest.raises(SendGridError, match="another form"):
        backfill(LogsSource(client), log, request, say=print)


# The command


def test_the_command_tells_what_it_did(
    simulator: Simulator, log: EventLog, command: Command
) -> None:
    result = command(simulator, "backfill", "--since", "10d")
    assert result.exit_code == 0, result.output
    assert f"{MESSAGES} messages, " in result.output
    counts = Counter(record["event"] for record in records_in(log))
    for word, count in counts.items():
        assert f"  {word:<20}{count:>12,}\n" in result.output


def test_a_span_that_is_none(simulator: Simulator, command: Command) -> None:
    result = command(simulator, "backfill", "--since", "2026-01-02", "--until", "2026-01-01")
    assert result.exit_code == 2
    assert "is not before --until" in result.output
    result = command(simulator, "backfill", "--since", "60d", "--until", "59d")
    assert "SendGrid keeps 30 days" in result.output


def test_the_key_must_be_allowed(make_simulator: MakeSimulator, command: Command) -> None:
    simulator = make_simulator(scopes=("mail.send",))
    simulator.faults.append(Fault("status", "/v3/logs", status=403, times=1000))
    result = command(simulator, "backfill", "--since", "5d")
    assert result.exit_code == 1
    assert "Email Activity (messages.read)" in result.output


# /v3/messages


def test_the_activity_feed_is_the_fallback(
    make_simulator: MakeSimulator, log: EventLog, command: Command
) -> None:
    simulator = make_simulator(
        email_activity=True, messages=40, rate_limits={"/v3/messages": (10_000, 60.0)}
    )
    simulator.faults.append(Fault("status", "/v3/logs", status=403, times=1000))
    assert choose_source(client_of(simulator)).name == "/v3/messages"
    events = webhook_events(simulator)
    had = events[: len(events) // 2]
    log.append(list(as_deliveries(had, first_message_at(simulator))))
    result = command(simulator, "backfill", "--since", first_message_at(simulator).isoformat())
    assert result.exit_code == 0, result.output
    assert "out of /v3/messages" in result.output

    def key(record: dict[str, Any]) -> tuple[Any, ...]:
        return record["event"], record.get("email"), record["timestamp"]

    told = [e for e in events if e["event"] != "account_status_change"]
    account = [e for e in had if e["event"] == "account_status_change"]
    assert Counter(map(key, records_in(log))) == Counter(map(key, [*told, *account]))
    again = command(simulator, "backfill", "--since", first_message_at(simulator).isoformat())
    assert again.exit_code == 0
    assert "0 events:" in again.output
