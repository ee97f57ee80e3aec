"""The HTTP server: a real one, on a free port, in a thread of its own or in the foreground."""

from __future__ import annotations

import asyncio
import inspect
import json
import socket
import threading
import time
from collections.abc import (
    AsyncIterable,
    AsyncIterator,
    Awaitable,
    Callable,
    Iterable,
    MutableMapping,
)
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self

import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import Route
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from sendgrid_simulator import (
    catalog,
    contact_writes,
    contacts,
    exports,
    history,
    legacy,
    marketing,
    marketing_stats,
    stats,
    suppressions,
    user,
    webhooks,
)
from sendgrid_simulator.account import Account
from sendgrid_simulator.gate import RateLimiter, authorize
from sendgrid_simulator.http import ApiError, Area, Call, Endpoint, not_found
from sendgrid_simulator.options import Fault, SimulatorOptions
from sendgrid_simulator.sender import RetryPolicy, SendReport, WebhookSender

AREAS: tuple[Area, ...] = (
    user.area,
    marketing.area,
    contacts.area,
    contact_writes.area,
    contact_writes.legacy_area,
    exports.area,
    exports.legacy_area,
    exports.download_area,
    webhooks.area,
    legacy.area,
    catalog.templates_area,
    catalog.senders_area,
    catalog.subusers_area,
    suppressions.area,
    suppressions.asm_area,
    stats.area,
    stats.categories_area,
    marketing_stats.area,
    history.logs_area,
    history.activity_area,
)
_REMEMBERED_REQUESTS = 100_000
_TRANSPORT = "sendgrid_simulator.transport"


@dataclass
class SeenRequest:
    """A request that the server got: header names in lower case, ``status`` of its answer."""

    method: str
    path: str
    query: dict[str, str]
    headers: dict[str, str]
    body: bytes = b""
    status: int = 0


class _Protocol(HttpToolsProtocol):
    """uvicorn's protocol, which lets an answer be the cut of its connection."""

    def on_message_begin(self) -> None:
        super().on_message_begin()
        scope: MutableMapping[str, Any] = self.scope  # type: ignore[assignment]
        scope[_TRANSPORT] = self.transport


