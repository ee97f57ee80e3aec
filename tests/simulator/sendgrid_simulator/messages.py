"""The messages of an account and the life of each: what the webhook posts and what the logs say.

Message ``i`` follows from seed and ``i`` alone, so history of any length costs no memory, and the
sender and ``/v3/logs`` tell the same story with the same ids. Sources: the reference, 3.1 to 3.7.
"""

from __future__ import annotations

import base64
import bisect
from collections.abc import Iterator
from dataclasses import dataclass
from hashlib import blake2b
from typing import Any

from sendgrid_simulator.life import Life, Noise
from sendgrid_simulator.lives import LIVES
from sendgrid_simulator.times import DAY

_ODD = 2654435761
_ODD_INVERSE = pow(_ODD, -1, 1 << 32)


def _text(raw: bytes) -> str:
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()


@dataclass(frozen=True)
class Message:
    """One message to one recipient.

    Attributes:
        index: Its number in the account.
        created_at: When SendGrid received it, unix seconds; never decreases with the index.
        message_id: Its ``sg_message_id``.
        to_email, from_email, subject: As in the mail.
        events: Its events as the webhook posts them, in the order in which they happened.
        ids: The ids of the events, also of those that the webhook sends without.
        custom_args, marketing, group: What the mail carried.
    """

    index: int
    created_at: int
    message_id: str
    to_email: str
    from_email: str
    subject: str
    events: list[dict[str, Any]]
    ids: list[str]
    custom_args: dict[str, str]
    marketing: dict[str, Any]
    group: int | None


class MessageBook:
    """The messages of an account, computed when asked for.

    Args:
        count: Number of messages.
        seed: What they follow from.
        start: When the first was received, unix seconds.
        span: Seconds over which they were received.
        user_id: The account's number, which is part of event ids.
    """

    def __init__(
        self, count: int, seed: int, start: int, span: int = DAY, user_id: int = 1234567
    ) -> None:
        self.count = count
        self.start = start
        self.span = span
        self.user_id = user_id
        self._seed = seed
        self._secret = blake2b(f"message ids {seed}".encode(), digest_size=12).digest()

    def __len__(self) -> int:
        return self.count

    def __iter__(self) -> Iterator[Message]:
        return map(self.get, range(self.count))

    def created_at(self, index: int) -> int:
        """When message ``index`` was received."""
        return self.start + index * self.span // max(1, self.count)

    def between(self, low: float, high: float) -> range:
        """Indexes of the messages that were received from ``low`` to ``high``, both inclusive."""
        everyone = range(self.count)
        first = bisect.bisect_left(everyone, low, key=self.created_at)
        return range(first, bisect.bisect_right(everyone, high, key=self.created_at))

    def find(self, message_id: str) -> Message | None:
        """The message with this ``sg_message_id``, or None."""
        head = message_id.partition(".")[0]
        try:
            raw = base64.urlsafe_b64decode(head + "==")
        except ValueError:
            return None
        if len(raw) != 16 or raw[4:] != self._secret:
            return None
        index = int.from_bytes(raw[:4], "big") * _ODD_INVERSE & 0xFFFFFFFF
        if index >= self.count:
            return None
        message = self.get(index)
        return message if message.message_id == message_id else None

    def get(self, index: int) -> Message:
        """Message ``index`` with its whole life."""
        noise = Noise(blake2b(f"{self._seed}:{index}".encode(), digest_size=64).digest())
        created = self.created_at(index)
        mixed = index * _ODD & 0xFFFFFFFF
        head = _text(mixed.to_bytes(4, "big") + self._secret)
        pod = noise.byte(0)
        message_id = f"{head}.recvd-786d47b7ff-{pod:02x}mlq-1-{created:08X}-{pod % 32:X}.0"
        life = Life(
            index=index,
            at=created + 1,
            user_id=self.user_id,
            head=head,
            message_id=message_id,
            noise=noise,
            seed=self._seed,
        )
        kind = LIVES[noise.byte(1) % len(LIVES)]
        kind(life)
        return Message(
            index,
            created,
            message_id,
            life.email,
            "news@sender.example",
            f"What is new, part {index % 5}",
            life.events,
            life.ids,
            life.custom_args,
            life.marketing,
            life.group,
        )


def generate_events(
    messages: int,
    *,
    seed: int = 0,
    start: int = 1_767_225_600,
    span: int = DAY,
    user_id: int = 1234567,
) -> Iterator[dict[str, Any]]:
    """All events of so many messages, message by message: the same for the same arguments.

    Args:
        messages: Number of messages; each has one to six events.
        seed: What everything follows from.
        start: Unix seconds at which the first message was received (2026-01-01 by default).
        span: Seconds over which the messages were received.
        user_id: The account's number.

    Yields:
        Events as they are on the wire, not yet framed or signed.
    """
    book = MessageBook(messages, seed, start, span, user_id)
    for index in range(messages):
        yield from book.get(index).events
