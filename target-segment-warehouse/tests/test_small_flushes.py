"""Flushes of a few rows, each with the file to itself, do not leave DuckDB as many row groups."""

from __future__ import annotations

import io
import itertools
import json
from collections.abc import Callable
from pathlib import Path

import duckdb
import pytest
from target_segment_warehouse.target import TargetSegmentWarehouse

FLUSHES = 30
SCHEMA = json.dumps(
    {
        "type": "SCHEMA",
        "stream": "opens",
        "schema": {"properties": {"id": {"type": "string"}}, "x-segment": {"collection": "event"}},
        "key_properties": ["id"],
    }
)


@pytest.fixture
def flush(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[int], None]:
    """Flushes ten rows, from the first on every eighth time with a merge."""
    turns = itertools.count()
    monkeypatch.setattr("random.randrange", lambda most: next(turns) % most)
    config = {
        "warehouse_url": f"duckdb:///{tmp_path / 'warehouse.duckdb'}",
        "default_target_schema": "s",
    }

    def flush(number: int) -> None:
        records = [
            json.dumps({"type": "RECORD", "stream": "opens", "record": {"id": f"{number}-{n}"}})
            for n in range(10)
        ]
        target = TargetSegmentWarehouse(config=config)
        target.listen(io.StringIO("\n".join([SCHEMA, *records, ""])))

    return flush


def groups_and_rows(path: Path) -> tuple[int, int]:
    with duckdb.connect(str(path), read_only=True) as connection:
        return connection.execute(
            "SELECT count(DISTINCT row_group_id), (SELECT count(*) FROM s.opens) "
            "FROM pragma_storage_info('s.opens')"
        ).fetchall()[0]


def test_row_groups_are_merged(tmp_path: Path, flush: Callable[[int], None]) -> None:
    most = 0
    for number in range(FLUSHES):
        flush(number)
        groups, rows = groups_and_rows(tmp_path / "warehouse.duckdb")
        assert rows == (number + 1) * 10
        most = max(most, groups)
    assert 4 < most <= 11  # most flushes merge nothing, and one in eight all that there is
