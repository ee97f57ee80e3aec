"""What one flush loads: segments of messages, stream by stream in their order of arrival.

A batch is what one transaction commits. It is loaded part by part while it is received, so that
little of it has to be in memory.
"""

from __future__ import annotations

import time
from array import array
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import accumulate, pairwise
from typing import Any, ClassVar

import pyarrow as pa
from msgspec import Raw

from target_segment_warehouse.streams import Stream
from target_segment_warehouse.text import contains, is_utf8

INPUT = "line {} of the input"
"""What a record that came as a line is called in messages, with the line's number."""


class Records:
    """Records of one stream, as lines of JSON in one buffer.

    Args:
        is_checked: Whether they are known to be JSON in UTF-8, perhaps with unpaired surrogates.

    Attributes:
        lines: Each one's number, in the input or as it was counted: rising, so also their order,
            and each another, so also which one it is.
        is_checked: As given.
        size: Bytes of their text.
    """

    __slots__ = ("_blocks", "_extracted", "_sizes", "is_checked", "lines", "size")

    def __init__(self, *, is_checked: bool) -> None:
        self.lines = array("q")
        self.is_checked = is_checked
        self.size = 0
        self._blocks: list[bytes] = []
        self._sizes = array("q")
        self._extracted: list[str | None] | None = None

    def append(
        self,
        records: Sequence[Raw | bytes],
        lines: Sequence[int],
        extracted: Sequence[str | None] | None = None,
    ) -> None:
        """Append records.

        Args:
            records: Each one's JSON text, as UTF-8 without a line break.
            lines: Their numbers in the input.
            extracted: Each one's ``time_extracted``; None if no record of the stream has any.
        """
        self.append_text(b"\n".join([*records, b""]), array("q", map(len, records)), lines)
        if extracted is not None:
            self._extracted = self._extracted or []
            self._extracted += extracted

    def append_text(self, text: bytes, sizes: array[int], lines: Sequence[int]) -> None:
        """Append records that stand in one text.

        Args:
            text: Each one's JSON text with a line break after it.
            sizes: How many bytes each one has, without the line break.
            lines: Their numbers in the input.
        """
        self._blocks.append(text)
        self.size += len(text)
        self._sizes += sizes
        self.lines.extend(lines)

    def __len__(self) -> int:
        return len(self.lines)

    @property
    def text(self) -> bytes:
        """Every record with a line break after it: what readers of line-delimited JSON take."""
        if len(self._blocks) != 1:
            self._blocks = [b"".join(self._blocks)]  # once: growing it would copy it many times
        return self._blocks[0]

    def split_lines(self) -> list[bytes]:
        """The JSON text of each record."""
        text, ends = self.text, self._ends()
        return [text[start:end].rstrip(b"\n") for start, end in pairwise(ends)]

    def is_utf8(self) -> bool:
        """Whether the text is UTF-8."""
        return self.is_checked or is_utf8(self.text)

    def has_nul(self) -> bool:
        """Whether the text may hold an escaped NUL character."""
        return contains(self.text, r"\u0000")

    def has_null(self) -> bool:
        """Whether a property may be null."""
        return contains(self.text, "null")

    def keys(self) -> int:
        """How many keys of objects there are at any depth, or fewer if they are not as usual."""
        # Every quote inside of a string has a backslash before it; a key's last one may have.
        return self.text.count(b'":') - self.text.count(b'\\":')

    def longest(self) -> int:
        """Size of the largest record, in bytes."""
        return max(self._sizes, default=0)

    def split(self, count: int) -> tuple[Records, Records]:
        """The first of the records, and the others."""
        return self._part(0, min(count, len(self))), self._part(min(count, len(self)), len(self))

    def _part(self, start: int, stop: int) -> Records:
        part = Records(is_checked=self.is_checked)
        ends = self._ends()
        part._blocks = [bytes(memoryview(self.text)[ends[start] : ends[stop]])]
        part.size = ends[stop] - ends[start]
        part.lines = self.lines[start:stop]
        part._extracted = None if self._extracted is None else self._extracted[start:stop]
        part._sizes = self._sizes[start:stop]
        return part

    def _ends(self) -> array[int]:
        """Where each record ends, after a 0; its line break, which does no harm, included."""
        return array("q", accumulate((size + 1 for size in self._sizes), initial=0))

    def as_json(self) -> Records:
        """The records themselves."""
        return self

    def to_arrow(self) -> pa.Table:
        """The records as columns ``line``, ``record`` (JSON text) and ``extracted``, uncopied.

        The text is not checked to be UTF-8 again.
        """
        columns = {
            "line": self.line_numbers(),
            "record": self.texts(),
            "extracted": self.extracted(),
        }
        return pa.table(columns)

    def texts(self) -> pa.LargeStringArray:
        """The records' JSON text as an Arrow column."""
        return pa.LargeStringArray.from_buffers(
            len(self), pa.py_buffer(self._ends()), pa.py_buffer(self.text)
        )

    def line_numbers(self) -> pa.Array:
        """Where the records came, as an Arrow column."""
        return pa.Array.from_buffers(pa.int64(), len(self), [None, pa.py_buffer(self.lines)])

    def extracted(self) -> pa.Array:
        """When the tap got them, as it says, as an Arrow column of text."""
        if self._extracted is None:
            return pa.nulls(len(self), pa.string())
        return pa.array(self._extracted, pa.string())


