"""The comments that mark `activity` and its aliases as the target's are asked for once a flush."""

from __future__ import annotations

import io
import json
from collections import Counter
from pathlib import Path

import pytest
from target_segment_warehouse.target import TargetSegmentWarehouse
from target_segment_warehouse.warehouses.duckdb import DuckDB


@pytest.mark.parametrize("mode", ["view", "table"])
def test_each_comment_is_asked_for_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, mode: str
) -> None:
    asked: Counter[str] = Counter()
    comment_of = DuckDB.comment_of

    def count(warehouse: DuckDB, name: str) -> str | None:
        asked[name] += 1
        return comment_of(warehouse, name)

    monkeypatch.setattr(DuckDB, "comment_of", count)
    config = {
        "warehouse_url": f"duckdb:///{tmp_path / 'warehouse.duckdb'}",
        "default_target_schema": "s",
        "segment_aliases": True,
        "activity": mode,
    }
    for number in range(3):
        lines = [
            json.dumps(message)
            for stream in ("click", "spam_report")
            for message in (
                {
                    "type": "SCHEMA",
                    "stream": stream,
                    "schema": {
                        "properties": {"id": {"type": "string"}},
                        "x-segment": {"collection": "event"},
                    },
                    "key_properties": ["id"],
                },
                {"type": "RECORD", "stream": stream, "record": {"id": f"{number}"}},
            )
        ]
        asked.clear()
        target = TargetSegmentWarehouse(config=config)
        target.listen(io.StringIO("\n".join([*lines, ""])))
    assert asked == {"activity": 1, "spamreport": 1}
