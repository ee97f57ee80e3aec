"""DuckDB gets the memory for what changes a whole table, for as long as that takes."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from pathlib import Path
from unittest import mock

import duckdb
import pytest
from target_segment_warehouse import workbench
from target_segment_warehouse.target import TargetSegmentWarehouse
from target_segment_warehouse.types import Type
from target_segment_warehouse.warehouses import duckdb as engine
from target_segment_warehouse.warehouses.base import WarehouseError
from target_segment_warehouse.warehouses.duckdb import DuckDB
from target_segment_warehouse.workbench import Workbench

ROWS = 200_000
USUAL = 20 << 20
"""What DuckDB may hold in memory: less than the columns take that change below."""

TIMES = [f"at{n}" for n in range(5)]

Load = Callable[..., None]


@pytest.fixture
def load(tmp_path: Path) -> Load:
    """Loads a record into a large table."""
    path = tmp_path / "warehouse.duckdb"
    with duckdb.connect() as connection:
        # Small row groups: a time that becomes text takes more memory in them.
        connection.execute(f"ATTACH '{path}' AS w (ROW_GROUP_SIZE 4096)")
        columns = ", ".join(f"now() AS {name}" for name in ("received_at", "uuid_ts", *TIMES))
        connection.execute(
            "CREATE SCHEMA w.s; CREATE TABLE w.s.big AS "
            f"SELECT CAST(i AS VARCHAR) AS id, {columns} FROM range({ROWS}) AS r(i)"
        )

    def run(values: dict[str, object]) -> None:
        schema = {"properties": {"id": {"type": "string"}}}
        lines = [
            {"type": "SCHEMA", "stream": "big", "schema": schema, "key_properties": ["id"]},
            {"type": "RECORD", "stream": "big", "record": {"id": "7", **values}},
        ]
        config = {"warehouse_url": f"duckdb:///{path}", "default_target_schema": "s"}
        with mock.patch.object(workbench, "MEMORY_BYTES", USUAL):
            target = TargetSegmentWarehouse(config=config)
            target.listen(io.StringIO("".join(f"{json.dumps(line)}\n" for line in lines)))

    return run


@pytest.mark.parametrize(
    ("values", "kept"),
    [
        (dict.fromkeys(TIMES, "never"), dict.fromkeys(TIMES, ROWS)),
        ({f"new{n}": n for n in range(10)}, dict.fromkeys([f"new{n}" for n in range(10)], 1)),
    ],
    ids=["wider", "new"],
)
def test_columns_of_a_large_table(
    tmp_path: Path, load: Load, values: dict[str, object], kept: dict[str, int]
) -> None:
    load(values)
    counts = ", ".join(f"count({name})" for name in kept)
    with duckdb.connect(str(tmp_path / "warehouse.duckdb"), read_only=True) as connection:
        found = connection.execute(f"SELECT {counts} FROM s.big").fetchall()
        row = connection.execute(f"SELECT {', '.join(values)} FROM s.big WHERE id = '7'").fetchall()
    assert found == [tuple(kept.values())]
    assert row == [tuple(values.values())]


def test_a_table_too_large_for_the_memory_is_named(load: Load) -> None:
    with (
        mock.patch.object(engine, "_TEXT_BYTES", 0),
        pytest.raises(WarehouseError, match=r'^"s"\."big" is too large .* more memory'),
    ):
        load(dict.fromkeys(TIMES, "never"))


@pytest.mark.parametrize("ends", [["commit"], ["commit", "release"], ["rollback"]])
def test_memory_for_changes_is_given_back(tmp_path: Path, ends: list[str]) -> None:
    bench = Workbench()
    warehouse = DuckDB(bench, "s", tmp_path / "warehouse.duckdb", 1)
    limit = "SELECT current_setting('memory_limit')"
    usual = bench.value(limit)
    warehouse.begin()
    warehouse.create_table("t", {"id": Type.TEXT})
    warehouse.insert("t", ["id"], f"SELECT CAST(i AS VARCHAR) AS id FROM range({ROWS}) AS r(i)")
    warehouse.add_columns("t", {"n": Type.INTEGER})
    assert bench.value(limit) != usual
    for end in ends:
        getattr(warehouse, end)()
    warehouse.begin()
    assert bench.value(limit) == usual
    warehouse.rollback()
    bench.close()
