"""What a source of history offers; there are two: ``/v3/logs`` and ``/v3/messages``."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, ClassVar, Final
from urllib.parse import quote

from tap_sendgrid.api.client import Client
from tap_sendgrid.api.errors import MISREAD, UnexpectedAnswer

Event = dict[str, Any]

ROW_CAP: Final = 1000
"""The most messages that either API lists; neither has pages."""


@dataclass(frozen=True, slots=True)
class Listing:
    """The ids of the messages of a window; ``capped`` if there may be more than were given."""

    ids: list[str]
    capped: bool


@dataclass(frozen=True, slots=True)
class MessageEvents:
    """The events of a message; ``truncated`` if SendGrid may have left out the older ones."""

    events: list[Event]
    truncated: bool = False


class Source(ABC):
    """Where history comes from. Safe for several threads.

    Attributes:
        name: The path, for people.
        gives_event_ids: Whether events carry ``sg_event_id`` and messages are found by an instant
            that never changes; if not, they are found by that of their last event.
        status_conditions: What divides the messages of one second further.
        subuser: Whose history it is; None: that of the key's account.
    """

    name: ClassVar[str]
    gives_event_ids: ClassVar[bool]
    status_conditions: ClassVar[tuple[str, ...]]

    def __init__(self, client: Client) -> None:
        self._client = client
        self.subuser = client.on_behalf_of

    def list(self, start: datetime, end: datetime) -> Listing:
        """The messages of ``start <= instant < end``, at whole seconds."""
        return self._ask(self._between(start, end))

    def list_finely(self, start: datetime, end: datetime) -> Listing:
        """The same, one status after the other: for a second with more than the cap."""
        found: dict[str, None] = {}
        capped = False
        for condition in self.status_conditions:
            listing = self._ask(f"{self._between(start, end)} AND {condition}")
            found.update(dict.fromkeys(listing.ids))
            capped = capped or listing.capped
        return Listing(list(found), capped)

    def message(self, message_id: str) -> MessageEvents:
        """The events of a message as the webhook would have sent them.

        Raises:
            NotFound: SendGrid does not keep the message any more.
            UnexpectedAnswer: It cannot be read.
        """
        message = self._client.get(f"{self.name}/{quote(message_id, safe='')}")
        try:
            return self._convert(message)
        except MISREAD as problem:
            raise UnexpectedAnswer(
                f"message {message_id} has another form than documented ({problem!r})"
            ) from problem

    def _ask(self, query: str) -> Listing:
        try:
            return self._query(query)
        except MISREAD as problem:
            raise UnexpectedAnswer(
                f"SendGrid's answer to {self.name} has another form than documented ({problem!r})"
            ) from problem

    @abstractmethod
    def _query(self, query: str) -> Listing:
        """The messages that a query finds."""

    @abstractmethod
    def _between(self, start: datetime, end: datetime) -> str:
        """The query for a window."""

    @abstractmethod
    def _convert(self, message: dict[str, Any]) -> MessageEvents:
        """The webhook events of a message's details."""


def timestamp(moment: datetime) -> str:
    """A moment as queries have it."""
    return f'TIMESTAMP "{moment.astimezone(UTC):%Y-%m-%dT%H:%M:%SZ}"'
