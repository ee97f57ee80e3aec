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


# -- consumers ---------------------------------------------------------------------------------


def test_positions_move_forward_only(log: EventLog) -> None:
    offsets = log.append([delivery(str(n)) for n in range(3)])
    assert log.positions() == []
    log.commit(TAP, offsets[1])
    before = log.positions()[0]
    log.commit(TAP, offsets[0])
    after = log.positions()[0]
    assert (after.consumer, after.offset) == (TAP, offsets[1])
    assert after.committed_at >= before.committed_at
    log.commit(TAP, offsets[2])
    log.commit("another", 0)
    assert [(p.consumer, p.offset) for p in log.positions()] == [
        ("another", 0),
        (TAP, offsets[2]),
    ]


@pytest.mark.parametrize("offset", [-1, 2])
def test_an_impossible_position_is_refused(log: EventLog, offset: int) -> None:
    log.append([delivery("1")])
    with pytest.raises(EventLogError, match="belongs to another log") as caught:
        log.commit(TAP, offset)
    assert caught.value.kind == "position"
    assert log.positions() == []


def test_names_of_consumers_are_free_text(log: EventLog) -> None:
    name = "forward:https://example.com/a?b=ü *>."
    log.commit(name, 0)
    assert [p.consumer for p in log.positions()] == [name]
    assert log.forget(name)
    assert not log.forget(name)
    assert log.positions() == []


# -- retention ---------------------------------------------------------------------------------

OLD = NOW - timedelta(days=40)
BORDER = NOW - timedelta(days=30)


def test_trim_takes_only_what_is_old_and_committed_by_all(log: EventLog) -> None:
    offsets = log.append(
        [delivery(f"old{n}", OLD) for n in range(4)] + [delivery(f"new{n}") for n in range(2)]
    )
    log.commit(TAP, offsets[5])
    log.commit("slow", offsets[1])
    result = log.trim(BORDER)
    assert (result.deliveries, result.held_by) == (2, ("slow",))
    assert bodies(log) == ["old2", "old3", "new0", "new1"]
    log.commit("slow", offsets[5])
    result = log.trim(BORDER)
    assert (result.deliveries, result.held_by) == (2, ())
    assert bodies(log) == ["new0", "new1"]
    assert log.status().first == offsets[4]
    assert log.trim(BORDER).deliveries == 0


def test_trim_waits_for_a_first_commit_and_forwarders_do_not_count(log: EventLog) -> None:
    offsets = log.append([delivery("old", OLD)])
    assert log.trim(BORDER).deliveries == 0
    log.commit("forward:https://example.com", offsets[0])
    result = log.trim(BORDER)
    assert result.deliveries == 0
    assert "no tap has committed yet" in result.held_by[0]
    log.commit(TAP, offsets[0])
    assert log.trim(BORDER).deliveries == 1


def test_a_forgotten_consumer_holds_nothing(log: EventLog) -> None:
    offsets = log.append([delivery("old", OLD)])
    log.commit(TAP, offsets[0])
    log.commit("gone", 0)
    assert log.trim(BORDER).held_by == ("gone",)
    log.forget("gone")
    assert log.trim(BORDER).deliveries == 1


def test_offsets_are_never_given_twice(log: EventLog, log_url: str) -> None:
    offsets = log.append([delivery(str(n), OLD) for n in range(3)])
    log.commit(TAP, offsets[-1])
    assert log.trim(BORDER).deliveries == 3
    assert log.end() == offsets[-1], "trimming does not lower the end"
    assert log.status().first == offsets[-1] + 1
    log.close()
    again = open_event_log(log_url)
    try:
        assert again.end() == offsets[-1]
        assert again.append([delivery("next")])[0] > offsets[-1]
    finally:
        again.close()


def test_a_reader_behind_what_was_trimmed_goes_on_with_what_is_there(log: EventLog) -> None:
    offsets = log.append([delivery(str(n), OLD) for n in range(3)] + [delivery("3")])
    log.commit(TAP, offsets[3])
    log.trim(BORDER)
    assert bodies(log, 0) == ["3"]


# -- looking -----------------------------------------------------------------------------------


def test_find_takes_arrivals_from_since_until_before_until(log: EventLog) -> None:
    times = [NOW + timedelta(minutes=n) for n in (0, 1, 2, 5, 4, 6)]
    log.append([delivery(str(n), moment) for n, moment in enumerate(times)])
    found = log.find(NOW + timedelta(minutes=1), NOW + timedelta(minutes=5))
    assert [logged.delivery.body for logged in found] == [b"1", b"2", b"4"]
    assert list(log.find(NOW + timedelta(hours=1), NOW + timedelta(hours=2))) == []


