"""One pass over the event log feeds all event streams, to its present end or for ever."""

from __future__ import annotations

import gc
import signal
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING

from tap_sendgrid.api.errors import InvalidSetting
from tap_sendgrid.event_log import EventLog, EventLogError, LoggedDelivery
from tap_sendgrid.events.reader import commit_position, open_log
from tap_sendgrid.events.writer import Writer, open_writer

if TYPE_CHECKING:
    from tap_sendgrid.events.streams import EventStream
    from tap_sendgrid.tap import TapSendGrid

STATE_SECONDS = 2.0
POLL_SECONDS = 0.2
PROGRESS_SECONDS = 30.0


def sync_events(tap: TapSendGrid, streams: Sequence[EventStream]) -> None:
    """Write SCHEMA, RECORD and STATE of the selected event streams, in one pass over the log.

    With the setting `batch_config` the records go into files, and BATCH messages name these.

    The pass begins after the smallest bookmark; a stream takes only what is after its own. STATE
    is written at the borders of deliveries only, and is true of all streams at once. SIGTERM and
    SIGINT end the pass at such a border, with a last STATE.

    Args:
        tap: The tap; its settings `event_log_url`, `event_log_consumer` and `follow` count.
        streams: Event streams; those not selected are left out, their bookmarks stay.

    Raises:
        EventLogError: The log cannot be read, or the state belongs to another log.
        InvalidSetting: `follow` together with `batch_config`.
    """
    chosen = [stream for stream in streams if stream.selected]
    if not chosen:
        return
    follow = bool(tap.config.get("follow"))
    if follow and tap.config.get("batch_config"):
        raise InvalidSetting(
            "The settings `follow` and `batch_config` do not go together: files are for many "
            "events at once, and a log that is followed brings a few at a time. Remove one of them."
        )
    log = open_log(tap, chosen, create=follow)
    try:
        if log is not None:
            commit_position(tap, log, chosen)
        for stream in chosen:
            stream._write_schema_message()
        if log is not None:
            with open_writer(tap, chosen) as writer, _stop_signals() as stopped, _rare_collection():
                _Pass(tap, log, chosen, writer, stopped).run(follow=follow)
    finally:
        if log is not None:
            log.close()


class _Stopped:
    """Set by the first SIGTERM or SIGINT."""

    def __init__(self) -> None:
        self.requested = False

    def __bool__(self) -> bool:
        return self.requested

    def request(self, *_: object) -> None:
        self.requested = True


@contextmanager
def _stop_signals() -> Iterator[_Stopped]:
    """Take SIGTERM and SIGINT as a wish to stop soon, instead of the SDK's exit at once."""
    stopped = _Stopped()
    if threading.current_thread() is not threading.main_thread():
        yield stopped  # Python delivers signals to the main thread only
        return
    numbers = (signal.SIGTERM, signal.SIGINT)
    before = [signal.signal(number, stopped.request) for number in numbers]
    try:
        yield stopped
    finally:
        for number, handler in zip(numbers, before, strict=True):
            signal.signal(number, handler)


@contextmanager
def _rare_collection() -> Iterator[None]:
    """Let Python look for cycles rarely: events are many objects and no cycles among them."""
    before = gc.get_threshold()
    gc.set_threshold(200_000, *before[1:])
    try:
        yield
    finally:
        gc.set_threshold(*before)


