"""The receiver's ASGI application: which requests there are, and what makes a delivery good."""

from __future__ import annotations

import asyncio
import hmac
import logging
import time
from collections.abc import Mapping
from contextlib import suppress
from datetime import UTC, datetime
from urllib.parse import unquote_to_bytes

from tap_sendgrid.event_log import Delivery, EventLog, EventLogError
from tap_sendgrid.webhook.body import summarise
from tap_sendgrid.webhook.http import (
    CLOSE,
    Disconnected,
    Receive,
    Refused,
    RequestBody,
    Scope,
    Send,
    answer,
    too_large,
)
from tap_sendgrid.webhook.keys import KeyRing
from tap_sendgrid.webhook.metrics import ReceiverMetrics
from tap_sendgrid.webhook.oauth import TokenIssuer
from tap_sendgrid.webhook.settings import ReceiverSettings
from tap_sendgrid.webhook.signature import SIGNATURE_HEADER, TIMESTAMP_HEADER, SignedBody
from tap_sendgrid.webhook.status_page import render_status_page
from tap_sendgrid.webhook.writer import LogWriter

logger = logging.getLogger("sendgrid-webhook")

FLUSH_SECONDS = 2.0
READY_SECONDS = 1.0
LOGGED_EVERY_SECONDS = 60.0
KEY_SECONDS = 5.0
"""How long a delivery whose signature fits no key waits while new keys are looked for."""
MAX_WAITING_FOR_KEYS = 64
"""Each holds its body, and may be nobody's delivery; further ones are refused at once."""
TOKEN_PATH = "/oauth/token"  # noqa: S105 - a path, no token
KEPT_HEADERS = ("content-type", "user-agent", SIGNATURE_HEADER, TIMESTAMP_HEADER)
"""What a forwarded copy is sent with, so that its receiver can check the signature as well."""

_KEPT = tuple((name, name.encode()) for name in KEPT_HEADERS)
_LONGEST_KEPT_HEADER = 500
_LONGEST_TOKEN_REQUEST = 16 << 10

Headers = Mapping[bytes, bytes]


