"""The few pieces of ASGI that the receiver needs: answers, refusals, and a body with a limit."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

Message = MutableMapping[str, Any]
Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]

CLOSE = ((b"connection", b"close"),)
_DRAIN_SECONDS = 2.0


class Refused(Exception):
    """A request that is answered with something else than 2xx.

    Args:
        status: HTTP status.
        reason: A word for the metrics.
        text: What the sender is told.
        headers: Further headers of the answer.
    """

    def __init__(
        self, status: int, reason: str, text: str, headers: tuple[tuple[bytes, bytes], ...] = ()
    ) -> None:
        super().__init__(text)
        self.status = status
        self.reason = reason
        self.text = text
        self.headers = headers


class Disconnected(Exception):
    """The sender went away before the request was whole; nobody is there to be answered."""


async def answer(
    send: Send,
    status: int,
    body: bytes = b"",
    content_type: bytes = b"text/plain; charset=utf-8",
    headers: tuple[tuple[bytes, bytes], ...] = (),
) -> None:
    """Send a whole response."""
    head: list[tuple[bytes, bytes]] = [*headers]
    if status != 204:
        head += [(b"content-type", content_type), (b"content-length", b"%d" % len(body))]
    await send({"type": "http.response.start", "status": status, "headers": head})
    await send({"type": "http.response.body", "body": body})


def too_large(limit: int) -> Refused:
    """The refusal of a body beyond the limit."""
    return Refused(413, "too_large", f"the body has more than {limit} bytes\n", CLOSE)


class RequestBody:
    """The body of one request as it comes in.

    Args:
        receive: The ASGI channel.
    """

    def __init__(self, receive: Receive) -> None:
        self._receive = receive
        self._complete = False

    async def read(
        self, limit: int, seconds: float, on_chunk: Callable[[bytes], None] | None = None
    ) -> bytes:
        """The whole body.

        Args:
            limit: Most bytes that are taken.
            seconds: Time within which all of it must have come.
            on_chunk: Is given each piece as it comes.

        Raises:
            Refused: The body is too long, or comes too slowly.
            Disconnected: The sender went away.
        """
        chunks: list[bytes] = []
        size = 0
        try:
            async with asyncio.timeout(seconds):
                while not self._complete:
                    chunk = await self._next()
                    size += len(chunk)
                    if size > limit:
                        raise too_large(limit)
                    chunks.append(chunk)
                    if on_chunk is not None:
                        on_chunk(chunk)
        except TimeoutError:
            self._complete = True  # whoever is that slow need not be waited for again
            raise Refused(
                408, "timeout", f"the body took longer than {seconds:g} s\n", CLOSE
            ) from None
        return chunks[0] if len(chunks) == 1 else b"".join(chunks)

    async def drain(self, limit: int) -> None:
        """Throw away what is left, so that the sender gets to read our answer.

        One that is still writing when the connection closes sees a reset instead. Bounded in
        bytes and time: what comes after that is cut off.
        """
        try:
            async with asyncio.timeout(_DRAIN_SECONDS):
                while not self._complete and limit > 0:
                    limit -= len(await self._next())
        except (TimeoutError, Disconnected):
            return

    async def _next(self) -> bytes:
        message = await self._receive()
        if message["type"] == "http.disconnect":
            raise Disconnected
        self._complete = not message.get("more_body", False)
        chunk: bytes = message.get("body", b"")
        return chunk
