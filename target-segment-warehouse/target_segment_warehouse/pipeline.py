"""From messages to batches: what is received is gathered here and handed to the loader.

Reading and loading overlap: while one thread reads, routes and gathers records, another loads those
before them. A batch, which is committed as a whole, is handed over in parts. However large it is,
at most three are in memory: one that is gathered, one that waits, and one that is loaded.
"""

from __future__ import annotations

import json
import signal
import time
from collections.abc import Container, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Protocol, TypeVar

from msgspec import Raw
from singer_sdk.exceptions import RecordsWithoutSchemaException

from target_segment_warehouse.batch import (
    INPUT,
    Activation,
    Batch,
    Files,
    MappedRows,
    Rows,
    Segment,
    largest,
)
from target_segment_warehouse.files import BatchFileError, Cleaner, read_files, size_of
from target_segment_warehouse.maps import RecordMapper
from target_segment_warehouse.messages import (
    ActivateVersion,
    Message,
    Record,
    Schema,
    State,
    TornInputError,
)
from target_segment_warehouse.messages import Batch as BatchMessage
from target_segment_warehouse.reader import Stopped
from target_segment_warehouse.state import Watermark
from target_segment_warehouse.streams import InvalidSchemaError, Stream

PART_BYTES = 28 << 20
"""How many bytes of input are held before the streams with most of them are handed over."""

LEFT_BYTES = 20 << 20
"""How many may stay, of the other streams: a few large pieces load faster than many small ones."""

_Opened = TypeVar("_Opened", bound=Rows)


@dataclass(frozen=True, slots=True)
class Limits:
    """When a batch is full.

    Attributes:
        rows: Records.
        bytes: Bytes of input.
        age_seconds: Seconds since its first message, or since the last commit if that is later.
    """

    rows: int
    bytes: int
    age_seconds: float


class Loader(Protocol):
    """Loads batches, part by part, each batch in one transaction."""

    def prepare(self, part: Sequence[Segment]) -> None:
        """Begin to read a part that is loaded next, while the one before it is loaded."""

    def load(self) -> None:
        """Load the part that was prepared first, in the transaction of its batch."""

    def commit(self, batch: Batch) -> None:
        """Return when all parts of the batch are committed; raise when nothing of it is."""

    def close(self, failure: BaseException | None = None) -> None:
        """Let go of the warehouse; note in its run report why the run failed, if it did."""


