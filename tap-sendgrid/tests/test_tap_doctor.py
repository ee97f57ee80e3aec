"""``--test``: the doctor finds what is wrong, and says so in one line each."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from tap_sendgrid.api.client import Client
from tap_sendgrid.doctor import examine
from tap_sendgrid.event_log import Delivery, EventLog, open_event_log
from tap_sendgrid.tap import TapSendGrid

if TYPE_CHECKING:
    from conftest import TapRunner

    Serve = Callable[..., TapRunner]

FOUR = ("lists", "segments", "recipients", "campaigns")
FLAGS = [
    "group_resubscribe",
    "delivered",
    "group_unsubscribe",
    "spam_report",
    "bounce",
    "deferred",
    "unsubscribe",
    "processed",
    "open",
    "click",
    "dropped",
    "account_status_change",
]


def findings(run: TapRunner, *streams: str, **config: Any) -> list[str]:
    chosen = {"catalog": run.catalog(*streams)} if streams else {}
    tap = TapSendGrid(config=run.settings(**config), **chosen)
    return [str(finding) for finding in examine(tap)]


def line(lines: list[str], about: str) -> str:
    return next(text for text in lines if text[6:].startswith(about))


def test_the_doctor_finds_all_well(serve: Serve, tmp_path: Path) -> None:
    run = serve(contacts=5)
    url = f"sqlite:///{tmp_path / 'events.db'}"
    open_event_log(url).close()
    flags = [text for text in FLAGS if text != "account_status_change"]
    client = Client(run.simulator.api_key, run.simulator.url)
    hook = client.post(
        "/v3/user/webhooks/event/settings",
        {"url": "https://hooks.example/x", "enabled": True, **dict.fromkeys(flags, True)},
    )
    client.request(
        "PATCH", f"/v3/user/webhooks/event/settings/signed/{hook['id']}", body={"enabled": True}
    )
    lines = findings(run, *FOUR, "delivered", event_log_url=url)
    assert {text[:4] for text in lines} == {"ok  "}
    assert len(lines) == 7


@pytest.mark.parametrize(
    ("hook", "found"),
    [
        ({"enabled": False}, "switched off"),
        ({"enabled": True}, "does not post processed"),
        ({"enabled": True, **dict.fromkeys(FLAGS, True)}, "signing is off"),
    ],
)
def test_the_doctor_looks_at_the_webhook(serve: Serve, hook: dict[str, bool], found: str) -> None:
    run = serve()
    assert "has none" in line(findings(run), "Webhook")
    url = "https://hooks.example/secret"
    client = Client(run.simulator.api_key, run.simulator.url)
    client.post("/v3/user/webhooks/event/settings", {"url": url, **hook})
    assert found in line(findings(run, webhook_url=url), "Webhook")
    elsewhere = line(findings(run, webhook_url="https://other.example"), "Webhook")
    assert "has none for https://other.example" in elsewhere


@pytest.mark.parametrize(
    ("options", "config", "about", "found"),
    [
        ({}, {"api_key": "SG.a.b"}, "API key", "FAIL"),
        ({}, {"api_key": ""}, "API key", "FAIL"),
        ({"allowed_ips": ("10.0.0.1",)}, {}, "IP access", "IP Access Management"),
        ({"scopes": ("mail.send",)}, {}, "Scopes", "lacks marketing.read"),
        ({"generation": "none"}, {}, "Marketing Campaigns", "does not use it"),
        ({"generation": "legacy"}, {}, "Marketing Campaigns", "legacy generation"),
        ({"generation": "legacy"}, {"api_generation": "marketing"}, "Marketing", "FAIL"),
        ({}, {"region": "eu"}, "Region", "no EU host for campaigns, lists"),
        ({}, {"event_log_url": "sqlite:////nowhere/events.db"}, "Event log", "event_log_url"),
        ({}, {"start_date": "06/05/2024"}, "Setting", "start_date is no date-time: '06/05/2024'"),
        ({}, {"api_url": "http://127.0.0.1:9"}, "SendGrid", "check api_url"),
    ],
)
def test_the_doctor_names_what_is_wrong(
    serve: Serve, options: dict[str, Any], config: dict[str, Any], about: str, found: str
) -> None:
    assert found in line(findings(serve(**options), **config), about)


def test_the_doctor_shows_no_password(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def open_other(url: str, *, create: bool) -> EventLog:
        return open_event_log(f"sqlite:///{tmp_path / 'events.db'}", create=True)

    monkeypatch.setattr("tap_sendgrid.doctor.open_event_log", open_other)
    tap = TapSendGrid(config={"event_log_url": "nats://me:s3cretpw@127.0.0.1:4222/events"})
    found = line([str(finding) for finding in examine(tap)], "Event log")
    assert found.startswith("ok    Event log: nats://***@127.0.0.1:4222/events, end at offset 0")


def test_the_doctor_names_a_log_that_cannot_be_read(tmp_path: Path) -> None:
    path = tmp_path / "events.db"
    log = open_event_log(f"sqlite:///{path}")
    log.append([Delivery(b"x" * 2000, datetime.now(UTC))] * 400)
    log.close()
    size = path.stat().st_size
    with path.open("r+b") as file:
        file.seek(size // 8192 // 2 * 8192)
        file.write(bytes(8192))
    tap = TapSendGrid(config={"event_log_url": f"sqlite:///{path}"})
    found = line([str(finding) for finding in examine(tap)], "Event log")
    assert found.startswith("FAIL")
    assert "sendgrid-webhook repair" in found
