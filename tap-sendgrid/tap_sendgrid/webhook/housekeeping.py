"""What runs beside the receiving: forwarding, and dropping what is old."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta

from tap_sendgrid.event_log import FORWARDER_PREFIX, EventLog, EventLogError, open_event_log
from tap_sendgrid.webhook.forward import Forwarder, consumer_name

logger = logging.getLogger("sendgrid-webhook")

TRIM_SECONDS = 600.0
AGAIN_SECONDS = 60.0


@contextmanager
def housekeeping(
    event_log_url: str, forward_to: Sequence[str], retention_days: float | None
) -> Iterator[threading.Event]:
    """Run forwarders and retention in threads as long as the block runs.

    Args:
        event_log_url: The log.
        forward_to: URLs that get a copy of each delivery.
        retention_days: Age in days beyond which deliveries go; None keeps all.

    Yields:
        An event that stops them when it is set.
    """
    stop = threading.Event()
    logs: list[EventLog] = []
    jobs: list[Callable[[], None]] = []
    if forward_to or retention_days:
        logs.append(open_event_log(event_log_url))
        _tell_of_others(logs[0], forward_to)
        jobs += [Forwarder(logs[0], url, stop).run for url in dict.fromkeys(forward_to)]
        if retention_days:
            jobs.append(lambda: keep_trimmed(logs[0], timedelta(days=retention_days or 0), stop))
    threads = [
        threading.Thread(target=keep_running, args=(job, stop), name="housekeeping") for job in jobs
    ]
    for thread in threads:
        thread.start()
    try:
        yield stop
    finally:
        stop.set()
        for thread in threads:
            thread.join()
        for log in logs:
            log.close()


def keep_running(job: Callable[[], None], stop: threading.Event) -> None:
    """Run a job until stopped, and again after a failure that it did not foresee."""
    while not stop.is_set():
        try:
            job()
        except Exception:
            logger.exception("Housekeeping failed; trying again in %.0f s", AGAIN_SECONDS)
            stop.wait(AGAIN_SECONDS)


def keep_trimmed(log: EventLog, age: timedelta, stop: threading.Event) -> None:
    """Trim now and then until stopped."""
    while True:
        try:
            result = log.trim(datetime.now(UTC) - age)
        except EventLogError as error:
            logger.warning("Trimming waits: %s", error)
        else:
            if result.deliveries:
                logger.info("Dropped %d deliveries that all consumers have", result.deliveries)
            if result.held_by:
                logger.info(
                    "Deliveries older than the retention are kept for %s",
                    ", ".join(result.held_by),
                )
        if stop.wait(TRIM_SECONDS):
            return


def _tell_of_others(log: EventLog, forward_to: Sequence[str]) -> None:
    """Name forwarders that nobody runs any more: trimming waits for them."""
    ours = {consumer_name(url) for url in forward_to}
    for position in log.positions():
        if position.consumer.startswith(FORWARDER_PREFIX) and position.consumer not in ours:
            logger.warning(
                "Nothing is forwarded to %s any more, yet old deliveries are kept for it; "
                "if it is gone: sendgrid-webhook forget '%s'",
                position.consumer.removeprefix(FORWARDER_PREFIX),
                position.consumer,
            )
