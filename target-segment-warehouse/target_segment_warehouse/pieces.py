"""Cuts a batch into pieces that are loaded one by one; reads the next while one is loaded."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Executor, Future
from dataclasses import dataclass
from itertools import chain, groupby

from target_segment_warehouse.batch import Activation, Files, Records, Rows, Segment
from target_segment_warehouse.files import read_files
from target_segment_warehouse.parquet import Columns
from target_segment_warehouse.shape import Read, Seen, Shape
from target_segment_warehouse.staging import Place
from target_segment_warehouse.streams import Stream

_INPUT = Place([(1, "line {} of the input")])
_AHEAD = 2
"""How many pieces may be read before the one that is loaded is done."""


@dataclass(frozen=True, slots=True)
class Piece:
    """Some records of a stream that are loaded together.

    Attributes:
        stream: What they are records of.
        version: Their version.
        records: The records.
        place: What to call a line in messages.
        shape: By which they were read ahead, if they were.
        read: What was read by it; None if they have another.
    """

    stream: Stream
    version: int | None
    records: Records | Columns
    place: Place
    shape: Shape | None = None
    read: Read | None = None


def _source(segment: Segment) -> tuple[type[Segment], Stream, int | None]:
    """What segments that follow one another have in common if their records can be one piece."""
    return type(segment), segment.stream, segment.version


class Pieces:
    """The pieces of a batch, in order; the next ones are read by another thread.

    Args:
        segments: What the batch holds; its records are gone from there once they are read.
        seen: What is known of each stream's records, by name.
        executor: Of one thread.
    """

    def __init__(
        self, segments: Sequence[Segment], seen: Mapping[str, Seen], executor: Executor
    ) -> None:
        self._segments = segments
        self._seen = seen
        self._executor = executor
        self._source = self._read()
        self._ahead: deque[Future[Piece | Activation | None]] = deque()
        for _ in range(_AHEAD):
            self._read_one()

    def __iter__(self) -> Iterator[Piece | Activation]:
        while (piece := self._ahead.popleft().result()) is not None:
            self._read_one()
            yield piece

    def _read_one(self) -> None:
        self._ahead.append(self._executor.submit(next, self._source, None))

    def _read(self) -> Iterator[Piece | Activation]:
        # Streams are independent of each other. Files of theirs come in turns, and a piece for each
        # turn would be many small ones.
        by_stream: dict[str, list[Segment]] = {}
        for segment in self._segments:
            by_stream.setdefault(segment.stream.name, []).append(segment)
        for _, group in groupby(chain.from_iterable(by_stream.values()), _source):
            segments = list(group)
            if files := [segment for segment in segments if isinstance(segment, Files)]:
                for records, place in read_files(files):
                    yield self._piece(files[0], records, place)
                continue
            for segment in segments:
                if isinstance(segment, Rows):
                    yield self._piece(segment, segment.take(), _INPUT)
                elif isinstance(segment, Activation):
                    yield segment

    def _piece(self, segment: Rows | Files, records: Records | Columns, place: Place) -> Piece:
        seen = self._seen.get(segment.stream.name)
        shape = seen.shape if seen is not None and seen.stream == segment.stream else None
        read = shape.read(records) if shape is not None and records else None
        return Piece(segment.stream, segment.version, records, place, shape, read)