def test_arrival_after_is_that_of_the_next_delivery(log: EventLog) -> None:
    assert log.arrival_after(0) is None
    offsets = log.append([delivery("a"), delivery("b", NOW + timedelta(seconds=1))])
    assert log.arrival_after(0) == NOW
    assert log.arrival_after(offsets[0]) == NOW + timedelta(seconds=1)
    assert log.arrival_after(offsets[1]) is None


def test_status_tells_the_extent(log: EventLog) -> None:
    offsets = log.append([delivery("a" * 5000), delivery("b", NOW + timedelta(seconds=1))])
    status = log.status()
    assert (status.first, status.end) == (offsets[0], offsets[1])
    assert status.size_bytes > 5000
    assert status.last_received_at == NOW + timedelta(seconds=1)


# -- quarantine --------------------------------------------------------------------------------


def test_quarantine_keeps_a_delivery_and_gives_it_back(log: EventLog) -> None:
    bad = Delivery(b"\xff not json", NOW, {"content-type": "text/html"})
    offsets = log.append([bad, delivery("[]")])
    log.quarantine(bad, "no JSON", offsets[0])
    log.quarantine(bad, "no JSON, said again", offsets[0])
    log.quarantine(delivery("never logged"), "from elsewhere")
    first, second = log.quarantined()
    assert (first.offset, first.reason, first.delivery) == (offsets[0], "no JSON", bad)
    assert second.offset is None
    assert first.id < second.id
    assert abs(first.quarantined_at - datetime.now(UTC)) < timedelta(minutes=1)
    assert log.status().quarantined == 2
    assert [q.id for q in log.quarantined(after=first.id)] == [second.id]
    assert [q.id for q in log.quarantined(limit=1)] == [first.id]

    [released] = log.release([first.id, 12345])
    assert released > offsets[1]
    assert next(log.read(offsets[1])).delivery == bad
    assert [q.id for q in log.quarantined()] == [second.id]
    assert log.discard([second.id, second.id + 1]) == 1
    assert log.status().quarantined == 0


def test_quarantine_outlives_the_trimmed_original(log: EventLog) -> None:
    bad = delivery("bad", OLD)
    offsets = log.append([bad])
    log.quarantine(bad, "no JSON", offsets[0])
    log.commit(TAP, offsets[0])
    assert log.trim(BORDER).deliveries == 1
    assert log.quarantined()[0].delivery == bad


# -- shared settings and counts ----------------------------------------------------------------


def test_settings_are_shared(log: EventLog, log_url: str) -> None:
    assert log.get("webhook.path_token") is None
    log.put("webhook.path_token", "a")
    log.put("webhook.path_token", "b ü")
    assert log.put_if_absent("webhook.path_token", "c") == "b ü"
    assert log.put_if_absent("webhook.other", "c") == "c"
    other = open_event_log(log_url)
    try:
        assert other.get("webhook.path_token") == "b ü"
    finally:
        other.close()


def test_of_many_that_set_at_once_all_get_the_same(log: EventLog) -> None:
    with ThreadPoolExecutor(8) as pool:
        got = set(pool.map(lambda n: log.put_if_absent("token", str(n)), range(24)))
    assert got == {log.get("token")}


def test_counts_add_up_by_minute(log: EventLog) -> None:
    minute = int(time.time()) // 60
    log.add_counts(minute, {"event:open": 2, "deliveries": 1})
    log.add_counts(minute, {"event:open": 3})
    log.add_counts(minute - 1, {"event:open": 7})
    assert sorted(log.counts(minute)) == [
        (minute, "deliveries", 1),
        (minute, "event:open", 5),
    ]
    assert len(log.counts(minute - 1)) == 3
    log.add_counts(minute - 3 * 24 * 60, {"event:open": 1})
    log.add_counts(minute, {"event:click": 1})
    assert all(count.minute >= minute - 24 * 60 for count in log.counts(0))


def test_counts_from_many_at_once_are_all_there(log: EventLog) -> None:
    minute = int(time.time()) // 60
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda _: log.add_counts(minute, {"event:open": 1}), range(40)))
    assert log.counts(minute) == [(minute, "event:open", 40)]


def test_a_healthy_log_has_no_problems(log: EventLog) -> None:
    log.append([delivery(str(n)) for n in range(100)])
    assert log.check() == []


def test_a_lease_has_one_owner_until_it_ends(log: EventLog) -> None:
    assert log.lease("forward", "a", 0.5)
    assert not log.lease("forward", "b", 0.5)
    assert log.lease("another", "b", 0.5)
    assert log.lease("forward", "a", 0.5), "renewed"
    time.sleep(0.6)
    assert log.lease("forward", "b", 30)
    assert not log.lease("forward", "a", 30)
    assert log.lease("forward", "b", 0), "given back"
    assert log.lease("forward", "a", 30)
