"""The webhook sender: batches, disorder, repeats, retries with growing intervals, connections.

How SendGrid delivers: the reference, 3.8 and 3.9. The interval schedule is not published; here it
doubles from `RetryPolicy.first` up to `RetryPolicy.longest` and ends `RetryPolicy.give_up` seconds
after the first attempt (24 hours for SendGrid).
"""

from __future__ import annotations

import base64
import heapq
import itertools
import os
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

import msgspec

from sendgrid_simulator.oauth import TokenSource
from sendgrid_simulator.post import new_pool, post
from sendgrid_simulator.signing import DELIVERY_HEADERS, encode_event, frame_encoded, sign_body

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey

MAX_BODY = 768 * 1024
_ENGAGEMENT = {"open", "click", "spamreport", "unsubscribe", "group_unsubscribe"}


@dataclass(frozen=True)
class RetryPolicy:
    """When a delivery that was not acknowledged is tried again, in seconds."""

    first: float = 1.0
    longest: float = 300.0
    give_up: float = 86400.0
    new_ids: bool = False  # engagement events get another sg_event_id (sendgrid-nodejs#1435)


@dataclass
class SendReport:
    """What became of it.

    Attributes:
        deliveries, events: How many there were to send, repeats included.
        acknowledged, acknowledged_events: How many got a 2xx.
        attempts: POSTs made.
        retried: POSTs that were not the first of their delivery.
        failed: Deliveries given up.
        statuses: Answers by status; ``none`` for attempts without one.
        seconds: From the first POST to the last answer.
    """

    deliveries: int = 0
    events: int = 0
    acknowledged: int = 0
    acknowledged_events: int = 0
    attempts: int = 0
    retried: int = 0
    failed: int = 0
    statuses: dict[str, int] = field(default_factory=dict)
    seconds: float = 0.0

    def as_dict(self) -> dict[str, Any]:
        """The report as JSON has it."""
        return asdict(self) | {"seconds": round(self.seconds, 3)}


@dataclass
class Batch:
    """The events of one delivery, encoded; attempts made so far."""

    encoded: list[bytes]
    attempts: int = 0
    first_at: float = 0.0

    def body(self) -> bytes:
        """The raw body."""
        return frame_encoded(self.encoded)


def batches(events: Iterable[dict[str, Any]], size: int = 100) -> Iterator[Batch]:
    """Events in deliveries of at most ``size`` events and 768 KB."""
    part: list[bytes] = []
    length = 3
    for encoded in map(encode_event, events):
        if part and (len(part) >= size or length + len(encoded) + 3 > MAX_BODY):
            yield Batch(part)
            part, length = [], 3
        part.append(encoded)
        length += len(encoded) + 3
    if part:
        yield Batch(part)


def with_new_ids(batch: Batch) -> Batch:
    """The batch with other ids in its engagement events, as one report says of retries."""
    events = [msgspec.json.decode(item) for item in batch.encoded]
    for event in events:
        if event.get("event") in _ENGAGEMENT and "sg_event_id" in event:
            raw = base64.urlsafe_b64encode(os.urandom(16)).rstrip(b"=")
            event["sg_event_id"] = raw.decode()
    return Batch([encode_event(event) for event in events], batch.attempts, batch.first_at)


