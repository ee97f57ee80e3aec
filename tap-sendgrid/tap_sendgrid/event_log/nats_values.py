"""What processes on a NATS event log share beside deliveries: positions, settings, leases, counts.

All of it are values in key-value buckets, changed by compare-and-set.
"""

from __future__ import annotations

import base64
import json
import time
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any

from tap_sendgrid.event_log.base import EventLog, EventLogError, MinuteCount, Position
from tap_sendgrid.event_log.micros import from_micros, to_micros
from tap_sendgrid.event_log.nats_client import JetStream

KEPT_HOURS = 25


class NatsValues(EventLog):
    """The part of the log that lives in buckets; the deliveries are its subclass's."""

    _nats: JetStream
    _stream: str

    async def _open_buckets(self, replicas: int) -> None:
        """Find the buckets, or make them."""
        self._state = await self._nats.bucket(f"{self._stream}_state", replicas)
        self._counts = await self._nats.bucket(
            f"{self._stream}_counts", replicas, KEPT_HOURS * 3600.0
        )

    def commit(self, consumer: str, offset: int) -> None:
        """Record how far a consumer is; never moves back."""
        end = self.end()
        if offset < 0 or offset > end:
            raise EventLogError(
                "position",
                f"{consumer} commits offset {offset}, but the stream {self._stream} ends at "
                f"{end}: its state belongs to another log",
            )

        def move(positions: dict[str, Any]) -> None:
            known = positions.get(consumer, [0])[0]
            positions[consumer] = [max(known, offset), to_micros(datetime.now(UTC))]

        self._change_json("positions", move)

    def positions(self) -> list[Position]:
        """Every consumer that ever committed, by name."""
        found = json.loads(self._value("positions") or "{}")
        return [Position(name, at[0], from_micros(at[1])) for name, at in sorted(found.items())]

    def forget(self, consumer: str) -> bool:
        """Drop a consumer; True if there was one."""
        known = any(position.consumer == consumer for position in self.positions())
        self._change_json("positions", lambda positions: positions.pop(consumer, None))
        return known

    def get(self, key: str) -> str | None:
        """A shared setting."""
        return self._value(_key("setting", key))

    def put(self, key: str, value: str) -> None:
        """Store a shared setting."""
        self._change(_key("setting", key), lambda _: value)

    def put_if_absent(self, key: str, value: str) -> str:
        """Store a shared setting unless there is one; return the one that stands."""
        return self._change(_key("setting", key), lambda old: value if old is None else None)

    def lease(self, name: str, owner: str, seconds: float) -> bool:
        """Take or renew a lease."""
        now = time.time()
        mine = json.dumps([owner, now + seconds])

        def take(old: str | None) -> str | None:
            holder, until = json.loads(old) if old else (owner, 0)
            return mine if holder == owner or until < now else None

        return self._change(_key("lease", name), take) == mine

    def add_counts(self, minute: int, counts: Mapping[str, int]) -> None:
        """Add to the counts of a minute."""

        def add(hour: dict[str, Any]) -> None:
            known = hour.setdefault(str(minute), {})
            for name, number in counts.items():
                known[name] = known.get(name, 0) + number

        self._change_json(f"hour.{minute // 60}", add, counts=True)

    def counts(self, since_minute: int) -> list[MinuteCount]:
        """The counts from a minute on, at most a day back."""
        this_hour = int(time.time()) // 3600
        found: list[MinuteCount] = []
        for hour in range(max(since_minute // 60, this_hour - KEPT_HOURS + 1), this_hour + 1):
            minutes = json.loads(self._value(f"hour.{hour}", counts=True) or "{}")
            found += [
                MinuteCount(int(minute), name, number)
                for minute, counts in minutes.items()
                for name, number in counts.items()
                if int(minute) >= since_minute
            ]
        return sorted(found)

    def _value(self, key: str, *, counts: bool = False) -> str | None:
        bucket = self._counts if counts else self._state
        value = self._nats.run(self._nats.value(bucket, key))
        return None if value is None else value.decode()

    def _change(
        self, key: str, change: Callable[[str | None], str | None], *, counts: bool = False
    ) -> str:
        """Change a value; return the one that stands."""

        def in_bytes(old: bytes | None) -> bytes | None:
            new = change(None if old is None else old.decode())
            return None if new is None else new.encode()

        bucket = self._counts if counts else self._state
        return (self._nats.run(self._nats.change(bucket, key, in_bytes)) or b"").decode()

    def _change_json(
        self, key: str, change: Callable[[dict[str, Any]], object], *, counts: bool = False
    ) -> None:
        """Change an object in place."""

        def in_text(old: str | None) -> str:
            value = json.loads(old or "{}")
            change(value)
            return json.dumps(value)

        self._change(key, in_text, counts=counts)


def _key(kind: str, name: str) -> str:
    """A key of a bucket from any text: keys are of few letters."""
    return f"{kind}.{base64.urlsafe_b64encode(name.encode()).decode().rstrip('=') or '-'}"
