"""The tap's side of the event log: opening it, and what a delivery yields."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING

from tap_sendgrid.event_log import (
    DEFAULT_EVENT_LOG_URL,
    Delivery,
    EventLog,
    EventLogError,
    open_event_log,
    shown,
)
from tap_sendgrid.event_log.micros import from_micros
from tap_sendgrid.events.convert import Converter, Record
from tap_sendgrid.events.parse import Event, events_of
from tap_sendgrid.events.values import iso

if TYPE_CHECKING:
    from singer_sdk import Tap

    from tap_sendgrid.events.streams import EventStream


@dataclass(slots=True)
class Converted:
    """The records of a delivery with their streams, and why parts of it (or all) gave none."""

    records: list[tuple[str, Record]] = field(default_factory=list)
    rejected: list[str] = field(default_factory=list)


def convert_delivery(converter: Converter, delivery: Delivery) -> Converted:
    """Everything that a delivery yields; never fails, whatever the body is."""
    result = Converted()
    result.records.extend(records_of(converter, delivery, result.rejected))
    return result


def records_of(
    converter: Converter, delivery: Delivery, rejected: list[str]
) -> Iterator[tuple[str, Record]]:
    """The records of a delivery one by one; ``rejected`` takes the reasons for what gives none."""
    received_at = iso(delivery.received_at)
    for event, _ in events_of(delivery.body, rejected):
        converted = convert_event(converter, event, received_at, rejected)
        if converted is not None:
            yield converted


def convert_event(
    converter: Converter, event: Event, received_at: str, rejected: list[str]
) -> tuple[str, Record] | None:
    """As :meth:`Converter.convert`; ``rejected`` takes the reason where nothing can be made."""
    try:
        return converter.convert(event, received_at)
    except RecursionError:
        rejected.append(f"event {str(event.get('sg_event_id'))[:200]} is nested too deep")
        return None


def log_url(tap: Tap) -> str:
    """The address of the tap's event log."""
    return str(tap.config.get("event_log_url") or DEFAULT_EVENT_LOG_URL)


def consumer_of(tap: Tap) -> str:
    """What the tap is called in the log's positions."""
    return str(tap.config.get("event_log_consumer") or tap.name)


def open_log(tap: Tap, streams: Sequence[EventStream], *, create: bool = False) -> EventLog | None:
    """Open the tap's event log.

    Returns:
        The log; None, with a warning, where there is none yet and no state says there was one.

    Raises:
        EventLogError: The log cannot be opened, or the state belongs to another log.
    """
    url = log_url(tap)
    furthest = max((stream.bookmark for stream in streams), default=0)
    try:
        # A log that was read before is somewhere: an empty one in its place would hide it.
        log = open_event_log(url, create=create and not furthest)
    except EventLogError as error:
        if error.kind != "missing" or furthest:
            raise
        tap.logger.warning(
            "No event log at %s: no events to sync. Start the receiver with the same "
            "event_log_url (`sendgrid-webhook serve`), or mend the setting.",
            shown(url),
        )
        return None
    try:
        _check_state(tap, log, url, streams)
    except BaseException:
        log.close()
        raise
    return log


def _check_state(tap: Tap, log: EventLog, url: str, streams: Sequence[EventStream]) -> None:
    """See whether the bookmarks are of this log, and whether what follows them is still there.

    Raises:
        EventLogError: The state belongs to another log.
    """
    identity, status = log.identity(), log.status()
    for stream in streams:
        problem = ""
        if stream.bookmarked_log not in {None, identity}:
            problem = f"is not the one that the state of '{stream.name}' was read from"
        elif stream.bookmark > status.end:
            problem = (
                f"ends at offset {status.end}, but the state of '{stream.name}' says that "
                f"{stream.bookmark} was read: it belongs to another log"
            )
        if problem:
            raise _refused(url, problem)
    # Most often all streams have the same one.
    marks = {last: stream.name for stream in streams if (last := stream.last_delivery)}
    for (offset, micros), name in marks.items():
        found, read = _arrival_at(log, offset), from_micros(micros)
        if found not in {None, read}:
            raise _refused(
                url,
                f"has a delivery of {found} at offset {offset}, but the state of '{name}' was read "
                f"from one of {read} there: the log was put back from a backup and has given "
                "offsets anew",
            )
    behind = [stream for stream in streams if 0 < stream.bookmark < status.first - 1]
    if behind:
        tap.logger.warning(
            "The event log no longer has what came after the state of %s (offset %d): it begins "
            "at offset %d. What was trimmed is not synced; if the pipeline's consumer has another "
            "name than before, see event_log_consumer.",
            ", ".join(stream.name for stream in behind),
            min(stream.bookmark for stream in behind),
            status.first,
        )


def _refused(url: str, problem: str) -> EventLogError:
    return EventLogError(
        "position",
        f"the event log {shown(url)} {problem}. Set event_log_url to the log of this state, or "
        "clear the state of the event streams to read this log from its start (events that are in "
        "the warehouse already do not come twice).",
    )


def _arrival_at(log: EventLog, offset: int) -> datetime | None:
    """When the delivery at an offset arrived; None when it is gone, or damaged since."""
    try:
        return next((each.delivery.received_at for each in log.read(offset - 1, offset)), None)
    except EventLogError as error:
        if error.kind != "corrupt":
            raise
        return None


def commit_position(tap: Tap, log: EventLog, streams: Sequence[EventStream]) -> None:
    """Tell the log how far the target has come, from the state that the run was given.

    That state holds what the target had committed, so whatever lies before the smallest bookmark
    of the selected streams may be trimmed. To be called before any bookmark moves.
    """
    log.commit(consumer_of(tap), min(stream.bookmark for stream in streams))
