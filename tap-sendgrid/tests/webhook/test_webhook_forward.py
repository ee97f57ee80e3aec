"""Forwarding: byte for byte, at its own pace, through outages, and nothing left out."""

from __future__ import annotations

import http.server
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from cryptography.hazmat.primitives.asymmetric import ec
from sendgrid_simulator import sign_delivery
from tap_sendgrid.event_log import Delivery, EventLog, open_event_log
from tap_sendgrid.webhook import forward
from tap_sendgrid.webhook.cli import main
from tap_sendgrid.webhook.forward import Forwarder, UnknownForwardTarget, consumer_name
from tap_sendgrid.webhook.housekeeping import housekeeping
from tap_sendgrid.webhook.report import make_report
from tap_sendgrid.webhook.signature import SignedBody

KEY = ec.generate_private_key(ec.SECP256R1())


class Endpoint:
    """Somebody's own webhook endpoint, whose answers tests choose."""

    def __init__(self) -> None:
        self.got: list[tuple[bytes, dict[str, str]]] = []
        self.answer: Callable[[bytes], int] = lambda _: 200
        endpoint = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            wbufsize = -1  # head and body in one packet

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                status = endpoint.answer(body)
                if status == 0:  # no answer at all
                    self.close_connection = True
                    return
                if 200 <= status < 300:
                    headers = {name.lower(): value for name, value in self.headers.items()}
                    endpoint.got.append((body, headers))
                self.send_response(status)
                self.send_header("Content-Length", "2")
                self.end_headers()
                self.wfile.write(b"ok")

            def log_message(self, *_: Any) -> None:
                pass

        class Server(http.server.ThreadingHTTPServer):
            request_queue_size = 100

        self.server = Server(("127.0.0.1", 0), Handler)
        self.url = f"http://user:pw@127.0.0.1:{self.server.server_address[1]}/hook?key=1"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    @property
    def bodies(self) -> list[bytes]:
        return [body for body, _ in self.got]


@pytest.fixture
def endpoint() -> Iterator[Endpoint]:
    running = Endpoint()
    yield running
    running.server.shutdown()
    running.server.server_close()


@pytest.fixture
def log(log_url: str) -> Iterator[EventLog]:
    event_log = open_event_log(log_url)
    yield event_log
    event_log.close()


@pytest.fixture(autouse=True)
def short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(forward, "FIRST_PAUSE_SECONDS", 0.01)
    monkeypatch.setattr(forward, "LONGEST_PAUSE_SECONDS", 0.05)
    monkeypatch.setattr(forward, "IDLE_SECONDS", 0.02)


def wait_for(condition: Callable[[], bool], seconds: float = 15) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "did not happen in time"
        time.sleep(0.02)


def append(log: EventLog, *names: str) -> list[int]:
    deliveries = []
    for name in names:
        body, headers = sign_delivery([{"event": "open", "name": name}], KEY)
        kept = {key.lower(): value for key, value in headers.items() if key != "Accept-Encoding"}
        deliveries.append(Delivery(body, datetime.now(UTC), kept))
    return log.append(deliveries)


def position(log: EventLog, url: str) -> int | None:
    found = {p.consumer: p.offset for p in log.positions()}
    return found.get(consumer_name(url))


def go_on_until_position(log: EventLog, url: str, wanted: int) -> None:
    """More deliveries come, until the forwarder is there."""
    number = 0
    while position(log, url) < wanted:  # type: ignore[operator]
        append(log, f"later{number}")
        number += 1
        assert number < 200
        time.sleep(0.05)


def running(log: EventLog, log_url: str, *urls: str) -> Any:
    return housekeeping(log_url, urls, None)


