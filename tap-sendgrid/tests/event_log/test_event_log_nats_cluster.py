"""The NATS log on a real cluster of three: nodes are killed under load, and come back."""

from __future__ import annotations

import json
import logging
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from sendgrid_simulator import RetryPolicy, WebhookSender, new_private_key, public_key_text
from tap_sendgrid.event_log import Delivery, EventLog, EventLogError


def stream() -> str:
    return f"events-{uuid.uuid4().hex[:8]}"


def delivery(text: str, age: timedelta = timedelta()) -> Delivery:
    return Delivery(text.encode(), datetime.now(UTC) - age)


def cluster_url(servers: list[Any], options: str = "") -> str:
    hosts = ",".join(f"127.0.0.1:{server.port}" for server in servers)
    return f"nats://{hosts}/events?timeout=2{options}"


def open_when_ready(url: str, open_log: Callable[..., EventLog]) -> EventLog:
    """Open a log once the cluster has found a leader."""
    deadline = time.monotonic() + 60
    while True:
        try:
            return open_log(url)
        except EventLogError:
            assert time.monotonic() < deadline
            time.sleep(0.3)


def leader(log: Any) -> str:
    return str(log._info().cluster.leader)


class Load:
    """Writers that append numbered deliveries and try each again until it is acknowledged."""

    def __init__(self, url: str, open_log: Callable[..., EventLog], writers: int = 3) -> None:
        self.acknowledged: list[str] = []
        self.kinds: set[str] = set()
        self._stop = threading.Event()
        logs = [open_log(url) for _ in range(writers)]
        self._threads = [
            threading.Thread(target=self._write, args=(log, number))
            for number, log in enumerate(logs)
        ]
        for thread in self._threads:
            thread.start()

    def _write(self, log: EventLog, writer: int) -> None:
        number = 0
        while not self._stop.is_set():
            names = [f"{writer}-{number + i}" for i in range(4)]
            while True:
                try:
                    log.append([delivery(name) for name in names])
                    break
                except EventLogError as error:
                    self.kinds.add(error.kind)
                    time.sleep(0.1)
            self.acknowledged += names
            number += 4

    def wait_for_more(self, count: int = 40) -> None:
        wanted = len(self.acknowledged) + count
        deadline = time.monotonic() + 60
        while len(self.acknowledged) < wanted:
            assert time.monotonic() < deadline, "nothing is acknowledged any more"
            time.sleep(0.02)

    def stop(self) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()


def test_what_a_cluster_acknowledged_outlives_its_nodes_and_is_there_once(
    nats_cluster: list[Any], open_log: Callable[..., EventLog], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.CRITICAL, logger="nats.aio.client")
    by_name = {server.name: server for server in nats_cluster}
    log = open_when_ready(cluster_url(nats_cluster), open_log)
    assert log._info().config.num_replicas == 3  # type: ignore[attr-defined]
    load = Load(cluster_url(nats_cluster), open_log)
    try:
        load.wait_for_more()
        follower = next(name for name in by_name if name != leader(log))
        by_name[follower].kill()
        load.wait_for_more()
        by_name[follower].start()
        load.wait_for_more()
        by_name[leader(log)].kill()
        load.wait_for_more()
        for server in nats_cluster:
            if server.process is None:
                server.start()
        load.wait_for_more()
    finally:
        load.stop()
    deadline = time.monotonic() + 60
    while log.check():
        assert time.monotonic() < deadline, log.check()
        time.sleep(0.2)
    found = [logged.delivery.body.decode() for logged in log.read(0)]
    assert load.kinds <= {"unavailable"}
    assert sorted(found) == sorted(load.acknowledged)
    assert len(found) == len(set(found))
    assert log.end() >= len(found)


def test_without_a_majority_nothing_is_acknowledged(
    nats_cluster: list[Any], open_log: Callable[..., EventLog], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.CRITICAL, logger="nats.aio.client")
    log = open_when_ready(cluster_url(nats_cluster), open_log)
    log.append([delivery("before")])
    for server in nats_cluster[:2]:
        server.kill()
    for _ in range(3):
        started = time.monotonic()
        with pytest.raises(EventLogError) as caught:
            log.append([delivery("lost")])
        assert caught.value.kind == "unavailable"
        assert time.monotonic() - started < 5
    for server in nats_cluster[:2]:
        server.start()
    deadline = time.monotonic() + 60
    while True:
        try:
            log.append([delivery("after")])
            break
        except EventLogError:
            assert time.monotonic() < deadline
            time.sleep(0.2)
    found = [logged.delivery.body for logged in log.read(0)]
    assert {b"before", b"after"} <= set(found)
    assert len(found) == len(set(found))


# -- a receiver on it --------------------------------------------------------------------------


def start_serving(command: list[str], told: Path) -> tuple[subprocess.Popen[str], str]:
    """A receiver, started again as a service manager would if the cluster was busy; its address."""
    for _ in range(5):
        with told.open("w") as log:
            receiver = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=log, text=True)
        assert receiver.stdout is not None
        if address := receiver.stdout.readline().split():
            return receiver, address[-1]
        receiver.communicate(timeout=30)
    pytest.fail(told.read_text())


def test_receivers_on_a_cluster_acknowledge_only_what_a_majority_has(
    nats_cluster: list[Any],
    open_log: Callable[..., EventLog],
    caplog: pytest.LogCaptureFixture,
    tmp_path: Path,
) -> None:
    caplog.set_level(logging.CRITICAL, logger="nats.aio.client")
    url = cluster_url(nats_cluster)
    log = open_when_ready(url, open_log)
    key = new_private_key()
    command = [sys.executable, "-m", "tap_sendgrid.webhook", "serve", "--port", "0"]
    options = ["--public-key", public_key_text(key), "--path-token", "a-token-of-this-test"]
    receivers: list[subprocess.Popen[str]] = []
    acknowledged: list[int] = []
    try:
        senders = []
        for number in range(2):
            told = tmp_path / f"receiver{number}.log"
            receiver, base = start_serving([*command, *options, "--event-log-url", url], told)
            receivers.append(receiver)
            senders.append(
                WebhookSender(
                    f"{base}/a-token-of-this-test",
                    key,
                    connections=2,
                    rate=60,
                    retry=RetryPolicy(first=0.3, longest=1),
                    on_acknowledged=lambda sent: acknowledged.extend(
                        json.loads(event)["n"] for event in sent
                    ),
                )
            )
        with ThreadPoolExecutor(2) as pool:
            results = [
                pool.submit(
                    sender.send_events,
                    ({"event": "open", "n": n} for n in range(number, 600, 2)),
                    2,
                )
                for number, sender in enumerate(senders)
            ]
            time.sleep(1)
            nats_cluster[0].kill()
            nats_cluster[1].kill()  # no majority any more
            time.sleep(2)
            before = len(acknowledged)
            time.sleep(1)
            assert len(acknowledged) == before, "nothing is acknowledged without a majority"
            nats_cluster[0].start()
            nats_cluster[1].start()
            reports = [result.result() for result in results]
    finally:
        for receiver in receivers:
            receiver.terminate()
            receiver.communicate(timeout=30)
    assert [receiver.returncode for receiver in receivers] == [0, 0]
    assert [report.failed for report in reports] == [0, 0]
    statuses = {status for report in reports for status in report.statuses}
    assert statuses <= {"204", "503", "none"}
    assert "503" in statuses
    stored = [event["n"] for logged in log.read(0) for event in json.loads(logged.delivery.body)]
    assert sorted(acknowledged) == list(range(600))
    assert set(stored) == set(range(600))