class Simulator:
    """A SendGrid on localhost.

    Use it as a context manager; it serves from a background thread::

        with Simulator(SimulatorOptions(contacts=1000, seed=1)) as sim:
            requests.get(f"{sim.url}/v3/scopes", headers=sim.auth)

    Attributes:
        options: May be changed while it runs.
        account: The account, as a model to read and to alter.
        subusers: The accounts of the subusers, by user name.
        requests: The requests seen, oldest first.
        faults: Disturbances to come; append a `Fault` to cause one.
        hooks: Called with each request before it is answered, in the server's thread: what they
            change happens in the middle of a client's run.
    """

    def __init__(
        self,
        options: SimulatorOptions | None = None,
        *,
        host: str = "127.0.0.1",
        port: int = 0,
    ) -> None:
        self.options = options or SimulatorOptions()
        self.account = Account(self.options)
        self.subusers = {
            name: Account(self.options, username=name, number=number)
            for number, name in enumerate(self.options.subusers, 1)
        }
        self.requests: list[SeenRequest] = []
        self.faults: list[Fault] = self.options.faults
        self.hooks: list[Callable[[SeenRequest], None]] = []
        self._limiter = RateLimiter(self.options)
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self._socket.bind((host, port))
        # Who connects before the server runs waits for it instead of being refused.
        self._socket.listen(512)
        self.url = f"http://{host}:{self._socket.getsockname()[1]}"
        endpoints = [endpoint for area in AREAS for endpoint in area.endpoints]
        # A literal segment goes before a parameter: "exports" is not the id of a contact.
        endpoints.sort(key=lambda endpoint: [part[:1] == "{" for part in endpoint.path.split("/")])
        routes = [
            Route(endpoint.path, self._answer(endpoint), methods=[endpoint.method])
            for endpoint in endpoints
        ]
        routes.append(Route("/{path:path}", self._answer(_UNKNOWN), methods=list(_UNKNOWN_METHODS)))
        config = uvicorn.Config(
            Starlette(routes=routes),
            http=_Protocol,
            log_config=None,
            log_level="critical",
            access_log=False,
            lifespan="off",
            server_header=False,
            headers=[("Server", "nginx")],
            timeout_graceful_shutdown=1,
            backlog=512,
        )
        self._server = uvicorn.Server(config)
        self._thread: threading.Thread | None = None

    @property
    def api_key(self) -> str:
        """A key of the account: full access unless the options say otherwise."""
        return self.account.api_key

    @property
    def auth(self) -> dict[str, str]:
        """The Authorization header of `api_key`."""
        return {"Authorization": f"Bearer {self.api_key}"}

    @property
    def accounts(self) -> list[Account]:
        """The account and its subusers."""
        return [self.account, *self.subusers.values()]

    # -- life -------------------------------------------------------------------------------

    def start(self) -> Self:
        """Starts serving from a background thread; returns when the server answers."""
        self._thread = threading.Thread(
            target=self._server.run, args=([self._socket],), name="sendgrid-simulator", daemon=True
        )
        self._thread.start()
        while not self._server.started:
            if not self._thread.is_alive():
                raise RuntimeError("the simulator's server did not start")
            time.sleep(0.002)
        return self

    def stop(self) -> None:
        """Stops the server and waits for its thread."""
        self._server.should_exit = True
        if self._thread is not None:
            self._thread.join(timeout=10)
            self._thread = None
        self._socket.close()

    def serve(self) -> None:
        """Serves in the foreground until SIGINT or SIGTERM."""
        self._server.run([self._socket])
        self._socket.close()

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()

    # -- the Event Webhook ------------------------------------------------------------------

    def deliver(
        self,
        events: Iterable[dict[str, Any]] | None = None,
        *,
        batch_size: int = 100,
        retry: RetryPolicy | None = None,
    ) -> list[SendReport]:
        """Posts events to every enabled webhook of the account: flags heeded, each key its own.

        Args:
            events: What to post; the events of all the account's messages when None.
            batch_size: The most events of a delivery.
            retry: When to try again; never when None.

        Returns:
            A report for each webhook that is enabled.
        """
        if events is None:
            events = [event for message in self.account.messages for event in message.events]
        everything = list(events)
        reports = []
        for webhook in self.account.webhooks:
            if webhook.enabled:
                wanted = [event for event in everything if webhook.wants(event["event"])]
                tokens = webhooks.token_source(
                    webhook.oauth_client_id, webhook.oauth_client_secret, webhook.oauth_token_url
                )
                sender = WebhookSender(webhook.url, webhook.private_key, retry=retry, tokens=tokens)
                reports.append(sender.send_events(wanted, batch_size))
        return reports

    # -- answering --------------------------------------------------------------------------

    def _answer(self, endpoint: Endpoint) -> Callable[[Request], Awaitable[Response]]:
        async def answer(request: Request) -> Response:
            body = await request.body()
            seen = SeenRequest(
                request.method,
                request.url.path,
                dict(request.query_params),
                dict(request.headers),
                body,
            )
            self._remember(seen)
            for hook in self.hooks:
                hook(seen)
            fault = next(
                (f for f in self.faults if f.strikes(request.method, request.url.path)), None
            )
            if fault is not None and fault.kind == "cut":
                request.scope[_TRANSPORT].abort()
                return Response()
            if fault is not None and fault.kind == "slow":
                await asyncio.sleep(fault.seconds)
            response = await self._respond(endpoint, request, body, fault)
            seen.status = response.status_code
            if fault is not None and fault.kind == "cut_body":
                return _cut(response, request, fault.after_bytes)
            return response

        return answer

    def _remember(self, seen: SeenRequest) -> None:
        self.requests.append(seen)
        if len(self.requests) > _REMEMBERED_REQUESTS:
            del self.requests[: _REMEMBERED_REQUESTS // 2]

    async def _respond(
        self, endpoint: Endpoint, request: Request, body: bytes, fault: Fault | None
    ) -> Response:
        """What the endpoint says, or the error in SendGrid's words, with the rate limit headers."""
        api = endpoint.path.startswith("/v3/")
        headers: dict[str, str] = {}
        try:
            if api:
                who = request.headers.get("authorization", "")
                headers, allowed = self._limiter.count(request.method, endpoint.path, who)
            if fault is not None and fault.kind == "status":
                if fault.status == 429:  # for want of capacity: the budget is not spent
                    headers["X-RateLimit-Reset"] = str(int(time.time()) + 1)
                raise ApiError(fault.status, fault.message or _MESSAGES[fault.status], {})
            account = self.account
            if api:
                account = authorize(request, endpoint, self.account, self.subusers)
                contact_writes.settle(account)
                if not allowed:
                    messages = endpoint.path.startswith("/v3/messages")
                    raise ApiError(429, "too many requests", {} if messages else None)
            null = fault is not None and fault.kind == "null"
            result = endpoint.handler(Call(request, body, account, self, null))
            response = await result if inspect.isawaitable(result) else result
        except ApiError as error:
            # Key order of the observed bodies: field before message, so no sorting here.
            text = json.dumps(error.body, separators=(",", ":"), ensure_ascii=False)
            response = Response(text.encode(), error.status, media_type="application/json")
        if api:
            response.headers.update(headers)
            response.headers["X-Content-Type-Options"] = "nosniff"
        return response


def _cut(response: Response, request: Request, after: int) -> Response:
    """The same answer, but the connection ends after so many bytes of its body."""

    async def part() -> AsyncIterator[bytes]:
        left = after
        async for chunk in _chunks(response):
            yield chunk[:left]
            left -= len(chunk)
            if left <= 0:
                await asyncio.sleep(0.05)  # so that the bytes before the cut are on their way
                break
        request.scope[_TRANSPORT].abort()

    cut = StreamingResponse(part(), response.status_code)
    cut.raw_headers = response.raw_headers
    return cut


async def _chunks(response: Response) -> AsyncIterator[bytes]:
    if isinstance(response, StreamingResponse):
        body: AsyncIterable[Any] = response.body_iterator
        async for chunk in body:
            yield chunk
    else:
        yield bytes(response.body)


def _unknown(call: Call) -> Response:
    raise not_found()


_UNKNOWN_METHODS = ("GET", "POST", "PUT", "PATCH", "DELETE")
_UNKNOWN = Endpoint("GET", "/v3/{unknown}", _unknown)
_MESSAGES = {
    400: "bad request",
    401: "authorization required",
    403: "access forbidden",
    404: "not found",
    408: "request timed out",
    429: "too many requests",
    500: "internal server error",
    502: "bad gateway",
    503: "service unavailable",
    504: "gateway timeout",
}
