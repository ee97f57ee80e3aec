"""Flushes of a few rows, each with the file to itself, do not leave DuckDB as many row groups."""

from __future__ import annotations

import io
import json
from pathlib import Path

import duckdb
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


def test_row_groups_are_merged(tmp_path: Path) -> None:
    path = tmp_path / "warehouse.duckdb"
    config = {"warehouse_url": f"duckdb:///{path}", "default_target_schema": "s"}
    for flush in range(FLUSHES):
        records = [
            json.dumps({"type": "RECORD", "stream": "opens", "record": {"id": f"{flush}-{n}"}})
            for n in range(10)
        ]
        target = TargetSegmentWarehouse(config=config)
        target.listen(io.StringIO("\n".join([SCHEMA, *records, ""])))
    with duckdb.connect(str(path), read_only=True) as connection:
        ((groups, rows),) = connection.execute(
            "SELECT count(DISTINCT row_group_id), (SELECT count(*) FROM s.opens) "
            "FROM pragma_storage_info('s.opens')"
        ).fetchall()
    assert rows == FLUSHES * 10
    assert groups <= 3
