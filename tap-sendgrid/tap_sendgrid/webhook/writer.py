"""Group commit: deliveries that wait at the same time go to disk together, with one fsync."""

from __future__ import annotations

import asyncio
import logging
import queue
import threading
import time
from dataclasses import dataclass

from tap_sendgrid.event_log import Delivery, EventLog, EventLogError

logger = logging.getLogger("sendgrid-webhook.writer")

BATCH_BYTES = 16 << 20
BATCH_DELIVERIES = 1000
WAITING_BYTES = 256 << 20
FAILURE_SECONDS = 10.0


@dataclass(slots=True)
class _Waiting:
    delivery: Delivery
    problem: str | None
    done: asyncio.Future[int]


class LogWriter:
    """Appends for many requests at once; one thread writes.

    Args:
        log: The log to append to.
        waiting_bytes: Bodies in memory beyond which further deliveries are refused.
    """

    def __init__(self, log: EventLog, waiting_bytes: int = WAITING_BYTES) -> None:
        self._log = log
        self._limit = waiting_bytes
        self._waiting_bytes = 0
        self._failure: tuple[float, EventLogError] | None = None
        self._queue: queue.SimpleQueue[_Waiting | None] = queue.SimpleQueue()
        self._loop = asyncio.get_running_loop()
        self._thread = threading.Thread(target=self._run, name="log-writer", daemon=True)
        self._thread.start()

    async def append(self, delivery: Delivery, problem: str | None = None) -> int:
        """The delivery's offset, once it is on disk.

        Args:
            delivery: What arrived.
            problem: Why its body cannot be read as events: it goes to quarantine as well.

        Raises:
            EventLogError: It is not on disk; whoever sent it must send it again.
        """
        size = len(delivery.body)
        if self._waiting_bytes + size > self._limit:
            raise EventLogError("unavailable", "too many deliveries wait for the event log")
        done: asyncio.Future[int] = self._loop.create_future()
        self._waiting_bytes += size
        try:
            self._queue.put(_Waiting(delivery, problem, done))
            return await done
        finally:
            self._waiting_bytes -= size

    def recent_failure(self) -> EventLogError | None:
        """Why the last append failed, for some seconds after it did."""
        if self._failure is None or time.monotonic() - self._failure[0] > FAILURE_SECONDS:
            return None
        return self._failure[1]

    def close(self) -> None:
        """Write what waits, then end the thread."""
        self._queue.put(None)
        self._thread.join()

    def _run(self) -> None:
        open_ = True
        while open_:
            first = self._queue.get()
            if first is None:
                return
            batch, size = [first], len(first.delivery.body)
            while size < BATCH_BYTES and len(batch) < BATCH_DELIVERIES:
                try:
                    item = self._queue.get_nowait()
                except queue.Empty:
                    break
                if item is None:
                    open_ = False
                    break
                batch.append(item)
                size += len(item.delivery.body)
            self._write(batch)

    def _write(self, batch: list[_Waiting]) -> None:
        offsets: list[int] = []
        failure: EventLogError | None = None
        try:
            offsets = self._log.append([item.delivery for item in batch])
        except EventLogError as error:
            failure = error
        except Exception as error:
            logger.critical("Appending failed in a way that nobody foresaw", exc_info=error)
            failure = EventLogError("unavailable", f"the event log failed: {error}")
        self._failure = (time.monotonic(), failure) if failure else None
        for item, offset in zip(batch, offsets, strict=False):
            if item.problem:
                try:
                    self._log.quarantine(item.delivery, item.problem, offset)
                except EventLogError as error:
                    # It is in the log: the tap meets it there and sets it aside itself.
                    logger.warning("Delivery %d is not in quarantine yet: %s", offset, error)
        self._loop.call_soon_threadsafe(_answer, batch, offsets, failure)


def _answer(batch: list[_Waiting], offsets: list[int], failure: EventLogError | None) -> None:
    """Wake the requests; one that was given up meanwhile is passed over."""
    for number, item in enumerate(batch):
        if item.done.done():
            continue
        if failure is not None:
            item.done.set_exception(failure)
        else:
            item.done.set_result(offsets[number])
