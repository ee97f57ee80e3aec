"""What strangers can cost the receiver: memory and connections, over bare sockets."""

from __future__ import annotations

import socket
import time
from contextlib import suppress
from functools import partial
from typing import Any

import pytest
import requests
import uvicorn
from sendgrid_simulator import sign_delivery
from tap_sendgrid.webhook import protocol
from tap_sendgrid.webhook.metrics import ReceiverMetrics

CHUNKED = b"GET /healthz HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"
PATIENT = b"POST /%b HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n%b\r\n1\r\n[\r\n"


def flood(sock: socket.socket, piece: bytes, most: int = 20_000_000) -> int:
    """Send one piece after the other until cut off; how many bytes that took."""
    sent = 0
    with suppress(ConnectionResetError, BrokenPipeError):
        while sent < most:
            sock.sendall(piece)
            sent += len(piece)
            time.sleep(0.0005)
    return sent


def delivery_head(receiver: Any) -> bytes:
    """A delivery whose answer waits for the end of its body."""
    path = receiver.url.rpartition("/")[2].encode()
    names = (b"Signature: AAAA", b"Timestamp: 1760000000")
    signed = b"".join(b"X-Twilio-Email-Event-Webhook-%b\r\n" % name for name in names)
    return PATIENT % (path, signed)


def page(receiver: Any, path: bytes) -> bytes:
    """The head of a request for a page, without its last line."""
    token = receiver.receiver.settings.status_token.encode()
    return b"GET %b HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer %b\r\n" % (path, token)


@pytest.mark.parametrize(
    ("beginning", "piece"),
    [
        (b"0\r\n", b"X-More: " + b"x" * 1000 + b"\r\n"),
        (b"0\r\nX-More: ", b"x" * 1000),
        (b"1;more=", b"x" * 1000),
    ],
    ids=["trailers", "one trailer", "chunk extension"],
)
def test_what_follows_a_body_is_limited_like_a_head(
    receiver: Any, beginning: bytes, piece: bytes
) -> None:
    with receiver.connect() as sock:
        sock.sendall(delivery_head(receiver) + beginning)
        assert 60_000 < flood(sock, piece) < 1_000_000
    assert receiver.send().status_code == 204


def test_a_long_body_in_small_chunks_is_within_the_limit(receiver: Any) -> None:
    body, headers = sign_delivery([{"text": "x" * 300_000}], receiver.private_key)
    chunks = (body[start : start + 10] for start in range(0, len(body), 10))
    assert requests.post(receiver.url, chunks, headers=headers, timeout=20).status_code == 204
    assert receiver.bodies == [body]


def test_requests_that_do_not_wait_for_their_answers_are_limited(receiver: Any) -> None:
    request = b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n"
    with receiver.connect() as sock:
        sock.sendall(request * 5)
        answers = b""
        while answers.count(b"ok\n") < 5:
            answers += sock.recv(10_000)
    with receiver.connect() as sock:
        assert flood(sock, request * 1000) < 5_000_000
    assert receiver.send().status_code == 204


@pytest.mark.parametrize("loop", ["auto", "asyncio"])
def test_a_client_that_does_not_read_its_answers_does_not_keep_its_connection(
    start_receiver: Any, monkeypatch: pytest.MonkeyPatch, loop: str
) -> None:
    monkeypatch.setattr(protocol, "ANSWER_SECONDS", 0.5)
    monkeypatch.setattr(ReceiverMetrics, "exposition", lambda *_: b"x" * 20_000)
    config = partial(uvicorn.Config, loop=loop)
    monkeypatch.setattr("tap_sendgrid.webhook.server.uvicorn.Config", config)
    receiver = start_receiver()
    connections = receiver.server.server_state.connections
    with receiver.connect(receive_bytes=4096) as sock:
        with suppress(ConnectionError):  # cut off already, where the machine is slow
            for _ in range(1000):
                sock.sendall(page(receiver, b"/metrics") + b"\r\n")
                time.sleep(0.02)
                if any(each.transport.get_write_buffer_size() for each in connections):
                    break
            else:
                pytest.fail("the answers never filled the buffers")
        deadline = time.monotonic() + 5
        while connections and time.monotonic() < deadline:
            time.sleep(0.02)
        assert not connections
    assert receiver.send().status_code == 204


def test_a_slow_reader_gets_its_answer(
    start_receiver: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tap_sendgrid.webhook.app.render_status_page", lambda *_: "x" * 8_000_000)
    receiver = start_receiver()
    with receiver.connect(receive_bytes=4096) as sock:
        sock.sendall(page(receiver, b"/") + b"Connection: close\r\n\r\n")
        time.sleep(1)
        size = 0
        while piece := sock.recv(1 << 20):
            size += len(piece)
    assert size > 8_000_000


def test_an_answer_before_the_body_ends_the_connection(receiver: Any) -> None:
    for request in (
        b"GET /healthz HTTP/1.1\r\nHost: x\r\nContent-Length: 100000\r\n\r\n",
        CHUNKED,
        CHUNKED + b"0\r\n",
    ):
        with receiver.connect() as sock:
            sock.sendall(request)
            answer = sock.recv(1000)
            assert answer.startswith(b"HTTP/1.1 200")
            assert b"connection: close" in answer
            assert sock.recv(1000) == b""


def test_a_whole_request_with_a_body_keeps_its_connection(receiver: Any) -> None:
    with receiver.connect() as sock:
        for _ in range(2):
            sock.sendall(CHUNKED + b"1\r\nx\r\n0\r\n\r\n")
            answer = sock.recv(1000)
            assert answer.startswith(b"HTTP/1.1 200")
            assert b"connection: close" not in answer
