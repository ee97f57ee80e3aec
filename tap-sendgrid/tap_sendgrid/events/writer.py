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

# Meltano does not pass on a longer line; records are at most eight times as long as their body
# (a category list as text escapes its quotes again, a broken byte becomes five characters).
MAX_LINE_BYTES: Final = 50 * 1024 * 1024
_SAFE_BODY_BYTES: Final = MAX_LINE_BYTES // 10
_CHUNK_RECORDS: Final = 1_000
_CHUNK_BODY_BYTES: Final = 1024 * 1024

# What the SDK does to single records; any of these sends all records through the SDK.
_PER_RECORD_SETTINGS: Final = ("stream_maps", "flattening_enabled")


class Writer(Protocol):
    """Writes the records of one delivery after the other."""

    def write(self, records: Sequence[tuple[str, Record]], body_bytes: int) -> list[str]:
        """Write the records of a delivery; say which are too large to be messages."""

    def flush(self) -> None:
        """Pass everything written on to the target."""


class _RecordMessage(msgspec.Struct, tag_field="type", tag="RECORD"):
    stream: str
    record: Record
    time_extracted: str


class BytesWriter:
    """Gathers records and encodes many of them in one call."""

    def __init__(self, out: MessageWriter) -> None:
        self._out = out
        self._encoder = msgspec.json.Encoder()
        self._messages: list[_RecordMessage] = []
        self._body_bytes = 0

    def write(self, records: Sequence[tuple[str, Record]], body_bytes: int) -> list[str]:
        """Write the records of a delivery; say which are too large to be messages."""
        now = iso(datetime.now(UTC))
        messages = [_RecordMessage(stream, record, now) for stream, record in records]
        too_large: list[str] = []
        if body_bytes > _SAFE_BODY_BYTES:
            messages, too_large = self._without_too_large(messages)
        self._messages += messages
        self._body_bytes += body_bytes
        if len(self._messages) >= _CHUNK_RECORDS or self._body_bytes >= _CHUNK_BODY_BYTES:
            self._encode()
        return too_large

    def flush(self) -> None:
        """Pass everything written on to the target."""
        self._encode()
        self._out.flush()

    def _encode(self) -> None:
        if self._messages:
            self._out.write_lines(self._encoder.encode_lines(self._messages))
            self._messages.clear()
            self._body_bytes = 0

    def _without_too_large(
        self, messages: list[_RecordMessage]
    ) -> tuple[list[_RecordMessage], list[str]]:
        fitting, too_large = [], []
        for message in messages:
            size = len(self._encoder.encode(message))
            if size < MAX_LINE_BYTES:
                fitting.append(message)
            else:
                too_large.append(
                    f"event {message.record['id'][:200]!r} makes a message of {size:,} bytes, more "
                    f"than the {MAX_LINE_BYTES:,} that may be"
                )
        return fitting, too_large


class SDKWriter:
    """Writes each record by the SDK, with its maps and flattening."""

    def __init__(self, streams: Sequence[EventStream]) -> None:
        self._streams = {stream.name: stream for stream in streams}

    def write(self, records: Sequence[tuple[str, Record]], body_bytes: int) -> list[str]:
        """Write the records of a delivery."""
        for name, record in records:
            self._streams[name]._write_record_message(record)
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
