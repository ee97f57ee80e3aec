"""BATCH messages: their files are loaded as if their records had come one by one."""

from __future__ import annotations

import base64
import gzip
import json
import time
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from .harness import Warehouse
from .messages import Message, events, record, schema, state


def batch(warehouse: Warehouse, stream: str, *rows: Message, kind: str = "jsonl") -> Message:
    """A BATCH message with one file of the given rows."""
    path = warehouse.folder / f"batch-{stream}-{time.monotonic_ns()}.{kind}"
    if kind == "parquet":
        pq.write_table(pa.Table.from_pylist(list(rows)), path)
        encoding = {"format": "parquet", "compression": "snappy"}
    else:
        data = "".join(json.dumps(row) + "\n" for row in rows).encode()
        path.write_bytes(gzip.compress(data) if kind == "jsonl" else data)
        compression = "gzip" if kind == "jsonl" else "none"
        encoding = {"format": "jsonl", "compression": compression}
    return {"type": "BATCH", "stream": stream, "encoding": encoding, "manifest": [path.as_uri()]}


@pytest.mark.parametrize("kind", ["jsonl", "plain", "parquet"])
def test_a_batch_takes_its_turn(warehouse: Warehouse, kind: str) -> None:
    warehouse.load(
        schema("t", {"id": "string", "v": "string"}),
        record("t", id="1", v="record"),
        record("t", id="2", v="record"),
        batch(warehouse, "t", {"id": "1", "v": "batch"}, {"id": "3", "v": "batch"}, kind=kind),
        record("t", id="3", v="after"),
        state({"t": 1}),
    )
    assert warehouse.by_id("t", "v") == {"1": "batch", "2": "record", "3": "after"}


@pytest.mark.parametrize("kind", ["jsonl", "parquet"])
def test_batch_rows_are_treated_as_records(warehouse: Warehouse, kind: str) -> None:
    rows = [
        {
            "id": f"{n}",
            "at": "2026-01-01T00:00:00+05:30",
            "tags": ["a", "b"],
            "nested": {"deepKey": n},
            "n": n,
        }
        for n in range(5)
    ]
    at = {"type": ["string", "null"], "format": "date-time"}
    properties = {"id": "string", "at": at}
    warehouse.load(schema("one", properties), *(record("one", row) for row in rows))
    warehouse.load(schema("two", properties), batch(warehouse, "two", *rows, kind=kind))
    without = ("received_at", "uuid_ts")
    assert warehouse.types("one") == warehouse.types("two")
    columns = [name for name in warehouse.types("one") if name not in without]
    assert warehouse.rows("one", *columns) == warehouse.rows("two", *columns)


@pytest.mark.parametrize("kind", ["jsonl", "plain", "parquet"])
def test_stream_maps_change_the_records_of_files_too(warehouse: Warehouse, kind: str) -> None:
    properties = {"id": "string", "email": "string", "n": "integer"}
    rows = [{"id": f"{n}", "email": f"{n}@x.io", "n": n} for n in range(30)]
    message = batch(warehouse, "people", *rows, kind=kind)
    warehouse.load(
        schema("people", properties),
        record("people", id="before", email="a", n=1),
        message,
        record("people", id="1", email="b", n=100),
        schema("gone"),
        batch(warehouse, "gone", {"id": "1"}),
        stream_maps={
            "people": {
                "email": None,
                "__filter__": "record['n'] != 3",
                "twice": "int(record['n']) * 2",
            },
            "gone": "__NULL__",
        },
        max_batch_rows=7,
        clean_up_batch_files=True,
    )
    assert "email" not in warehouse.types("people")
    assert "gone" not in warehouse.relations()
    twice = {f"{n}": 2 * n for n in range(30) if n != 3} | {"before": 2, "1": 200}
    assert warehouse.by_id("people", "twice") == twice
    assert not Path(message["manifest"][0].removeprefix("file://")).exists()


