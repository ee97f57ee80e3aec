"""Messages take effect in their order; a STATE comes out when what stands before it is
committed."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from .harness import Warehouse
from .messages import Message, encode, events, record, schema, state


def test_a_changed_schema_in_mid_stream_reorders_nothing(warehouse: Warehouse) -> None:
    warehouse.load(
        schema("t", {"id": "integer", "v": "string"}),
        record("t", id=1, v="old"),
        schema("t", {"id": "integer", "v": "string", "w": "string"}),
        record("t", id=1, v="new"),
        record("t", id=2, v="x"),
        max_batch_rows=2,
    )
    assert warehouse.by_id("t", "v") == {"1": "new", "2": "x"}


def test_states_that_python_calls_equal_are_not(warehouse: Warehouse) -> None:
    result = warehouse.load(schema("t"), state({"done": 1}), state({"done": True}))
    assert [emitted["done"] is True for emitted in result.states] == [False, True]


def test_state_comes_out_during_the_run(warehouse: Warehouse) -> None:
    lines: list[Message] = [schema("t")]
    for n in range(100):
        lines.append(record("t", id=str(n)))
        if n % 10 == 9:
            lines.append(state({"t": n}))
    result = warehouse.load(*lines, max_batch_rows=25)
    assert result.states[-1] == {"t": 99}
    assert len(result.states) >= 4  # one per flush at least
    assert result.states == sorted(result.states, key=lambda value: value["t"])


def test_state_is_never_ahead_of_the_rows(warehouse: Warehouse) -> None:
    process = warehouse.start(None, max_batch_rows=3)
    process.send(schema("a"), schema("b"))
    seen = 0
    for n in range(12):
        process.send(record("a" if n % 2 else "b", id=str(n)), state({"n": n}))
        states = process.states()
        if len(states) > seen:
            seen = len(states)
            present = {
                int(key)
                for table in ("a", "b")
                if table in warehouse.relations()
                for key in warehouse.rows(table, "id")
            }
            assert set(range(states[-1]["n"] + 1)) <= present
    result = process.finish().ok()
    assert result.states[-1] == {"n": 11}


def test_the_bookmark_of_an_unflushed_stream_waits(warehouse: Warehouse) -> None:
    # Seen in pipelinewise: `a` flushed, and the state said `b: 2` with no row of b written.
    process = warehouse.start(None, max_batch_rows=3)
    process.send(
        schema("a"),
        schema("b"),
        record("b", id="1"),
        state({"a": 0, "b": 1}),
        record("a", id="1"),
        state({"a": 1, "b": 1}),
    )
    time.sleep(0.3)
    assert process.states() == []
    assert warehouse.relations() == {}
    process.send(record("a", id="2"))
    process.until_states(1)
    assert warehouse.rows("a", "id") == ["1", "2"]
    assert warehouse.rows("b", "id") == ["1"]
    process.finish().ok()


def test_a_state_after_a_flush_does_not_wait_for_the_next(warehouse: Warehouse) -> None:
    process = warehouse.start(None, max_batch_rows=2)
    process.send(schema("t"), record("t", id="1"), record("t", id="2"), state({"t": 2}))
    assert process.until_states(1) == [{"t": 2}]
    process.send(state({"t": 3}))  # nothing came in between: true at once
    assert process.until_states(2) == [{"t": 2}, {"t": 3}]
    assert process.finish().ok().states == [{"t": 2}, {"t": 3}]


def test_a_quiet_input_holds_no_rows_back(warehouse: Warehouse) -> None:
    process = warehouse.start(None, max_batch_age_seconds=1)
    process.send(schema("t"), record("t", id="1"), state({"t": 1}))
    assert process.until_states(1, timeout=15) == [{"t": 1}]
    assert warehouse.rows("t", "id") == ["1"]
    process.send(record("t", id="2"), state({"t": 2}))
    assert process.until_states(2, timeout=15)[-1] == {"t": 2}
    assert process.finish().ok().states == [{"t": 1}, {"t": 2}]


def test_an_empty_state_is_not_written(warehouse: Warehouse) -> None:
    result = warehouse.load(schema("t"), record("t", id="1"), state({"t": 1}), state({}))
    assert result.states == [{"t": 1}]
    assert warehouse.load(state({})).states == []


def test_state_alone_passes_through(warehouse: Warehouse) -> None:
    value = {"bookmarks": {"é": {"x": [1, 2.5, None, "\u2028"]}}}
    assert warehouse.load(state(value)).states == [value]


def test_no_state_beyond_a_failure(warehouse: Warehouse) -> None:
    result = warehouse.run(
        schema("t"),
        record("t", id="1"),
        state({"t": 1}),
        record("t", id="2"),
        state({"t": 2}),
        record("t", secret="payload-4711"),
        state({"t": 3}),
        max_batch_rows=2,
    ).failed("t")
    assert {"t": 3} not in result.states
    if result.states:
        assert warehouse.count("t") >= result.states[-1]["t"]


def test_activate_version_deletes_after_what_came_before(warehouse: Warehouse) -> None:
    config = {"hard_delete": True}
    lines = [
        schema("t"),
        {**record("t", id="1"), "version": 1},
        {**record("t", id="2"), "version": 1},
        {"type": "ACTIVATE_VERSION", "stream": "t", "version": 1},
        {**record("t", id="2", n=2), "version": 2},
        {**record("t", id="3"), "version": 2},
        {"type": "ACTIVATE_VERSION", "stream": "t", "version": 2},
        state({"t": 2}),
    ]
    warehouse.load(*lines, **config)
    assert warehouse.rows("t", "id") == ["2", "3"]
    warehouse.load(*lines, max_batch_rows=1, **config)
    assert warehouse.rows("t", "id") == ["2", "3"]


@pytest.mark.parametrize("is_one_run", [True, False])
@pytest.mark.parametrize("hard_delete", [True, False])
def test_an_old_version_activated_late_removes_nothing_newer(
    warehouse: Warehouse, *, is_one_run: bool, hard_delete: bool
) -> None:
    rows = [{**record("t", id=str(version)), "version": version} for version in (1, 2)]
    late = {"type": "ACTIVATE_VERSION", "stream": "t", "version": 1}
    for lines in [[*rows, late]] if is_one_run else [rows, [late]]:
        result = warehouse.load(schema("t"), *lines, hard_delete=hard_delete)
    assert "ACTIVATE_VERSION 1" in result.stderr
    rows = warehouse.by_id("t")
    assert set(rows) == {"1", "2"}
    assert not any(row.get("_sdc_deleted_at") for row in rows.values())


def test_activate_version_first_and_a_crash_before_the_records(warehouse: Warehouse) -> None:
    config = {"hard_delete": True, "max_batch_rows": 1}
    old = [schema("t"), {**record("t", id="1"), "version": 1}]
    activate = {"type": "ACTIVATE_VERSION", "stream": "t", "version": 1}
    warehouse.load(*old, activate, **config)
    # A tap that announces the new version before its rows, and breaks off after the first of them.
    process = warehouse.start(None, **config)
    process.send(
        schema("t"),
        {"type": "ACTIVATE_VERSION", "stream": "t", "version": 2},
        {**record("t", id="2"), "version": 2},
        state({"t": 2}),
    )
    process.until_states(1)
    process.signal(signal.SIGKILL)
    process.finish()
    assert "2" in warehouse.rows("t", "id")


def test_events_are_never_deleted_by_a_version(warehouse: Warehouse) -> None:
    lines = [
        events("click"),
        {**record("click", id="1"), "version": 1},
        {"type": "ACTIVATE_VERSION", "stream": "click", "version": 2},
    ]
    warehouse.load(*lines, hard_delete=True, add_record_metadata=True)
    assert warehouse.rows("click", "id") == ["1"]


def test_sigterm_between_flushes_leaves_a_true_state(warehouse: Warehouse) -> None:
    process = warehouse.start(None, max_batch_rows=100)
    process.send(schema("t"), *(record("t", id=str(n)) for n in range(150)), state({"n": 150}))
    process.send(record("t", id="150"))
    time.sleep(0.5)
    process.signal(signal.SIGTERM)
    result = process.finish(timeout=30)
    assert result.returncode != 0  # the run did not reach the end of its input
    rows = warehouse.count("t") if "t" in warehouse.relations() else 0
    assert rows >= (result.states[-1]["n"] if result.states else 0)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_in_mid_load_never_acknowledges_missing_rows(
    warehouse: Warehouse, number: signal.Signals
) -> None:
    process = warehouse.start(None, max_batch_rows=500)
    process.send(schema("t"))
    sent = 0
    try:
        for sent in range(0, 200_000, 500):
            lines = [record("t", id=str(n), text="x" * 50) for n in range(sent, sent + 500)]
            process.send(*lines, state({"n": sent + 500}))
            if len(process.states()) >= 2:
                process.signal(number)
                break
        time.sleep(0.05)
        for extra in range(sent + 500, sent + 5000, 500):
            lines = [record("t", id=str(n)) for n in range(extra, extra + 500)]
            process.send(*lines, state({"n": extra + 500}))
    except BrokenPipeError:
        pass  # it stopped reading, as it should
    result = process.finish(timeout=60)
    assert result.returncode != 0
    ids = {int(key) for key in warehouse.rows("t", "id")}
    assert result.states
    assert set(range(result.states[-1]["n"])) <= ids


def test_a_broken_output_pipe_stops_with_the_rows_safe(warehouse: Warehouse) -> None:
    name = warehouse.folder / "config.json"
    name.write_text(json.dumps(warehouse.settings(max_batch_rows=1)))
    command = Path(sys.executable).with_name("target-segment-warehouse")
    process = subprocess.Popen(
        [command, "--config", name],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    assert process.stdin is not None
    assert process.stdout is not None
    assert process.stderr is not None
    process.stdout.close()
    lines = [
        schema("t"),
        record("t", id="1"),
        state({"t": 1}),
        record("t", id="2"),
        state({"t": 2}),
    ]
    try:
        process.stdin.write(encode(lines))
        process.stdin.close()
    except BrokenPipeError:
        pass
    with process.stderr:
        process.stderr.read()
    assert process.wait(timeout=60) != 0
    assert warehouse.rows("t", "id")[:1] == ["1"]


def test_what_meltano_config_test_sends(warehouse: Warehouse) -> None:
    messages: list[Message] = [
        {
            "type": "SCHEMA",
            "stream": "meltano_test_stream",
            "schema": {"type": "object", "properties": {"id": {"type": "integer"}}},
            "key_properties": ["id"],
        },
        {"type": "RECORD", "stream": "meltano_test_stream", "record": {"id": 1}},
        {"type": "STATE", "value": {"bookmarks": {"meltano_test_stream": {}}}},
    ]
    result = warehouse.load(*messages)
    text = result.stderr.lower()
    assert "error" not in text
    assert "exception" not in text
    assert result.states == [messages[-1]["value"]]


def test_many_streams_in_one_flush(warehouse: Warehouse) -> None:
    names = [f"s{n}" for n in range(60)]
    lines: list[Any] = [schema(name) for name in names]
    lines += [record(name, id=str(n), n=n) for n in range(3) for name in names]
    result = warehouse.load(*lines, state({"done": True}))
    assert result.states == [{"done": True}]
    assert {warehouse.count(name) for name in names} == {3}
