"""Events that are inserted on trust are there once, as if each had been looked for before."""

from __future__ import annotations

import io
import json
import os
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from itertools import count
from pathlib import Path
from unittest import mock

import duckdb
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from target_segment_warehouse.target import TargetSegmentWarehouse
from target_segment_warehouse.warehouses.duckdb import DuckDB

Load = Callable[..., None]
EXAMPLES = int(os.environ.get("EXAMPLES", "12"))
SCHEMA = {
    "type": "SCHEMA",
    "stream": "opens",
    "schema": {
        "properties": {"id": {"type": "string"}, "n": {"type": ["integer", "null"]}},
        "x-segment": {"collection": "event"},
    },
    "key_properties": ["id"],
}


@pytest.fixture
def load(small_parts: Callable[[int], AbstractContextManager[None]]) -> Load:
    """Loads events (id, n, or id and several properties) with parts of so many bytes."""

    def run(
        path: Path, events: list[tuple[object, object]], batch_rows: int, part_bytes: int
    ) -> None:
        records = (
            {
                "type": "RECORD",
                "stream": "opens",
                "record": {"id": f"{key}", **(n if isinstance(n, dict) else {"n": n})},
            }
            for key, n in events
        )
        text = "".join(f"{json.dumps(message)}\n" for message in (SCHEMA, *records))
        config = {
            "warehouse_url": f"duckdb:///{path}",
            "default_target_schema": "s",
            "max_batch_rows": batch_rows,
        }
        with small_parts(part_bytes):
            TargetSegmentWarehouse(config=config).listen(io.StringIO(text))

    return run


def stored(path: Path) -> list[tuple[object, ...]]:
    with duckdb.connect(str(path), read_only=True) as connection:
        return connection.sql("SELECT id, CAST(n AS VARCHAR) FROM s.opens ORDER BY ALL").fetchall()


def inserted(path: Path) -> int:
    """How many rows the reports say are new."""
    with duckdb.connect(str(path), read_only=True) as connection:
        query = "SELECT sum(rows_inserted) FROM s.sync_reports WHERE table_name = 'opens'"
        return int(connection.sql(query).fetchall()[0][0])


@pytest.fixture
def looks() -> Iterator[list[str]]:
    """The tables that were asked which ids they have."""
    asked: list[str] = []
    find_existing = DuckDB.find_existing

    def watched(self: DuckDB, table: str, ids: str) -> int:
        asked.append(table)
        return find_existing(self, table, ids)

    with mock.patch.object(DuckDB, "find_existing", watched):
        yield asked


# Mostly new ids, so that the table is trusted at times; a text changes the column's type.
EVENTS = st.lists(
    st.tuples(
        st.one_of(st.integers(0, 15), st.integers(100, 10**9)),
        st.one_of(st.integers(-5, 5), st.none(), st.sampled_from(["text"])),
    ),
    max_size=80,
)


