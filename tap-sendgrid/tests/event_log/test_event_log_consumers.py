"""What every backend must do beside deliveries: consumers, retention, quarantine, shared values."""

from __future__ import annotations

import time
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