def test_records_of_files_that_maps_change_are_each_a_record_of_its_own(
    warehouse: Warehouse,
) -> None:
    rows = [
        {"id": f"{n % 7}", "n": n, "more": {f"p{k}": f"{n}" for k in range(9)}} for n in range(40)
    ]
    rows[3]["text"] = "cut \ud83d"  # to be rewritten, as what is not valid UTF-8 is
    rows[37]["text"] = "cut \ud83d"
    flattening = {"flattening_enabled": True, "flattening_max_depth": 3, "max_columns": 12}
    for name, lines in (
        ("lines", [record("lines", row) for row in rows]),
        (
            "files",
            [
                record("files", rows[0]),
                batch(warehouse, "files", *rows[1:20]),
                record("files", rows[20]),
                batch(warehouse, "files", *rows[21:39], kind="plain"),
                record("files", rows[39]),
            ],
        ),
    ):
        warehouse.load(schema(name, {"id": "string"}), *lines, **flattening)
    columns = [name for name in warehouse.types("lines") if name not in {"received_at", "uuid_ts"}]
    assert "_overflow" in columns
    assert warehouse.rows("files", *columns) == warehouse.rows("lines", *columns)
    assert warehouse.count("files") == 7
    assert warehouse.rows("_discards", "row_id") == ["2", "2", "3", "3"]


def test_what_maps_make_of_one_record_are_records_of_their_own(warehouse: Warehouse) -> None:
    rows = [{"id": "1", "s": "a"}, {"id": "2", "s": "cut \ud83d"}]
    warehouse.load(
        schema("t"),
        *(record("t", row) for row in rows),
        batch(warehouse, "t", {"id": "3", "s": "b"}),
        stream_maps={
            "t": {"__alias__": "u", "id": "record['id'] + 'x'"},
            "u": {"__source__": "t", "id": "record['id'] + 'y'"},
        },
    )
    assert warehouse.by_id("u", "s") == {
        f"{key}{end}": s for key, s in (("1", "a"), ("2", "cut \ufffd"), ("3", "b")) for end in "xy"
    }
    assert warehouse.count("u") == 6


def test_a_record_of_a_file_that_maps_change_is_named_with_its_file(warehouse: Warehouse) -> None:
    first = batch(warehouse, "t", {"id": "1"}, {"id": "2"})
    second = batch(warehouse, "t", {"id": "3"}, {"n": 4}, {"id": "5"})
    lines = [schema("t"), record("t", id="0"), first, second]
    failed = warehouse.run(*lines, stream_maps={"t": {"k": "1"}})
    failed.failed(f"record 2 of {second['manifest'][0]}, BATCH message on line 4 of the input")


def test_batch_files_stay_where_they_are_and_state_follows(warehouse: Warehouse) -> None:
    message = batch(warehouse, "t", {"id": "1"})
    result = warehouse.load(events("t"), message, state({"t": 1}))
    assert result.states == [{"t": 1}]
    assert Path(message["manifest"][0].removeprefix("file://")).exists()
    assert warehouse.rows("activity", "id") == ["1"]


def test_batch_files_go_when_they_are_committed_if_that_is_wished_for(
    warehouse: Warehouse,
) -> None:
    first, second = (batch(warehouse, "t", {"id": n}) for n in "12")
    paths = [Path(m["manifest"][0].removeprefix("file://")) for m in (first, second)]
    broken = {**record("t", id="3"), "type": "RECORDS"}
    lines = [schema("t"), first, state({"t": 1}), second, state({"t": 2})]
    failed = warehouse.run(*lines, broken, clean_up_batch_files=True)
    failed.failed("RECORDS")
    assert not failed.states
    assert all(path.exists() for path in paths)
    result = warehouse.load(*lines, clean_up_batch_files=True)
    assert result.states[-1] == {"t": 2}
    assert not any(path.exists() for path in paths)
    assert warehouse.rows("t", "id") == ["1", "2"]


