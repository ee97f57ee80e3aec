"""A SendGrid with messages of the last days, an event log, and the command line."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from sendgrid_simulator import Simulator, SimulatorOptions
from tap_sendgrid.api.client import Client
from tap_sendgrid.event_log import EventLog, open_event_log
from tap_sendgrid.events.convert import Converter
from tap_sendgrid.events.fields import EVENT_TYPES
from tap_sendgrid.events.reader import convert_delivery
from tap_sendgrid.history.backfill import Request, backfill
from tap_sendgrid.history.logs import LogsSource
from tap_sendgrid.webhook.cli import main

MESSAGES = 400


@pytest.fixture
def make_simulator() -> Iterator[Callable[..., Simulator]]:
    running: list[Simulator] = []

    def make(**options: Any) -> Simulator:
        options = {
            "messages": MESSAGES,
            "message_days": 4,
            "contacts": 10,
            "rate_limit": (100_000, 60.0),
            **options,
        }
        simulator = Simulator(SimulatorOptions(**options))
        running.append(simulator)
        simulator.__enter__()
        return simulator

    yield make
    for simulator in running:
        simulator.__exit__(None, None, None)


@pytest.fixture
def simulator(make_simulator: Callable[..., Simulator]) -> Simulator:
    return make_simulator()


@pytest.fixture
def log_url(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path / 'events.db'}"


@pytest.fixture
def log(log_url: str) -> Iterator[EventLog]:
    log = open_event_log(log_url)
    yield log
    log.close()


Command = Callable[..., Result]


@pytest.fixture
def command(log_url: str) -> Command:
    """Run `sendgrid-webhook` against a simulator."""

    def run(simulator: Simulator, *arguments: str) -> Result:
        environment = {
            "SENDGRID_WEBHOOK_EVENT_LOG_URL": log_url,
            "SENDGRID_WEBHOOK_API_KEY": simulator.api_key,
            "SENDGRID_WEBHOOK_API_URL": simulator.url,
        }
        return CliRunner().invoke(main, list(arguments), env=environment)

    return run


def client_of(simulator: Simulator) -> Client:
    return Client(simulator.api_key, simulator.url)


def records_in(log: EventLog) -> list[dict[str, Any]]:
    """The records of everything in the log, in log order."""
    converter = Converter({event_type.stream: () for event_type in EVENT_TYPES})
    return [
        record
        for logged in log.read(0)
        for _, record in convert_delivery(converter, logged.delivery).records
    ]


def webhook_events(simulator: Simulator) -> list[dict[str, Any]]:
    """Every event of the account as the webhook posts it."""
    return [event for message in simulator.account.messages for event in message.events]


def first_message_at(simulator: Simulator) -> datetime:
    return datetime.fromtimestamp(simulator.account.messages.created_at(0), UTC)


def with_event_id(events: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The events that the logs tell and that have an id in both."""
    return [e for e in events if "sg_event_id" in e and e["event"] != "account_status_change"]


def run(simulator: Simulator, log: EventLog, **request: Any) -> Any:
    """A backfill of everything, or of what is requested."""
    request = {"since": first_message_at(simulator), "until": datetime.now(UTC), **request}
    source = LogsSource(client_of(simulator))
    return backfill(source, log, Request(**request), say=lambda _: None)
