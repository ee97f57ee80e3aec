"""Records read by their shape are loaded as they would be the careful way, value for value."""

from __future__ import annotations

import io
import json
import os
import time
from collections.abc import Callable, Iterable
from datetime import datetime
from pathlib import Path
from typing import Any
from unittest import mock

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from target_segment_warehouse import pieces, rows, shape
from target_segment_warehouse.batch import Records
from target_segment_warehouse.parquet import Columns
from target_segment_warehouse.target import TargetSegmentWarehouse

EXAMPLES = int(os.environ.get("EXAMPLES", "8"))
OBJECTS, EVENTS = "objects", "events"
_TIMES = ("received_at", "uuid_ts")
_TABLES = f"""SELECT table_name FROM duckdb_tables() WHERE schema_name = 's'
    AND (table_name LIKE '{OBJECTS}%' OR table_name LIKE '{EVENTS}%')"""

Load = Callable[..., dict[str, Any]]


def schema(stream: str) -> str:
    declared = {"id": {"type": "string"}, "n": {"type": ["integer", "null"]}}
    annotation = {"collection": "event" if stream.startswith(EVENTS) else "object"}
    return json.dumps(
        {
            "type": "SCHEMA",
            "stream": stream,
            "schema": {"properties": declared, "x-segment": annotation},
            "key_properties": ["id"],
        }
    )


def record(stream: str, members: str) -> str:
    """A RECORD line around JSON text that is kept as it is."""
    return f'{{"type":"RECORD","stream":"{stream}","record":{{{members}}}}}'


@pytest.fixture
def load(tmp_path: Path) -> Load:
    """Loads runs of lines and returns what is in the warehouse.

    Told whether quickly if it can, how many records a batch has, and of how many the shape is told.
    """
    number = iter(range(10**9))

    def run(
        runs: list[list[str]], quickly: bool, size: int = 1000, head: int = 1
    ) -> dict[str, Any]:
        path = tmp_path / f"{next(number)}.duckdb"
        config = {"warehouse_url": f"duckdb:///{path}", "default_target_schema": "s"}
        read = shape.Shape.read if quickly else lambda *_: None
        with (
            mock.patch.object(shape.Shape, "read", read),
            mock.patch.object(rows, "HEAD", head),
            mock.patch.object(pieces, "HEAD", head),
        ):
            for lines in runs:
                target = TargetSegmentWarehouse(config={**config, "max_batch_rows": size})
                target.listen(io.StringIO("".join(f"{line}\n" for line in lines)))
        with duckdb.connect(str(path), read_only=True) as connection:
            found = dump(connection)
        path.unlink()
        return found

    return run


def dump(connection: duckdb.DuckDBPyConnection) -> dict[str, Any]:
    """Columns with their types, and rows, of the streams' tables."""
    found: dict[str, Any] = {}
    for (table,) in connection.sql(_TABLES).fetchall():
        columns = sorted(connection.sql(f"DESCRIBE s.{table}").fetchall())
        names = [name for name, *_ in columns if name not in _TIMES]
        texts = ", ".join(f'CAST("{name}" AS VARCHAR)' for name in names)
        stored = connection.sql(f"SELECT {texts} FROM s.{table} ORDER BY id").fetchall()
        found[table] = ([(name, type_) for name, type_, *_ in columns], stored)
    return found


