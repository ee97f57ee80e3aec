"""The receiver as a process: start, signals, kill -9, workers, restart behind a held socket."""

from __future__ import annotations

import json
import os
import re
import select
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any

import pytest
import requests
from click.testing import CliRunner
from cryptography.hazmat.primitives.asymmetric import ec
from sendgrid_simulator import RetryPolicy, WebhookSender, public_key_text, sign_delivery
from tap_sendgrid.event_log import EventLog, open_event_log
from tap_sendgrid.webhook.cli import main

PATH_TOKEN = "a-path-token-of-these-tests"


@pytest.fixture
def log(log_url: str) -> Iterator[EventLog]:
    event_log = open_event_log(log_url)
    yield event_log
    event_log.close()


class Process:
    """``sendgrid-webhook serve`` with a key of ours."""

    def __init__(
        self,
        log_url: str,
        *arguments: str,
        pass_fds: tuple[int, ...] = (),
        key: ec.EllipticCurvePrivateKey | None = None,
    ) -> None:
        self.key = key or ec.generate_private_key(ec.SECP256R1())
        self.process = subprocess.Popen(
            [
                *(sys.executable, "-m", "tap_sendgrid.webhook", "serve", "--json-logs"),
                *("--public-key", public_key_text(self.key), "--path-token", PATH_TOKEN),
                *("--status-token", "status-token", *arguments),
            ],
            env={**os.environ, "SENDGRID_WEBHOOK_EVENT_LOG_URL": log_url},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            pass_fds=pass_fds,
            start_new_session=True,
            text=True,
        )
        assert self.process.stdout is not None
        ready, _, _ = select.select([self.process.stdout], [], [], 30)
        assert ready, "no line within 30 s"
        self.said = self.process.stdout.readline()
        found = re.search(r"http://\S+", self.said)
        assert found, (self.said, self.process.stderr and self.process.stderr.read())
        self.base = found[0]
        self.url = f"{self.base}/{PATH_TOKEN}"
        self.wait_until_ready()

    def wait_until_ready(self) -> None:
        deadline = time.monotonic() + 30
        while time.monotonic() < deadline:
            with suppress(requests.ConnectionError):
                if requests.get(self.base + "/readyz", timeout=10).status_code == 200:
                    return
            time.sleep(0.05)
        raise AssertionError("not ready within 30 s")

    def stop(self) -> tuple[int, str, str]:
        """SIGTERM; exit code, rest of stdout, stderr."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        out, err = self.process.communicate(timeout=60)
        return self.process.returncode, out, err


@pytest.fixture
def start(log_url: str) -> Iterator[Callable[..., Process]]:
    running: list[Process] = []

    def begin(*arguments: str, **more: Any) -> Process:
        running.append(Process(log_url, *arguments, **more))
        return running[-1]

    yield begin
    for process in running:
        process.stop()


def events(count: int, start: int = 0) -> Iterator[dict[str, Any]]:
    return ({"event": "open", "n": n} for n in range(start, start + count))


def numbers(log: EventLog) -> list[int]:
    return sorted(
        event["n"] for logged in log.read(0) for event in json.loads(logged.delivery.body)
    )


@pytest.mark.parametrize(("workers", "number"), [(1, signal.SIGTERM), (2, signal.SIGINT)])
def test_a_stop_under_load_loses_nothing_and_ends_with_0(
    start: Callable[..., Process], log: EventLog, workers: int, number: int
) -> None:
    process = start("--port", "0", "--workers", str(workers))
    acknowledged: list[int] = []
    sender = WebhookSender(
        process.url,
        process.key,
        connections=8,
        on_acknowledged=lambda encoded: acknowledged.extend(json.loads(e)["n"] for e in encoded),
    )
    sending = threading.Thread(
        target=sender.send_events, args=(events(10**9),), kwargs={"batch_size": 3}
    )
    sending.start()
    try:
        time.sleep(1)
        process.process.send_signal(number)
        code, _, err = process.stop()
    finally:
        sender.stop()
        sending.join()
    assert code == 0, err
    assert len(acknowledged) > 100
    found = numbers(log)
    assert set(acknowledged) <= set(found)
    lines = [json.loads(line) for line in err.splitlines()]
    assert {line["level"] for line in lines} == {"info"}
    assert PATH_TOKEN not in err
    assert "everything that was taken is on disk" in lines[-1]["message"]


def test_workers_share_the_metrics_and_one_that_dies_is_replaced_and_loses_nothing(
    start: Callable[..., Process], log: EventLog
) -> None:
    process = start("--port", "0", "--workers", "2")
    report = WebhookSender(process.url, process.key, connections=16).send_events(events(600), 2)
    assert report.acknowledged == 300
    assert numbers(log) == list(range(600))
    seen = set()
    for _ in range(20):
        text = requests.get(f"{process.base}/metrics?token=status-token", timeout=10).text
        found = re.search(r"^sendgrid_webhook_deliveries_total (\S+)", text, re.MULTILINE)
        assert found
        seen.add(float(found[1]))
    assert seen == {300.0}, "whichever worker answers"

    children = subprocess.run(
        ["ps", "-ww", "-o", "pid=,args=", "--ppid", str(process.process.pid)],
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    workers = [int(line.split()[0]) for line in children.splitlines() if "spawn_main" in line]
    assert len(workers) == 2
    sender = WebhookSender(
        process.url, process.key, connections=4, rate=300, retry=RetryPolicy(first=0.2)
    )
    killing = threading.Timer(0.5, os.kill, (workers[0], signal.SIGKILL))
    killing.start()
    report = sender.send_events(events(450, start=600), 3)
    killing.join()
    assert report.failed == 0
    assert set(numbers(log)) == set(range(1050))
    assert process.stop()[0] == 0


def test_kill_9_under_load_loses_nothing_that_was_acknowledged(
    start: Callable[..., Process], log: EventLog
) -> None:
    arguments = ["--port", "0"]
    process = start(*arguments)
    arguments[1] = process.base.rpartition(":")[2]
    acknowledged: list[int] = []
    sender = WebhookSender(
        process.url,
        process.key,
        connections=6,
        rate=600,
        retry=RetryPolicy(first=0.1, longest=0.5),
        on_acknowledged=lambda encoded: acknowledged.extend(json.loads(e)["n"] for e in encoded),
    )
    result: list[Any] = []
    sending = threading.Thread(
        target=lambda: result.append(sender.send_events(events(1800), batch_size=4))
    )
    sending.start()
    for _ in range(2):
        time.sleep(0.7)
        os.killpg(process.process.pid, signal.SIGKILL)
        process.process.wait(10)
        process = start(*arguments, key=process.key)
    sending.join(60)
    [report] = result
    assert report.failed == 0
    assert report.statuses.keys() <= {"204", "none"}
    assert set(acknowledged) == set(range(1800)) == set(numbers(log))
    assert log.check() == []


def test_sighup_does_not_end_a_receiver_of_one_worker(start: Callable[..., Process]) -> None:
    process = start("--port", "0")
    process.process.send_signal(signal.SIGHUP)
    time.sleep(0.3)
    assert requests.get(process.base + "/healthz", timeout=10).status_code == 200
    code, _, err = process.stop()
    assert code == 0
    assert "SIGHUP changes nothing with one worker" in err


def test_workers_end_when_their_parent_is_killed(start: Callable[..., Process]) -> None:
    process = start("--port", "0", "--workers", "2")
    os.kill(process.process.pid, signal.SIGKILL)
    process.process.wait(10)
    deadline = time.monotonic() + 20
    while True:
        try:
            requests.get(process.base + "/healthz", timeout=5)
        except requests.ConnectionError:
            return
        assert time.monotonic() < deadline, "an orphaned worker still answers"
        time.sleep(0.1)


def test_restart_behind_a_shared_socket_refuses_nobody(
    start: Callable[..., Process], log: EventLog, log_url: str
) -> None:
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        held.listen(1000)
        number = held.fileno()
        os.set_inheritable(number, True)
        first = start("--fd", str(number), pass_fds=(number,))
        port = held.getsockname()[1]
        assert first.base == f"http://127.0.0.1:{port}"
        statuses: list[int] = []
        done = threading.Event()

        def send() -> None:
            while not done.is_set():
                body, headers = sign_delivery(events(1), first.key)
                # A connection for each, as a load balancer without keep-alive has them.
                headers["Connection"] = "close"
                statuses.append(
                    requests.post(first.url, data=body, headers=headers, timeout=30).status_code
                )

        threads = [threading.Thread(target=send) for _ in range(2)]
        for thread in threads:
            thread.start()
        time.sleep(0.5)
        code, _, err = first.stop()
        second = subprocess.Popen(
            [*first.process.args[:-2], "--fd", str(number)],  # type: ignore[index]
            env={**os.environ, "SENDGRID_WEBHOOK_EVENT_LOG_URL": log_url},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            pass_fds=(number,),
        )
        time.sleep(1.5)
        done.set()
        for thread in threads:
            thread.join()
        second.send_signal(signal.SIGTERM)
        assert second.wait(30) == 0
    assert code == 0, err
    assert set(statuses) == {204}
    assert len(statuses) == log.end() > 20


def test_the_secrets_given_to_serve_are_those_of_the_log_from_then_on(
    start: Callable[..., Process], log_url: str
) -> None:
    process = start("--port", "0")
    printed = CliRunner().invoke(main, ["url", "--event-log-url", log_url, "--base", process.base])
    deliveries, status = (line.split()[1] for line in printed.output.splitlines())
    assert deliveries == process.url
    assert requests.get(status, timeout=10).status_code == 200
