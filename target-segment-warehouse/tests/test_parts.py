"""A batch that is loaded part by part is one transaction, and leaves what one part would."""

from __future__ import annotations

import io
import json
import os
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any
from unittest import mock

import duckdb
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from target_segment_warehouse import pieces
from target_segment_warehouse.batch import Batch, Records, Rows, largest
from target_segment_warehouse.loader import BatchLoader
from target_segment_warehouse.messages import InvalidMessageError, TornInputError
from target_segment_warehouse.shape import Read, Shape
from target_segment_warehouse.streams import stream_from_schema
from target_segment_warehouse.target import TargetSegmentWarehouse
from target_segment_warehouse.warehouses.duckdb import DuckDB

STREAMS = {"people": "object", "opens": "event", "clicks": "event", "bounces": "event"}
EXAMPLES = int(os.environ.get("EXAMPLES", "12"))
_TIMES = ("uuid_ts", "received_at")


@pytest.fixture
def loads() -> Iterator[list[str]]:
    """What the loader did: ``load`` for each part, ``commit`` for each batch."""
    done: list[str] = []
    load, commit = BatchLoader.load, BatchLoader.commit

    def watched_load(self: BatchLoader) -> None:
        done.append("load")
        load(self)

    def watched_commit(self: BatchLoader, batch: Batch) -> None:
        done.append("commit")
        commit(self, batch)

    with (
        mock.patch.object(BatchLoader, "load", watched_load),
        mock.patch.object(BatchLoader, "commit", watched_commit),
    ):
        yield done


@pytest.fixture
def run(
    tmp_path: Path, small_parts: Callable[[int], AbstractContextManager[None]]
) -> Callable[..., Path]:
    """Loads text with parts of so many bytes, and returns the warehouse's file."""
    number = iter(range(10**9))

    def load(text: str, part_bytes: int, **config: Any) -> Path:
        path = tmp_path / f"{next(number)}.duckdb"
        given_ = {"warehouse_url": f"duckdb:///{path}", "default_target_schema": "s", **config}
        with small_parts(part_bytes):
            target = TargetSegmentWarehouse(config=given_)
            try:
                target.listen(io.StringIO(text))
            finally:
                load.path = path  # type: ignore[attr-defined]
        return path

    return load


def schemas() -> list[str]:
    return [
        json.dumps(
            {
                "type": "SCHEMA",
                "stream": stream,
                "schema": {
                    "properties": {"id": {"type": "string"}, "n": {"type": ["integer", "null"]}},
                    "x-segment": {"collection": collection},
                },
                "key_properties": ["id"],
            }
        )
        for stream, collection in STREAMS.items()
    ]


def record(stream: str, **members: Any) -> str:
    return json.dumps({"type": "RECORD", "stream": stream, "record": members})


def text(lines: list[str]) -> str:
    return "".join(f"{line}\n" for line in lines)


def dump(path: Path) -> dict[str, Any]:
    """Rows of every table and of activity, and how many the report says are new."""
    found: dict[str, Any] = {}
    with duckdb.connect(str(path), read_only=True) as connection:
        names = connection.sql(
            "SELECT table_name FROM information_schema.tables WHERE table_schema = 's' "
            "AND NOT starts_with(table_name, '_')"
        ).fetchall()
        for (name,) in sorted(names):
            columns = [c for c, *_ in connection.sql(f"DESCRIBE s.{name}").fetchall()]
            select = ", ".join(f'"{c}"' for c in sorted(columns) if c not in _TIMES)
            if name == "sync_reports":
                # How often an object is updated depends on the parts.
                new = "CASE WHEN type = 'event' THEN rows_inserted END"
                select = f"table_name, row_count, {new}"
            found[name] = sorted(
                connection.sql(f"SELECT {select} FROM s.{name}").fetchall(), key=str
            )
    return found


# Values whose text does not depend on when a column is widened (1, then 1.5, is "1.0" by then).
VALUES = st.one_of(st.none(), st.integers(-5, 5), st.sampled_from(["text", [1]]))
RECORDS = st.lists(
    st.tuples(st.sampled_from([*STREAMS]), st.integers(0, 12), VALUES, st.sampled_from("ab")),
    min_size=10,
    max_size=60,
)