def test_what_arrives_is_passed_on_with_a_signature_that_holds(
    log: EventLog, log_url: str, endpoint: Endpoint
) -> None:
    append(log, "before the forwarder was there")
    with running(log, log_url, endpoint.url):
        wait_for(lambda: position(log, endpoint.url) == 1)
        append(log, *(f"n{n}" for n in range(50)))
        wait_for(lambda: position(log, endpoint.url) == 51)
    sent = [logged.delivery.body for logged in log.read(1)]
    assert sorted(endpoint.bodies) == sorted(sent)
    body, headers = endpoint.got[0]
    signed = SignedBody(
        headers["x-twilio-email-event-webhook-timestamp"].encode(),
        headers["x-twilio-email-event-webhook-signature"].encode(),
    )
    signed.update(body)
    assert signed.is_signed_by([KEY.public_key()])
    assert headers["user-agent"] == "SendGrid Event API"
    assert headers["content-type"] == "application/json;charset=utf-8"
    assert headers["authorization"].startswith("Basic "), "user and password of the URL"


def test_a_dead_endpoint_delays_nobody_and_gets_everything_later(
    log: EventLog, log_url: str, endpoint: Endpoint
) -> None:
    dead = Endpoint()
    answers = iter([500, 0, 503, 429] * 10)
    dead.answer = lambda _: next(answers, 204)
    try:
        with running(log, log_url, endpoint.url, dead.url):
            wait_for(lambda: len(log.positions()) == 2)
            append(log, *(f"n{n}" for n in range(30)))
            wait_for(lambda: position(log, endpoint.url) == 30)
            wait_for(lambda: position(log, dead.url) == 30)
    finally:
        dead.server.shutdown()
        dead.server.server_close()
    assert sorted(set(dead.bodies)) == sorted(endpoint.bodies)
    assert len(endpoint.bodies) == 30


def test_a_restart_goes_on_from_the_committed_position(
    log: EventLog, log_url: str, endpoint: Endpoint
) -> None:
    with running(log, log_url, endpoint.url):
        # A new forwarder begins at the log's end: only then is there something for it to do.
        wait_for(lambda: position(log, endpoint.url) == 0)
        append(log, "first")
        wait_for(lambda: position(log, endpoint.url) == 1)
    while_away = append(log, "second", "third")
    with running(log, log_url, endpoint.url):
        wait_for(lambda: position(log, endpoint.url) == while_away[-1])
    words = (b'"first"', b'"second"', b'"third"')
    assert [sum(word in body for body in endpoint.bodies) for word in words] == [1, 1, 1]


def test_one_delivery_that_is_refused_does_not_hold_the_others_for_ever(
    log: EventLog, log_url: str, endpoint: Endpoint, caplog: pytest.LogCaptureFixture
) -> None:
    endpoint.answer = lambda body: 400 if b'"poison"' in body else 200
    with running(log, log_url, endpoint.url):
        wait_for(lambda: position(log, endpoint.url) == 0)
        append(log, "a", "poison", "b")
        wait_for(lambda: len(endpoint.bodies) == 2)
        # Stored after the answer; and held back there, since the second may still be taken.
        wait_for(lambda: position(log, endpoint.url) == 1)
        go_on_until_position(log, endpoint.url, 3)
    assert "400 to delivery 2 and takes others" in caplog.text
    assert "replay --offset 2 --to" in caplog.text
    for secret in ("pw", "key=1"):
        assert secret not in caplog.text


def test_any_number_of_refused_deliveries_in_a_row_is_left_out(
    log: EventLog, log_url: str, endpoint: Endpoint, caplog: pytest.LogCaptureFixture
) -> None:
    endpoint.answer = lambda body: 400 if b'"poison' in body else 200
    poison = 2 * forward.TOGETHER + 3
    forward.begin(log, endpoint.url)
    append(log, *(f"poison{n}" for n in range(poison)), *(f"good{n}" for n in range(5)))
    with running(log, log_url, endpoint.url):
        wait_for(lambda: len(set(endpoint.bodies)) == 5)
        go_on_until_position(log, endpoint.url, poison + 5)
    assert caplog.text.count("and takes others") == poison


