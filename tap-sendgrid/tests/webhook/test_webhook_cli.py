"""The commands on the log, and the receiver as a process: start, signals, workers, restart."""

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
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import requests
from click.testing import CliRunner, Result
from cryptography.hazmat.primitives.asymmetric import ec
from sendgrid_simulator import RetryPolicy, WebhookSender, public_key_text, sign_delivery
from tap_sendgrid.event_log import Delivery, EventLog, open_event_log
from tap_sendgrid.webhook.cli import main

NOW = datetime.now(UTC)
PATH_TOKEN = "a-path-token-of-these-tests"
Run = Callable[..., Result]


@pytest.fixture
def run(log_url: str) -> Run:
    return lambda *arguments: CliRunner().invoke(
        main, arguments, env={"SENDGRID_WEBHOOK_EVENT_LOG_URL": log_url}
    )


@pytest.fixture
def log(log_url: str) -> Iterator[EventLog]:
    event_log = open_event_log(log_url)
    yield event_log
    event_log.close()


def fill(log: EventLog) -> None:
    """Five deliveries, one an hour, the newest an hour old."""
    for number in range(5):
        body = b'[{"event": "open", "n": %d},\r\n{"event": "click",\n "n": %d}]\r\n'
        log.append([Delivery(body % (number, number), NOW - timedelta(hours=5 - number))])


# -- commands on the log -----------------------------------------------------------------------


def test_replay_appends_what_is_meant_once_more(run: Run, log: EventLog) -> None:
    fill(log)
    assert "Would replay 2 deliveries" in run("replay", "--offset", "2-3", "--dry-run").output
    assert log.end() == 5
    assert run("replay", "--offset", "2-3").output == "Replayed 2 deliveries\n"
    new = list(log.read(5))
    assert [logged.delivery for logged in new] == [logged.delivery for logged in log.read(1, 3)], (
        "with their old time of arrival"
    )
    assert "Replayed 1 " in run("replay", "--offset", "5").output
    since = run("replay", "--since", "90m")
    assert since.output == "Replayed 2 deliveries\n", "the newest and its copy"
    everything = run("replay", "--since", "1970-01-01", "--until", NOW.isoformat())
    assert everything.output == "Replayed 10 deliveries\n"
    assert log.end() == 20
    assert run("replay").exit_code == 2
    assert "no offset" in run("replay", "--offset", "first").output
    assert "no time" in run("replay", "--since", "yesterday").output


def test_export_writes_each_event_as_it_came(log_url: str, log: EventLog) -> None:
    fill(log)
    log.append([Delivery(b"\xff", NOW, {"content-type": "x"})])

    def export(*arguments: str) -> tuple[list[bytes], str]:
        done = subprocess.run(
            [sys.executable, "-m", "tap_sendgrid.webhook", "export", *arguments],
            env={**os.environ, "TAP_SENDGRID_EVENT_LOG_URL": log_url},
            capture_output=True,
            check=True,
        )
        return done.stdout.splitlines(), done.stderr.decode()

    lines, said = export()
    assert lines[:2] == [b'{"event": "open", "n": 0}', b'{"event": "click", "n": 0}']
    assert len(lines) == 10
    assert said == "Left out delivery 6: no list of events\n"
    lines, _ = export("--offset", "5-6", "--deliveries")
    first, second = map(json.loads, lines)
    assert (first["offset"], second["offset"]) == (5, 6)
    assert first["body"].endswith("]\r\n")
    assert second["body_base64"] == "/w=="
    assert second["headers"] == {"content-type": "x"}


def test_trim_and_forget(run: Run, log: EventLog) -> None:
    fill(log)
    assert "no tap has committed yet" in run("trim", "--older-than", "150m").output
    log.commit("tap-sendgrid", 5)
    log.commit("gone", 1)
    held = run("trim", "--older-than", "150m").output
    assert held.startswith("Dropped 1 deliveries")
    assert "kept for gone" in held
    assert "known: gone, tap-sendgrid" in run("forget", "nobody").output
    assert run("forget", "gone").output == "Forgot gone\n"
    assert run("trim", "--older-than", "150m").output.startswith("Dropped 2 deliveries")
    assert log.status().first == 4


def test_quarantine_commands(run: Run, log: EventLog) -> None:
    assert run("quarantine", "list").output == "Quarantine is empty\n"
    log.quarantine(Delivery(b"hello", NOW), "not a JSON list of events", 1)
    log.quarantine(Delivery(b"[]", NOW), "an old release could not read it", 2)
    log.quarantine(Delivery(b"bye", NOW), "not a JSON list of events", 3)
    listed = run("quarantine", "list", "--show").output
    assert "hello" in listed
    assert "hello" not in run("quarantine", "list").output
    retried = run("quarantine", "retry").output
    assert "Put back 1 deliveries" in retried
    assert "2 still cannot be read" in retried
    assert [logged.delivery.body for logged in log.read(0)] == [b"[]"]
    assert "Put back 1 deliveries" in run("quarantine", "retry", "1", "--force").output
    assert run("quarantine", "discard", "3", "--yes").output == "Deleted 1\n"
    assert log.status().quarantined == 0


def test_check_and_repair(run: Run, log: EventLog, tmp_path: Path) -> None:
    fill(log)
    assert run("check").output == "All is well\n"
    assert "is in use" in run("repair").output
    log.close()
    path = tmp_path / "events.db"
    path.write_bytes(path.read_bytes().replace(b'"open", "n": 3', b'"OPEN", "n": 3'))
    bad = run("check")
    assert bad.exit_code == 1
    assert "delivery 4 does not match" in bad.output
    repaired = run("repair").output
    assert "Saved 4 deliveries" in repaired
    assert "1 whose checksum was wrong" in repaired
    assert run("check").output == "All is well\n"


def test_url_prints_the_same_secret_paths_each_time(run: Run) -> None:
    first = run("url", "--base", "https://x.example.com/").output
    assert first == run("url", "--base", "https://x.example.com").output
    assert re.fullmatch(
        r"deliveries  https://x.example.com/[\w-]{43}\n"
        r"status      https://x.example.com/\?token=[\w-]{43}\n",
        first,
    )


@pytest.mark.parametrize("command", ["trim --older-than 1d", "status", "check", "export"])
def test_commands_on_a_log_that_is_not_there(run: Run, command: str) -> None:
    result = run(*command.split())
    assert result.exit_code == 1
    assert "there is no event log at" in result.output


# -- serve: what it refuses to start with ------------------------------------------------------


def test_serve_without_a_key_says_what_to_do(run: Run) -> None:
    result = run("serve", "--port", "0")
    assert result.exit_code == 1
    assert "sendgrid-webhook register --url" in result.output


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (["--public-key", "nonsense"], "MFkwEwYHKoZIzj0CAQ"),
        (["--allow-unsigned", "--path-token", "short"], "needs 16 characters"),
        (["--allow-unsigned", "--path-token", "with/a/slash/inside"], "no slash"),
        (["--allow-unsigned", "--oauth-client-id", "x"], "belong together"),
        (["--allow-unsigned", "--host", "256.0.0.1"], "cannot listen"),
        (["--allow-unsigned", "--fd", "99"], "cannot listen"),
    ],
)
def test_serve_refuses_bad_settings(run: Run, arguments: list[str], text: str) -> None:
    result = run("serve", "--port", "0", *arguments)
    assert result.exit_code != 0
    assert text in result.output


# -- serve as a process ------------------------------------------------------------------------


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
    assert len(statuses) == log.end() > 50
