"""Passes deliveries on to other URLs, as SendGrid would have posted them there itself.

A forwarder is a consumer of the log like the tap: it has its own committed position, so that a
dead endpoint delays nobody else, and gets everything once it is back.
"""

from __future__ import annotations

import hashlib
import logging
import os
import random
import socket
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import suppress
from dataclasses import dataclass
from itertools import islice

import requests

from tap_sendgrid.api.session import Session
from tap_sendgrid.event_log import (
    FORWARDER_PREFIX,
    Delivery,
    EventLog,
    EventLogError,
    LoggedDelivery,
)
from tap_sendgrid.event_log.base import SOURCE_HEADER
from tap_sendgrid.webhook.addresses import web_address

logger = logging.getLogger("sendgrid-webhook.forward")

TOGETHER = 16
"""Deliveries under way to one endpoint at once; SendGrid itself posts from many servers."""

TIMEOUTS = (10.0, 30.0)
"""Seconds to connect, seconds to wait for the answer."""

FIRST_PAUSE_SECONDS = 1.0
LONGEST_PAUSE_SECONDS = 300.0
IDLE_SECONDS = 1.0
LEASE_SECONDS = 15.0
"""After so long another process goes on where a killed one was."""

RENEW_SECONDS = 5.0
REFUSED_TRIES = 8
"""After so many answers 4xx to one delivery, while others are taken, that one is left out."""

_TEMPORARY = {408, 425, 429}


class UnknownForwardTarget(ValueError):
    """An address that nothing can be posted to."""


def consumer_name(url: str) -> str:
    """What a forwarder is called in the log: readable, and without the secrets of its URL.

    Raises:
        UnknownForwardTarget: It is no http(s) address.
    """
    parts = web_address(url)
    if parts is None:  # the address is not shown: any part of it may be a secret
        raise UnknownForwardTarget(
            "cannot forward to what is no http(s) address: write https://host/path"
        )
    digest = hashlib.sha256(url.encode()).hexdigest()[:8]
    return f"{FORWARDER_PREFIX}{parts.hostname}#{digest}"


def begin(log: EventLog, url: str) -> int:
    """Where forwarding to a URL is; a new one begins with what arrives from now on.

    To be called before deliveries are taken that have to be forwarded.
    """
    consumer = consumer_name(url)
    for known in log.positions():
        if known.consumer == consumer:
            return known.offset
    end = log.end()
    log.commit(consumer, end)
    return end


def problem_setting(consumer: str) -> str:
    """Where a forwarder's present problem stands in the log's settings; empty: none."""
    return f"problem.{consumer}"


def post(session: requests.Session, url: str, delivery: Delivery) -> int | None:
    """Post a delivery byte for byte; the status of the answer, None when there was none."""
    try:
        response = session.post(
            url,
            data=delivery.body,
            headers={**delivery.headers, "Accept-Encoding": "gzip"},
            timeout=TIMEOUTS,
            allow_redirects=False,
            stream=True,  # whatever the answer's body is, nobody reads it
        )
    except requests.RequestException:
        return None
    response.close()
    return response.status_code


@dataclass(eq=False)
class _Try:
    """A delivery to be taken: whether it was refused last, how often while others were taken."""

    logged: LoggedDelivery
    refused: bool = False
    refusals: int = 0

    @property
    def is_history(self) -> bool:
        """Whether it is of a backfill: unsigned, and SendGrid told that URL itself at the time."""
        return SOURCE_HEADER in self.logged.delivery.headers


def _is_taken(status: int | None) -> bool:
    return status is not None and 200 <= status < 300


