"""Writes RECORD messages: many at once and as bytes, or the SDK's way where it is asked for."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final, Protocol

import msgspec

from tap_sendgrid.event_log import Delivery
from tap_sendgrid.events.convert import Converter, Record
from tap_sendgrid.events.lines import LineMaker
from tap_sendgrid.events.parse import Event, events_of
from tap_sendgrid.events.reader import convert_event, records_of
from tap_sendgrid.events.values import iso
from tap_sendgrid.writer import MessageWriter

if TYPE_CHECKING:
    from singer_sdk import Tap

    from tap_sendgrid.events.streams import EventStream

# Meltano does not pass on a longer line.
MAX_LINE_BYTES: Final = 50 * 1024 * 1024
# Handed over at once: few enough to be still in the processor's cache.
_CHUNK_LINES: Final = 64

# What the SDK does to single records; any of these sends all records through the SDK.
_PER_RECORD_SETTINGS: Final = ("stream_maps", "flattening_enabled")


class Writer(Protocol):
    """Writes the records of one delivery after the other."""

    def write(
        self, delivery: Delivery, skipped: Collection[str], rejected: list[str]
    ) -> Mapping[str, int]:
        """Write the records of a delivery.

        Args:
            delivery: The delivery, whatever its body is.
            skipped: Streams that have these records already.
            rejected: Takes the reasons for what gives no message.

        Returns:
            How many records of which stream were written.
        """

    def flush(self) -> None:
        """Pass everything written on to the target."""


class _RecordMessage(msgspec.Struct, tag_field="type", tag="RECORD"):
    stream: str
    record: Record
    time_extracted: str


class BytesWriter:
    """Makes the bytes of messages, and hands over many at once."""

    def __init__(self, out: MessageWriter, converter: Converter) -> None:
        self._out = out
        self._converter = converter
        self._line_maker = LineMaker(converter)
        self._encode = msgspec.json.Encoder().encode

    def write(
        self, delivery: Delivery, skipped: Collection[str], rejected: list[str]
    ) -> Mapping[str, int]:
        """Write the records of a delivery; what is too large for a message is rejected."""
        received_at = iso(delivery.received_at)
        now = iso(datetime.now(UTC))
        make_line = self._line_maker.line
        counts: Counter[str] = Counter()
        lines: list[bytes] = []
        too_large: list[str] = []
        for event, content in events_of(delivery.body, rejected):
            made = make_line(event, content, received_at, now)
            if made is None:
                made = self._convert(event, received_at, now, rejected)
                if made is None:
                    continue
            stream, line = made
            if stream in skipped:
                continue
            if len(line) > MAX_LINE_BYTES:
                too_large.append(_too_large(line))
                continue
            counts[stream] += 1
            lines.append(line)
            if len(lines) >= _CHUNK_LINES:
                self._out.write_lines(b"".join(lines))
                lines.clear()
        self._out.write_lines(b"".join(lines))
        rejected += too_large
        return counts

    def flush(self) -> None:
        """Pass everything written on to the target."""
        self._out.flush()

    def _convert(
        self, event: Event, received_at: str, now: str, rejected: list[str]
    ) -> tuple[str, bytes] | None:
        """The stream and the message of an event that is not as usual."""
        converted = convert_event(self._converter, event, received_at, rejected)
        if converted is None:
            return None
        stream, record = converted
        return stream, self._encode(_RecordMessage(stream, record, now)) + b"\n"


def _too_large(line: bytes) -> str:
    message = msgspec.json.decode(line, type=_RecordMessage)
    return (
        f"event {message.record['id'][:200]!r} makes a message of {len(line):,} bytes, more "
        f"than the {MAX_LINE_BYTES:,} that may be"
    )


class SDKWriter:
    """Writes each record by the SDK, with its maps and flattening."""

    def __init__(self, streams: Sequence[EventStream], converter: Converter) -> None:
        self._streams = {stream.name: stream for stream in streams}
        self._converter = converter

    def write(
        self, delivery: Delivery, skipped: Collection[str], rejected: list[str]
    ) -> Mapping[str, int]:
        """Write the records of a delivery; the SDK does not mind the size of messages."""
        counts: Counter[str] = Counter()
        for stream, record in records_of(self._converter, delivery, rejected):
            if stream not in skipped:
                self._streams[stream]._write_record_message(record)
                counts[stream] += 1
        return counts

    def flush(self) -> None:
        """The SDK flushes after each message."""


@contextmanager
def open_writer(tap: Tap, streams: Sequence[EventStream]) -> Iterator[Writer]:
    """The quick writer, or the SDK's where something asks for work on single records."""
    converter = Converter({stream.name: stream.deselected() for stream in streams})
    out = tap.message_writer
    per_record = any(tap.config.get(name) for name in _PER_RECORD_SETTINGS) or any(
        stream.has_deselected_parts() for stream in streams
    )
    writer: Writer
    if isinstance(out, MessageWriter) and not per_record:
        writer = BytesWriter(out, converter)
    else:
        writer = SDKWriter(streams, converter)
    try:
        yield writer
    finally:
        writer.flush()
