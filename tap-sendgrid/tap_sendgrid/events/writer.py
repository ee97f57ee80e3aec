"""Writes RECORD messages: many at once and as bytes, or the SDK's way where it is asked for."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final, Protocol

import msgspec

from tap_sendgrid.events.convert import Record
from tap_sendgrid.events.values import iso
from tap_sendgrid.writer import MessageWriter

if TYPE_CHECKING:
    from singer_sdk import Tap

    from tap_sendgrid.events.streams import EventStream

# Meltano does not pass on a longer line.
MAX_LINE_BYTES: Final = 50 * 1024 * 1024
# Few, so that a record is written while it is still in the processor's cache.
_CHUNK_RECORDS: Final = 16

# What the SDK does to single records; any of these sends all records through the SDK.
_PER_RECORD_SETTINGS: Final = ("stream_maps", "flattening_enabled")


class Writer(Protocol):
    """Writes the records of one delivery after the other."""

    def write(self, stream: str, record: Record) -> None:
        """Write a record."""

    def end_delivery(self) -> list[str]:
        """End a delivery; say which of its records are too large to be messages."""

    def flush(self) -> None:
        """Pass everything written on to the target."""


class _RecordMessage(msgspec.Struct, tag_field="type", tag="RECORD"):
    stream: str
    record: Record
    time_extracted: str


class BytesWriter:
    """Encodes several records in one call."""

    def __init__(self, out: MessageWriter) -> None:
        self._out = out
        self._encoder = msgspec.json.Encoder()
        self._messages: list[_RecordMessage] = []
        self._too_large: list[str] = []
        self._now = iso(datetime.now(UTC))

    def write(self, stream: str, record: Record) -> None:
        """Write a record."""
        self._messages.append(_RecordMessage(stream, record, self._now))
        if len(self._messages) >= _CHUNK_RECORDS:
            self._encode()

    def end_delivery(self) -> list[str]:
        """End a delivery; say which of its records are too large to be messages."""
        self._encode()
        self._now = iso(datetime.now(UTC))
        too_large, self._too_large = self._too_large, []
        return too_large

    def flush(self) -> None:
        """Pass everything written on to the target."""
        self._encode()
        self._out.flush()

    def _encode(self) -> None:
        if not self._messages:
            return
        lines = self._encoder.encode_lines(self._messages)
        if len(lines) > MAX_LINE_BYTES:
            lines = b"".join(filter(None, map(self._encode_one, self._messages)))
        self._out.write_lines(lines)
        self._messages.clear()

    def _encode_one(self, message: _RecordMessage) -> bytes:
        line = self._encoder.encode(message) + b"\n"
        if len(line) <= MAX_LINE_BYTES:
            return line
        self._too_large.append(
            f"event {message.record['id'][:200]!r} makes a message of {len(line):,} bytes, more "
            f"than the {MAX_LINE_BYTES:,} that may be"
        )
        return b""


class SDKWriter:
    """Writes each record by the SDK, with its maps and flattening."""

    def __init__(self, streams: Sequence[EventStream]) -> None:
        self._streams = {stream.name: stream for stream in streams}

    def write(self, stream: str, record: Record) -> None:
        """Write a record."""
        self._streams[stream]._write_record_message(record)

    def end_delivery(self) -> list[str]:
        """The SDK does not mind the size of messages."""
        return []

    def flush(self) -> None:
        """The SDK flushes after each message."""


@contextmanager
def open_writer(tap: Tap, streams: Sequence[EventStream]) -> Iterator[Writer]:
    """The quick writer, or the SDK's where something asks for work on single records."""
    out = tap.message_writer
    per_record = any(tap.config.get(name) for name in _PER_RECORD_SETTINGS) or any(
        stream.has_deselected_parts() for stream in streams
    )
    writer: Writer
    if isinstance(out, MessageWriter) and not per_record:
        writer = BytesWriter(out)
    else:
        writer = SDKWriter(streams)
    try:
        yield writer
    finally:
        writer.flush()
