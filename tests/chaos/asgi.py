"""Drives an ASGI application in this process, and checks signatures without the product's code."""

from __future__ import annotations

import asyncio
import base64
import binascii
from collections.abc import Iterable
from types import TracebackType
from typing import Any

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from sendgrid_simulator.signing import SIGNATURE_HEADER, TIMESTAMP_HEADER

from chaos.inputs import Post


class Server:
    """Starts and stops an application, and asks it.

    Args:
        app: The application.
    """

    def __init__(self, app: Any) -> None:
        self._app = app
        self._stop = asyncio.Event()
        self._started = asyncio.Event()
        self._first = True

    async def __aenter__(self) -> Server:
        self._task = asyncio.create_task(
            self._app({"type": "lifespan"}, self._lifespan_receive, self._lifespan_send)
        )
        await self._started.wait()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._stop.set()
        await self._task

    async def ask(self, post: Post, *, disconnect: bool) -> int | None:
        """The status of the answer; None when there was none."""
        query = post.query
        scope = {
            "type": "http",
            "http_version": "1.1",
            "method": post.method,
            "path": post.path,
            "raw_path": post.path.encode("utf-8", "replace"),
            "query_string": query,
            "headers": post.headers,
            "client": ("127.0.0.1", 1),
            "server": ("127.0.0.1", 2),
        }
        chunks = iter(post.chunks)
        left = len(post.chunks)
        status: int | None = None

        async def receive() -> dict[str, Any]:
            nonlocal left
            left -= 1
            if left < 0 or (disconnect and left == 0):
                return {"type": "http.disconnect"}
            return {"type": "http.request", "body": next(chunks), "more_body": left > 0}

        async def send(message: dict[str, Any]) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]

        await self._app(scope, receive, send)
        return status

    async def _lifespan_receive(self) -> dict[str, str]:
        if self._first:
            self._first = False
            return {"type": "lifespan.startup"}
        await self._stop.wait()
        return {"type": "lifespan.shutdown"}

    async def _lifespan_send(self, message: dict[str, Any]) -> None:
        self._started.set()


def is_genuine(post: Post, keys: Iterable[ec.EllipticCurvePublicKey]) -> bool:
    """Whether some key signed exactly this body with this timestamp, read as kindly as can be.

    Blanks around a header's value are no part of it (RFC 9110, 5.5).
    """
    headers = {name: value.strip(b" \t") for name, value in post.headers}
    stamp = headers.get(TIMESTAMP_HEADER.lower().encode(), b"")
    try:
        signature = base64.b64decode(headers.get(SIGNATURE_HEADER.lower().encode(), b""))
    except binascii.Error:
        return False
    for key in keys:
        try:
            key.verify(signature, stamp + post.body, ec.ECDSA(hashes.SHA256()))
        except InvalidSignature:
            continue
        return True
    return False
