"""Figures for Prometheus, and the counts per minute that the status page draws."""

from __future__ import annotations

import os
import threading
import time
from collections import Counter as Tally
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime

from prometheus_client import CollectorRegistry, Counter, Histogram, disable_created_metrics
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.exposition import generate_latest
from prometheus_client.multiprocess import MultiProcessCollector
from prometheus_client.registry import Collector

from tap_sendgrid.event_log import EventLog
from tap_sendgrid.webhook.body import KNOWN_EVENTS, OTHER

MULTIPROCESS_VARIABLE = "PROMETHEUS_MULTIPROC_DIR"
"""prometheus-client adds up the figures of several workers through files in this folder."""

disable_created_metrics()  # type: ignore[no-untyped-call]

_LATENCIES = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10)


class ReceiverMetrics:
    """What one worker counts.

    Prometheus gets totals. The log gets counts per minute (see :meth:`flush`), so that they
    outlive the process and cover all workers; there ``event:open`` is the number of opens,
    ``refused:signature`` that of deliveries refused for that reason, and so on.
    """

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self._deliveries = Counter(
            "sendgrid_webhook_deliveries",
            "Deliveries on disk and acknowledged",
            registry=self.registry,
        )
        self._bytes = Counter(
            "sendgrid_webhook_received_bytes",
            "Bytes of the bodies of those",
            registry=self.registry,
        )
        events = Counter(
            "sendgrid_webhook_events",
            "Events in those, by SendGrid's event type",
            ["event"],
            registry=self.registry,
        )
        # Made beforehand: a type that has not come yet shows as 0, not as missing.
        self._events = {event: events.labels(event) for event in (*sorted(KNOWN_EVENTS), OTHER)}
        self._unreadable = Counter(
            "sendgrid_webhook_unreadable",
            "Deliveries whose body is no list of events (in quarantine)",
            registry=self.registry,
        )
        self._refused = Counter(
            "sendgrid_webhook_refused",
            "Requests to the secret path that were not acknowledged",
            ["reason"],
            registry=self.registry,
        )
        self._seconds = Histogram(
            "sendgrid_webhook_delivery_seconds",
            "From the head of a request to its acknowledgement",
            buckets=_LATENCIES,
            registry=self.registry,
        )
        self._lock = threading.Lock()
        self._minute: Tally[str] = Tally()

    def accepted(
        self, size: int, events: Mapping[str, int], seconds: float, *, readable: bool
    ) -> None:
        """Count a delivery that was acknowledged."""
        self._deliveries.inc()
        self._bytes.inc(size)
        self._seconds.observe(seconds)
        for event, number in events.items():
            self._events[event].inc(number)
        if not readable:
            self._unreadable.inc()
        with self._lock:
            self._minute["deliveries"] += 1
            self._minute["bytes"] += size
            for event, number in events.items():
                self._minute[f"event:{event}"] += number

    def refused(self, reason: str) -> None:
        """Count a request that was not acknowledged."""
        self._refused.labels(reason).inc()
        with self._lock:
            self._minute[f"refused:{reason}"] += 1

    def flush(self, log: EventLog) -> None:
        """Add what was counted since the last flush to the log's counts of this minute."""
        with self._lock:
            counts, self._minute = self._minute, Tally()
        if not counts:
            return
        try:
            log.add_counts(int(time.time()) // 60, counts)
        except BaseException:
            with self._lock:
                self._minute.update(counts)
            raise

    def exposition(self, log: EventLog) -> bytes:
        """The text that Prometheus reads: totals of all workers, and the state of the log."""
        registry = CollectorRegistry()
        if os.environ.get(MULTIPROCESS_VARIABLE):
            MultiProcessCollector(registry)  # type: ignore[no-untyped-call]
            text = generate_latest(registry)
        else:
            text = generate_latest(self.registry)
        state = CollectorRegistry()
        state.register(LogCollector(log))
        return text + generate_latest(state)


class LogCollector(Collector):
    """The state of an event log, asked for at each scrape."""

    def __init__(self, log: EventLog) -> None:
        self._log = log

    def collect(self) -> Iterator[GaugeMetricFamily]:
        """The gauges."""
        status = self._log.status()
        for name, text, value in (
            ("end_offset", "Highest offset in the log", status.end),
            ("deliveries", "Deliveries stored, at most", status.end - status.first + 1),
            ("bytes", "Size of the log on disk", status.size_bytes),
            ("quarantined", "Deliveries in quarantine", status.quarantined),
        ):
            yield GaugeMetricFamily(f"sendgrid_event_log_{name}", text, value=value)
        waiting = GaugeMetricFamily(
            "sendgrid_event_log_waiting_deliveries",
            "Deliveries that a consumer has not committed yet (its lag)",
            labels=["consumer"],
        )
        oldest = GaugeMetricFamily(
            "sendgrid_event_log_oldest_waiting_seconds",
            "Age of the oldest delivery that a consumer has not committed yet",
            labels=["consumer"],
        )
        committed = GaugeMetricFamily(
            "sendgrid_event_log_last_commit_timestamp_seconds",
            "When a consumer last committed",
            labels=["consumer"],
        )
        now = datetime.now(UTC)
        for position in self._log.positions():
            label = [position.consumer]
            arrival = self._log.arrival_after(position.offset)
            waiting.add_metric(label, status.end - position.offset)
            oldest.add_metric(
                label, 0.0 if arrival is None else max(0.0, (now - arrival).total_seconds())
            )
            committed.add_metric(label, position.committed_at.timestamp())
        yield from (waiting, oldest, committed)