@pytest.mark.parametrize("size", [1, 10**6])
def test_a_batch_file_stays_while_a_message_names_it(warehouse: Warehouse, size: int) -> None:
    objects = batch(warehouse, "t", *({"id": f"{n}", "n": n} for n in range(1000)))
    clicks = {**objects, "stream": "click"}
    twice = {**objects, "manifest": objects["manifest"] * 2}
    result = warehouse.load(
        schema("t"),
        events("click"),
        objects,
        clicks,
        twice,
        clicks,
        state({"t": 1}),
        max_batch_bytes=size,
        clean_up_batch_files=True,
    )
    assert result.states == [{"t": 1}]
    assert (
        warehouse.by_id("t", "n")
        == warehouse.by_id("click", "n")
        == {f"{n}": n for n in range(1000)}
    )
    assert warehouse.count("click") == 1000
    assert not Path(objects["manifest"][0].removeprefix("file://")).exists()


def test_a_batch_file_that_was_removed_is_left_aside(warehouse: Warehouse) -> None:
    message = batch(warehouse, "t", {"id": "1"}, kind="plain")
    path = Path(message["manifest"][0].removeprefix("file://"))
    process = warehouse.start(None, max_batch_bytes=1, clean_up_batch_files=True)
    process.send(schema("t"), message, state({"t": 1}))
    process.until_states(1)
    while path.exists():
        time.sleep(0.01)
    process.send(message, record("t", id="2"), state({"t": 2}))
    process.until_states(2)
    path.write_text('{"id": "3"}\n')  # it is another file now
    process.send(message, state({"t": 3}))
    process.until_states(3)
    while path.exists():
        time.sleep(0.01)
    process.send(schema("u"), {**message, "stream": "u"}, state({"t": 4}))
    result = process.finish().failed(path.name)  # of this stream it was never loaded
    assert result.states == [{"t": 1}, {"t": 2}, {"t": 3}]
    assert result.stderr.count("was loaded and removed before") == 1
    assert warehouse.rows("t", "id") == ["1", "2", "3"]


def test_a_batch_file_that_cannot_be_removed_is_named(warehouse: Warehouse) -> None:
    message = batch(warehouse, "t", {"id": "1"})
    path = Path(message["manifest"][0].removeprefix("file://"))
    message["manifest"] = [f"data:;base64,{base64.b64encode(path.read_bytes()).decode()}"]
    result = warehouse.load(schema("t"), message, state({"t": 1}), clean_up_batch_files=True)
    assert "is loaded but cannot be removed" in result.stderr
    assert warehouse.rows("t", "id") == ["1"]


def test_a_batch_whose_file_is_missing_fails_by_name(warehouse: Warehouse) -> None:
    message = batch(warehouse, "t", {"id": "1"})
    Path(message["manifest"][0].removeprefix("file://")).unlink()
    result = warehouse.run(schema("t"), state({"t": 0}), message, state({"t": 1}))
    result.failed(Path(message["manifest"][0]).name)
    assert {"t": 1} not in result.states


@pytest.mark.parametrize(
    "given",
    [{"": 1}, {"": 1, "a": "x"}, {"a": {"": None, "b": {"": 2}}}, [{"": 1}, None], [[{"": []}]]],
)
def test_a_field_of_parquet_without_a_name(warehouse: Warehouse, given: Any) -> None:
    rows = [{"id": "1", "o": given, "": 7}, {"id": "2", "o": None, "": None}]
    warehouse.load(schema("one"), *(record("one", row) for row in rows))
    warehouse.load(schema("two"), batch(warehouse, "two", *rows, kind="parquet"))
    assert warehouse.types("one") == warehouse.types("two")
    without = ("received_at", "uuid_ts")
    columns = [name for name in warehouse.types("one") if name not in without]
    assert warehouse.rows("one", *columns) == warehouse.rows("two", *columns)


