"""Fixtures of the simulator's tests: a server per test, and a client that has its key."""

from __future__ import annotations

import base64
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Protocol

import pytest
import requests
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import load_der_public_key
from sendgrid_simulator import Simulator, SimulatorOptions


class Start(Protocol):
    def __call__(self, **options: Any) -> Simulator: ...


@pytest.fixture
def start() -> Iterator[Start]:
    """Starts simulators that end with the test."""
    with ExitStack() as stack:

        def started(**options: Any) -> Simulator:
            return stack.enter_context(Simulator(SimulatorOptions(**options)))

        yield started


class Client(requests.Session):
    """A session with the account's key, whose paths are relative to the server."""

    def __init__(self, simulator: Simulator) -> None:
        super().__init__()
        self.headers.update(simulator.auth)
        self._url = simulator.url

    def request(self, method: str, url: str, *args: Any, **kwargs: Any) -> requests.Response:  # type: ignore[override]
        if url.startswith("/"):
            url = self._url + url
        kwargs.setdefault("timeout", 20)
        return super().request(method, url, *args, **kwargs)


@pytest.fixture
def client() -> Iterator[Any]:
    """Makes clients; their connections are closed at the end."""
    with ExitStack() as stack:
        yield lambda simulator: stack.enter_context(Client(simulator))


class Receiver:
    """A webhook receiver that keeps what it got; it answers ``statuses`` or ``bodies`` next."""

    def __init__(self) -> None:
        outer = self
        self.got: list[tuple[bytes, dict[str, str]]] = []
        self.statuses: list[int] = []
        self.bodies: list[tuple[int, bytes]] = []

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                headers = {name.lower(): value for name, value in self.headers.items()}
                headers["peer-port"] = str(self.client_address[1])
                outer.got.append((body, headers))
                status, answer = outer.bodies.pop(0) if outer.bodies else (204, b"")
                self.send_response(outer.statuses.pop(0) if outer.statuses else status)
                self.send_header("Content-Length", str(len(answer)))
                self.end_headers()
                self.wfile.write(answer)

            def log_message(self, *args: object) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self.server.server_port}/hook"
        self.thread = threading.Thread(target=self.server.serve_forever, args=(0.02,))
        self.thread.start()


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    started = Receiver()
    yield started
    started.server.shutdown()
    started.server.server_close()
    started.thread.join()


@pytest.fixture
def verify() -> Callable[[str, bytes, dict[str, str]], None]:
    """Checks a signature as SendGrid's own libraries do."""

    def check(public_key: str, body: bytes, headers: dict[str, str]) -> None:
        headers = {name.lower(): value for name, value in headers.items()}
        signature = base64.b64decode(headers["x-twilio-email-event-webhook-signature"])
        stamp = headers["x-twilio-email-event-webhook-timestamp"].encode()
        key = load_der_public_key(base64.b64decode(public_key))
        assert isinstance(key, ec.EllipticCurvePublicKey)
        key.verify(signature, stamp + body, ec.ECDSA(hashes.SHA256()))

    return check
