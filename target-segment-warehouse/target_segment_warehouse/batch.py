"""What one flush loads: segments of messages, stream by stream in their order of arrival."""

from __future__ import annotations

import time
from array import array
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import accumulate
from typing import Any

import pyarrow as pa
from msgspec import Raw

from target_segment_warehouse.streams import Stream


class Rows:
    """Consecutive records of one stream with one schema and one version, as raw JSON.

    Attributes:
        stream: What they are records of.
        records: Their JSON text.
        lines: Where they came in the input; strictly rising, so also their order.
        extracted: Each one's ``time_extracted``.
        version: Their ``version``.
    """

    __slots__ = ("extracted", "lines", "records", "stream", "version")

    def __init__(self, stream: Stream, version: int | None) -> None:
        self.stream = stream
        self.version = version
        self.records: list[Raw] = []
        self.lines = array("q")
        self.extracted: list[str | None] = []

    def to_arrow(self) -> pa.Table:
        """The rows as columns ``line``, ``record`` and ``extracted``.

        The JSON text is copied once, in C; no Python string is made of it. Lines are checked to be
        UTF-8 when they are read.
        """
        return pa.table(
            {
                "line": pa.Array.from_buffers(
                    pa.int64(), len(self.lines), [None, pa.py_buffer(self.lines)]
                ),
                "record": json_texts(self.records),
                "extracted": pa.array(self.extracted, pa.string()),
            }
        )


def json_texts(records: Sequence[Raw | bytes]) -> pa.LargeStringArray:
    """Pieces of UTF-8 as an Arrow column; copied once, in C, and not checked again."""
    ends = array("q", [0])
    ends.extend(accumulate(map(len, records)))
    return pa.LargeStringArray.from_buffers(
        len(records), pa.py_buffer(ends), pa.py_buffer(b"".join(records))
    )


@dataclass(frozen=True, slots=True)
class Files:
    """A BATCH message: records of a stream in files.

    Attributes:
        stream: What they are records of.
        encoding: Format and compression, as the message says.
        urls: The files, in order.
        line: The message's line.
        version: The message's version, for all its records.
    """

    stream: Stream
    encoding: dict[str, Any]
    urls: list[str]
    line: int
    version: int | None


@dataclass(frozen=True, slots=True)
class Activation:
    """Rows of the stream with a version older than this one are to go."""

    stream: Stream
    version: int


Segment = Rows | Files | Activation


@dataclass(slots=True)
class Batch:
    """Everything received since the batch before it; loaded in one transaction.

    Attributes:
        number: Counted from 1.
        segments: In order of arrival for each stream.
        rows: Records held in memory.
        bytes: Size of the input that they came in.
        since: When the first message came, on the monotonic clock.
        last: Whether the input has come to its end.
        stopped_by: Name of the signal that ended reading early, if one did.
    """

    number: int
    segments: list[Segment] = field(default_factory=list)
    rows: int = 0
    bytes: int = 0
    since: float = field(default_factory=time.monotonic)
    last: bool = False
    stopped_by: str | None = None
