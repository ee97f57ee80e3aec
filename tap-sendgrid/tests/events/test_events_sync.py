"""The pass over the log: who gets what, and what the bookmarks say."""

from __future__ import annotations

import itertools
import json
import logging
import sqlite3
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from tap_sendgrid.event_log import EventLog, EventLogError, open_event_log
from tap_sendgrid.event_log.sqlite import SQLiteEventLog
from tap_sendgrid.events import records as records_module
from tap_sendgrid.events import sync as sync_module
from tap_sendgrid.events.writer import LineWriter

from .conftest import (
    EVENT_STREAMS,
    SAMPLES,
    RunTap,
    as_delivery,
    bookmarks,
    fill,
    last_state,
    records,
)


def state_at(**offsets: int) -> dict[str, Any]:
    return {
        "bookmarks": {
            name: {"replication_key": "log_offset", "replication_key_value": offset}
            for name, offset in offsets.items()
        }
    }


def test_every_event_reaches_exactly_one_stream_in_log_order(
    log: EventLog, run_tap: RunTap
) -> None:
    log.append([as_delivery(SAMPLES[:9], 0), as_delivery(SAMPLES[9:], 60)])
    messages = run_tap()
    assert [m["type"] for m in messages[:13]] == ["SCHEMA"] * 13
    assert [r["sg_event_id"] for r in records(messages)] == [s["sg_event_id"] for s in SAMPLES]
    assert len(records(messages, "bounce")) == 3
    assert {r["received_at"] for r in records(messages)} == {
        "2026-01-02T03:04:05.678901Z",
        "2026-01-02T03:05:05.678901Z",
    }
    assert bookmarks(last_state(messages)) == dict.fromkeys(EVENT_STREAMS, 2)
    assert messages[-1]["type"] == "STATE"


def test_schemas_carry_the_annotation_and_records_are_valid(log: EventLog, run_tap: RunTap) -> None:
    log.append([as_delivery(SAMPLES)])
    messages = run_tap()
    schemas = {m["stream"]: m for m in messages if m["type"] == "SCHEMA"}
    assert set(schemas) == set(EVENT_STREAMS)
    for message in schemas.values():
        assert message["schema"]["x-segment"] == {"collection": "event", "hoist": ["custom_args"]}
        assert message["key_properties"] == ["id"]
    for message in messages:
        if message["type"] == "RECORD":
            assert datetime.fromisoformat(message["time_extracted"]).tzinfo is not None
            jsonschema.validate(message["record"], schemas[message["stream"]]["schema"])


def test_the_next_run_reads_only_what_is_new(log: EventLog, run_tap: RunTap) -> None:
    fill(log, 3)
    first = run_tap()
    again = run_tap(state=last_state(first))
    assert records(again) == []
    assert last_state(again) == last_state(first)
    log.append([as_delivery([{"event": "open", "sg_event_id": "new"}])])
    third = run_tap(state=last_state(again))
    assert [r["id"] for r in records(third)] == ["new"]
    assert bookmarks(last_state(third)) == dict.fromkeys(EVENT_STREAMS, 4)


def test_each_stream_takes_only_what_is_after_its_own_bookmark(
    log: EventLog, run_tap: RunTap
) -> None:
    for n in range(1, 5):
        log.append(
            [as_delivery([{"event": w, "sg_event_id": f"{w}{n}"} for w in ("open", "click")])]
        )
    messages = run_tap(state=state_at(_open=3, click=1), selected=["_open", "click"])
    assert [r["id"] for r in records(messages)] == ["click2", "click3", "open4", "click4"]
    assert bookmarks(last_state(messages)) == {"_open": 4, "click": 4}


