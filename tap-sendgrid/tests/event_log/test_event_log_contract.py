"""What every backend of the event log must do: one suite, run against each."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
import tracemalloc
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta

import pytest
from tap_sendgrid.event_log import Delivery, EventLog, EventLogError, open_event_log

NOW = datetime.now(UTC) - timedelta(days=1)
TAP = "tap-sendgrid"


def delivery(text: str, received_at: datetime = NOW, **headers: str) -> Delivery:
    return Delivery(text.encode(), received_at, headers)


def bodies(log: EventLog, after: int = 0, until: int | None = None) -> list[str]:
    return [logged.delivery.body.decode() for logged in log.read(after, until)]


# -- appending and reading ---------------------------------------------------------------------


def test_an_empty_log_ends_at_0(log: EventLog) -> None:
    assert log.end() == 0
    assert list(log.read(0)) == []
    status = log.status()
    assert (status.first, status.end, status.quarantined) == (1, 0, 0)
    assert status.last_received_at is None
    assert log.append([]) == []


def test_a_delivery_comes_back_as_it_was(log: EventLog) -> None:
    body = bytes(range(256)) * 3 + b",\r\n{}]\r\n"
    stored = Delivery(body, NOW, {"content-type": "application/json", "x-signature": "MEUC+/="})
    [offset] = log.append([stored])
    [logged] = log.read(0)
    assert logged.offset == offset
    assert logged.delivery == stored


def test_an_empty_body_is_a_delivery_too(log: EventLog) -> None:
    log.append([delivery("")])
    assert bodies(log) == [""]


def test_offsets_grow_and_reads_are_in_their_order(log: EventLog) -> None:
    first = log.append([delivery(str(n)) for n in range(5)])
    second = log.append([delivery(str(n)) for n in range(5, 8)])
    offsets = first + second
    assert offsets == sorted(set(offsets))
    assert min(offsets) > 0
    assert [logged.offset for logged in log.read(0)] == offsets
    assert bodies(log) == [str(n) for n in range(8)]
    assert log.end() == offsets[-1]


def test_read_takes_the_range_after_and_up_to(log: EventLog) -> None:
    offsets = log.append([delivery(str(n)) for n in range(10)])
    assert bodies(log, offsets[2], offsets[5]) == ["3", "4", "5"]
    assert bodies(log, offsets[9]) == []
    assert bodies(log, offsets[5], offsets[5]) == []
    assert bodies(log, offsets[7], offsets[9] + 100) == ["8", "9"]
    assert bodies(log, offsets[9] + 100) == []


def test_read_ends_where_the_log_ended_when_it_began(log: EventLog) -> None:
    log.append([delivery("before")])
    reading = log.read(0)
    assert next(reading).delivery.body == b"before"
    log.append([delivery("after")])
    assert [logged.delivery.body for logged in reading] == []


def test_a_second_handle_sees_what_the_first_wrote(log: EventLog, log_url: str) -> None:
    log.append([delivery("a")])
    other = open_event_log(log_url)
    try:
        assert bodies(other) == ["a"]
        other.append([delivery("b")])
        assert bodies(log) == ["a", "b"]
    finally:
        other.close()


def test_memory_stays_flat_over_a_large_range(log: EventLog) -> None:
    megabyte = b"x" * (700 << 10)
    for _ in range(6):
        log.append([Delivery(megabyte, NOW)] * 10)
    tracemalloc.start()
    try:
        total = sum(len(logged.delivery.body) for logged in log.read(0))
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert total == 60 * len(megabyte)
    assert peak < 25 << 20, f"reading {total >> 20} MiB took {peak >> 20} MiB"


def test_a_reading_left_alone_harms_nobody(log: EventLog) -> None:
    log.append([delivery(str(n)) for n in range(300)])
    reading = log.read(0)
    next(reading)
    log.append([delivery("while it waits")])
    log.commit(TAP, log.end())
    assert log.trim(NOW + timedelta(days=1)).deliveries == 301
    reading.close()
    assert bodies(log) == []


def test_opening_what_is_not_there(log_url: str) -> None:
    with pytest.raises(EventLogError) as caught:
        open_event_log(log_url, create=False)
    assert caught.value.kind == "missing"


# -- many at once ------------------------------------------------------------------------------

WRITER = """
import sys
from datetime import UTC, datetime
from tap_sendgrid.event_log import Delivery, open_event_log

url, name, count = sys.argv[1], sys.argv[2], int(sys.argv[3])
log = open_event_log(url)
for number in range(count):
    body = f"{name}-{number}".encode()
    [offset] = log.append([Delivery(body, datetime.now(UTC))])
    print(offset, body.decode(), flush=True)
"""


def start_writer(url: str, name: str, count: int) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", WRITER, url, name, str(count)], stdout=subprocess.PIPE, text=True
    )


def test_writers_in_threads_and_processes_lose_nothing_and_a_reader_skips_nothing(
    log: EventLog, log_url: str
) -> None:
    processes = [start_writer(log_url, f"process{n}", 100) for n in range(2)]
    offsets: list[int] = []

    def write(name: str) -> None:
        for number in range(0, 100, 5):
            batch = [delivery(f"{name}-{number + i}") for i in range(5)]
            offsets.extend(log.append(batch))

    seen: list[tuple[int, str]] = []
    done = threading.Event()

    def follow() -> None:
        position = 0
        while True:
            last_round = done.is_set()
            end = log.end()
            assert end >= position
            for logged in log.read(position, end):
                assert position < logged.offset <= end
                position = logged.offset
                seen.append((logged.offset, logged.delivery.body.decode()))
            position = end
            if last_round:
                return
            time.sleep(0.005)

    with ThreadPoolExecutor(4) as pool:
        follower = pool.submit(follow)
        for writer in [pool.submit(write, f"thread{n}") for n in range(3)]:
            writer.result()
        acknowledged = []
        for process in processes:
            out, _ = process.communicate(timeout=60)
            assert process.returncode == 0
            acknowledged += [line.split() for line in out.splitlines()]
        done.set()
        follower.result()
    offsets += [int(offset) for offset, _ in acknowledged]
    expected = {f"thread{n}-{i}" for n in range(3) for i in range(100)}
    expected |= {f"process{n}-{i}" for n in range(2) for i in range(100)}
    assert len(offsets) == len(set(offsets)) == 500
    assert sorted(offset for offset, _ in seen) == sorted(offsets)
    assert sorted(text for _, text in seen) == sorted(expected)
    order = {text: offset for offset, text in seen}
    for name in ("thread0", "process1"):
        own = [order[f"{name}-{i}"] for i in range(100)]
        assert own == sorted(own), "a writer's own deliveries keep their order"


def test_what_was_acknowledged_survives_kill_9(log: EventLog, log_url: str) -> None:
    process = start_writer(log_url, "w", 1_000_000)
    assert process.stdout is not None
    lines = [process.stdout.readline() for _ in range(50)]
    os.kill(process.pid, signal.SIGKILL)
    lines += process.stdout.readlines()
    process.stdout.close()
    process.wait()
    told = {int(line.split()[0]): line.split()[1] for line in lines if line.endswith("\n")}
    assert len(told) >= 50
    reopened = open_event_log(log_url, create=False)
    try:
        found = {logged.offset: logged.delivery.body.decode() for logged in reopened.read(0)}
        assert reopened.check() == []
    finally:
        reopened.close()
    assert told.items() <= found.items()
    assert len(found) - len(told) <= 1, "at most the one that was under way may be there untold"