class Forwarder:
    """Passes on to one URL what comes after its position, until stopped.

    Args:
        log: The log; not shared with another thread that closes it.
        url: Where to.
        stop: Ends :meth:`run` when set.
    """

    def __init__(self, log: EventLog, url: str, stop: threading.Event) -> None:
        self.consumer = consumer_name(url)
        self._log = log
        self._url = url
        self._stop = stop
        self._owner = f"{socket.gethostname()}/{os.getpid()}/{id(self):x}"
        self._session = Session()
        adapter = requests.adapters.HTTPAdapter(pool_maxsize=TOGETHER)
        self._session.mount("http://", adapter)
        self._session.mount("https://", adapter)
        self._problem: str | None = None

    def run(self) -> None:
        """Forward until stopped; outages of the log and of the endpoint are waited out."""
        with ThreadPoolExecutor(TOGETHER, thread_name_prefix="forward") as pool:
            while not self._stop.is_set():
                try:
                    if self._renew():
                        self._follow(pool)
                        continue
                except EventLogError as error:
                    logger.warning("Forwarding waits for the event log: %s", error)
                self._stop.wait(5 * IDLE_SECONDS)
        with suppress(EventLogError):
            self._log.lease(self.consumer, self._owner, 0)  # a restart need not wait for its end
        self._session.close()

    def _follow(self, pool: ThreadPoolExecutor) -> None:
        """Forward as long as the lease is ours."""
        position = begin(self._log, self._url)
        left: list[_Try] = []
        pauses = 0
        reading: Iterator[LoggedDelivery] = iter(())
        while not self._stop.is_set():
            if not self._renew():
                return
            fresh = [_Try(logged) for logged in islice(reading, TOGETHER - len(left))]
            if not fresh and len(left) < TOGETHER:
                reading = self._log.read(position, self._log.end())
                fresh = [_Try(logged) for logged in islice(reading, TOGETHER - len(left))]
            if not fresh and not left:
                self._stop.wait(IDLE_SECONDS)
                continue
            if fresh:
                position = fresh[-1].logged.offset
            # All places are taken by what it may never take: does it take others?
            is_full = len(left) >= TOGETHER and any(each.refused for each in left)
            probes = self._probes(position) if is_full else []
            tries = left + fresh + probes
            posting = [pool.submit(self._post, each) for each in tries]
            while wait(posting, RENEW_SECONDS).not_done:
                self._renew()
            left = self._settle(tries, [each.result() for each in posting])
            # Success of any kind starts the pauses anew: the endpoint lives.
            pauses = pauses + 1 if len(left) == len(tries) else min(1, len(left))
            left = [each for each in left if each not in probes]
            self._log.commit(
                self.consumer,
                left[0].logged.offset - 1 if left else position,
            )
            if pauses:
                self._pause(min(FIRST_PAUSE_SECONDS * 2.0 ** (pauses - 1), LONGEST_PAUSE_SECONDS))

    def _renew(self) -> bool:
        """Keep the right to forward alone; False if another process has it now."""
        return self._log.lease(self.consumer, self._owner, LEASE_SECONDS)

    def _pause(self, seconds: float) -> None:
        """Wait, and stay the one that forwards."""
        while seconds > 0 and not self._stop.wait(min(seconds, RENEW_SECONDS)):
            seconds -= RENEW_SECONDS
            self._renew()

    def _probes(self, position: int) -> list[_Try]:
        """One of the newer deliveries, if there is any: whichever, as its neighbours may be alike.

        It keeps its turn, so that the endpoint may get it twice.
        """
        end = self._log.end()
        after = random.randrange(position, max(end, position + 1))  # noqa: S311 - no secret
        newer = map(_Try, self._log.read(after, end))
        return list(islice((each for each in newer if not each.is_history), 1))

    def _post(self, attempt: _Try) -> int | None:
        if attempt.is_history:
            return 204
        delivery = attempt.logged.delivery
        return None if self._stop.is_set() else post(self._session, self._url, delivery)

    def _settle(self, tries: list[_Try], statuses: list[int | None]) -> list[_Try]:
        """What has to be tried again, in log order."""
        left: list[_Try] = []
        outcomes = list(zip(tries, statuses, strict=True))
        any_taken = any(_is_taken(status) and not each.is_history for each, status in outcomes)
        worst: int | None = 200
        for attempt, status in outcomes:
            if _is_taken(status):
                continue
            worst = status
            attempt.refused = (
                status is not None and 400 <= status < 500 and status not in _TEMPORARY
            )
            # What is refused with all others is not the delivery's fault; and what is refused with
            # some of them may be so because the endpoint came back only in between.
            if attempt.refused and any_taken:
                attempt.refusals += 1
                if attempt.refusals >= REFUSED_TRIES:
                    logger.warning(
                        "%s keeps answering %d to delivery %d and takes others, so it is left out; "
                        "to send it again: sendgrid-webhook replay --offset %d --to URL",
                        self.consumer,
                        status,
                        attempt.logged.offset,
                        attempt.logged.offset,
                    )
                    continue
            left.append(attempt)
        if not self._stop.is_set():
            self._tell(len(left), worst)
        return left

    def _tell(self, waiting: int, status: int | None) -> None:
        """Log that a problem began or ended, and keep it for the status page."""
        problem = ""
        if waiting:
            problem = "no answer" if status is None else f"answers {status}"
        if problem != self._problem:
            if problem:
                logger.warning("%s: %s; trying again until it works", self.consumer, problem)
            elif self._problem:
                logger.info("%s works again", self.consumer)
            self._problem = problem
            self._log.put(problem_setting(self.consumer), problem)