@pytest.mark.parametrize(
    ("microseconds", "said"),
    [
        (-9_223_372_022_400_000_000, "290309-12-22 (BC) 00:00:00+00"),
        (-210_953_203_200_000_000, "4716-02-27 (BC) 00:00:00+00"),
        (253_402_300_800_000_000, "10000-01-01 00:00:00+00"),
    ],
)
def test_a_time_of_parquet_in_a_year_that_iso_8601_has_not(
    warehouse: Warehouse, microseconds: int, said: str
) -> None:
    first, second = warehouse.folder / "1.parquet", warehouse.folder / "2.parquet"
    for path, key, value in ((first, "1", 0), (second, "2", microseconds)):
        at = pa.array([value], pa.timestamp("us", tz="UTC"))
        pq.write_table(pa.table({"id": [key], "at": at}), path)
    encoding = {"format": "parquet", "compression": "snappy"}
    message = {"type": "BATCH", "stream": "t", "encoding": encoding}
    at = {"type": ["string", "null"], "format": "date-time"}
    lines = [schema("t", {"id": "string", "at": at}), {**message, "manifest": [first.as_uri()]}]
    warehouse.load(*lines)
    warehouse.load(*lines, {**message, "manifest": [second.as_uri()]})
    assert warehouse.by_id("t", "at") == {"1": "1970-01-01T00:00:00Z", "2": said}


def test_a_time_of_parquet_with_a_zone_is_an_instant(warehouse: Warehouse) -> None:
    path = warehouse.folder / "1.parquet"
    instants = [datetime(2026, 1, 2, 3, 4, 5, 123456, UTC), datetime(2026, 7, 1, tzinfo=UTC)]
    at = pa.array(instants, pa.timestamp("us", tz="America/New_York"))
    pq.write_table(pa.table({"id": ["1", "2"], "at": at}), path)
    encoding = {"format": "parquet", "compression": "snappy"}
    message = {"type": "BATCH", "stream": "t", "encoding": encoding, "manifest": [path.as_uri()]}
    warehouse.load(schema("t"), message)
    assert warehouse.types("t")["at"] == "timestamp"
    assert warehouse.rows("t", "at") == instants


def test_numbers_of_parquet_that_an_engine_has_not(warehouse: Warehouse) -> None:
    path = warehouse.folder / "1.parquet"
    long = Decimal("12345678901234567890123456789012345678901234.25")
    pq.write_table(
        pa.table(
            {
                "id": ["1"],
                "half": pa.array([1.5], pa.float16()),
                "halves": pa.array([{"a": [2.5]}], pa.struct({"a": pa.list_(pa.float16())})),
                "short": pa.array([Decimal("1.25")], pa.decimal256(50, 2)),
                "long": pa.array([long], pa.decimal256(50, 2)),
            }
        ),
        path,
    )
    encoding = {"format": "parquet", "compression": "snappy"}
    message = {"type": "BATCH", "stream": "t", "encoding": encoding, "manifest": [path.as_uri()]}
    warehouse.load(schema("t"), message)
    assert warehouse.rows("t", "half", "halves_a", "short", "long") == [
        {"half": 1.5, "halves_a": "[2.5]", "short": 1.25, "long": str(long)}
    ]


@pytest.mark.parametrize("engine", ["duckdb"], indirect=True)
@pytest.mark.parametrize(
    ("url", "reason"),
    [("s3://bucket/x", "s3fs"), ("gs://bucket/x", "gcsfs"), ("foo://x/y", "Unsupported")],
)
def test_a_file_where_nothing_can_be_opened(warehouse: Warehouse, url: str, reason: str) -> None:
    encoding = {"format": "jsonl", "compression": "gzip"}
    message = {"type": "BATCH", "stream": "t", "encoding": encoding, "manifest": [url]}
    result = warehouse.run(schema("t"), message).failed(reason)
    assert url in result.stderr
    assert "batch_config" in result.stderr
    assert "Traceback" not in result.stderr