class _Pass:
    """Reads deliveries in order, writes their records, and keeps the bookmarks true."""

    def __init__(
        self,
        tap: TapSendGrid,
        log: EventLog,
        streams: Sequence[EventStream],
        writer: Writer,
        stopped: _Stopped,
    ) -> None:
        self._tap = tap
        self._log = log
        self._identity = log.identity()
        self._streams = streams
        self._writer = writer
        self._stopped = stopped
        self._starts = {stream.name: stream.start for stream in streams}
        self._position = min(self._starts.values())
        self._last: LoggedDelivery | None = None
        self._records = 0
        self._records_at_state = 0
        self._position_at_state = self._position
        self._state_due = 0.0
        self._progress_due = 0.0

    def run(self, *, follow: bool) -> None:
        """Read to the end that the log has now; with ``follow``, to every later one."""
        with ExitStack() as counters:
            self._counters = {
                stream.name: counters.enter_context(stream.get_record_counter())
                for stream in self._streams
            }
            self._state_due = time.monotonic() + STATE_SECONDS
            self._progress_due = time.monotonic() + PROGRESS_SECONDS
            until = self._log.end()
            try:
                while True:
                    self._read(until)
                    if self._stopped or not follow:
                        break
                    self._writer.flush()
                    until = self._wait_for_more(until)
            finally:  # what was written before a damaged delivery need not be read again
                self._write_state()
        self._tap.logger.info(
            "Read the event log up to offset %d: %d events%s.",
            self._position,
            self._records,
            "; stopped by a signal" if self._stopped else "",
        )

    def _read(self, until: int) -> None:
        for logged in self._log.read(self._position, until):
            self._deliver(logged)
            self._position, self._last = logged.offset, logged
            self._tick(until)
            if self._stopped:
                return
        self._position = max(self._position, until)  # offsets may have gaps, at the end too

    def _deliver(self, logged: LoggedDelivery) -> None:
        rejected: list[str] = []
        skipped = {name for name, start in self._starts.items() if logged.offset <= start}
        counts = self._writer.write(logged.delivery, skipped, rejected)
        if rejected:
            self._set_aside(logged, rejected)
        for name, count in counts.items():
            self._records += count
            self._counters[name].value += count

    def _set_aside(self, logged: LoggedDelivery, reasons: list[str]) -> None:
        reason = "; ".join(reasons[:10])
        if len(reasons) > 10:
            reason += f"; and {len(reasons) - 10} more"
        try:
            self._log.quarantine(logged.delivery, reason, logged.offset)
        except EventLogError as error:
            if error.kind != "full":
                raise
            # To stop here would keep the log full for ever: only what was read can be trimmed.
            self._tap.logger.warning(
                "Delivery %d of the event log belongs in quarantine (%s), but %s. Its other events "
                "are synced; before it is trimmed, `sendgrid-webhook export --deliveries --offset "
                "%d` saves it.",
                logged.offset,
                reason,
                error,
                logged.offset,
            )
            return
        self._tap.logger.warning(
            "Delivery %d of the event log is in quarantine: %s. `sendgrid-webhook quarantine` "
            "lists it; its other events are synced.",
            logged.offset,
            reason,
        )

    def _tick(self, until: int) -> None:
        """At the border of a delivery: STATE and a line of progress, when they are due."""
        now = time.monotonic()
        since_state = self._records - self._records_at_state
        if now >= self._state_due or since_state >= self._writer.records_per_state:
            self._write_state()
        if now >= self._progress_due:
            self._progress_due = now + PROGRESS_SECONDS
            self._tap.logger.info(
                "Event log: at offset %d of %d, %d events so far.",
                self._position,
                until,
                self._records,
            )
            for counter in self._counters.values():
                counter.increment(0)  # lets the counter log itself when its interval is over

    def _write_state(self) -> None:
        self._state_due = time.monotonic() + STATE_SECONDS
        if self._position == self._position_at_state and self._records == self._records_at_state:
            return
        self._records_at_state = self._records
        self._position_at_state = self._position
        last = self._last
        for stream in self._streams:
            start = self._starts[stream.name]
            read = last if last is not None and last.offset > start else None
            stream.advance(max(self._position, start), self._identity, read)
        self._writer.flush()
        self._tap.state_writer.write_state(self._tap.state)

    def _wait_for_more(self, until: int) -> int:
        """Sleep until the log has grown or somebody wants to stop; return its end."""
        while not self._stopped:
            self._tick(until)
            end = self._log.end()
            if end > until:
                return end
            time.sleep(POLL_SECONDS)
        return until
