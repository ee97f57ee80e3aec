"""Another run that has its turn between two flushes of one that has more to load."""

from __future__ import annotations

from array import array
from typing import Any

import pytest
from target_segment_warehouse.batch import Batch, Rows
from target_segment_warehouse.loader import BatchLoader
from target_segment_warehouse.target import TargetSegmentWarehouse
from target_segment_warehouse.warehouses import duckdb

from .harness import Warehouse
from .messages import events, record, schema


class Backlog:
    """A load whose next records are there while a flush goes on."""

    def __init__(self, warehouse: Warehouse, first: Any) -> None:
        target = TargetSegmentWarehouse(config=warehouse.settings())
        self._stream = target._make_stream("t", first["schema"], first["key_properties"])
        self.loader = BatchLoader(target._open_warehouse, target._loader_settings())
        self._flushes = 0

    def prepare(self, *texts: str) -> None:
        """Have records wait that are flushed together."""
        rows = Rows(self._stream, None)
        rows._settled.append([text.encode() for text in texts], array("q", range(len(texts))))
        self.loader.prepare([rows])

    def flush(self, *, last: bool = False) -> None:
        """Flush those that have waited longest."""
        self._flushes += 1
        self.loader.load()
        self.loader.commit(Batch(self._flushes, last=last))
        if last:
            self.loader.close()


@pytest.mark.parametrize("make", [schema, events])
def test_what_another_run_wrote_in_between_is_seen(
    warehouse: Warehouse, make: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(duckdb, "_HELD_SECONDS", 0)
    first = make("t", {"id": "string", "n": "integer"})
    load = Backlog(warehouse, first)
    load.prepare('{"id": "1", "n": 1}')
    load.prepare('{"id": "2", "n": 2}', '{"id": "3", "n": 3}')
    load.prepare('{"id": "4", "n": 4}', '{"id": "3", "n": 5}')
    load.flush()
    warehouse.load(first, record("t", id="2", n=-2), lock_timeout_seconds=1)
    load.flush()
    load.flush(last=True)
    numbers = (
        {"1": 1, "2": 2, "3": 5, "4": 4} if make is schema else {"1": 1, "2": -2, "3": 3, "4": 4}
    )
    assert warehouse.by_id("t", "n") == numbers
    assert warehouse.count("t") == 4


@pytest.mark.parametrize("engine", ["duckdb"], indirect=True)
def test_what_somebody_wrote_in_between_is_seen(
    warehouse: Warehouse, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(duckdb, "_HELD_SECONDS", 0)
    load = Backlog(warehouse, schema("t", {"id": "string", "n": "integer"}))
    load.prepare('{"id": "1", "n": 1}')
    load.prepare('{"id": "2", "n": 2}')
    load.flush()
    warehouse.execute("INSERT INTO wh.t (id, n) VALUES ('2', -2)")
    load.flush(last=True)
    assert warehouse.by_id("t", "n") == {"1": 1, "2": 2}
    assert warehouse.count("t") == 2


@pytest.mark.parametrize("engine", ["duckdb"], indirect=True)
def test_a_duckdb_file_is_not_let_go_of_at_each_flush(warehouse: Warehouse) -> None:
    first = schema("t", {"id": "string"})
    load = Backlog(warehouse, first)
    load.prepare('{"id": "1"}')
    load.prepare('{"id": "2"}')
    load.flush()
    warehouse.run(first, lock_timeout_seconds=0).failed("lock_timeout_seconds")
    load.flush(last=True)
    assert warehouse.rows("t", "id") == ["1", "2"]