class Rows:
    """Consecutive records of one stream with one schema and one version.

    They come one by one, and go into one buffer many at a time, when ``settle`` is called: until
    then each keeps the whole chunk of input that it came in.

    Attributes:
        stream: What they are records of.
        version: Their ``version``.
        records: The JSON text of those that came last.
        lines: Where these came in the input.
        extracted: Each one's ``time_extracted``.
    """

    __slots__ = ("_settled", "extracted", "lines", "records", "stream", "version")

    def __init__(self, stream: Stream, version: int | None) -> None:
        self.stream = stream
        self.version = version
        self.records: list[Raw] = []
        self.lines: list[int] = []
        self.extracted: list[str | None] = []
        self._settled = Records(is_checked=True)

    @property
    def size(self) -> int:
        """Bytes of the records that are settled."""
        return self._settled.size

    def settle(self) -> None:
        """Put what came last into the buffer."""
        if self.records:
            self._settled.append(self.records, self.lines, self.extracted)
            self.records, self.lines, self.extracted = [], [], []

    def take(self) -> Records:
        """The records; they are gone from here, so that their memory is given back."""
        self.settle()
        records, self._settled = self._settled, Records(is_checked=True)
        return records


class MappedRows(Rows):
    """The same of records that come out of stream maps.

    A line, or a file, can become several of them. So they are counted here, and what came from
    where is only for messages.

    Attributes:
        names: The first of some records, and what to call where these came from, with ``{}`` for a
            number.
        origins: Each record's number there.
    """

    __slots__ = ("names", "origins")

    def __init__(self, stream: Stream, version: int | None) -> None:
        super().__init__(stream, version)
        self.names: list[tuple[int, str]] = []
        self.origins = array("q")

    def append(self, record: Raw, extracted: str | None, name: str, origin: int) -> None:
        """Append one record.

        Args:
            record: Its JSON text.
            extracted: Its ``time_extracted``.
            name: What to call where it came from, with ``{}`` for a number.
            origin: The number.
        """
        count = len(self.origins)
        if not self.names or self.names[-1][1] != name:
            self.names.append((count, name))
        self.origins.append(origin)
        self.records.append(record)
        self.lines.append(count)
        self.extracted.append(extracted)


@dataclass(frozen=True, slots=True)
class Files:
    """A BATCH message: records of a stream in files.

    Attributes:
        stream: What they are records of.
        encoding: Format and compression, as the message says.
        urls: The files, in order.
        line: The message's line.
        version: The message's version, for all its records.
        size: About how many bytes of JSON they hold.
    """

    stream: Stream
    encoding: dict[str, Any]
    urls: list[str]
    line: int
    version: int | None
    size: int


@dataclass(frozen=True, slots=True)
class Activation:
    """Rows of the stream with a version older than this one are to go."""

    stream: Stream
    version: int
    size: ClassVar[int] = 0


Segment = Rows | Files | Activation


def largest(segments: Sequence[Segment], most_left: int) -> set[str]:
    """The streams with most records held: so many that of the others no more is held than this.

    Args:
        segments: Of which streams.
        most_left: Bytes.

    Returns:
        Their names.
    """
    sizes: Counter[str] = Counter()
    for segment in segments:
        sizes[segment.stream.name] += segment.size
    left, chosen = sizes.total(), set()
    for name, size in sizes.most_common():
        if left <= most_left:
            break
        chosen.add(name)
        left -= size
    return chosen


@dataclass(slots=True)
class Batch:
    """Everything received since the batch before it; loaded in one transaction.

    Attributes:
        number: Counted from 1.
        segments: What is not handed over to be loaded yet, in order of arrival for each stream.
        rows: Records in it.
        bytes: Size of the input that they came in.
        files: The files of its BATCH messages, each with the stream that it is for.
        since: When the first message came, on the monotonic clock.
        began: Whether there is anything in it.
        last: Whether the input has come to its end.
        problem: Why reading ended before the input did, if that is so.
    """

    number: int
    segments: list[Segment] = field(default_factory=list)
    rows: int = 0
    bytes: int = 0
    files: list[tuple[str, str]] = field(default_factory=list)
    since: float = field(default_factory=time.monotonic)
    began: bool = False
    last: bool = False
    problem: str | None = None