def test_a_backfill_that_is_passed_over_is_no_sign_that_others_are_taken(
    log: EventLog, log_url: str, endpoint: Endpoint
) -> None:
    refused: list[bytes] = []
    healthy = threading.Event()

    def answer(body: bytes) -> int:
        refused.append(body)
        return 200 if healthy.is_set() else 404

    endpoint.answer = answer
    with running(log, log_url, endpoint.url):
        wait_for(lambda: position(log, endpoint.url) == 0)
        append(log, "a")
        wait_for(lambda: len(refused) > forward.REFUSED_TRIES)
        log.append([Delivery(b"[]", datetime.now(UTC), {"x-source": "backfill"})])
        tried = len(refused)
        wait_for(lambda: len(refused) > tried + 5)
        healthy.set()
        wait_for(lambda: position(log, endpoint.url) == 2)
    assert len(endpoint.bodies) == 1


@pytest.mark.parametrize(("waiting", "refused"), [(3, 99), (3 * forward.TOGETHER, 500)])
def test_an_endpoint_that_refuses_everything_loses_nothing_though_it_recovers_amid_a_round(
    log: EventLog, log_url: str, endpoint: Endpoint, waiting: int, refused: int
) -> None:
    attempts = []

    def answer(body: bytes) -> int:
        attempts.append(body)
        return 404 if len(attempts) <= refused else 200

    endpoint.answer = answer
    with running(log, log_url, endpoint.url):
        wait_for(lambda: position(log, endpoint.url) == 0)
        append(log, *(f"n{n}" for n in range(waiting)))
        wait_for(lambda: make_report(log).consumers[0].problem == "answers 404")
        wait_for(lambda: position(log, endpoint.url) == waiting, 30)
        wait_for(lambda: make_report(log).consumers[0].problem == "")
    assert len(set(endpoint.bodies)) == waiting


def test_two_processes_with_the_same_url_forward_once(
    log: EventLog, log_url: str, endpoint: Endpoint
) -> None:
    with running(log, log_url, endpoint.url), running(log, log_url, endpoint.url):
        wait_for(lambda: position(log, endpoint.url) == 0)
        append(log, *(f"n{n}" for n in range(40)))
        wait_for(lambda: position(log, endpoint.url) == 40)
        time.sleep(0.3)
    assert len(endpoint.bodies) == 40


@pytest.mark.parametrize("trouble", ["hangs", "refuses"])
def test_the_lease_is_kept_while_the_endpoint_takes_its_time(
    log: EventLog,
    log_url: str,
    endpoint: Endpoint,
    monkeypatch: pytest.MonkeyPatch,
    trouble: str,
) -> None:
    for name, seconds in {"LEASE": 0.4, "RENEW": 0.1, "FIRST_PAUSE": 5, "LONGEST_PAUSE": 5}.items():
        monkeypatch.setattr(forward, f"{name}_SECONDS", seconds)
    asked = threading.Event()

    def answer(_: bytes) -> int:
        asked.set()
        time.sleep(1.5 if trouble == "hangs" else 0)
        return 200 if trouble == "hangs" else 500

    endpoint.answer = answer
    with running(log, log_url, endpoint.url):
        wait_for(lambda: position(log, endpoint.url) == 0)
        append(log, "a")
        assert asked.wait(10)
        for _ in range(10):
            assert not log.lease(consumer_name(endpoint.url), "another process", 0.1)
            time.sleep(0.1)


