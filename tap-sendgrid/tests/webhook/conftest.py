"""A receiver on a free port, and deliveries signed with keys of our own."""

from __future__ import annotations

import base64
import json
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
import requests
import uvicorn
from cryptography.hazmat.primitives.asymmetric import ec
from sendgrid_simulator import public_key_text, sign_delivery
from tap_sendgrid.event_log import EventLog, open_event_log
from tap_sendgrid.webhook.app import Receiver
from tap_sendgrid.webhook.keys import KeyRing
from tap_sendgrid.webhook.server import listen, server_config
from tap_sendgrid.webhook.settings import ReceiverSettings

PATH_TOKEN = "path-token-of-the-tests"
STATUS_TOKEN = "status-token-of-the-tests"
EVENT = {"email": "a@example.com", "event": "open", "sg_event_id": "x", "timestamp": 1760000000}


@dataclass
class RunningReceiver:
    """A receiver that answers at ``base``; deliveries go to ``url``."""

    base: str
    log: EventLog
    receiver: Receiver
    private_key: ec.EllipticCurvePrivateKey
    server: uvicorn.Server

    @property
    def url(self) -> str:
        return f"{self.base}/{PATH_TOKEN}"

    def connect(self, receive_bytes: int | None = None) -> socket.socket:
        """A bare connection, with as small a buffer for the answers as wanted."""
        address = urlsplit(self.base)
        sock = socket.socket()
        if receive_bytes:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_bytes)
        sock.settimeout(10)
        sock.connect((str(address.hostname), address.port))
        return sock

    def post(self, body: bytes, headers: dict[str, str], **more: Any) -> requests.Response:
        return requests.post(self.url, data=body, headers=headers, timeout=10, **more)

    def send(self, *events: dict[str, Any], **more: Any) -> requests.Response:
        """Post a delivery signed with the receiver's key."""
        body, headers = sign_delivery(events or (EVENT,), self.private_key)
        return self.post(body, headers, **more)

    def look(self, path: str) -> requests.Response:
        """Get a page with the status token."""
        return requests.get(
            self.base + path, headers={"Authorization": f"Bearer {STATUS_TOKEN}"}, timeout=10
        )

    @property
    def bodies(self) -> list[bytes]:
        return [logged.delivery.body for logged in self.log.read(0)]


@pytest.fixture(scope="session")
def private_key() -> ec.EllipticCurvePrivateKey:
    return ec.generate_private_key(ec.SECP256R1())


@pytest.fixture
def log_url(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path / 'events.db'}"


@pytest.fixture
def start_receiver(
    log_url: str, private_key: ec.EllipticCurvePrivateKey
) -> Iterator[Callable[..., RunningReceiver]]:
    """Starts a receiver in a thread, with changed settings if wanted."""
    with ExitStack() as stack:

        def start(
            *,
            fetch: Callable[[], object] | None = None,
            log: EventLog | None = None,
            **changes: Any,
        ) -> RunningReceiver:
            given = {
                "event_log_url": log_url,
                "path_token": PATH_TOKEN,
                "status_token": STATUS_TOKEN,
                "public_keys": (public_key_text(private_key),),
                **changes,
            }
            settings = ReceiverSettings(**given)
            own = log or open_event_log(log_url)
            receiver = Receiver(settings, own, KeyRing(own, settings.public_keys, fetch))
            listener = listen("127.0.0.1", 0)
            port = listener.getsockname()[1]
            server = uvicorn.Server(server_config(receiver))
            thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
            thread.start()

            def stop() -> None:
                server.should_exit = True
                thread.join(20)
                assert not thread.is_alive()

            stack.callback(stop)
            reading = open_event_log(log_url)
            stack.callback(reading.close)
            base = f"http://127.0.0.1:{port}"
            return RunningReceiver(base, reading, receiver, private_key, server)

        yield start


@pytest.fixture
def receiver(start_receiver: Callable[..., RunningReceiver]) -> RunningReceiver:
    return start_receiver()


@dataclass(frozen=True)
class RealDelivery:
    """One delivery that SendGrid itself signed."""

    public_key: str
    body: bytes
    headers: dict[str, str]


@pytest.fixture
def real_delivery() -> RealDelivery:
    data = json.loads((Path(__file__).parent / "real_delivery.json").read_text())
    return RealDelivery(
        data["public_key"],
        base64.b64decode(data["body_base64"]),
        {
            "X-Twilio-Email-Event-Webhook-Signature": data["signature"],
            "X-Twilio-Email-Event-Webhook-Timestamp": data["timestamp"],
            "Content-Type": "application/json;charset=utf-8",
        },
    )
