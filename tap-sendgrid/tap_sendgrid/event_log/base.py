"""What every event log backend offers. The unit is a delivery: one webhook POST at one offset."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime


@dataclass(frozen=True, slots=True)
class Delivery:
    """One webhook POST as it arrived.

    Attributes:
        body: The raw bytes, exactly as received: signatures are made over them.
        received_at: When the receiver got it (aware, UTC, microseconds).
        headers: What a forwarded copy needs (lower-case names): content-type, signature, timestamp.
    """

    body: bytes
    received_at: datetime
    headers: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class LoggedDelivery:
    """A delivery and its place in the log: offsets only grow; there may be gaps."""

    offset: int
    delivery: Delivery


class EventLog(ABC):
    """An append-only, ordered, durable log of deliveries, shared by many receivers and taps."""

    @abstractmethod
    def append(self, deliveries: Sequence[Delivery]) -> list[int]:
        """Store deliveries; return their offsets only when all of them are on disk."""

    @abstractmethod
    def read(self, after: int, until: int | None = None) -> Iterator[LoggedDelivery]:
        """Deliveries with ``after < offset <= until`` in offset order; never blocks a writer.

        Memory stays flat whatever the size of the range. ``until=None`` means the present end.
        """

    @abstractmethod
    def end(self) -> int:
        """The highest offset that a reader may rely on: nothing at or below it appears later.

        0 for a log that never held a delivery; trimming does not lower it.
        """

    @abstractmethod
    def commit(self, consumer: str, offset: int) -> None:
        """Record that everything up to ``offset`` is safe with ``consumer``; never moves back."""

    @abstractmethod
    def close(self) -> None:
        """Let go of files and connections."""