def test_serve_forwards_what_it_takes_from_the_first_moment_on(
    log: EventLog, log_url: str, endpoint: Endpoint
) -> None:
    append(log, "before")
    serve = [sys.executable, "-m", "tap_sendgrid.webhook", "serve", "--port=0"]
    process = subprocess.Popen(
        [*serve, "--allow-unsigned", "--forward-to", endpoint.url],
        env={**os.environ, "TAP_SENDGRID_EVENT_LOG_URL": log_url},
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stdout is not None
        assert process.stdout.readline().startswith("Listening")
        assert position(log, endpoint.url) == 1, "known before anything can be taken"
    finally:
        process.terminate()
        process.communicate(timeout=30)


def test_the_name_tells_no_secret_and_each_url_has_its_own() -> None:
    one = consumer_name("https://user:pw@example.com/hook?key=1")
    assert one.startswith("forward:example.com#")
    assert one != consumer_name("https://user:pw@example.com/hook?key=2")
    for bad in ("example.com", "ftp://example.com", "https://", "http://[::1"):
        with pytest.raises(UnknownForwardTarget, match="https://host/path"):
            consumer_name(bad)


def test_a_forwarder_that_is_not_run_any_more_is_named(
    log: EventLog, log_url: str, endpoint: Endpoint, caplog: pytest.LogCaptureFixture
) -> None:
    log.commit("forward:gone.example.com#1", 0)
    with running(log, log_url, endpoint.url):
        assert "sendgrid-webhook forget 'forward:gone.example.com#1'" in caplog.text


def test_the_forwarder_waits_out_a_log_in_trouble(
    log: EventLog, log_url: str, endpoint: Endpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    stop = threading.Event()
    troubled = open_event_log(f"{log_url}?timeout=0.1")
    thread = threading.Thread(target=Forwarder(troubled, endpoint.url, stop).run)
    thread.start()
    wait_for(lambda: position(log, endpoint.url) == 0)
    with log._file.transaction():  # type: ignore[attr-defined]
        time.sleep(0.5)
    append(log, "after the trouble")
    wait_for(lambda: position(log, endpoint.url) == 1)
    stop.set()
    thread.join()
    troubled.close()


def test_replay_to_a_url_and_where_it_stops(
    log: EventLog, log_url: str, endpoint: Endpoint
) -> None:
    append(log, *(f"n{n}" for n in range(5)))

    def replay(*arguments: str) -> Any:
        command = ["replay", "--event-log-url", log_url, "--to", endpoint.url, *arguments]
        return CliRunner().invoke(main, command)

    assert replay("--offset", "2-3").output == "Posted 2 deliveries\n"
    assert endpoint.bodies == [logged.delivery.body for logged in log.read(1, 3)]
    assert log.end() == 5, "nothing was appended"
    endpoint.answer = lambda body: 500 if b"n3" in body else 200
    stopped = replay("--offset", "1-5")
    assert stopped.exit_code == 1
    assert "answer 500 to delivery 4, after 3 were taken" in stopped.output


def test_credentials_of_netrc_go_to_no_endpoint(
    log: EventLog, endpoint: Endpoint, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "netrc").write_text("default login me password secret\n")
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    append(log, "one")
    (logged,) = log.read(0)
    for url in (endpoint.url, endpoint.url.replace("user:pw@", "")):
        Forwarder(log, url, threading.Event())._post(forward._Try(logged))
    sent = [headers.get("authorization") for _, headers in endpoint.got]
    assert sent == ["Basic dXNlcjpwdw==", None]  # the one in the URL is meant


def test_the_forward_command_runs_until_stopped(
    log: EventLog, log_url: str, endpoint: Endpoint
) -> None:
    process = subprocess.Popen(
        [sys.executable, "-m", "tap_sendgrid.webhook", "forward", "--to", endpoint.url],
        env={**os.environ, "TAP_SENDGRID_EVENT_LOG_URL": log_url},
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        wait_for(lambda: position(log, endpoint.url) == 0)
        append(log, "a")
        wait_for(lambda: position(log, endpoint.url) == 1)
    finally:
        process.send_signal(signal.SIGTERM)
        _, err = process.communicate(timeout=30)
    assert process.returncode == 0, err
    none = CliRunner().invoke(main, ["forward", "--event-log-url", log_url])
    assert "give --to" in none.output