class WebhookSender:
    """Posts deliveries to one URL over several kept connections.

    Args:
        url: The receiver.
        private_key: Signs each attempt anew; None sends unsigned.
        connections: Number of connections, each with a thread.
        retry: None never tries again.
        rate: The most events per second; None is as fast as the receiver answers.
        timeout: Seconds after which an attempt counts as unanswered (SendGrid's is not
            published; 10 is what others report).
        tokens: Where bearer tokens come from, if the webhook has OAuth.
        on_acknowledged: Called with the events' bytes of every acknowledged delivery.
    """

    def __init__(
        self,
        url: str,
        private_key: EllipticCurvePrivateKey | None = None,
        *,
        connections: int = 4,
        retry: RetryPolicy | None = None,
        rate: float | None = None,
        timeout: float = 10.0,
        tokens: TokenSource | None = None,
        on_acknowledged: Callable[[list[bytes]], None] | None = None,
    ) -> None:
        self.url = url
        self._key = private_key
        self._connections = connections
        self._retry = retry
        self._rate = rate
        self._timeout = timeout
        self._on_acknowledged = on_acknowledged
        self._lock = threading.Condition()
        self._stop = threading.Event()
        self._tokens = tokens
        self._pool = new_pool(connections)

    def send_events(self, events: Iterable[dict[str, Any]], batch_size: int = 100) -> SendReport:
        """Sends events, so many a delivery; returns when all are acknowledged or given up."""
        return self.send(batches(events, batch_size))

    def stop(self) -> None:
        """Makes `send` return soon; what was not acknowledged yet counts as failed."""
        self._stop.set()
        with self._lock:
            self._lock.notify_all()

    def send(self, work: Iterable[Batch]) -> SendReport:
        """Sends batches; returns when all are acknowledged or given up."""
        self._fresh = iter(work)
        self._waiting: list[tuple[float, int, Batch]] = []
        self._order = itertools.count()
        self._in_flight = 0
        self._sent_events = 0
        self.report = SendReport()
        self._crash: Exception | None = None
        self._started = time.monotonic()
        threads = [
            threading.Thread(target=self._work, name=f"webhook-sender-{n}", daemon=True)
            for n in range(self._connections)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        self._pool.clear()
        if self._crash is not None:
            raise self._crash
        report = self.report
        report.seconds = time.monotonic() - self._started
        report.failed = report.deliveries - report.acknowledged
        return report

    def _work(self) -> None:
        try:
            while (batch := self._next()) is not None:
                self._attempt(batch)
        except Exception as error:
            self._crash = error
            self.stop()

    def _next(self) -> Batch | None:
        """The next batch to try: a retry that is due, else a fresh one; None when all is done."""
        with self._lock:
            while not self._stop.is_set():
                now = time.monotonic()
                if self._waiting and self._waiting[0][0] <= now:
                    batch = heapq.heappop(self._waiting)[2]
                    self._in_flight += 1
                    return batch
                pause = self._pace(now)
                if pause <= 0 and (fresh := next(self._fresh, None)) is not None:
                    self.report.deliveries += 1
                    self.report.events += len(fresh.encoded)
                    self._sent_events += len(fresh.encoded)
                    self._in_flight += 1
                    fresh.first_at = now
                    return fresh
                if pause <= 0 and not self._waiting and not self._in_flight:
                    self._lock.notify_all()
                    return None
                if self._waiting:
                    due = self._waiting[0][0] - now
                    pause = min(pause, due) if pause > 0 else due
                self._lock.wait(max(0.001, pause) if pause > 0 else None)
            return None

    def _pace(self, now: float) -> float:
        """Seconds until the rate allows the next fresh delivery."""
        if self._rate is None:
            return 0.0
        return self._started + self._sent_events / self._rate - now

    def _attempt(self, batch: Batch) -> None:
        if batch.attempts and self._retry is not None and self._retry.new_ids:
            batch = with_new_ids(batch)
        body = batch.body()
        # Every attempt is stamped and signed anew (sendgrid-nodejs#1193).
        headers = sign_body(body, self._key) if self._key else DELIVERY_HEADERS
        status = post(
            self._pool, self.url, body, headers, timeout=self._timeout, tokens=self._tokens
        )
        # No answer is as good as a refusal.
        acknowledged = status is not None and 200 <= status < 300
        if acknowledged and self._on_acknowledged is not None:
            self._on_acknowledged(batch.encoded)
        with self._lock:
            self._count(batch, status, acknowledged)
            self._in_flight -= 1
            self._lock.notify_all()

    def _count(self, batch: Batch, status: int | None, acknowledged: bool) -> None:
        report = self.report
        report.attempts += 1
        report.retried += batch.attempts > 0
        word = "none" if status is None else str(status)
        report.statuses[word] = report.statuses.get(word, 0) + 1
        if acknowledged:
            report.acknowledged += 1
            report.acknowledged_events += len(batch.encoded)
            return
        policy = self._retry
        if policy is None:
            return
        now = time.monotonic()
        pause = min(policy.longest, policy.first * 2**batch.attempts)
        if now + pause - batch.first_at > policy.give_up:
            return
        batch.attempts += 1
        heapq.heappush(self._waiting, (now + pause, next(self._order), batch))
