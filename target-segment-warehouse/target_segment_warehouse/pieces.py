"""Cuts a batch into pieces that are loaded one by one; reads the next while one is loaded."""

from __future__ import annotations

from collections import deque
from collections.abc import Generator, Iterator, Mapping, Sequence
from concurrent.futures import Executor, Future
from dataclasses import dataclass, replace
from itertools import chain, groupby
from typing import TypeAlias

from target_segment_warehouse.batch import (
    INPUT,
    Activation,
    Files,
    MappedRows,
    Records,
    Rows,
    Segment,
)
from target_segment_warehouse.files import read_files
from target_segment_warehouse.parquet import Columns
from target_segment_warehouse.shape import Read, Seen, Shape
from target_segment_warehouse.staging import Place
from target_segment_warehouse.streams import Stream

HEAD = 500
"""Records of a stream that are loaded before it is known how its others can be read."""

_AHEAD = 2
"""How many pieces may be read before the one that is loaded is done."""

_INPUT = Place([(1, INPUT)])


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


_Part: TypeAlias = Piece | Activation


def _source(segment: Segment) -> tuple[type[Segment], Stream, int | None]:
    """What segments that follow one another have in common if their records can be one piece."""
    return type(segment), segment.stream, segment.version


class Pieces:
    """The pieces of a batch, those of a stream in order; the next ones are read by another thread.

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
        self._ahead: deque[Future[_Part | None]] = deque()
        for _ in range(_AHEAD):
            self._read_one()

    def __iter__(self) -> Iterator[_Part]:
        while (piece := self._ahead.popleft().result()) is not None:
            self._read_one()
            yield piece

    def _read_one(self) -> None:
        self._ahead.append(self._executor.submit(next, self._source, None))

    def _read(self) -> Iterator[_Part]:
        # Streams are independent of each other. Files of theirs come in turns, and a piece for each
        # turn would be many small ones.
        by_stream: dict[str, list[Segment]] = {}
        for segment in self._segments:
            by_stream.setdefault(segment.stream.name, []).append(segment)
        # The first records of a new stream tell how its others are read. What is not known when
        # these come up is read by the thread that loads, so other pieces come between, if there are
        # any: no more than that takes, since the others of each are in memory meanwhile.
        waiting: deque[Iterator[_Part]] = deque()
        for segments in by_stream.values():
            is_new = self._is_new(segments[0].stream)
            parts = _parts(segments, few_first=is_new)
            waiting.append((yield from self._heads(parts)) if is_new else parts)
            if len(waiting) > _AHEAD:
                yield from map(self._piece, waiting.popleft())
        yield from map(self._piece, chain.from_iterable(waiting))

    def _heads(self, parts: Iterator[_Part]) -> Generator[_Part, None, Iterator[_Part]]:
        """Yields a stream's pieces up to its first records; returns those that are left."""
        for part in parts:
            if isinstance(part, Activation) or not part.records:
                yield part
                continue
            head, rest = part.records.split(HEAD)
            part = replace(part, records=head)  # lets go of the others
            yield self._piece(part)
            return chain([replace(part, records=rest)] if rest else [], parts)
        return parts

    def _piece(self, part: _Part) -> _Part:
        """The same with what can be read of it."""
        seen = self._known(part.stream)
        shape = None if seen is None else seen.shape  # once: the thread that loads replaces it
        if isinstance(part, Activation) or not part.records or shape is None:
            return part
        return replace(part, shape=shape, read=shape.read(part.records))

    def _is_new(self, stream: Stream) -> bool:
        """Whether its first records may tell how the others are read."""
        seen = self._known(stream)
        return seen is None or (seen.shape is None and seen.is_new)

    def _known(self, stream: Stream) -> Seen | None:
        seen = self._seen.get(stream.name)
        return seen if seen is not None and seen.stream == stream else None


def _parts(segments: Sequence[Segment], *, few_first: bool) -> Iterator[_Part]:
    """The pieces of a stream, in order; not read yet."""
    for _, group in groupby(segments, _source):
        alike = list(group)
        if files := [segment for segment in alike if isinstance(segment, Files)]:
            for records, place in read_files(files, few_first=few_first):
                yield Piece(files[0].stream, files[0].version, records, place)
            continue
        for segment in alike:
            if isinstance(segment, Rows):
                place = _INPUT
                if isinstance(segment, MappedRows):
                    place = Place(segment.names, segment.origins)
                yield Piece(segment.stream, segment.version, segment.take(), place)
            elif isinstance(segment, Activation):
                yield segment
