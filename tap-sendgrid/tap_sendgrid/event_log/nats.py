"""The event log in a NATS JetStream cluster: where one machine is not enough.

A publish is acknowledged when a majority of the replicas has it, and a stream numbers its messages
in the order in which they become visible, so the leader's last number is the high-water mark.
JetStream flushes to disk every two minutes by default: docs/nats holds the configuration that
does so before it acknowledges, without which a power failure of the whole cluster loses data.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import logging
import uuid
from collections.abc import Iterable, Iterator, Sequence
from datetime import UTC, datetime

from nats.js.api import (
    ConsumerConfig,
    DeliverPolicy,
    DiscardPolicy,
    RetentionPolicy,
    StorageType,
    StreamConfig,
    StreamInfo,
)
from nats.js.errors import APIError, BadRequestError, NotFoundError, ServerError

from tap_sendgrid.event_log.base import (
    FORWARDER_PREFIX,
    Delivery,
    EventLogError,
    LoggedDelivery,
    LogStatus,
    Quarantined,
    Trimmed,
)
from tap_sendgrid.event_log.nats_client import DEFAULT_REPLICAS, JetStream, NatsAddress
from tap_sendgrid.event_log.nats_messages import delivery_of, heads_of, received_at
from tap_sendgrid.event_log.nats_values import NatsValues

logger = logging.getLogger("tap-sendgrid.event-log")

READ_BATCH = 1000
READ_BATCH_BYTES = 8 << 20
PUBLISHED_TOGETHER = 64
DUPLICATE_SECONDS = 120.0
"""A body that comes again within this time of its arrival is stored once."""

_REASON, _OFFSET = "Reason", "Log-Offset"
_NO_CLUSTER = 10074
_STORE_REFUSES = 10077


class NatsEventLog(NatsValues):
    """A log in a JetStream stream; safe to use from several threads, processes and machines.

    Beside the stream ``S`` there are the stream ``S_quarantine`` and the buckets ``S_state``
    (positions, settings, leases) and ``S_counts``. SendGrid repeats a delivery whose answer it
    did not get: the same body within two minutes is stored once.

    Args:
        url: See :class:`NatsAddress`.
        create: Make the streams if they do not exist.

    Raises:
        EventLogError: The cluster cannot be reached, or the stream is set up to lose data.
    """

    def __init__(self, url: str, *, create: bool = True) -> None:
        address = NatsAddress.parse(url)
        self._stream = address.stream
        self._subject = f"{address.stream}.deliveries"
        self._aside = f"{address.stream}_quarantine"
        self._nats = JetStream(address)
        self._end = 0
        try:
            self._nats.run(self._open(create=create))
        except BaseException:
            self._nats.close()
            raise

    # -- writing and reading ------------------------------------------------------------------

    def append(self, deliveries: Sequence[Delivery], *, repeats: bool = False) -> list[int]:
        """Store deliveries; return their offsets when a majority of the replicas has them all."""
        self._nats.check_connected()
        for delivery in deliveries:
            if len(delivery.body) + 4096 > self._nats.max_payload:
                raise EventLogError(
                    "unavailable",
                    f"a delivery of {len(delivery.body)} bytes is longer than the NATS servers "
                    "take: raise max_payload in their configuration",
                )
        offsets: list[int] = []
        for start in range(0, len(deliveries), PUBLISHED_TOGETHER):
            part = deliveries[start : start + PUBLISHED_TOGETHER]
            offsets += self._nats.run(self._publish(part, repeats=repeats))
        return offsets

    def read(self, after: int, until: int | None = None) -> Iterator[LoggedDelivery]:
        """Deliveries with ``after < offset <= until`` in order, a few megabytes at a time."""
        last = self.end() if until is None else min(until, self.end())
        while after < last:
            count = min(READ_BATCH, last - after)
            batch = self._nats.run(
                self._nats.read(self._stream, self._subject, after, count, READ_BATCH_BYTES)
            )
            if not batch:
                # A replica that lags, or a gap: the leader knows, unless it is a new one that
                # has not caught up. To end here then would pass over what it does not know yet.
                found = self._nats.run(self._next(after))
                if found is None and int(self._info().state.last_seq) < last:
                    raise EventLogError(
                        "unavailable",
                        f"the NATS stream {self._stream} has a new leader that has not caught up: "
                        "try again",
                    )
                if found is None or found.offset > last:
                    return
                yield found
                after = found.offset
            for message in batch:
                offset = int((message.headers or {})["Nats-Sequence"])
                if offset > last:
                    return
                yield LoggedDelivery(offset, delivery_of(message.data, message.headers or {}))
                after = offset

    def end(self) -> int:
        """The last number that a leader of the stream has given to a stored message."""
        # A new leader may know less for a moment than the one before it told.
        self._end = max(self._end, int(self._info().state.last_seq))
        return self._end

    def status(self) -> LogStatus:
        """The extent of the log."""
        state = self._info().state
        newest = self._nats.run(self._next(state.last_seq - 1)) if state.messages else None
        quarantined = self._nats.run(self._nats.js.stream_info(self._aside)).state.messages
        return LogStatus(
            first=state.first_seq if state.messages else state.last_seq + 1,
            end=state.last_seq,
            size_bytes=state.bytes,
            quarantined=quarantined,
            last_received_at=newest.delivery.received_at if newest else None,
        )

    def arrival_after(self, offset: int) -> datetime | None:
        """When the first delivery after ``offset`` arrived."""
        found = self._nats.run(self._next(offset))
        return found.delivery.received_at if found else None

    def find(self, since: datetime, until: datetime) -> Iterator[LoggedDelivery]:
        """Deliveries that arrived at ``since <= received_at < until``, in offset order.

        Nothing is stored before it arrives, so what was stored before ``since`` is passed over;
        from there on all is looked at, since a replayed delivery keeps its time of arrival.
        """
        end = self.end()
        low, high = self._info().state.first_seq, end + 1
        while low < high:
            middle = (low + high) // 2
            stored_at = self._nats.run(self._stored_at(middle))
            if stored_at is not None and stored_at < since:
                low = middle + 1
            else:
                high = middle
        for logged in self.read(low - 1, end):
            if since <= logged.delivery.received_at < until:
                yield logged

    # -- consumers and retention --------------------------------------------------------------

    def trim(self, before: datetime) -> Trimmed:
        """Remove what is older than ``before`` and committed by all; reads heads, not bodies."""
        positions = self.positions()
        if all(p.consumer.startswith(FORWARDER_PREFIX) for p in positions):
            return Trimmed(0, ("(no tap has committed yet)",))
        floor = min(p.offset for p in positions)
        state = self._info().state
        keep_from = self._nats.run(self._first_to_keep(state.first_seq, floor, before))
        removed = 0
        if state.messages and keep_from > state.first_seq:
            self._nats.run(self._nats.js.purge_stream(self._stream, seq=keep_from))
            removed = state.messages - self._info().state.messages
        oldest = self._nats.run(self._next(keep_from - 1))
        if oldest is None or oldest.delivery.received_at >= before:
            return Trimmed(removed)
        return Trimmed(removed, tuple(p.consumer for p in positions if p.offset < oldest.offset))

    # -- quarantine ---------------------------------------------------------------------------

    def quarantine(self, delivery: Delivery, reason: str, offset: int | None = None) -> None:
        """Set a delivery aside, under a subject that takes one message per offset."""
        headers = {**heads_of(delivery), _REASON: json.dumps(reason), _OFFSET: str(offset or "")}
        subject = f"{self._aside}.{offset or uuid.uuid4().hex}"
        try:
            self._nats.run(self._put_aside(subject, delivery.body, headers))
        except EventLogError as error:
            cause = error.__cause__
            if not (isinstance(cause, APIError) and "per subject" in (cause.description or "")):
                raise

    def quarantined(self, after: int = 0, limit: int = 100) -> list[Quarantined]:
        """What is in quarantine."""
        found: list[Quarantined] = []
        while len(found) < limit:
            batch = self._nats.run(
                self._nats.read(
                    self._aside, ">", after, min(limit - len(found), READ_BATCH), READ_BATCH_BYTES
                )
            )
            if not batch:
                break
            for message in batch:
                heads = message.headers or {}
                after = int(heads["Nats-Sequence"])
                found.append(
                    Quarantined(
                        after,
                        int(heads[_OFFSET]) if heads[_OFFSET] else None,
                        json.loads(heads[_REASON]),
                        datetime.fromisoformat(heads["Nats-Time-Stamp"]).astimezone(UTC),
                        delivery_of(message.data, heads),
                    )
                )
        return found

    def release(self, ids: Iterable[int]) -> list[int]:
        """Move deliveries to the end of the log; each is there before it leaves quarantine."""
        offsets = []
        for number in sorted(ids):
            for item in self.quarantined(number - 1, 1):
                if item.id == number:
                    offsets += self.append([item.delivery], repeats=True)
                    self.discard([number])
        return offsets

    def discard(self, ids: Iterable[int]) -> int:
        """Delete deliveries from quarantine for good."""
        return sum(self._nats.run(self._delete_aside(number)) for number in ids)

    def check(self) -> list[str]:
        """Read everything, and ask whether every replica is up to date."""
        info = self._info()
        problems = [
            f"replica {replica.name} of {self._stream} "
            + ("is offline" if replica.offline else "lags behind")
            for replica in (info.cluster.replicas or [] if info.cluster else [])
            if replica.offline or not replica.current
        ]
        if info.state.lost:
            problems.append(f"the servers lost messages: {info.state.lost.msgs}")
        read = sum(1 for _ in self.read(0, info.state.last_seq))
        if read < info.state.messages:
            problems.append(f"{info.state.messages - read} deliveries cannot be read")
        return problems

    def close(self) -> None:
        """Close the connection."""
        self._nats.close()

    # -- in the event loop --------------------------------------------------------------------

    async def _open(self, *, create: bool) -> None:
        """Find the streams and buckets, or make them."""
        try:
            info = await self._nats.js.stream_info(self._stream)
        except NotFoundError:
            if not create:
                raise
            info = await self._create()
        config = info.config
        if config.max_age or config.discard != DiscardPolicy.NEW:
            raise EventLogError(
                "not_a_log",
                f"the NATS stream {self._stream} drops messages by itself (max_age, or discard "
                "old), so deliveries could be lost: give another stream in event_log_url",
            )
        replicas = config.num_replicas or 1
        await self._open_buckets(replicas)

    async def _create(self) -> StreamInfo:
        """Make the two streams, on as many servers as asked for, or as there are."""
        options = self._nats.address.options
        replicas = int(options.get("replicas", DEFAULT_REPLICAS))
        main = StreamConfig(
            name=self._stream,
            subjects=[self._subject],
            storage=StorageType.FILE,
            retention=RetentionPolicy.LIMITS,
            discard=DiscardPolicy.NEW,
            max_bytes=int(options["max_bytes"]) if "max_bytes" in options else None,
            duplicate_window=DUPLICATE_SECONDS,
            num_replicas=replicas,
            allow_direct=True,
        )
        aside = main.evolve(
            name=self._aside,
            subjects=[f"{self._aside}.*"],
            max_msgs_per_subject=1,
            discard_new_per_subject=True,
        )
        try:
            await self._nats.js.add_stream(aside)
        except (ServerError, BadRequestError, APIError) as error:
            if error.err_code != _NO_CLUSTER or "replicas" in options:
                raise
            logger.warning(
                "A single NATS server keeps one copy of the event log; three make it safe"
            )
            main, aside = main.evolve(num_replicas=1), aside.evolve(num_replicas=1)
            await self._nats.js.add_stream(aside)
        return await self._nats.js.add_stream(main)

    async def _publish(self, deliveries: Sequence[Delivery], *, repeats: bool = False) -> list[int]:
        """Publish some at once, in order, and wait for all."""
        youngest = datetime.now(UTC).timestamp() - DUPLICATE_SECONDS
        sending = []
        for delivery in deliveries:
            headers = heads_of(delivery)
            if not repeats and delivery.received_at.timestamp() > youngest:
                headers["Nats-Msg-Id"] = hashlib.sha256(delivery.body).hexdigest()
            sending.append(
                self._nats.js.publish(
                    self._subject, delivery.body, stream=self._stream, headers=headers
                )
            )
        answers = await asyncio.gather(*sending, return_exceptions=True)
        for answer in answers:
            if isinstance(answer, BaseException):
                raise answer
        return [answer.seq for answer in answers if not isinstance(answer, BaseException)]

    async def _put_aside(self, subject: str, body: bytes, headers: dict[str, str]) -> None:
        await self._nats.js.publish(subject, body, stream=self._aside, headers=headers)

    async def _delete_aside(self, number: int) -> int:
        try:
            return int(await self._nats.js.delete_msg(self._aside, number))
        except APIError as error:
            if error.code in {400, 404} or error.err_code == 10057:
                return 0
            raise

    async def _next(self, after: int) -> LoggedDelivery | None:
        """The first delivery after an offset, asked of the leader."""
        try:
            found = await self._nats.js.get_msg(
                self._stream, max(after, 0) + 1, self._subject, next=True
            )
        except NotFoundError:
            return None
        return LoggedDelivery(found.seq or 0, delivery_of(found.data or b"", found.headers or {}))

    async def _stored_at(self, offset: int) -> datetime | None:
        """When the first delivery from an offset on was stored."""
        try:
            found = await self._nats.js.get_msg(self._stream, offset, self._subject, next=True)
        except NotFoundError:
            return None
        return found.time

    async def _first_to_keep(self, first: int, floor: int, before: datetime) -> int:
        """The lowest offset that trimming must leave."""
        if first > floor:
            return first
        subscription = await self._nats.js.subscribe(
            self._subject,
            stream=self._stream,
            ordered_consumer=True,
            config=ConsumerConfig(
                deliver_policy=DeliverPolicy.BY_START_SEQUENCE,
                opt_start_seq=first,
                headers_only=True,
            ),
        )
        keep_from = first
        try:
            while keep_from <= floor:
                message = await subscription.next_msg(self._nats.timeout)
                offset = message.metadata.sequence.stream
                if offset > floor or received_at(message.headers or {}) >= before:
                    break
                keep_from = offset + 1
        finally:
            await subscription.unsubscribe()
        return keep_from

    def _info(self) -> StreamInfo:
        return self._nats.run(self._nats.js.stream_info(self._stream))
