"""Flushes for age leave readers of the warehouse a pause, however long each takes."""

from __future__ import annotations

import itertools
import logging
import threading
import time
from collections.abc import Callable, Sequence
from typing import Any

import pytest
from target_segment_warehouse.batch import Batch, Segment
from target_segment_warehouse.maps import RecordMapper
from target_segment_warehouse.messages import decode_chunk
from target_segment_warehouse.pipeline import Limits, Pipeline
from target_segment_warehouse.state import Watermark
from target_segment_warehouse.streams import stream_from_schema

AGE = 0.4
SCHEMA = b'{"type":"SCHEMA","stream":"s","schema":{"properties":{}},"key_properties":["id"]}\n'
RECORD = b'{"type":"RECORD","stream":"s","record":{"id":"1"}}\n'


class SlowLoader:
    """Takes its time, and notes from when to when it had the warehouse, and how much it loaded."""

    def __init__(self, seconds: float) -> None:
        self.spans: list[tuple[float, float]] = []
        self.rows: list[int] = []
        self._seconds = seconds

    def prepare(self, part: Sequence[Segment]) -> None:
        """Nothing is read ahead."""

    def load(self) -> None:
        """Everything is done by the commit."""

    def commit(self, batch: Batch) -> None:
        began = time.monotonic()
        time.sleep(self._seconds)
        self.spans.append((began, time.monotonic()))
        self.rows.append(batch.rows)

    def close(self, failure: BaseException | None = None) -> None:
        """Nothing is held."""


@pytest.fixture
def feed() -> Callable[..., SlowLoader]:
    def run(flush_seconds: float, seconds: float, rows: int = 10_000) -> SlowLoader:
        loader = SlowLoader(flush_seconds)
        mapper = RecordMapper(
            {},
            lambda name, schema, keys: stream_from_schema(name, schema, keys, None, None),
            logging.getLogger(__name__),
        )
        limits = Limits(rows=rows, bytes=1 << 30, age_seconds=AGE)
        pipeline = Pipeline(loader, mapper, Watermark(lambda line: None), limits, clean_up=False)
        receive: Any = pipeline.receive
        receive(*decode_chunk(SCHEMA, 1), len(SCHEMA))
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            receive(*decode_chunk(RECORD, 2), len(RECORD))
            pipeline.idle()
            time.sleep(0.01)
        pipeline.finish()
        return loader

    return run


def pauses(loader: SlowLoader) -> list[float]:
    """Between one flush and the next, the last one (the end of the input) aside."""
    spans = loader.spans[:-1]
    return [after[0] - before[1] for before, after in itertools.pairwise(spans)]


def test_flushes_longer_than_the_age_leave_pauses(feed: Callable[..., SlowLoader]) -> None:
    loader = feed(flush_seconds=2 * AGE, seconds=4)
    assert len(pauses(loader)) >= 2
    assert min(pauses(loader)) >= AGE * 0.95
    assert max(pauses(loader)) < AGE * 2.5


def test_a_full_batch_does_not_wait(feed: Callable[..., SlowLoader]) -> None:
    loader = feed(flush_seconds=0.01, seconds=1, rows=10)
    assert len(loader.spans) > 4
    assert set(loader.rows[1:-1]) == {10}


def test_what_came_is_flushed_once_and_the_thread_ends(feed: Callable[..., SlowLoader]) -> None:
    before = threading.active_count()
    loader = feed(flush_seconds=0.0, seconds=1)
    assert sum(loader.rows) > 30
    assert threading.active_count() == before