class Receiver:
    """The ASGI application of one worker.

    Args:
        settings: See there.
        log: Where deliveries go.
        keys: What their signatures are checked with.
    """

    def __init__(self, settings: ReceiverSettings, log: EventLog, keys: KeyRing) -> None:
        self.settings = settings
        self.log = log
        self.keys = keys
        self.metrics = ReceiverMetrics()
        self.tokens = (
            TokenIssuer(settings.oauth_client_id, settings.oauth_client_secret)
            if settings.oauth_client_id and settings.oauth_client_secret
            else None
        )
        self._delivery_path = b"/" + settings.path_token.encode()
        self._writer: LogWriter | None = None
        self._flusher: asyncio.Task[None] | None = None
        self._ready: tuple[float, str | None] = (float("-inf"), None)
        self._last_logged: dict[str, float] = {}
        self._key_search: asyncio.Task[bool] | None = None
        self._waiting_for_keys = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request, or follow the server's start and stop."""
        if scope["type"] == "lifespan":
            await self._lifespan(receive, send)
            return
        secret = False
        body = RequestBody(receive)
        try:
            path = scope["path"].encode("utf-8", "replace")
            # Both are compared whatever the outcome: the time taken tells nothing.
            secret = hmac.compare_digest(path, self._delivery_path)
            token = hmac.compare_digest(path, self._delivery_path + TOKEN_PATH.encode())
            if secret:
                _allow(scope, "POST")
                await self._deliver(scope, body, send)
            elif token and self.tokens is not None:
                _allow(scope, "POST")
                await self._issue_token(self.tokens, scope, body, send)
            else:
                await self._show(scope, send)
        except Refused as refusal:
            if secret:
                self._note(refusal)
                await body.drain(self.settings.max_body_bytes)
            text = refusal.text.encode()
            await answer(send, refusal.status, text, headers=refusal.headers)
        except Disconnected:
            self.metrics.refused("disconnected")

    async def _deliver(self, scope: Scope, request: RequestBody, send: Send) -> None:
        """Check one delivery, bring it to disk, acknowledge it: in this order."""
        assert self._writer is not None  # noqa: S101 - lifespan comes first
        started = time.perf_counter()
        headers: dict[bytes, bytes] = dict(scope["headers"])
        limit = self.settings.max_body_bytes
        if any(
            name == b"content-encoding" and value.strip().lower() not in {b"identity", b""}
            for name, value in scope["headers"]
        ):
            raise Refused(415, "encoding", "the body must not be compressed\n", CLOSE)
        if int(headers.get(b"content-length", b"0")) > limit:
            raise too_large(limit)
        if self.tokens is not None and not self.tokens.accepts(headers.get(b"authorization")):
            challenge = ((b"www-authenticate", b'Bearer error="invalid_token"'),)
            raise Refused(401, "token", '{"error": "invalid_token"}\n', challenge)
        signed = None if self.settings.allow_unsigned else self._signed_body(headers)
        body = await request.read(
            limit, self.settings.body_timeout, signed.update if signed else None
        )
        if signed is not None:
            await self._check(signed)
        summary = summarise(body)
        delivery = Delivery(body, datetime.now(UTC), _kept(headers))
        try:
            await self._writer.append(delivery, summary.problem)
        except EventLogError as error:
            raise Refused(
                503, "log_" + error.kind, "not stored, send it again\n", ((b"retry-after", b"10"),)
            ) from error
        self.metrics.accepted(
            len(body),
            summary.events,
            time.perf_counter() - started,
            readable=summary.problem is None,
        )
        await answer(send, 204)

    def _signed_body(self, headers: Headers) -> SignedBody:
        """The signature headers, ready to check a body with."""
        signature = headers.get(SIGNATURE_HEADER.encode())
        timestamp = headers.get(TIMESTAMP_HEADER.encode())
        if signature is None or timestamp is None:
            raise Refused(401, "unsigned", "the signature headers are missing\n")
        try:
            # The parser leaves blanks at a value's end, which are no part of it (RFC 9110, 5.5).
            return SignedBody(timestamp.strip(b" \t"), signature.strip(b" \t"))
        except ValueError as problem:
            raise Refused(401, "signature", f"{problem}\n") from None

    async def _check(self, signed: SignedBody) -> None:
        """Refuse a body that no key signed, or whose signature is too old or new for us."""
        if not signed.is_signed_by(self.keys.keys):
            # The key may have changed: whoever knows the secret path may make us look, sometimes.
            await self._look_for_keys()
            if not signed.is_signed_by(self.keys.keys):
                raise Refused(401, "signature", "the signature does not match\n")
        window = self.settings.clock_window
        if window is not None and abs(time.time() - signed.seconds) > window:
            raise Refused(401, "clock", f"the timestamp is more than {window:g} s off\n")

    async def _look_for_keys(self) -> None:
        """Wait for a look for new keys: one for all deliveries that came since it began.

        Neither for long nor many at a time: SendGrid sends again what is refused.
        """
        if self._waiting_for_keys >= MAX_WAITING_FOR_KEYS:
            return
        if self._key_search is None or self._key_search.done():
            self._key_search = asyncio.create_task(asyncio.to_thread(self.keys.refresh))
        self._waiting_for_keys += 1
        try:
            await asyncio.wait({self._key_search}, timeout=KEY_SECONDS)
        finally:
            self._waiting_for_keys -= 1

    async def _issue_token(
        self, tokens: TokenIssuer, scope: Scope, request: RequestBody, send: Send
    ) -> None:
        """Answer a request for an OAuth token."""
        headers: dict[bytes, bytes] = dict(scope["headers"])
        body = await request.read(_LONGEST_TOKEN_REQUEST, self.settings.body_timeout)
        status, text = tokens.answer(headers.get(b"authorization"), body)
        no_store = ((b"cache-control", b"no-store"),)
        await answer(send, status, text, b"application/json", no_store)

    async def _show(self, scope: Scope, send: Send) -> None:
        """The pages for machines and people."""
        path = scope["path"]
        if path == "/healthz":
            _allow(scope, "GET", "HEAD")
            await answer(send, 200, b"ok\n")
        elif path == "/readyz":
            _allow(scope, "GET", "HEAD")
            problem = await self._find_problem()
            if problem is not None:
                # Anybody may ask, so the details are in our own log only.
                raise Refused(503, "not_ready", f"not ready: the event log is {problem}\n")
            await answer(send, 200, b"ready\n")
        elif path in {"/", "/metrics"} and self._may_look(scope):
            _allow(scope, "GET", "HEAD")
            try:
                if path == "/":
                    page = await asyncio.to_thread(render_status_page, self.log)
                    await answer(send, 200, page.encode(), b"text/html; charset=utf-8", _PAGE)
                else:
                    text = await asyncio.to_thread(self.metrics.exposition, self.log)
                    await answer(send, 200, text, b"text/plain; version=0.0.4; charset=utf-8")
            except EventLogError as error:
                raise Refused(503, "log_" + error.kind, f"{error}\n") from error
        else:
            raise Refused(404, "path", "not found\n", CLOSE)

    def _may_look(self, scope: Scope) -> bool:
        """Whether a request carries the status token: as a bearer token, or in the query."""
        headers: dict[bytes, bytes] = dict(scope["headers"])
        scheme, _, given = headers.get(b"authorization", b"").partition(b" ")
        if scheme.lower() != b"bearer":
            given = unquote_to_bytes(scope["query_string"].removeprefix(b"token="))
        return hmac.compare_digest(given, self.settings.status_token.encode())

    async def _find_problem(self) -> str | None:
        """What is wrong with writing to the log, in a word; tried at most once a second."""
        # On a full disk there may still be room for the few bytes of a try.
        if self._writer is not None and (failure := self._writer.recent_failure()):
            return failure.kind
        tried_at, problem = self._ready
        now = time.monotonic()
        if now - tried_at >= READY_SECONDS:
            self._ready = (now, problem)
            try:
                stamp = datetime.now(UTC).isoformat()
                await asyncio.to_thread(self.log.put, "webhook.ready_at", stamp)
                problem = None
            except EventLogError as error:
                problem = error.kind
                logger.warning("Not ready: %s", error)
            self._ready = (now, problem)
        return problem

    def _note(self, refusal: Refused) -> None:
        """Count a refusal, and log the first of its kind each minute."""
        self.metrics.refused(refusal.reason)
        now = time.monotonic()
        if now - self._last_logged.get(refusal.reason, float("-inf")) >= LOGGED_EVERY_SECONDS:
            self._last_logged[refusal.reason] = now
            cause = refusal.__cause__ or refusal.text.strip()
            logger.warning("Refused a delivery with %d: %s", refusal.status, cause)

    async def _lifespan(self, receive: Receive, send: Send) -> None:
        """Start with the server; on its stop, finish what was taken."""
        await receive()
        self._writer = LogWriter(self.log)
        self._flusher = asyncio.create_task(self._flush_counts())
        await send({"type": "lifespan.startup.complete"})
        await receive()
        self._flusher.cancel()
        with suppress(asyncio.CancelledError):
            await self._flusher
        if self._key_search is not None:
            await self._key_search
        await asyncio.to_thread(self._writer.close)
        with suppress(EventLogError):
            await asyncio.to_thread(self.metrics.flush, self.log)
        self.log.close()
        await send({"type": "lifespan.shutdown.complete"})

    async def _flush_counts(self) -> None:
        """Bring the counts per minute to the log now and then."""
        while True:
            await asyncio.sleep(FLUSH_SECONDS)
            try:
                await asyncio.to_thread(self.metrics.flush, self.log)
            except EventLogError as error:
                logger.warning("The counts of the status page wait: %s", error)


# The page needs nothing from anywhere, and its address holds a token that must not leak.
_PAGE = (
    (b"content-security-policy", b"default-src 'none'; style-src 'unsafe-inline'"),
    (b"referrer-policy", b"no-referrer"),
    (b"x-content-type-options", b"nosniff"),
    (b"cache-control", b"no-store"),
)


def _allow(scope: Scope, *methods: str) -> None:
    """Refuse other methods."""
    if scope["method"] not in methods:
        allow = ((b"allow", ", ".join(methods).encode()), *CLOSE)
        raise Refused(405, "method", f"only {' and '.join(methods)}\n", allow)


def _kept(headers: Headers) -> dict[str, str]:
    """The headers that are stored with a delivery."""
    return {
        name: value.decode("latin-1").strip(" \t")
        for name, raw_name in _KEPT
        if (value := headers.get(raw_name)) and len(value) <= _LONGEST_KEPT_HEADER
    }
