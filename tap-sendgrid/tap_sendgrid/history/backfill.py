"""Fills the event log from SendGrid's own records, window after window, and can be interrupted.

A window is a span of time short enough for the cap on rows. Its messages are listed, their details
are fetched side by side, the events are appended to the log as deliveries, and only then is the
position stored beside the log: whatever happens, the next run goes on from the last whole window.
"""

from __future__ import annotations

import contextlib
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Final

import msgspec

from tap_sendgrid.api.errors import NotFound, UnexpectedAnswer
from tap_sendgrid.event_log import Delivery, EventLog
from tap_sendgrid.event_log.base import SOURCE_HEADER
from tap_sendgrid.history.source import Event, MessageEvents, Source

PROGRESS_KEY: Final = "history.backfill"
HEADERS: Final = {"content-type": "application/json", SOURCE_HEADER: "backfill"}

_SECOND: Final = timedelta(seconds=1)
_FIRST_WIDTH: Final = timedelta(hours=1)
_LARGEST_WIDTH: Final = timedelta(days=1)
_COMFORTABLE_ROWS: Final = 500  # half the cap: room for days that are busier than the last
_DELIVERY_EVENTS: Final = 1_000
_DELIVERY_BYTES: Final = 700_000  # SendGrid itself posts at 768 KB
_PROGRESS_SECONDS: Final = 10.0
_RECENT: Final = timedelta(hours=1)

Fetched = MessageEvents | NotFound | UnexpectedAnswer

_ENCODER = msgspec.json.Encoder()


class Progress(msgspec.Struct):
    """Where an interrupted backfill was.

    Of the messages of ``since`` to ``position``, the events from ``events_since`` on are in the
    log, as far as they had happened when the run ``began``; None: nobody knows (stored by an
    earlier release).
    """

    source: str
    since: datetime
    position: datetime
    events_since: datetime | None = None
    subuser: str | None = None
    began: datetime | None = None

    def covers(self, first: datetime, since: datetime) -> bool:
        """Whether a request for messages from ``first``, events from ``since`` on can go on."""
        return (
            self.since <= first < self.position
            and self.events_since is not None
            and self.events_since <= since
        )

    def is_recent(self, now: datetime) -> bool:
        """Whether the messages that were read are taken to have no newer events."""
        return self.began is not None and now - self.began <= _RECENT


@dataclass(slots=True)
class Result:
    """What a backfill did.

    Attributes:
        messages: Messages whose events were fetched.
        events: Events appended, by SendGrid's word.
        known: Events left out because the log has them already under another id.
        vanished: Messages that were listed, but not kept by SendGrid any more when asked for.
        unreadable: Messages whose details have another form than documented.
        truncated: Messages with so many events that SendGrid leaves out the older ones.
        too_many: Seconds with more messages than SendGrid lists: some are missing.
    """

    messages: int = 0
    events: Counter[str] = field(default_factory=Counter)
    known: int = 0
    vanished: int = 0
    unreadable: list[str] = field(default_factory=list)
    truncated: list[str] = field(default_factory=list)
    too_many: list[datetime] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Request:
    """What is to be fetched.

    Attributes:
        since: No event before this.
        until: No message after this.
        lookback: How long before ``since`` a message may have been sent whose events count.
        concurrency: How many messages are asked for at once.
        restart: Do not go on from an interrupted run.
    """

    since: datetime
    until: datetime
    lookback: timedelta = timedelta(0)
    concurrency: int = 8
    restart: bool = False


def backfill(
    source: Source,
    log: EventLog,
    request: Request,
    *,
    say: Callable[[str], None],
    is_known: Callable[[Event], bool] = lambda _: False,
) -> Result:
    """Fetch a span of time and append its events to the log.

    Args:
        source: Where the history comes from.
        log: Takes the events, as deliveries with the header ``x-source: backfill``.
        request: The span.
        say: Takes lines of progress for people.
        is_known: Whether the log has an event already, under another id.

    Raises:
        SendGridError: SendGrid does not answer; what was done so far is in the log.
        EventLogError: The log cannot be written; likewise.
    """
    since, until = _whole_second(request.since), _whole_second(request.until) + _SECOND
    first, now = since - request.lookback, datetime.now(UTC)
    anew = Progress(source.name, first, first, since, source.subuser, now)
    parts = [(first, until, anew)]
    stored = None if request.restart else _stored(log, source)
    if stored and stored.covers(first, since):
        start = min(stored.position, until)
        say(f"Going on from {_show(start)}, where the last run stopped (--restart begins anew)")
        parts = [(start, until, msgspec.structs.replace(stored, events_since=since))]
        if source.gives_event_ids and not stored.is_recent(now):
            # Where messages are found by their last event, newer ones show up further on.
            say("Messages from before that are asked for once more at the end: that run is old")
            parts.append((first, start, anew))
    run = _Run(source, log, since.timestamp(), request.concurrency, is_known)
    shown_at = time.monotonic()
    with run.pool:
        for start, end, progress in parts:
            for window_start, window_end in run.windows(start, end):
                progress.position = window_end
                log.put(PROGRESS_KEY, _ENCODER.encode(progress).decode())
                if time.monotonic() - shown_at >= _PROGRESS_SECONDS:
                    shown_at = time.monotonic()
                    share = (window_end - start) / (end - start)
                    say(
                        f"{_show(window_start)}  {share:4.0%}  {run.result.messages:,} messages, "
                        f"{run.result.events.total():,} events"
                    )
    log.put(PROGRESS_KEY, "")
    return run.result