class Pipeline:
    """Gathers messages into batches and has them loaded, in order.

    Args:
        loader: Where full batches go; used from one thread of its own.
        mapper: Reads SCHEMA messages, and changes records where the user asked for that.
        watermark: Told of each STATE and each commit.
        limits: When a batch is full.
        clean_up: Whether to remove the files of BATCH messages once they are committed.
    """

    def __init__(
        self,
        loader: Loader,
        mapper: RecordMapper,
        watermark: Watermark,
        limits: Limits,
        *,
        clean_up: bool,
    ) -> None:
        self._loader = loader
        self._mapper = mapper
        self._watermark = watermark
        self._limits = limits
        self._cleaner = Cleaner(is_wished=clean_up)
        self._batch = Batch(1)
        self._streams: dict[str, Stream] = {}
        self._open: dict[str, Rows] = {}
        self._open_mapped: dict[str, MappedRows] = {}
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="loader")
        self._in_hand: Future[None] | None = None
        self._committed_at = float("-inf")
        self.stop_signal: int | None = None
        self.torn: TornInputError | None = None

    def receive(self, messages: list[Message], lines: Sequence[int], size: int) -> None:
        """Take messages in their order of arrival.

        Args:
            messages: What was read.
            lines: The numbers of their lines, for messages of ours.
            size: Their size in bytes, for the limit of a batch.
        """
        room = self._limits.rows - self._batch.rows
        opened = self._open
        for line, message in zip(lines, messages, strict=True):
            if type(message) is not Record:
                self._batch.rows = self._limits.rows - room
                self._receive_other(message, line)
                if self._batch.bytes >= self._limits.bytes:
                    self.flush()
                room = self._limits.rows - self._batch.rows
                continue
            rows = opened.get(message.stream)
            if rows is None or rows.version != message.version:
                rows = self._rows(message, line)
            if rows is None:
                room -= self._receive_mapped(message, line, INPUT, line)
            else:
                rows.records.append(message.record)
                rows.lines.append(line)
                rows.extracted.append(message.time_extracted)
                room -= 1
            if room <= 0:
                self._batch.rows = self._limits.rows - room
                self.flush()
                room = self._limits.rows
        self._batch.rows = self._limits.rows - room
        self._batch.bytes += size
        self._settle()

    def _settle(self) -> None:
        """Put what came last where it is held, and hand over what is enough to be loaded."""
        for rows in (*self._open.values(), *self._open_mapped.values()):
            rows.settle()
        if self._batch.bytes >= self._limits.bytes or self._is_of_age():
            self.flush()
        elif sum(segment.size for segment in self._batch.segments) >= PART_BYTES:
            self._hand_over(largest(self._batch.segments, LEFT_BYTES))

    def idle(self) -> None:
        """Flush what has come of age, and see whether loading failed or reading is to end."""
        if self._in_hand is not None and self._in_hand.done():
            self._in_hand.result()
        if self.stop_signal is not None:
            raise Stopped
        if self._is_of_age():
            self.flush()

    def break_off(self, torn: TornInputError) -> None:
        """Take note that the input ended in the middle of a line."""
        self.torn = torn

    def flush(self) -> None:
        """Hand over what is left of the batch, to be loaded and committed."""
        if not self._batch.began:
            return
        batch, self._batch = self._batch, Batch(self._batch.number + 1)
        self._open.clear()
        self._open_mapped.clear()
        self._submit(batch.segments, batch)

    def _hand_over(self, streams: Container[str]) -> None:
        """Hand over what the batch holds of these streams; more of the batch is to come."""
        part = [segment for segment in self._batch.segments if segment.stream.name in streams]
        rest = [segment for segment in self._batch.segments if segment.stream.name not in streams]
        self._batch.segments = rest
        for segment in part:
            self._open.pop(segment.stream.name, None)
            self._open_mapped.pop(segment.stream.name, None)
        self._submit(part)

    def _submit(self, part: Sequence[Segment], batch: Batch | None = None) -> None:
        """Have a part loaded after the one before it, and the batch that it ends committed."""
        self._loader.prepare(part)
        if self._in_hand is not None:
            self._in_hand.result()
        self._in_hand = self._thread.submit(self._load, batch)

    def finish(self) -> None:
        """Load what is left and wait until all is committed."""
        try:
            batch = self._batch
            batch.last = True
            if self.stop_signal is not None:
                name = signal.Signals(self.stop_signal).name
                batch.problem = f"stopped by {name} before the end of the input"
            elif self.torn is not None:
                batch.problem = str(self.torn)
            self._submit(batch.segments, batch)
            if self._in_hand is not None:
                self._in_hand.result()
        except BaseException as failure:
            self.abort(failure)
            raise
        self._thread.submit(self._loader.close).result()
        self._thread.shutdown()

    def abort(self, failure: BaseException) -> None:
        """Drop what is not committed: no state for it was, or will be, emitted."""
        self._thread.submit(self._loader.close, failure)
        self._thread.shutdown()

    def _load(self, batch: Batch | None) -> None:
        self._loader.load()
        if batch is not None:
            self._loader.commit(batch)
            self._watermark.commit(batch.number)
            self._committed_at = time.monotonic()
            self._cleaner.commit(batch.files)

    def _is_of_age(self) -> bool:
        """Whether to flush for age: not while a flush goes on, nor right after it.

        Where flushes take longer than the age, they would follow each other without a pause, and
        nobody could read a DuckDB file any more. So age counts from the last commit at the
        earliest, and batches grow with what comes meanwhile.
        """
        batch = self._batch
        if not batch.began or (self._in_hand is not None and not self._in_hand.done()):
            return False
        since = max(batch.since, self._committed_at)
        return time.monotonic() - since >= self._limits.age_seconds

    def _receive_other(self, message: Message, line: int) -> None:
        if isinstance(message, State):
            # True once everything before it is committed: this batch, or if that is still empty,
            # the one before.
            number = self._batch.number if self._batch.began else self._batch.number - 1
            self._watermark.add(json.loads(bytes(message.value)), number)
        elif isinstance(message, Schema):
            self._receive_schema(message, line)
        elif isinstance(message, BatchMessage):
            self._receive_files(message, line)
        elif isinstance(message, ActivateVersion):
            for stream in self._known(message.stream, line):
                self._append(Activation(stream, message.version))

    def _receive_schema(self, message: Schema, line: int) -> None:
        try:
            streams = self._mapper.register(message)
        except InvalidSchemaError as error:
            raise InvalidSchemaError(f"Line {line} of the input: {error}") from None
        for stream in streams:
            if self._streams.get(stream.name) != stream:
                self._streams[stream.name] = stream
                # So that the table is made, with or without records.
                if self._mapper.is_mapped(message.stream):
                    self._begin(self._open_mapped, MappedRows(stream, None))
                else:
                    self._begin(self._open, Rows(stream, None))

    def _append(self, segment: Rows | Files | Activation) -> None:
        """Close the stream's open rows, so that the order of arrival is the order of effect."""
        if not self._batch.began:
            self._batch.began = True
            self._batch.since = time.monotonic()
        self._open.pop(segment.stream.name, None)
        self._open_mapped.pop(segment.stream.name, None)
        self._batch.segments.append(segment)

    def _known(self, name: str, line: int) -> list[Stream]:
        """The streams, after stream maps, that a message's stream stands for."""
        names = self._mapper.aliases(name)
        if names is None:
            raise RecordsWithoutSchemaException(
                f"Line {line} of the input is for stream '{name}', but no SCHEMA message for that "
                "stream came before it. Check that the tap writes the schema first."
            )
        return [self._streams[alias] for alias in names]

    def _rows(self, message: Record, line: int) -> Rows | None:
        """Where a record goes; None when its stream's records have to be mapped one by one."""
        streams = self._known(message.stream, line)
        if self._mapper.is_mapped(message.stream):
            return None
        return self._begin(self._open, Rows(streams[0], message.version))

    def _begin(self, opened: dict[str, _Opened], rows: _Opened) -> _Opened:
        """Have a stream's next records go into these rows."""
        self._append(rows)
        opened[rows.stream.name] = rows
        return rows

    def _receive_files(self, message: BatchMessage, line: int) -> None:
        streams = self._known(message.stream, line)
        named = self._cleaner.receive(message.stream, message.manifest)
        urls = [url for _, url in named]
        size = size_of(urls, message.encoding)
        files = [
            Files(stream, message.encoding, urls, line, message.version, size) for stream in streams
        ]
        if files and self._mapper.changes(message.stream):
            # The maps make the records of all of its streams.
            self._receive_mapped_files(message.stream, files[0])
        else:
            for each in files:
                self._append(each)
                self._batch.bytes += size
        # Not before: they stay until the last of their records is committed.
        self._batch.files += named

    def _receive_mapped_files(self, stream: str, files: Files) -> None:
        """As if the records had come one by one: maps may have to take something out of them."""
        for records, place in read_files([files]):
            json_records = records.as_json()
            for line, text in zip(json_records.lines, json_records.split_lines(), strict=True):
                message = Record(stream, Raw(text), None, files.version)
                name, number = place.find(line)
                try:
                    self._batch.rows += self._receive_mapped(message, files.line, name, number)
                except ValueError:
                    raise BatchFileError(f"The {place.of(line)} is not valid JSON.") from None
                self._batch.bytes += len(text)
                if self._batch.rows >= self._limits.rows:
                    self.flush()
            self._settle()

    def _receive_mapped(self, message: Record, line: int, name: str, number: int) -> int:
        """The slow path, one record at a time. Returns how many rows it became.

        Args:
            message: The record.
            line: The line of the input that it came with.
            name: What to call where it came from, with ``{}`` for its number there.
            number: Its number there.
        """
        added = 0
        for alias, record in self._mapper.transform(message, line):
            rows = self._open_mapped.get(alias)
            if rows is None or rows.version != message.version:
                rows = self._begin(
                    self._open_mapped, MappedRows(self._streams[alias], message.version)
                )
            rows.append(record, message.time_extracted, name, number)
            added += 1
        return added
