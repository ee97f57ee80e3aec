"""Another run that has its turn between two flushes of one that has more to load."""

from __future__ import annotations

from array import array
from typing import Any

import pytest
from target_segment_warehouse.batch import Batch, Rows
from target_segment_warehouse.loader import BatchLoader
from target_segment_warehouse.target import TargetSegmentWarehouse

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


@pytest.mark.parametrize("engine", ["postgres"], indirect=True)
@pytest.mark.parametrize("make", [schema, events])
def test_what_another_run_wrote_in_between_is_seen(warehouse: Warehouse, make: Any) -> None:
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