class _Run:
    def __init__(
        self,
        source: Source,
        log: EventLog,
        since: float,
        concurrency: int,
        is_known: Callable[[Event], bool],
    ) -> None:
        self._source = source
        self._log = log
        self._since = since
        self._is_known = is_known
        self.pool = _Pool(concurrency)
        self.result = Result()

    def windows(self, start: datetime, until: datetime) -> Iterator[tuple[datetime, datetime]]:
        """Bring window after window into the log; yield each when it is there."""
        width = _FIRST_WIDTH
        while start < until:
            end = min(start + width, until)
            listing = self._source.list(start, end)
            if listing.capped and end - start > _SECOND:
                width = max(_SECOND, _whole_seconds((end - start) / 2))
                continue
            if listing.capped:
                listing = self._source.list_finely(start, end)
                if listing.capped:
                    self.result.too_many.append(start)
            self._bring(listing.ids)
            yield start, end
            room = _COMFORTABLE_ROWS / max(len(listing.ids), 1)
            width = (end - start) * min(max(room, 0.5), 4.0)
            width = min(max(_SECOND, _whole_seconds(width)), _LARGEST_WIDTH)
            start = end

    def _bring(self, ids: list[str]) -> None:
        """Fetch messages side by side and append their events."""
        result = self.result
        events: list[Event] = []
        for message_id, found in zip(ids, self.pool.map(self._fetch, ids), strict=True):
            if isinstance(found, NotFound):
                result.vanished += 1
                continue
            if isinstance(found, UnexpectedAnswer):
                result.unreadable.append(str(found))
                continue
            result.messages += 1
            if found.truncated:
                result.truncated.append(message_id)
            for event in filter(self._is_wanted, found.events):
                if self._is_known(event):
                    result.known += 1
                else:
                    events.append(event)
        for delivery in as_deliveries(events, datetime.now(UTC)):
            self._log.append([delivery])
        result.events.update(str(event.get("event")) for event in events)

    def _fetch(self, message_id: str) -> Fetched:
        try:
            return self._source.message(message_id)
        except (NotFound, UnexpectedAnswer) as problem:
            return problem

    def _is_wanted(self, event: Event) -> bool:
        timestamp = event.get("timestamp")
        return not isinstance(timestamp, int) or timestamp >= self._since


class _Pool(contextlib.AbstractContextManager["_Pool"]):
    """Threads that give up what is still waiting as soon as one of them fails."""

    def __init__(self, size: int) -> None:
        self._threads = ThreadPoolExecutor(size, thread_name_prefix="backfill")

    def map(self, function: Callable[[str], Fetched], items: list[str]) -> Iterator[Fetched]:
        """As the builtin, several at a time, results in the order of the items."""
        return self._threads.map(function, items)

    def __exit__(self, *_: object) -> None:
        self._threads.shutdown(cancel_futures=True)


def as_deliveries(events: list[Event], received_at: datetime) -> Iterator[Delivery]:
    """Events as SendGrid posts them: an array, CR LF after each comma and at the end."""
    parts: list[bytes] = []
    size = 0
    for event in events:
        part = _ENCODER.encode(event)
        if parts and (len(parts) >= _DELIVERY_EVENTS or size + len(part) > _DELIVERY_BYTES):
            yield _delivery(parts, received_at)
            parts, size = [], 0
        parts.append(part)
        size += len(part)
    if parts:
        yield _delivery(parts, received_at)


def _delivery(parts: list[bytes], received_at: datetime) -> Delivery:
    return Delivery(b"[" + b",\r\n".join(parts) + b"]\r\n", received_at, HEADERS)


def _stored(log: EventLog, source: Source) -> Progress | None:
    text = log.get(PROGRESS_KEY)
    if not text:
        return None
    progress = msgspec.json.decode(text, type=Progress)
    mine = (source.name, source.subuser)
    return progress if (progress.source, progress.subuser) == mine else None


def _whole_second(moment: datetime) -> datetime:
    return moment.astimezone(UTC).replace(microsecond=0)


def _whole_seconds(span: timedelta) -> timedelta:
    return timedelta(seconds=int(span.total_seconds()))


def _show(moment: datetime) -> str:
    return f"{moment:%Y-%m-%d %H:%M:%S}"