ODD_VALUES = [
    "null",
    "1",
    "1.0",
    "1e2",
    "1.5",
    "1e400",
    "1e-400",
    "0.1234567890123456789",
    "9007199254740993",
    "9223372036854775807",
    "9223372036854775808",
    "-9223372036854775809",
    "123456789012345678901234567890",
    "true",
    '""',
    '"text"',
    '"1"',
    r'"\u0000"',
    r'"\ud83d\ude00 \ud800"',
    r'"\u00fc \\u0000"',
    '"2026-01-02T03:04:05Z"',
    '"2026-01-02T03:04:05.123456+02:00"',
    '"2026-01-02T03:04:05.123456789Z"',
    '"2026-01-02T03:04:05"',
    '"2026-01-02"',
    '"2026-02-30"',
    '"2026-01-02T03:04:60Z"',
    '"2026-01-02T03:04:05+02"',
    '"2026-01-02T03:04:05+23:60"',
    '"9999-12-31T23:59:59-05:00"',
    '"0000-01-01T00:00:00+05:00"',
    "[]",
    "[null]",
    '["a","b"]',
    '["\\u00e9", "\\"\\\\\\n"]',
    "[1,2]",
    '["a",1]',
    '[["a"]]',
    '[{"a":null}]',
    "{}",
    '{"a":1}',
    '{"a":{"b":[true]}}',
    '{"a":null}',
    '{"a":1,"a":2}',
    '{"A":1,"a":2}',
    '{"":1}',
    '{"0":1}',
    '{"0":{"a":1}}',
    "9007199254740993.5",
    "123456789012345678e1",
]


USUAL_VALUES = ["1", "1.5", "true", '"text"', '"2026-01-02T03:04:05Z"', '["a"]']