@given(
    records=RECORDS,
    part_bytes=st.integers(1, 1500),
    batch_rows=st.sampled_from([7, 25, 1000]),
    activity=st.sampled_from(["view", "table"]),
)
@settings(
    max_examples=EXAMPLES,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
def test_parts_leave_what_one_part_leaves(
    run: Callable[..., Path],
    records: list[tuple[str, int, Any, str]],
    part_bytes: int,
    batch_rows: int,
    activity: str,
) -> None:
    lines = [record(stream, id=str(key), **{n: value}) for stream, key, value, n in records]
    whole = dump(run(text(schemas() + lines), 1 << 30, activity=activity))
    parts = dump(
        run(text(schemas() + lines), part_bytes, activity=activity, max_batch_rows=batch_rows)
    )
    assert parts == whole


def test_a_repeated_event_is_kept_once_and_the_first_counts(
    run: Callable[..., Path], loads: list[str]
) -> None:
    twice = [record("opens", id=str(n), n=n) for n in range(40)]
    twice += [record("opens", id=str(n), n=-n) for n in range(10, 60)]
    path = run(text([*schemas(), *twice, *twice]), 600)
    assert loads.count("load") > 4
    assert loads.count("commit") == 1
    with duckdb.connect(str(path), read_only=True) as connection:
        stored = connection.sql("SELECT id, n FROM s.opens ORDER BY CAST(id AS INT)").fetchall()
        report = connection.sql(
            "SELECT row_count, rows_inserted FROM s.sync_reports WHERE table_name = 'opens'"
        ).fetchall()
    assert stored == [(str(n), n if n < 40 else -n) for n in range(60)]
    assert report == [(180, 60)]


def test_a_bad_line_undoes_the_parts_before_it(
    run: Callable[..., Path], loads: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    lines = [record("opens", id=str(n), n=n) for n in range(100)]
    with pytest.raises(InvalidMessageError, match="Line 105 "):
        run(text([*schemas(), *lines, "rubbish"]), 600)
    assert "load" in loads
    assert "commit" not in loads
    assert capsys.readouterr().out == ""
    with duckdb.connect(str(run.path), read_only=True) as connection:  # type: ignore[attr-defined]
        assert connection.sql("FROM duckdb_tables()").fetchall() == []


def test_what_came_before_a_torn_line_is_loaded(
    run: Callable[..., Path], capsys: pytest.CaptureFixture[str]
) -> None:
    lines = [*schemas(), record("opens", id="1", n=1), '{"type":"STATE","value":{"at":1}}']
    torn = record("opens", id="2", n=2)[:-20]
    with pytest.raises(TornInputError, match=r"in the middle of line 7.*killed"):
        run(text(lines) + torn, 1 << 30)
    assert capsys.readouterr().out == '{"at": 1}\n'
    with duckdb.connect(str(run.path), read_only=True) as connection:  # type: ignore[attr-defined]
        assert connection.sql("SELECT id FROM s.opens").fetchall() == [("1",)]
        status, problem = connection.sql(
            "SELECT status, error FROM s.sync_reports WHERE table_name = 'opens'"
        ).fetchall()[0]
    assert status == "Partial"
    assert "middle of line 7" in problem


def test_a_last_line_that_is_whole_but_wrong_undoes_everything(run: Callable[..., Path]) -> None:
    with pytest.raises(InvalidMessageError, match="unknown message type"):
        run(text([*schemas(), record("opens", id="1")]) + '{"type":"RECORDS"}', 1 << 30)
    assert not run.path.exists()  # type: ignore[attr-defined]


def test_the_largest_streams_go_first() -> None:
    segments = []
    for name, size in (("a", 10), ("b", 300), ("c", 200), ("a", 60)):
        stream = stream_from_schema(name, {"properties": {}}, ["id"], None, None)
        segment = Rows(stream, None)
        segment.records, segment.lines, segment.extracted = [b"x" * (size - 1)], [1], [None]  # type: ignore[list-item]
        segment.settle()
        segments.append(segment)
    assert largest(segments, 570) == set()
    assert largest(segments, 569) == {"b"}
    assert largest(segments, 100) == {"b", "c"}
    assert largest(segments, 0) == {"a", "b", "c"}


def test_a_failure_after_the_commit_leaves_the_report_of_what_is_committed(
    run: Callable[..., Path],
) -> None:
    # Seen in chaos: the checkpoint that follows a commit met a full disk.
    release = DuckDB.release
    broken = iter([True])

    def fail_once(self: DuckDB) -> None:
        if next(broken, False):
            raise duckdb.IOException("no space left on device")
        release(self)

    lines = [*schemas(), *(record("opens", id=str(n)) for n in range(5))]
    with (
        mock.patch.object(DuckDB, "release", fail_once),
        pytest.raises(duckdb.IOException, match="no space"),
    ):
        run(text(lines), 1 << 30)
    with duckdb.connect(str(run.path), read_only=True) as connection:  # type: ignore[attr-defined]
        assert connection.sql("SELECT count(*) FROM s.opens").fetchall() == [(5,)]
        report = connection.sql(
            "SELECT status, rows_inserted FROM s.sync_reports WHERE table_name = 'opens'"
        ).fetchall()
    assert report == [("Partial", 5)]


def test_the_thread_that_loads_reads_no_more_than_the_first_records(tmp_path: Path) -> None:
    by_thread: Counter[str] = Counter()
    read = Shape.read

    def watched(self: Shape, records: Records) -> Read | None:
        by_thread[threading.current_thread().name.split("_")[0]] += len(records)
        return read(self, records)

    # A property that no SCHEMA declares, so that it takes some records to know how to read others.
    records = [
        {"type": "RECORD", "stream": stream, "record": {"id": f"{n}", "more": "x"}}
        for n in range(3_000)
        for stream in STREAMS
    ]
    (tmp_path / "in").write_text(text([*schemas(), *map(json.dumps, records)]))
    url = f"duckdb:///{tmp_path / 'w.duckdb'}"
    target = TargetSegmentWarehouse(config={"warehouse_url": url, "default_target_schema": "s"})
    with mock.patch.object(Shape, "read", watched), (tmp_path / "in").open() as source:
        target.listen(source)
    assert {name: len(dump(tmp_path / "w.duckdb")[name]) for name in STREAMS} == dict.fromkeys(
        STREAMS, 3_000
    )
    assert by_thread["loader"] <= len(STREAMS) * pieces.HEAD
    assert by_thread["read-ahead"] >= len(STREAMS) * (3_000 - pieces.HEAD)
