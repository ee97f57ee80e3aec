"""The receiver while the log is in trouble, and while people look at it."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import urlsplit

import pytest
import requests
from cryptography.hazmat.primitives.asymmetric import ec
from tap_sendgrid.event_log import Delivery, open_event_log
from tap_sendgrid.event_log.sqlite import SQLiteEventLog

Start = Callable[..., Any]


def metric(receiver: Any, name: str) -> float:
    """The value of a metric, labels included in the name."""
    for line in receiver.look("/metrics").text.splitlines():
        if line.startswith(name + " "):
            return float(line.rsplit(" ", 1)[1])
    return 0.0


def sign(body: bytes, key: ec.EllipticCurvePrivateKey, timestamp: int | None = None) -> Any:
    from sendgrid_simulator.signing import sign_body

    return body, sign_body(body, key, timestamp)


# -- the log in trouble ------------------------------------------------------------------------


def test_a_full_log_answers_503_and_comes_back_by_itself(
    start_receiver: Start, log_url: str
) -> None:
    receiver = start_receiver(log=open_event_log(f"{log_url}?max_bytes=400000"))
    taken = 0
    for _ in range(100):
        answer = receiver.send({"event": "open", "text": "x" * 20_000})
        if answer.status_code != 204:
            break
        taken += 1
    assert (answer.status_code, answer.text) == (503, "not stored, send it again\n")
    assert answer.headers["retry-after"] == "10"
    ready = requests.get(receiver.base + "/readyz", timeout=10)
    assert ready.status_code == 503
    assert ready.text == "not ready: the event log is full\n"
    assert len(receiver.bodies) == taken > 5
    receiver.log.commit("tap", taken)
    receiver.log.trim(datetime.now(UTC) + timedelta(days=1))
    assert receiver.send({"event": "open", "text": "x" * 20_000}).status_code == 204
    assert requests.get(receiver.base + "/readyz", timeout=10).status_code == 200
    assert metric(receiver, 'sendgrid_webhook_refused_total{reason="log_full"}') == 1


def test_a_locked_log_answers_503_and_readyz_says_so(start_receiver: Start, log_url: str) -> None:
    receiver = start_receiver(log=open_event_log(f"{log_url}?timeout=0.2"))
    assert requests.get(receiver.base + "/readyz", timeout=10).status_code == 200
    locking = receiver.log._file
    with locking.transaction():
        time.sleep(1.1)  # the answer of /readyz is kept for a second
        assert receiver.send().status_code == 503
        ready = requests.get(receiver.base + "/readyz", timeout=10)
        assert ready.status_code == 503
        assert ready.text == "not ready: the event log is locked\n", "no path for strangers"
        assert requests.get(receiver.base + "/healthz", timeout=10).text == "ok\n"
    assert receiver.send().status_code == 204


class BrokenLog(SQLiteEventLog):
    """A log whose appending fails in ways nobody foresaw."""

    def append(self, deliveries: Any) -> list[int]:
        raise RuntimeError("surprise")


def test_a_log_that_breaks_in_an_unknown_way_answers_503(
    start_receiver: Start, log_url: str
) -> None:
    receiver = start_receiver(log=BrokenLog(log_url.removeprefix("sqlite:///")))
    assert receiver.send().status_code == 503


class SlowLog(SQLiteEventLog):
    """A log that shows when it appends, and how much at once."""

    def __init__(self, path: str) -> None:
        super().__init__(path)
        self.go = threading.Event()
        self.batches: list[int] = []

    def append(self, deliveries: Any) -> list[int]:
        self.go.wait(10)
        self.batches.append(len(deliveries))
        return super().append(deliveries)


def test_nothing_is_acknowledged_before_it_is_on_disk_and_waiting_ones_go_together(
    start_receiver: Start, log_url: str
) -> None:
    log = SlowLog(log_url.removeprefix("sqlite:///"))
    receiver = start_receiver(log=log)
    with ThreadPoolExecutor(20) as pool:
        answers = [pool.submit(receiver.send) for _ in range(20)]
        time.sleep(0.5)
        assert not any(answer.done() for answer in answers)
        assert receiver.log.end() == 0
        log.go.set()
        assert {answer.result().status_code for answer in answers} == {204}
    assert len(receiver.bodies) == 20
    assert len(log.batches) <= 3


# -- looking -----------------------------------------------------------------------------------


def test_health_is_open_figures_are_not(receiver: Any) -> None:
    assert requests.get(receiver.base + "/healthz", timeout=10).text == "ok\n"
    assert requests.head(receiver.base + "/healthz", timeout=10).status_code == 200
    for path in ("/", "/metrics", "/?token=wrong", "/metrics?token="):
        assert requests.get(receiver.base + path, timeout=10).status_code == 404
    assert receiver.look("/metrics").status_code == 200
    token = receiver.receiver.settings.status_token
    page = requests.get(f"{receiver.base}/?token={token}", timeout=10)
    assert page.status_code == 200
    assert "default-src 'none'" in page.headers["content-security-policy"]


def test_metrics_tell_what_happened(receiver: Any) -> None:
    receiver.send({"event": "open"}, {"event": "open"}, {"event": "click"}, {"event": "new one"})
    receiver.post(b"[]", {})
    receiver.log.commit("tap-sendgrid", 0)
    assert metric(receiver, "sendgrid_webhook_deliveries_total") == 1
    assert metric(receiver, 'sendgrid_webhook_events_total{event="open"}') == 2
    assert metric(receiver, 'sendgrid_webhook_events_total{event="other"}') == 1
    assert metric(receiver, "sendgrid_webhook_received_bytes_total") == len(receiver.bodies[0])
    assert metric(receiver, "sendgrid_webhook_delivery_seconds_count") == 1
    assert metric(receiver, 'sendgrid_webhook_refused_total{reason="unsigned"}') == 1
    assert metric(receiver, "sendgrid_event_log_end_offset") == 1
    waiting = 'sendgrid_event_log_waiting_deliveries{consumer="tap-sendgrid"}'
    assert metric(receiver, waiting) == 1
    oldest = 'sendgrid_event_log_oldest_waiting_seconds{consumer="tap-sendgrid"}'
    assert 0 < metric(receiver, oldest) < 60
    receiver.log.commit("tap-sendgrid", 1)
    assert metric(receiver, waiting) == 0
    assert metric(receiver, oldest) == 0


def test_counts_per_minute_reach_the_log(receiver: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    receiver.send({"event": "open"}, {"event": "open"})
    receiver.post(b"[]", {})
    deadline = time.monotonic() + 10
    while not receiver.log.counts(0) and time.monotonic() < deadline:
        time.sleep(0.05)
    totals: dict[str, int] = {}
    for _, name, total in receiver.log.counts(0):
        totals[name] = totals.get(name, 0) + total
    assert totals == {
        "event:open": 2,
        "deliveries": 1,
        "bytes": len(receiver.bodies[0]),
        "refused:unsigned": 1,
    }


def test_stopping_finishes_what_was_taken(start_receiver: Start, log_url: str) -> None:
    log = SlowLog(log_url.removeprefix("sqlite:///"))
    receiver = start_receiver(log=log)
    with ThreadPoolExecutor(1) as pool:
        answer = pool.submit(receiver.send)
        time.sleep(0.3)
        log.go.set()
        assert answer.result().status_code == 204


def test_a_connection_taken_just_before_a_stop_is_answered(start_receiver: Start) -> None:
    receiver = start_receiver()
    body, headers = sign(b"[]", receiver.private_key)
    lines = [f"POST {urlsplit(receiver.url).path} HTTP/1.1", f"Content-Length: {len(body)}"]
    lines += [f"{name}: {value}" for name, value in headers.items()]
    raw = "\r\n".join(lines).encode() + b"\r\n\r\n" + body
    with (
        receiver.connect() as silent,
        receiver.connect() as begun,
        receiver.connect() as idle,
    ):
        begun.sendall(raw[:20])
        time.sleep(0.3)
        receiver.server.should_exit = True
        time.sleep(0.5)
        silent.sendall(raw)
        begun.sendall(raw[20:])
        for sock in (silent, begun):
            answer = sock.recv(1000)
            assert answer.startswith(b"HTTP/1.1 204")
            assert b"connection: close" in answer
            assert sock.recv(1000) == b""
        assert idle.recv(1000) == b"", "one that sends nothing does not hold up the stop"
    assert receiver.bodies == [body, body]


def test_a_delivery_of_an_old_release_is_readable(log_url: str) -> None:
    log = open_event_log(log_url)
    log.append([Delivery(b"[]", datetime.now(UTC))])
    assert next(log.read(0)).delivery.headers == {}
    log.close()