@pytest.mark.parametrize("first", USUAL_VALUES)
def test_odd_values_after_usual_ones(load: Load, first: str) -> None:
    def lines(stream: str, start: int, value: str) -> list[str]:
        """Eight records, so that some are read by the shape of others."""
        return [
            record(stream, f'"id":"{at}","v":{value},"o":{{"a":{first}}}')
            for at in range(start, start + 8)
        ]

    usual: list[str] = []
    odd: list[str] = []
    # Every other one after each usual value, as objects or as events: each takes a while.
    chosen = ODD_VALUES[USUAL_VALUES.index(first) % 2 :: 2]
    for number, value in enumerate(chosen):
        kind = (OBJECTS, EVENTS)[(number + USUAL_VALUES.index(first) // 2) % 2]
        stream = f"{kind}_{number}"
        usual += [schema(stream), *lines(stream, 0, first)]
        odd += [schema(stream), record(stream, f'"id":"1","v":{value}')]
        odd += [*lines(stream, 100, value), *lines(stream, 200, first)]
    quickly, carefully = load([usual, odd], True), load([usual, odd], False, head=1000)
    assert quickly == carefully
    assert len(quickly) == len(chosen)


NAMES = st.sampled_from(["n", "v", "w", "o", "p q"])
LEAVES = st.one_of(st.sampled_from(ODD_VALUES), st.sampled_from(["1", '"a"', "null", "2.5"]))
OBJECT_TEXTS = st.dictionaries(st.sampled_from(["a", "b", "0"]), LEAVES, max_size=2).map(
    lambda members: "{" + ",".join(f'"{key}":{text}' for key, text in members.items()) + "}"
)
RECORDS = st.builds(
    lambda stream, id_, members: record(
        stream, ",".join([f'"id":"{id_}"', *(f'"{key}":{text}' for key, text in members.items())])
    ),
    st.sampled_from([OBJECTS, EVENTS]),
    st.integers(1, 4),
    st.dictionaries(NAMES, st.one_of(LEAVES, LEAVES, OBJECT_TEXTS), max_size=4),
)


@settings(
    max_examples=EXAMPLES,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(st.lists(st.lists(RECORDS, max_size=14), min_size=1, max_size=3))
def test_any_records(load: Load, records: list[list[str]]) -> None:
    runs = [[schema(OBJECTS), schema(EVENTS), *lines] for lines in records]
    assert load(runs, True, size=4) == load(runs, False, size=4)


def test_records_like_those_before_are_read_by_their_shape(load: Load) -> None:
    reads: list[bool] = []
    read = shape.Shape.read

    def watched(self: shape.Shape, records: Any) -> shape.Read | None:
        result = read(self, records)
        reads.append(result is not None)
        return result

    lines = [record(OBJECTS, f'"id":"{at}","v":"a","o":{{"a":1}}') for at in range(40)]
    with mock.patch.object(shape.Shape, "read", watched):
        found = load([[schema(OBJECTS), schema(EVENTS), *lines]], True, size=4)
    assert len(found[OBJECTS][1]) == 40
    assert len(reads) > 5
    assert all(reads)


UTC = pa.timestamp("us", tz="UTC")
INSTANTS = st.datetimes(datetime.fromisoformat("1900-01-01"), datetime.fromisoformat("2200-01-01"))
TEXTS = st.one_of(
    st.sampled_from(
        ["", "a", "1", "null", "2026-01-02T03:04:05Z", "2026-01-02", "\0", "\U0001f600"]
    ),
    st.text(max_size=3),
)
COLUMNS = [
    (pa.string(), TEXTS),
    (pa.large_string(), TEXTS),
    (pa.dictionary(pa.int8(), pa.string()), TEXTS),
    (pa.string(), INSTANTS.map(lambda at: f"{at.isoformat()}Z")),
    (pa.int8(), st.integers(-128, 127)),
    (pa.int64(), st.integers(-(2**63), 2**63 - 1)),
    (pa.uint64(), st.integers(0, 2**64 - 1)),
    (pa.float32(), st.floats(width=32, allow_nan=False, allow_infinity=False)),
    (pa.float64(), st.floats(allow_nan=False, allow_infinity=False)),
    (pa.bool_(), st.booleans()),
    (pa.null(), st.none()),
    (UTC, INSTANTS),
    (pa.timestamp("ms"), INSTANTS.map(lambda at: at.replace(microsecond=0))),
    (pa.timestamp("ns", tz="UTC"), INSTANTS),
    (pa.date32(), st.dates()),
    (pa.decimal128(9, 2), st.decimals(-1000, 1000, places=2)),
    (pa.list_(pa.string()), st.lists(st.one_of(st.none(), TEXTS), max_size=2)),
    (pa.list_(pa.int64()), st.lists(st.integers(0, 9), max_size=2)),
    (pa.struct({"a": pa.string()}), st.fixed_dictionaries({"a": TEXTS})),
    (pa.struct({"a": pa.int64(), "b": UTC}), st.fixed_dictionaries({"a": st.integers(0, 9)})),
]


@st.composite
def tables(draw: st.DrawFn) -> pa.Table:
    """Rows as a tap writes them into a Parquet file."""
    count = draw(st.integers(1, 12))
    columns = {
        "id": pa.array(draw(st.lists(st.sampled_from("123"), min_size=count, max_size=count)))
    }
    for name in draw(st.sets(st.sampled_from(["n", "v", "w", "o"]))):
        type_, values = draw(st.sampled_from(COLUMNS))
        rows = st.lists(st.one_of(st.none(), values), min_size=count, max_size=count)
        columns[name] = pa.array(draw(rows), type_)
    return pa.table(columns)


def batch(stream: str, files: Iterable[Path]) -> str:
    """A BATCH line of Parquet files."""
    encoding = {"format": "parquet", "compression": "snappy"}
    manifest = [path.as_uri() for path in files]
    return json.dumps(
        {"type": "BATCH", "stream": stream, "encoding": encoding, "manifest": manifest}
    )


@settings(
    max_examples=EXAMPLES,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(runs=st.lists(st.lists(tables(), min_size=1, max_size=2), min_size=1, max_size=2))
def test_any_parquet(load: Load, tmp_path: Path, runs: list[list[pa.Table]]) -> None:
    lines = []
    for run, found in enumerate(runs):
        files = [tmp_path / f"{run}-{number}.parquet" for number in range(len(found))]
        for path, table in zip(files, found, strict=True):
            pq.write_table(table, path)
        streams = [OBJECTS, EVENTS]
        lines.append([*map(schema, streams), *(batch(stream, files) for stream in streams)])
    assert load(lines, True) == load(lines, False)


def test_parquet_is_read_without_json(load: Load, tmp_path: Path) -> None:
    rows = [
        {"id": str(n), "n": n, "v": None if n % 2 else "v", "o": {"a": n / 2}} for n in range(9)
    ]
    files = [tmp_path / "rows.parquet", tmp_path / "declares-more.parquet"]
    pq.write_table(pa.Table.from_pylist(rows), files[0])
    more = [{**row, "id": f"m{row['id']}", "o": {"a": 0.5, "b": None}} for row in rows]
    unused = pa.array([None] * len(more), pa.string())
    pq.write_table(pa.Table.from_pylist(more).append_column("unused", unused), files[1])
    rendered: list[int] = []
    as_json = Columns.as_json

    def watched(self: Columns) -> Records:
        rendered.append(len(self))
        return as_json(self)

    with mock.patch.object(Columns, "as_json", watched):
        found = load([[schema(OBJECTS), batch(OBJECTS, files[:1])]], True)
        assert len(found[OBJECTS][1]) == len(rows)
        # Only what a column's type is learned from.
        assert rendered == [1]
        rendered.clear()
        found = load([[schema(EVENTS), batch(EVENTS, files)]], True)
        assert len(found[EVENTS][1]) == len(rows) + len(more)
        assert rendered == [1]
        assert "unused" not in dict(found[EVENTS][0])


def test_parquet_with_a_column_twice_loses_neither(load: Load, tmp_path: Path) -> None:
    path = tmp_path / "rows.parquet"
    columns = [pa.array(["1", "2", "3"]), pa.array(["a", "b", "c"]), pa.array(["x", "y", "z"])]
    pq.write_table(pa.table(columns, names=["id", "v", "v"]), path)
    found = load([[schema(OBJECTS), batch(OBJECTS, [path])]], True)
    assert [row[-2:] for row in found[OBJECTS][1]] == [("a", "x"), ("b", "y"), ("c", "z")]


@pytest.mark.parametrize(
    "names",
    [("r", "rows"), ("V", "v"), ("ID", "c0"), ("", "v1"), ("it's", "__rows"), ("R", "lambda")],
)
def test_parquet_columns_may_have_any_name(names: tuple[str, str]) -> None:
    rows = [
        {names[0]: {"id": "x", names[1]: at, "a": None}, "id": str(at), names[1]: f"b{at}"}
        for at in range(3)
    ]
    records = Columns(pa.Table.from_pylist(rows), 1).as_json()
    assert [json.loads(line) for line in records.text.splitlines()] == rows


@pytest.mark.parametrize("zone", ["UTC", "America/New_York"])
def test_instants_of_parquet_are_the_same_everywhere(
    zone: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TZ", zone)
    time.tzset()
    try:
        columns = Columns(pa.table({"at": pa.array([1_700_000_000_123_456], UTC)}), 1)
        assert columns.as_json().text == b'{"at":"2023-11-14 22:13:20.123456+00"}\n'
    finally:
        monkeypatch.undo()
        time.tzset()


def test_what_another_thread_meets_meanwhile_changes_nothing() -> None:
    text = shape.pa.string()
    leaves = tuple(shape.Leaf((name,), name, shape.Type.TEXT, text) for name in ("a", "b", "c"))
    tree: shape.Tree = {leaf.path[0]: leaf for leaf in leaves}
    read_by = shape.Shape(leaves, tree, (), (), {("a",), ("c",)}, heeds_null=False)
    records = Records(is_checked=True)
    records.append([b'{"a":"1","c":"3"}'], [1])
    read_json = shape.pa.json.read_json

    def meanwhile(*args: Any) -> Any:
        found = read_json(*args)
        read_by.met.add(("b",))
        return found

    with mock.patch.object(shape.pa.json, "read_json", meanwhile):
        read = read_by.read(records)
    assert read is not None
    assert read.columns.to_pydict() == {"c0": ["1"], "c1": [None], "c2": ["3"]}