def test_no_state_is_ahead_of_a_stream_that_lags(
    log: EventLog, run_tap: RunTap, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(LineWriter, "records_per_state", 1)
    fill(log, 4)
    messages = run_tap(state=state_at(_open=0, click=3), selected=["_open", "click"])
    states = [bookmarks(m["value"]) for m in messages if m["type"] == "STATE"]
    assert states == [
        {"_open": 0, "click": 3},
        {"_open": 1, "click": 3},
        {"_open": 2, "click": 3},
        {"_open": 3, "click": 3},
        {"_open": 4, "click": 4},
    ]


def test_bookmarks_of_other_streams_stay(log: EventLog, run_tap: RunTap) -> None:
    fill(log, 2)
    state = state_at(_open=0, click=1)
    state["bookmarks"]["lists"] = {"replication_key": "x", "replication_key_value": "y"}
    messages = run_tap(state=state, selected=["_open"])
    after = last_state(messages)["bookmarks"]
    assert after["click"] == state["bookmarks"]["click"]
    assert after["lists"] == state["bookmarks"]["lists"]
    assert after["_open"]["replication_key_value"] == 2
    assert {m["stream"] for m in messages if "stream" in m} == {"_open"}


def test_state_comes_at_borders_of_deliveries_only(
    log: EventLog, run_tap: RunTap, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(LineWriter, "records_per_state", 5)
    monkeypatch.setattr(sync_module, "STATE_SECONDS", 1e9)
    ids = fill(log, 40, per_delivery=4)
    seen: list[str] = []
    states = []
    for message in run_tap(selected=["_open"]):
        if message["type"] == "RECORD":
            seen.append(message["record"]["id"])
        elif message["type"] == "STATE":
            offset = bookmarks(message["value"])["_open"]
            assert seen == ids[: offset * 4]
            states.append(offset)
    assert states == [2, 4, 6, 8, 10]


def test_deselected_properties_stay_out(log: EventLog, run_tap: RunTap) -> None:
    log.append([as_delivery(SAMPLES)])
    messages = run_tap(
        selected=["click", "processed"],
        without=["click.ip", "click.custom_args", "click.occurred_at"],
    )
    (schema,) = [m["schema"] for m in messages if m["type"] == "SCHEMA" and m["stream"] == "click"]
    assert not {"ip", "custom_args", "occurred_at"} & set(schema["properties"])
    (click,) = records(messages, "click")
    assert set(click) <= set(schema["properties"])
    assert click["url_offset"] == {"index": 0, "type": "html"}
    assert all("custom_args" in r or "post_type" in r for r in records(messages, "processed"))


def test_deselected_members_of_objects_stay_out(log: EventLog, run_tap: RunTap) -> None:
    log.append([as_delivery(SAMPLES)])
    messages = run_tap(selected=["click"], without=["click.url_offset.type", "click.ip"])
    (click,) = records(messages, "click")
    assert click["url_offset"] == {"index": 0}
    assert "ip" not in click
    assert click["custom_args"] == {"order_id": "A-17"}


def test_nothing_selected_touches_no_log(log_url: str, run_tap: RunTap) -> None:
    assert run_tap(selected=[]) == []
    assert not Path(log_url.removeprefix("sqlite:///")).exists()


# The log and its consumers


def test_the_log_is_told_what_the_target_has(log: EventLog, run_tap: RunTap) -> None:
    fill(log, 5)
    state = last_state(run_tap())
    assert [(p.consumer, p.offset) for p in log.positions()] == [("tap-sendgrid", 0)]
    run_tap(state=state)
    assert [(p.consumer, p.offset) for p in log.positions()] == [("tap-sendgrid", 5)]


def test_the_position_is_that_of_the_last_stream(log: EventLog, run_tap: RunTap) -> None:
    fill(log, 5)
    run_tap(state=state_at(_open=4, click=2, bounce=1), selected=["_open", "click"])
    assert [p.offset for p in log.positions()] == [2]


def test_two_taps_on_one_log_have_a_position_each(log: EventLog, run_tap: RunTap) -> None:
    fill(log, 5)
    run_tap(state=state_at(_open=4), selected=["_open"], event_log_consumer="analytics")
    run_tap(state=state_at(_open=1), selected=["_open"])
    assert [(p.consumer, p.offset) for p in log.positions()] == [
        ("analytics", 4),
        ("tap-sendgrid", 1),
    ]


def test_the_state_of_another_log_is_refused(log: EventLog, run_tap: RunTap) -> None:
    fill(log, 2)
    with pytest.raises(
        EventLogError, match="ends at offset 2, but the state of '_open' says that 7"
    ) as error:
        run_tap(state=state_at(_open=7, click=1))
    assert error.value.kind == "position"


def test_no_log_yet_is_no_failure(run_tap: RunTap, caplog: pytest.LogCaptureFixture) -> None:
    messages = run_tap()
    assert {m["type"] for m in messages} == {"SCHEMA"}
    assert "sendgrid-webhook serve" in caplog.text


def test_a_log_that_has_vanished_is_a_failure(run_tap: RunTap) -> None:
    with pytest.raises(EventLogError, match="there is no event log at"):
        run_tap(state=state_at(_open=1))


def test_trimmed_offsets_are_a_gap_like_any_other(log: EventLog, run_tap: RunTap) -> None:
    fill(log, 5)
    log.commit("tap-sendgrid", 3)
    log.trim(datetime.now(UTC))
    messages = run_tap(selected=["_open"])
    assert [r["id"] for r in records(messages)] == ["e3", "e4"]
    assert bookmarks(last_state(messages)) == {"_open": 5}


# What is no event


def test_bad_deliveries_go_to_quarantine_and_the_rest_goes_on(
    log: EventLog, run_tap: RunTap, caplog: pytest.LogCaptureFixture
) -> None:
    good = {"event": "open", "sg_event_id": "good"}
    log.append(
        [
            as_delivery(b"no JSON at all"),
            as_delivery([1, good, "x"]),
            as_delivery([{**good, "sg_event_id": "later"}]),
        ]
    )
    messages = run_tap()
    assert [r["id"] for r in records(messages)] == ["good", "later"]
    assert bookmarks(last_state(messages))["_open"] == 3
    assert [(q.offset, q.reason, q.delivery.body) for q in log.quarantined()] == [
        (1, "not JSON: Expecting value: line 1 column 1 (char 0)", b"no JSON at all"),
        (
            2,
            "element 0 of 3 is a JSON number, not an object; "
            "element 2 of 3 is a JSON string, not an object",
            as_delivery([1, good, "x"]).body,
        ),
    ]
    assert "Delivery 1 of the event log is in quarantine" in caplog.text
    run_tap()  # from the start again: nothing stands twice
    assert len(log.quarantined()) == 2


def test_a_full_log_without_room_for_quarantine_is_read_and_then_trimmed(
    log_url: str, run_tap: RunTap, caplog: pytest.LogCaptureFixture
) -> None:
    url = f"{log_url}?max_bytes=400000"
    good = {"event": "open", "sg_event_id": "good"}
    log = open_event_log(url)
    log.append([as_delivery([good, 5, "x" * 30_000])])
    later = as_delivery([{**good, "sg_event_id": "later", "pad": "y" * 20_000}])
    with pytest.raises(EventLogError, match="no space is left"):
        list(map(log.append, itertools.repeat([later])))
    end = log.end()
    state = last_state(run_tap(selected=["_open"], event_log_url=url))
    assert bookmarks(state) == {"_open": end}
    assert "Delivery 1 of the event log belongs in quarantine (element 1 of 3" in caplog.text
    assert "`sendgrid-webhook export --deliveries --offset 1` saves it" in caplog.text
    assert log.quarantined() == []
    run_tap(selected=["_open"], event_log_url=url, state=state)  # tells the log how far it is
    assert log.trim(datetime.now(UTC)).deliveries == end
    assert log.append([as_delivery([good])]) == [end + 1]
    log.close()


def test_another_failure_of_quarantine_ends_the_run(
    log: EventLog, run_tap: RunTap, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise EventLogError("locked", "another process holds the log")

    log.append([as_delivery([5])])
    monkeypatch.setattr(SQLiteEventLog, "quarantine", fail)
    with pytest.raises(EventLogError, match="another process holds the log"):
        run_tap()


def test_many_reasons_are_summed_up(log: EventLog, run_tap: RunTap) -> None:
    log.append([as_delivery([1] * 15)])
    run_tap()
    (found,) = log.quarantined()
    assert found.reason.endswith("; and 5 more")


def test_a_record_that_no_message_can_hold_is_set_aside(
    log: EventLog, run_tap: RunTap, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(records_module, "MAX_RECORD_BYTES", 1000)
    small = {"event": "open", "sg_event_id": "small"}
    log.append([as_delivery([small, {"event": "open", "sg_event_id": "large", "x": "y" * 1000}])])
    assert [r["id"] for r in records(run_tap())] == ["small"]
    (found,) = log.quarantined()
    assert "event 'large' makes a record of" in found.reason


# The SDK's own ways


def test_stream_maps_apply(log: EventLog, run_tap: RunTap) -> None:
    log.append([as_delivery(SAMPLES)])
    messages = run_tap(
        selected=["click", "bounce"],
        stream_maps={
            "click": {"id": "id", "host": "url.split('/')[2]", "__else__": None},
            "bounce": {"__filter__": "type == 'blocked'", "__alias__": "refused"},
        },
        stream_map_config={},
    )
    assert records(messages, "click") == [{"id": "EEKhxyYSSjCQ4M92ZUTVtg", "host": "shop.example"}]
    assert [r["reason"] for r in records(messages, "refused")] == ["552 5.2.2 mailbox full"]
    for message in messages:
        if message["type"] == "SCHEMA":
            assert message["schema"]["x-segment"]["collection"] == "event"
    assert bookmarks(last_state(messages)) == {"click": 1, "bounce": 1}


def test_flattening_applies(log: EventLog, run_tap: RunTap) -> None:
    log.append([as_delivery(SAMPLES)])
    messages = run_tap(selected=["click"], flattening_enabled=True, flattening_max_depth=2)
    (click,) = records(messages)
    assert click["url_offset__index"] == 0


def test_both_makers_make_the_same(log: EventLog, run_tap: RunTap) -> None:
    odd = [
        {
            "event": "open",
            "sg_event_id": "o",
            "n": 1.25,
            "deep": {"a": [1, {"b": None}]},
            "é": "😀",
        },
        {"event": 5, "timestamp": "soon"},
        {"event": "delivered", "tls": True, "sg_event_id": ""},
    ]
    log.append([as_delivery([*SAMPLES, *odd])])
    quick = records(run_tap())
    by_sdk = records(run_tap(stream_maps={"click": {"__filter__": "True"}}))
    assert quick == by_sdk
    assert len(quick) == len(SAMPLES) + 3


def test_what_comes_before_a_damaged_delivery_is_not_read_again(
    log: EventLog, log_url: str, run_tap: RunTap, capsysbinary: pytest.CaptureFixture[bytes]
) -> None:
    fill(log, 5)
    with sqlite3.connect(log_url.removeprefix("sqlite:///")) as connection:
        connection.execute("UPDATE deliveries SET body = x'00' WHERE offset = 4")
    connection.close()
    with pytest.raises(EventLogError, match="delivery 4") as error:
        run_tap(selected=["_open"])
    assert error.value.kind == "corrupt"
    messages = [json.loads(line) for line in capsysbinary.readouterr().out.splitlines()]
    assert [r["id"] for r in records(messages)] == ["e0", "e1", "e2"]
    assert bookmarks(last_state(messages)) == {"_open": 3}


def test_counts_and_progress_are_logged(
    log: EventLog,
    run_tap: RunTap,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setattr(sync_module, "PROGRESS_SECONDS", 0.0)
    caplog.set_level(logging.INFO)
    log.append([as_delivery(SAMPLES)])
    run_tap(selected=["bounce"])
    assert "Event log: at offset 1 of 1, 3 events so far." in caplog.text
    assert "Read the event log up to offset 1: 3 events." in caplog.text
    assert '"record_count","value":3,"tags":{"stream":"bounce"' in caplog.text
