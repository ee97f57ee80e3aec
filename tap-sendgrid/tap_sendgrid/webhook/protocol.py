"""uvicorn's HTTP protocol with limits on a request's head, which uvicorn itself does not set."""

from __future__ import annotations

import asyncio
from typing import Any

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

MAX_HEAD_BYTES = 64 << 10
HEAD_SECONDS = 10.0
LAST_HEAD_SECONDS = 2.0
"""While the server stops."""
ANSWER_SECONDS = 30.0
"""Time for a client to take an answer, from when the kernel's buffers for it are full."""
PIECE_BYTES = 1 << 20
"""Most of a body that waits for the application; SendGrid's own are shorter."""
MAX_WAITING = 8
"""Requests that wait on one connection for the answers before theirs; SendGrid sends none."""


class TooManyWaiting(Exception):
    """A client sends requests and does not wait for the answers."""


class LimitedHttpProtocol(HttpToolsProtocol):
    """Closes connections whose requests are too long, too many, or do not come to their end.

    Without it a client could hold a connection open by sending one header byte a minute or by never
    reading its answers, or fill memory with headers or trailers that never end, or with requests
    whose answers it does not read. Bodies are limited by the application.
    """

    _head_timer: asyncio.TimerHandle | None = None
    _answer_timer: asyncio.TimerHandle | None = None
    _head_bytes = 0
    """Read since a request or a piece of a body ended: a head, trailers, a chunk's extension."""
    _in_head = True
    _keep_alive = True
    _stopping = False

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Expect a request's head from now on."""
        super().connection_made(transport)
        # The transport tells of every byte that it could not hand to the kernel at once. Even a
        # close would wait for those, for ever.
        transport.set_write_buffer_limits(high=0)
        self._expect_head()

    def connection_lost(self, exc: Exception | None) -> None:
        """Stop waiting."""
        self._stop_timer()
        self._stop_answer_timer()
        super().connection_lost(exc)

    def pause_writing(self) -> None:
        """The client does not read as fast as it is answered: it gets some time to."""
        super().pause_writing()
        self._answer_timer = self.loop.call_later(ANSWER_SECONDS, self.transport.abort)

    def resume_writing(self) -> None:
        """The client has taken all there is."""
        self._stop_answer_timer()
        super().resume_writing()

    def data_received(self, data: bytes) -> None:
        """Count the bytes of a head before they are parsed."""
        # What else comes in the same read counts too, so the reads of a head are bounded by the
        # limit plus one read of the event loop.
        if self._head_bytes > MAX_HEAD_BYTES:
            self.transport.abort()
            return
        self._head_bytes += len(data)
        super().data_received(data)

    def on_message_begin(self) -> None:
        """A further request on the same connection: the same limits again."""
        super().on_message_begin()
        self._expect_head()

    def on_headers_complete(self) -> None:
        """The head is whole.

        Raises:
            TooManyWaiting: Ends the parsing, which would go on to the end of the read.
        """
        if len(self.pipeline) >= MAX_WAITING:
            self.transport.abort()
            raise TooManyWaiting
        self._in_head = False
        self._stop_timer()
        super().on_headers_complete()
        # An answer before the request is whole ends the connection: nobody would wait for the
        # rest with a limit in time.
        self._keep_alive = self.cycle.keep_alive
        self.cycle.keep_alive = False

    def on_body(self, body: bytes) -> None:
        """Wake the application when the body is whole, not for each piece of it."""
        self._head_bytes = 0
        if self.cycle.response_complete:
            return
        self.cycle.body += body
        if len(self.cycle.body) > PIECE_BYTES:
            self.flow.pause_reading()
            self.cycle.message_event.set()

    def on_message_complete(self) -> None:
        """The request is whole; what comes next is a head again."""
        if not self._stopping and not self.cycle.response_started:
            self.cycle.keep_alive = self._keep_alive
        super().on_message_complete()
        self._in_head = True
        self._head_bytes = 0

    def shutdown(self) -> None:
        """The server stops: answer what was begun.

        That includes a connection that was taken and whose first request is still on its way:
        closed now, it would look like a refusal, though the next process could have had it.
        """
        self._stopping = True
        if self.cycle is None or (self._in_head and self._head_bytes):
            self._start_timer(LAST_HEAD_SECONDS)
        else:
            super().shutdown()

    def _expect_head(self) -> None:
        self._in_head = True
        self._start_timer(LAST_HEAD_SECONDS if self._stopping else HEAD_SECONDS)

    def _start_timer(self, seconds: float) -> None:
        self._stop_timer()
        self._head_timer = self.loop.call_later(seconds, self._give_up)

    def _stop_timer(self) -> None:
        if self._head_timer is not None:
            self._head_timer.cancel()
            self._head_timer = None

    def _stop_answer_timer(self) -> None:
        if self._answer_timer is not None:
            self._answer_timer.cancel()
            self._answer_timer = None

    def _give_up(self) -> None:
        transport: Any = self.transport
        if not transport.is_closing():
            transport.abort()