@given(
    runs=st.lists(EVENTS, min_size=1, max_size=3),
    batch_rows=st.sampled_from([5, 20, 1000]),
    part_bytes=st.sampled_from([1, 300, 1 << 30]),
)
@settings(
    max_examples=EXAMPLES,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
def test_each_event_is_there_once_and_the_first_counts(
    load: Load,
    tmp_path_factory: pytest.TempPathFactory,
    runs: list[list[tuple[int, object]]],
    batch_rows: int,
    part_bytes: int,
) -> None:
    path = tmp_path_factory.mktemp("trust") / "w.duckdb"
    first: dict[str, str | None] = {}
    for events in runs:
        load(path, events, batch_rows, part_bytes)
        for key, n in events:
            first.setdefault(str(key), None if n is None else str(n))
    assert stored(path) == sorted(first.items(), key=lambda row: row[0])
    assert inserted(path) == len(first)


def test_a_table_is_asked_once_while_its_events_are_new_and_a_new_one_never(
    load: Load, tmp_path: Path, looks: list[str]
) -> None:
    number = count()
    path = tmp_path / "w.duckdb"
    for asked in ([], ["opens"]):
        looks.clear()
        load(path, [(next(number), 1) for _ in range(200)], batch_rows=50, part_bytes=300)
        assert looks == asked
    assert inserted(path) == 400


def test_few_repeats_are_removed_and_many_are_looked_for(
    load: Load, tmp_path: Path, looks: list[str]
) -> None:
    path = tmp_path / "w.duckdb"
    few = [(n, "first") for n in range(50)]
    load(
        path, [*few, (7, "again"), *((n, "first") for n in range(50, 100)), (60, "again")], 50, 300
    )
    assert looks == []
    assert stored(path) == sorted((str(n), "first") for n in range(100))
    load(path, [(n, "again") for n in range(100)], 50, 300)
    assert len(looks) > 5  # each piece
    assert stored(path) == sorted((str(n), "first") for n in range(100))
    assert inserted(path) == 100


def test_a_table_whose_events_repeat_is_trusted_no_longer(
    load: Load, tmp_path: Path, looks: list[str]
) -> None:
    path = tmp_path / "w.duckdb"
    new = [(n, 1) for n in range(50)]
    load(path, [*new, *new], 50, 300)
    assert looks == []
    load(path, [*((n, 1) for n in range(50, 100)), *new, *new], 50, 300)
    assert len(looks) > 2  # each piece of the third batch
    assert inserted(path) == 100


def test_rows_that_were_there_twice_before_stay(load: Load, tmp_path: Path) -> None:
    # Nothing but this target sees to it that an id is there once.
    path = tmp_path / "w.duckdb"
    load(path, [(n, 1) for n in range(10)], 1000, 300)
    with duckdb.connect(str(path)) as connection:
        connection.execute("INSERT INTO s.opens FROM s.opens WHERE id = '3'")
    new = [(n, 2) for n in range(10, 90)]
    load(path, [*new, (3, 2), (4, 2), (12, 3)], 1000, 300)
    assert stored(path) == sorted(
        [(str(n), "1") for n in range(10)] + [("3", "1")] + [(str(n), "2") for n in range(10, 90)]
    )


@pytest.mark.parametrize("name", ["rowid", "ROWID"])
def test_a_property_called_as_duckdb_calls_the_numbers_of_rows(
    load: Load, tmp_path: Path, name: str
) -> None:
    path = tmp_path / "w.duckdb"
    events: list[tuple[object, object]] = [(n, 1) for n in range(40)]
    events += [(7, 2)]
    named = [(n, {"n": 1, name: 5}) for n in range(40, 80)]
    again = [(n, {"n": 2, name: 6}) for n in (8, 50)]
    load(path, [*events, *named, *again, *named], 1000, 300)  # the property comes in mid-batch
    load(path, [*again, *((n, {"n": 1, name: 5}) for n in range(80, 120)), *again], 1000, 300)
    assert stored(path) == sorted((str(n), "1") for n in range(120))
    assert inserted(path) == 120
    with duckdb.connect(str(path), read_only=True) as connection:
        found = connection.sql("SELECT rowid, count(*) FROM s.opens GROUP BY ALL ORDER BY 1")
        assert found.fetchall() == [(5, 80), (None, 40)]


@pytest.mark.parametrize(
    "key",
    ["id VARCHAR PRIMARY KEY, n BIGINT", "id VARCHAR UNIQUE, n BIGINT", "id VARCHAR, n BIGINT"],
)
def test_a_table_with_a_key_is_never_trusted(
    load: Load, tmp_path: Path, looks: list[str], key: str
) -> None:
    path = tmp_path / "w.duckdb"
    with duckdb.connect(str(path)) as connection:
        connection.execute("CREATE SCHEMA s")
        connection.execute(
            f"CREATE TABLE s.opens (received_at TIMESTAMPTZ, uuid_ts TIMESTAMPTZ, {key})"
        )
        if "UNIQUE" not in key and "KEY" not in key:
            connection.execute("CREATE UNIQUE INDEX one ON s.opens (id)")
    load(path, [*((n, 1) for n in range(60)), (59, 2), (3, 2)], 1000, 300)
    assert stored(path) == sorted((str(n), "1") for n in range(60))
    assert len(looks) > 2
