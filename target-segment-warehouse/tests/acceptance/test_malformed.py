"""Input that is no Singer: the line and what is wrong with it, never the data, and no state after
it."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import pytest

from .harness import Warehouse
from .messages import Line, Message, encode, record, schema, state

SECRET = "payload-4711"

BAD: dict[str, tuple[Line, tuple[str, ...]]] = {
    "not JSON": (f"this is {SECRET} no JSON", ("line 4",)),
    "cut off": (f'{{"type": "RECORD", "stream": "t", "record": {{"id": "{SECRET}"', ("line 4",)),
    "two values": (f'{{"type": "STATE", "value": 1}} {{"x": "{SECRET}"}}', ("line 4",)),
    "not an object": (f'["{SECRET}"]', ("line 4",)),
    "a number": ("42", ("line 4",)),
    "no type": (f'{{"stream": "t", "record": {{"id": "{SECRET}"}}}}', ("line 4", "type")),
    "unknown type": (f'{{"type": "RECORDS", "x": "{SECRET}"}}', ("line 4", "RECORDS")),
    "type is no text": (f'{{"type": 5, "x": "{SECRET}"}}', ("line 4", "type")),
    "no stream": (f'{{"type": "RECORD", "record": {{"id": "{SECRET}"}}}}', ("line 4", "stream")),
    "no record": (f'{{"type": "RECORD", "stream": "t", "x": "{SECRET}"}}', ("line 4", "record")),
    "record is a list": (
        f'{{"type": "RECORD", "stream": "t", "record": ["{SECRET}"]}}',
        ("line 4", "record"),
    ),
    "record before its schema": (
        f'{{"type": "RECORD", "stream": "other", "record": {{"id": "{SECRET}"}}}}',
        ("line 4", "other", "schema"),
    ),
    "schema without properties": (
        f'{{"type": "SCHEMA", "stream": "t", "schema": {{"x": "{SECRET}"}}, "key_properties": []}}',
        ("line 4", "t"),
    ),
    "schema is a list": (
        f'{{"type": "SCHEMA", "stream": "t", "schema": ["{SECRET}"], "key_properties": []}}',
        ("line 4",),
    ),
    "record of a version beyond 64 bits": (
        f'{{"type": "RECORD", "stream": "t", "record": {{"id": "{SECRET}"}}, "version": {10**20}}}',
        ("line 4", "version", str(2**63 - 1)),
    ),
    "version beyond 64 bits": (
        f'{{"type": "ACTIVATE_VERSION", "stream": "t", "version": {10**20}}}',
        ("line 4", "version", str(2**63 - 1)),
    ),
    "version of an unknown stream": (
        '{"type": "ACTIVATE_VERSION", "stream": "other", "version": 1}',
        ("line 4", "other"),
    ),
    "batch of an unknown stream": (
        '{"type": "BATCH", "stream": "other", "encoding": {"format": "jsonl"}, "manifest": []}',
        ("line 4", "other"),
    ),
    "batch without manifest": (
        '{"type": "BATCH", "stream": "t", "encoding": {"format": "jsonl"}}',
        ("line 4", "manifest"),
    ),
    "batch in an unknown format": (
        '{"type":"BATCH","stream":"t","encoding":{"format":"avro"},"manifest":["file:///nowhere"]}',
        ("line 4", "avro"),
    ),
    "state without value": (f'{{"type": "STATE", "x": "{SECRET}"}}', ("line 4", "value")),
    "nested too deeply": (
        f'{{"type": "STATE", "value": {"[" * 1500}"{SECRET}"{"]" * 1500}}}',
        ("line 4", "nested too deeply"),
    ),
    "nested too deeply, and no JSON": (
        f'{{"type": "RECORD", "record": {"[" * 1500}"{SECRET}"{"]" * 1499}}}',
        ("line 4", "JSON"),
    ),
    "invalid UTF-8": (
        b'{"type": "RECORD", "stream": "t", "record": {"id": "\xff\xfe' + SECRET.encode() + b'"}}',
        ("line 4",),
    ),
}


@pytest.mark.parametrize("name", BAD)
@pytest.mark.parametrize("engine", ["duckdb"], indirect=True)
def test_a_bad_line_is_named(warehouse: Warehouse, name: str) -> None:
    line, texts = BAD[name]
    result = warehouse.run(
        schema("t"),
        record("t", id="1"),
        state({"t": 1}),
        line,
        record("t", id="2"),
        state({"t": 2}),
    ).failed(*texts)
    assert SECRET not in result.stderr
    assert {"t": 2} not in result.states
    if result.states:
        assert warehouse.rows("t", "id") == ["1"]


def test_a_bad_line_costs_nothing_that_was_accepted(warehouse: Warehouse) -> None:
    process = warehouse.start(None, max_batch_rows=1)
    process.send(schema("t"), record("t", id="1"), state({"t": 1}))
    process.until_states(1)
    process.send("rubbish")
    result = process.finish().failed("line 4")
    assert result.states == [{"t": 1}]
    assert warehouse.rows("t", "id") == ["1"]


@pytest.mark.parametrize("engine", ["duckdb"], indirect=True)
def test_harmless_oddities(warehouse: Warehouse) -> None:
    lines: list[Line] = [
        schema("t"),
        "",
        "   ",
        "\r",
        json.dumps(record("t", id="1", n=1)) + "\r\n",
        json.dumps({**record("t", id="2", n=2), "unknown": {"a": [1]}, "time_extracted": None}),
        " \t" + json.dumps(record("t", id="3", n=3)) + "  ",
        '{"record":{"n":4,"id":"4"},"stream":"t","type":"RECORD"}',
        '{"\\u0074ype":"RECORD","str\\u0065am":"t","record":{"id":"\\u0035","n":5}}',
        json.dumps({"type": "STATE", "value": {"type": "RECORD", "stream": "t"}}),
    ]
    result = warehouse.load(*lines)
    assert warehouse.by_id("t", "n") == {str(n): n for n in range(1, 6)}
    assert result.states == [{"type": "RECORD", "stream": "t"}]


@pytest.mark.parametrize("engine", ["duckdb"], indirect=True)
def test_a_last_line_without_its_end(warehouse: Warehouse) -> None:

    data = encode([schema("t"), record("t", id="1"), state({"t": 1})]).rstrip(b"\n")
    process = warehouse.start(None)
    assert process.stdin is not None
    process.stdin.write(data)
    process.stdin.flush()
    assert process.finish().ok().states == [{"t": 1}]
    assert warehouse.rows("t", "id") == ["1"]


def test_no_input_at_all(warehouse: Warehouse) -> None:
    assert warehouse.load().states == []


def test_lone_surrogates(warehouse: Warehouse) -> None:
    line = '{"type":"RECORD","stream":"t","record":{"id":"1","s":"a\\ud800b","ok":"x"}}'
    result = warehouse.run(schema("t"), line, record("t", id="2", s="fine"), state({"t": 1}))
    result.ok()
    assert warehouse.by_id("t", "ok") == {"1": "x", "2": None}
    stored = warehouse.by_id("t", "s")
    assert stored["2"] == "fine"
    if stored["1"] is None:
        discards = warehouse.rows("_discards", "table_name", "row_id", "column_name", "value")
        (discard,) = (row for row in discards if row["table_name"] == "t")
        assert discard["row_id"] == "1"
        assert discard["column_name"] == "s"
        assert "ud800" in discard["value"].lower()


@pytest.mark.parametrize("engine", ["duckdb"], indirect=True)
def test_a_100_mb_line(warehouse: Warehouse) -> None:
    text = "0123456789" * 10_000_000
    warehouse.load(schema("t"), record("t", id="1", s=text), record("t", id="2", s="x"))
    assert warehouse.query("SELECT id, length(s) FROM wh.t ORDER BY id") == [
        ("1", len(text)),
        ("2", 1),
    ]


BAD_FILES: dict[str, tuple[bytes, tuple[str, ...]]] = {
    "invalid UTF-8": (b'{"id":"1"}\n{"id":"\xff\xfe' + SECRET.encode() + b'"}\n', ("record 2",)),
    "no JSON": (b'{"id":"1"}\n\nrubbish ' + SECRET.encode() + b"\n", ("record 3",)),
    "no object": (b'["' + SECRET.encode() + b'"]\n', ("record 1",)),
    "no key": (b'{"id":"1"}\n{"n":"' + SECRET.encode() + b'"}', ("record 2", "id")),
    "cut off": (gzip.compress(b'{"id":"1"}\n' * 1000)[:-20], ("rows.jsonl",)),
    "no gzip": (b"\x1f\x8b" + SECRET.encode() * 10, ("rows.jsonl",)),
}


def jsonl(*paths: Path, compression: str = "gzip") -> Message:
    """A BATCH message with these files."""
    return {
        "type": "BATCH",
        "stream": "t",
        "encoding": {"format": "jsonl", "compression": compression},
        "manifest": [path.as_uri() for path in paths],
    }


@pytest.mark.parametrize("name", BAD_FILES)
@pytest.mark.parametrize("engine", ["duckdb"], indirect=True)
def test_a_bad_batch_file_is_named(warehouse: Warehouse, name: str) -> None:
    data, texts = BAD_FILES[name]
    path = warehouse.folder / "rows.jsonl"
    path.write_bytes(data)
    message = jsonl(path)
    result = warehouse.run(schema("t"), message, state({"t": 1})).failed("rows.jsonl", *texts)
    assert SECRET not in result.stderr
    assert "Traceback" not in result.stderr
    assert result.states == []


@pytest.mark.parametrize("engine", ["duckdb"], indirect=True)
def test_a_bad_line_of_a_file_that_maps_change_is_named(warehouse: Warehouse) -> None:
    path = warehouse.folder / "rows.jsonl"
    path.write_text(f'{{"id":"1"}}\n{{"id":"{SECRET}\n')
    message = jsonl(path, compression="none")
    result = warehouse.run(schema("t"), message, stream_maps={"t": {"x": "1"}})
    result.failed("record 2 of", "rows.jsonl", "not valid JSON")
    assert SECRET not in result.stderr


@pytest.mark.parametrize("engine", ["duckdb"], indirect=True)
def test_a_record_that_is_not_valid_is_named_without_its_values(warehouse: Warehouse) -> None:
    lines = [schema("t", {"id": "string", "n": "integer"}), record("t", id="1", n=SECRET)]
    result = warehouse.run(*lines, validate_records=True).failed("Line 2", "$.n", "type")
    assert SECRET not in result.stderr


@pytest.mark.parametrize("engine", ["duckdb"], indirect=True)
@pytest.mark.parametrize("asked", [{"stream_maps": {"t": {"n": "1"}}}, {"validate_records": True}])
def test_a_record_too_deep_for_what_is_asked_is_named(warehouse: Warehouse, asked: Message) -> None:
    deep = f'{{"id": "1", "x": {"[" * 1500}"{SECRET}"{"]" * 1500}}}'
    line = f'{{"type": "RECORD", "stream": "t", "record": {deep}}}'
    result = warehouse.run(schema("t"), line, **asked).failed("Line 2", "deep", *asked)
    assert SECRET not in result.stderr
    assert "Traceback" not in result.stderr


@pytest.mark.parametrize("engine", ["duckdb"], indirect=True)
def test_batch_files_that_are_odd_but_right(warehouse: Warehouse) -> None:
    plain, empty = warehouse.folder / "plain.jsonl", warehouse.folder / "empty.jsonl"
    plain.write_bytes(b'{"id":"1","s":"\\ud800","n":1}\r\n\n  {"id":"2","n":1e400}')  # no gzip
    empty.write_bytes(b"")
    message = jsonl(plain, empty)
    warehouse.load(schema("t"), message)
    assert warehouse.by_id("t", "n") == {"1": "1", "2": "1e400"}
