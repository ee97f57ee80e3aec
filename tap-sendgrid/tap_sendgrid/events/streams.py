"""The event streams: one class for each type of event, all fed by the one event log."""

from __future__ import annotations

from collections.abc import Generator, Iterator
from typing import TYPE_CHECKING, Any, ClassVar

from singer_sdk import Stream
from singer_sdk.helpers.conform import TypeConformanceLevel
from singer_sdk.singerlib import SchemaMessage

from tap_sendgrid.event_log import LoggedDelivery
from tap_sendgrid.event_log.micros import to_micros
from tap_sendgrid.events.convert import Converter
from tap_sendgrid.events.fields import EVENT_TYPES, EventType
from tap_sendgrid.events.reader import open_log, records_of
from tap_sendgrid.events.schema import EVENT_ANNOTATION, event_schema

if TYPE_CHECKING:
    from singer_sdk import Tap
    from singer_sdk.helpers.types import Context, Record

LOG_OFFSET = "log_offset"
LOG = "log"
"""Beside the offset a bookmark has the identity of the log: in another one it means nothing."""
LAST_DELIVERY = "last_delivery"
"""And offset and arrival of the last delivery that was read, at the bookmark or before it.

A log that is put back from a backup has its identity still, and gives offsets once more.
"""


class EventStream(Stream):
    """The events of one type, in the order of the log.

    The replication key is the offset of the delivery in the log. It is no property of the records:
    where an event lay in somebody's log says nothing about the event. So the stream keeps its
    bookmark itself, in the shape that the SDK gives to bookmarks.

    A run of the tap feeds all event streams in one pass (``sync_events``). ``get_records`` reads
    the log for a single one: for the SDK's connection test.
    """

    event_type: ClassVar[EventType]
    TYPE_CONFORMANCE_LEVEL = TypeConformanceLevel.NONE  # convert.py made the records fit
    is_timestamp_replication_key = False

    def __init__(self, tap: Tap) -> None:
        super().__init__(tap, schema=event_schema(self.event_type), name=self.event_type.stream)
        self.primary_keys = ("id",)

    @property
    def replication_key(self) -> str:
        """The offset of the delivery, whatever a catalog says."""
        return LOG_OFFSET

    @replication_key.setter
    def replication_key(self, new_value: str | None) -> None:
        """A catalog may name another key; there is none."""

    @property
    def bookmark(self) -> int:
        """The offset up to which a run before this one brought everything to the target."""
        state = self.tap_state.get("bookmarks", {}).get(self.name, {})
        value = state.get("replication_key_value")
        return value if type(value) is int and state.get("replication_key") == LOG_OFFSET else 0

    @property
    def bookmarked_log(self) -> str | None:
        """The identity of the log that the bookmark is an offset of; None if it does not say."""
        state = self.tap_state.get("bookmarks", {}).get(self.name, {})
        return state.get(LOG) if self.bookmark else None

    @property
    def start(self) -> int:
        """The offset to read after: the bookmark, or 0 where a full refresh is asked for."""
        return self.bookmark if self.replication_method == "INCREMENTAL" else 0

    @property
    def last_delivery(self) -> tuple[int, int] | None:
        """Offset, and arrival in microseconds since 1970, of the last delivery before the bookmark.

        None if the bookmark does not say.
        """
        state = self.tap_state.get("bookmarks", {}).get(self.name, {})
        match state.get(LAST_DELIVERY):
            case {"offset": int(offset), "received_at": int(received_at)}:
                # Where somebody has set the bookmark back, the rest is of no use.
                return (offset, received_at) if offset <= self.bookmark else None
        return None

    def advance(self, offset: int, log: str, last: LoggedDelivery | None) -> None:
        """Set the bookmark: all deliveries of a log up to ``offset`` are read. Writes no message.

        Args:
            offset: An offset in the log.
            log: The log's identity.
            last: The last delivery that was read; None: the one that the state has.
        """
        self.stream_state.update(
            {"replication_key": LOG_OFFSET, "replication_key_value": offset, LOG: log}
        )
        if last is not None:
            received_at = to_micros(last.delivery.received_at)
            self.stream_state[LAST_DELIVERY] = {"offset": last.offset, "received_at": received_at}
        self.state_manager.is_flushed = False

    def deselected(self) -> frozenset[str]:
        """The names of the properties that are not selected."""
        return frozenset(
            name for name in self.schema["properties"] if not self.mask["properties", name]
        )

    def has_deselected_parts(self) -> bool:
        """Whether a member of an object property, such as ``pool.id``, is not selected."""
        return any(
            not self.mask["properties", name, "properties", part]
            for name, prop in self.schema["properties"].items()
            if self.mask["properties", name]
            for part in prop.get("properties", {})
        )

    def get_records(self, context: Context | None) -> Iterator[Record]:
        """The records of this stream from its bookmark to the present end of the log."""
        log = open_log(self._tap, [self])
        if log is None:
            return
        converter = Converter({self.name: self.deselected()})
        try:
            for logged in log.read(self.start):
                for _, record in records_of(converter, logged.delivery, []):
                    yield record
        finally:
            log.close()

    # The SDK takes bookmarks and starting values from records and dates; ours come from the log.

    def _increment_stream_state(
        self, latest_record: Record, *, context: Context | None = None
    ) -> None:
        pass

    def _write_starting_replication_value(self, context: Context | None) -> None:
        pass

    def _generate_schema_messages(self) -> Generator[SchemaMessage, None, None]:
        """Schemas with the annotation, which the SDK's catalog does not keep."""
        for message in super()._generate_schema_messages():
            schema = {**message.schema, "x-segment": EVENT_ANNOTATION}
            yield SchemaMessage(message.stream, schema, message.key_properties)


def _class(event_type: EventType) -> type[EventStream]:
    name = "".join(part.capitalize() for part in event_type.stream.split("_"))
    members: dict[str, Any] = {
        "__doc__": event_type.description,
        "__module__": __name__,
        "name": event_type.stream,
        "event_type": event_type,
    }
    return type(f"{name}Stream", (EventStream,), members)


event_stream_classes: tuple[type[EventStream], ...] = tuple(map(_class, EVENT_TYPES))
