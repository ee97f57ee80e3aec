"""What every event log backend offers. The unit is a delivery: one webhook POST at one offset."""

from __future__ import annotations

import uuid
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Literal, NamedTuple

FORWARDER_PREFIX = "forward:"
"""Consumers that pass deliveries on to another URL; the others bring them into a warehouse."""

SOURCE_HEADER = "x-source"
"""Header of a delivery that did not come by webhook: says where from. It is not passed on."""

IDENTITY = "log.identity"
"""The setting by which a log is told from others."""

ErrorKind = Literal["locked", "full", "corrupt", "not_a_log", "missing", "unavailable", "position"]


class EventLogError(Exception):
    """The log cannot do what was asked; the message says what to do.

    Attributes:
        kind: ``locked`` another process holds the log longer than the timeout; ``full`` no space
            left; ``corrupt`` damaged; ``not_a_log`` something else lives at that address;
            ``missing`` nothing is there and it was not to be made; ``unavailable`` cannot be
            opened or reached; ``position`` an impossible offset.
    """

    def __init__(self, kind: ErrorKind, message: str) -> None:
        super().__init__(message)
        self.kind: ErrorKind = kind


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


@dataclass(frozen=True, slots=True)
class Position:
    """How far a consumer has committed, and when it last did (aware, UTC)."""

    consumer: str
    offset: int
    committed_at: datetime


@dataclass(frozen=True, slots=True)
class Quarantined:
    """A delivery kept aside because its body cannot be read as events.

    Attributes:
        id: Its number in quarantine; only grows.
        offset: Its place in the log, None when it never was there.
        reason: What is wrong with it, in words.
        quarantined_at: When it was set aside (aware, UTC).
        delivery: The delivery as it arrived.
    """

    id: int
    offset: int | None
    reason: str
    quarantined_at: datetime
    delivery: Delivery


@dataclass(frozen=True, slots=True)
class Trimmed:
    """What a trim removed, and the consumers that kept it from removing more.

    Attributes:
        deliveries: How many deliveries went.
        held_by: Consumers behind the retention border, or a word that none has committed yet.
    """

    deliveries: int
    held_by: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class LogStatus:
    """The extent of a log, cheap to ask for whatever its size.

    Attributes:
        first: Lowest offset still stored; ``end + 1`` when nothing is.
        end: As :meth:`EventLog.end`.
        size_bytes: What the log takes on disk (of one replica).
        quarantined: How many deliveries are in quarantine.
        last_received_at: Arrival of the newest delivery still stored (aware, UTC).
    """

    first: int
    end: int
    size_bytes: int
    quarantined: int
    last_received_at: datetime | None


class MinuteCount(NamedTuple):
    """How often something happened in one minute (``minute`` = epoch seconds // 60)."""

    minute: int
    name: str
    total: int


class EventLog(ABC):
    """An append-only, ordered, durable log of deliveries, shared by many receivers and taps."""

    @abstractmethod
    def append(self, deliveries: Sequence[Delivery], *, repeats: bool = False) -> list[int]:
        """Store deliveries; return their offsets only when all of them are on disk.

        Args:
            deliveries: What to store.
            repeats: They are wanted once more: a backend that stores what SendGrid repeats only
                once is to store these all the same.
        """

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
    def positions(self) -> list[Position]:
        """Every consumer that ever committed, by name."""

    @abstractmethod
    def forget(self, consumer: str) -> bool:
        """Drop a consumer that will not come back, so that trimming waits for it no longer."""

    @abstractmethod
    def status(self) -> LogStatus:
        """The extent of the log."""

    @abstractmethod
    def arrival_after(self, offset: int) -> datetime | None:
        """When the first delivery after ``offset`` arrived; None when there is none."""

    @abstractmethod
    def find(self, since: datetime, until: datetime) -> Iterator[LoggedDelivery]:
        """Deliveries that arrived at ``since <= received_at < until``, in offset order."""

    @abstractmethod
    def trim(self, before: datetime) -> Trimmed:
        """Remove deliveries older than ``before`` that every consumer has committed.

        Nothing goes while no consumer other than forwarders has ever committed. Space is given
        back to the system.
        """

    @abstractmethod
    def quarantine(self, delivery: Delivery, reason: str, offset: int | None = None) -> None:
        """Set a delivery aside, on disk on return; once per ``offset``, however often asked."""

    @abstractmethod
    def quarantined(self, after: int = 0, limit: int = 100) -> list[Quarantined]:
        """What is in quarantine, by id from ``after`` on."""

    @abstractmethod
    def release(self, ids: Iterable[int]) -> list[int]:
        """Move deliveries from quarantine to the end of the log; return their new offsets."""

    @abstractmethod
    def discard(self, ids: Iterable[int]) -> int:
        """Delete deliveries from quarantine for good; return how many there were."""

    @abstractmethod
    def get(self, key: str) -> str | None:
        """A setting that all processes on this log share."""

    @abstractmethod
    def put(self, key: str, value: str) -> None:
        """Store a setting that all processes on this log share."""

    @abstractmethod
    def put_if_absent(self, key: str, value: str) -> str:
        """Store a setting unless there is one; return the one that stands."""

    def identity(self) -> str:
        """What tells this log from every other one, also from one that stands in its place."""
        return self.get(IDENTITY) or self.put_if_absent(IDENTITY, str(uuid.uuid4()))

    @abstractmethod
    def lease(self, name: str, owner: str, seconds: float) -> bool:
        """Take or renew the right to do something alone; False while another owner has it.

        Two owners can both hold it only if their clocks differ by more than ``seconds``.
        """

    @abstractmethod
    def add_counts(self, minute: int, counts: Mapping[str, int]) -> None:
        """Add to the counts of a minute, for people to look at; kept for a day."""

    @abstractmethod
    def counts(self, since_minute: int) -> list[MinuteCount]:
        """The counts from a minute on."""

    @abstractmethod
    def check(self) -> list[str]:
        """Read everything and return what is wrong with it, in words; empty when all is well."""

    @abstractmethod
    def close(self) -> None:
        """Let go of files and connections."""
