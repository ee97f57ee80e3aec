"""Records of deliveries as JSON: put together quickly, or by the SDK where it is asked for more."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Iterator, Sequence
from typing import TYPE_CHECKING, Any, Final, Protocol

import msgspec

from tap_sendgrid.event_log import Delivery
from tap_sendgrid.events.convert import Converter
from tap_sendgrid.events.lines import LineMaker
from tap_sendgrid.events.parse import Event, events_of
from tap_sendgrid.events.reader import convert_event, records_of
from tap_sendgrid.events.values import iso

if TYPE_CHECKING:
    from tap_sendgrid.events.streams import EventStream
    from tap_sendgrid.tap import TapSendGrid

# Meltano passes on no line beyond 50 MiB; what a message has around its record is less than this.
MAX_RECORD_BYTES: Final = 50 * 1024 * 1024 - 1024

# What the SDK does to single records; any of these sends all records through the SDK.
_PER_RECORD_SETTINGS: Final = ("stream_maps", "flattening_enabled")


class RecordMaker(Protocol):
    """Makes the records of one delivery after the other."""

    def records(
        self,
        delivery: Delivery,
        skipped: Collection[str],
        rejected: list[str],
        counts: Counter[str],
    ) -> Iterator[tuple[str, bytes]]:
        """The records of a delivery.

        Args:
            delivery: The delivery, whatever its body is.
            skipped: Streams that have these records already.
            rejected: Takes the reasons for what gives no record.
            counts: Takes how many records of which stream there were.

        Yields:
            What messages call the stream, and a record as JSON on one line, without a newline.
        """


class QuickRecords:
    """Makes the JSON without the SDK."""

    def __init__(self, converter: Converter) -> None:
        self._converter = converter
        self._line = LineMaker(converter).line
        self._encode = msgspec.json.Encoder().encode

    def records(
        self,
        delivery: Delivery,
        skipped: Collection[str],
        rejected: list[str],
        counts: Counter[str],
    ) -> Iterator[tuple[str, bytes]]:
        """As :meth:`RecordMaker.records`; what is too large for a message is rejected."""
        received_at = iso(delivery.received_at)
        make_line = self._line
        for event, content in events_of(delivery.body, rejected):
            made = make_line(event, content, received_at)
            if made is None:
                made = self._convert(event, received_at, rejected)
                if made is None:
                    continue
            stream, record = made
            if stream in skipped:
                continue
            if len(record) > MAX_RECORD_BYTES:
                rejected.append(_too_large(record))
                continue
            counts[stream] += 1
            yield made

    def _convert(
        self, event: Event, received_at: str, rejected: list[str]
    ) -> tuple[str, bytes] | None:
        """The stream and the record of an event that is not as usual."""
        converted = convert_event(self._converter, event, received_at, rejected)
        if converted is None:
            return None
        stream, record = converted
        return stream, self._encode(record)


def _too_large(record: bytes) -> str:
    id_ = msgspec.json.decode(record)["id"]
    return (
        f"event {id_[:200]!r} makes a record of {len(record):,} bytes, more than the "
        f"{MAX_RECORD_BYTES:,} that may be"
    )


class SDKRecords:
    """Has each record go through the SDK, with its maps and flattening."""

    def __init__(
        self,
        streams: Sequence[EventStream],
        converter: Converter,
        encode: Callable[[Any], bytes],
    ) -> None:
        self._streams = {stream.name: stream for stream in streams}
        self._converter = converter
        self._encode = encode

    def records(
        self,
        delivery: Delivery,
        skipped: Collection[str],
        rejected: list[str],
        counts: Counter[str],
    ) -> Iterator[tuple[str, bytes]]:
        """As :meth:`RecordMaker.records`; the SDK does not mind the size of messages."""
        for stream, record in records_of(self._converter, delivery, rejected):
            if stream in skipped:
                continue
            counts[stream] += 1
            for message in self._streams[stream]._generate_record_messages(record):
                yield message.stream, self._encode(message.record)


def record_maker(tap: TapSendGrid, streams: Sequence[EventStream]) -> RecordMaker:
    """The quick one, or the SDK's where something asks for work on single records.

    Args:
        tap: The tap.
        streams: Those that are selected.
    """
    converter = Converter({stream.name: stream.deselected() for stream in streams})
    if any(tap.config.get(name) for name in _PER_RECORD_SETTINGS) or any(
        stream.has_deselected_parts() for stream in streams
    ):
        return SDKRecords(streams, converter, tap.message_writer.encode)
    return QuickRecords(converter)
