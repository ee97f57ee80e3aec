"""The receiver over real HTTP: what is taken, what is refused, and with which answer."""

from __future__ import annotations

import gzip
import http.client
import json
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from datetime import UTC, datetime
from typing import Any
from urllib.parse import urlsplit

import pytest
import requests
from cryptography.hazmat.primitives.asymmetric import ec
from sendgrid_simulator import sign_delivery

Start = Callable[..., Any]


def metric(receiver: Any, name: str) -> float:
    """The value of a metric, labels included in the name."""
    for line in receiver.look("/metrics").text.splitlines():
        if line.startswith(name + " "):
            return float(line.rsplit(" ", 1)[1])
    return 0.0


# -- taken -------------------------------------------------------------------------------------


def test_the_real_delivery_is_taken_byte_for_byte(
    start_receiver: Start, real_delivery: Any
) -> None:
    receiver = start_receiver(public_keys=(real_delivery.public_key,))
    before = datetime.now(UTC)
    answer = receiver.post(real_delivery.body, real_delivery.headers)
    assert (answer.status_code, answer.content) == (204, b"")
    [logged] = receiver.log.read(0)
    assert logged.delivery.body == real_delivery.body
    assert before <= logged.delivery.received_at <= datetime.now(UTC)
    assert logged.delivery.headers == {
        **{name.lower(): value for name, value in real_delivery.headers.items()},
        "user-agent": requests.utils.default_user_agent(),
    }
    for place in range(0, len(real_delivery.body), 7):
        body = bytearray(real_delivery.body)
        body[place] ^= 1
        refused = receiver.post(bytes(body), real_delivery.headers)
        assert (refused.status_code, refused.text) == (401, "the signature does not match\n")
    assert receiver.log.end() == 1


def test_a_body_in_chunks_is_taken(receiver: Any) -> None:
    body, headers = sign_delivery(
        [{"event": "open", "n": n} for n in range(5000)], receiver.private_key
    )

    def chunks() -> Iterator[bytes]:
        for start in range(0, len(body), 1000):
            yield body[start : start + 1000]

    assert receiver.post(chunks(), headers).status_code == 204
    assert receiver.bodies == [body]


def test_many_at_once_are_all_there(receiver: Any) -> None:
    def send(number: int) -> int:
        return int(receiver.send({"event": "click", "n": number}).status_code)

    with ThreadPoolExecutor(16) as pool:
        assert set(pool.map(send, range(200))) == {204}
    numbers = sorted(json.loads(body)[0]["n"] for body in receiver.bodies)
    assert numbers == list(range(200))


@pytest.mark.parametrize(
    "events",
    [
        [],
        [{"event": "never heard of"}],
        [{"event": {"odd": 1}}, {"event": None}, {}, 5, "text", None, [1]],
        [{"event": "open", "n": 10**400}],
    ],
)
def test_strange_events_are_taken_as_they_are(receiver: Any, events: list[Any]) -> None:
    body = json.dumps(events).encode()
    _, headers = sign(body, receiver.private_key)
    assert receiver.post(body, headers).status_code == 204
    assert receiver.bodies == [body]
    assert receiver.log.status().quarantined == 0


def sign(body: bytes, key: ec.EllipticCurvePrivateKey, timestamp: int | None = None) -> Any:
    from sendgrid_simulator.signing import sign_body

    return body, sign_body(body, key, timestamp)


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (b"", "not a JSON list of events"),
        (b"hello", "not a JSON list of events"),
        (b'{"event": "open"}', "not a JSON list of events"),
        (b'[{"event": "open"}', "not a JSON list of events"),
        (b'[{"event": "\xff"}]', "not a JSON list of events"),
        (b"[" * 100_000, "nested too deeply"),
    ],
)
def test_signed_but_unreadable_is_kept_in_log_and_quarantine(
    receiver: Any, body: bytes, reason: str
) -> None:
    assert receiver.post(*sign(body, receiver.private_key)).status_code == 204
    assert receiver.bodies == [body]
    [kept] = receiver.log.quarantined()
    assert (kept.offset, kept.delivery.body) == (1, body)
    assert reason in kept.reason
    assert metric(receiver, "sendgrid_webhook_unreadable_total") == 1


# -- refused -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "path", ["/", "/wrong", "//", "/metrics", "/%00", "/path-token-of-the-test"]
)
def test_other_paths_are_not_found(receiver: Any, path: str) -> None:
    body, headers = sign(b"[]", receiver.private_key)
    answer = requests.post(receiver.base + path, data=body, headers=headers, timeout=10)
    assert (answer.status_code, answer.text) == (404, "not found\n")
    assert receiver.log.end() == 0


@pytest.mark.parametrize("method", ["GET", "PUT", "DELETE", "HEAD", "OPTIONS"])
def test_other_methods_are_not_allowed(receiver: Any, method: str) -> None:
    answer = requests.request(method, receiver.url, timeout=10)
    assert answer.status_code == 405
    assert answer.headers["allow"] == "POST"


def test_missing_and_bad_signatures(receiver: Any) -> None:
    body, headers = sign(b"[]", receiver.private_key)
    stamp, signature = (
        f"X-Twilio-Email-Event-Webhook-{name}" for name in ("Timestamp", "Signature")
    )
    _, foreign = sign(b"[]", ec.generate_private_key(ec.SECP256R1()))
    cases = [
        ({}, "missing"),
        ({**headers, stamp: None}, "missing"),
        ({**headers, signature: None}, "missing"),
        ({**headers, signature: "%%%"}, "base64"),
        ({**headers, signature: "A" * 5000}, "too long"),
        ({**headers, stamp: "soon"}, "epoch second"),
        ({**headers, stamp: "1" * 21}, "epoch second"),
        ({**headers, stamp: "1760000000"}, "does not match"),
        (foreign, "does not match"),
    ]
    for bad, text in cases:
        answer = receiver.post(body, bad)
        assert answer.status_code == 401
        assert text in answer.text
    assert receiver.log.end() == 0
    assert metric(receiver, 'sendgrid_webhook_refused_total{reason="unsigned"}') == 3


def test_compressed_bodies_are_not_unpacked(receiver: Any) -> None:
    body, headers = sign(gzip.compress(b"[]" * 1000), receiver.private_key)
    answer = receiver.post(body, {**headers, "Content-Encoding": "gzip"})
    assert answer.status_code == 415
    assert receiver.post(body, {**headers, "Content-Encoding": "identity"}).status_code == 204
    lines = "".join(f"{name}: {value}\r\n" for name, value in headers.items()).encode()
    head = f"POST {urlsplit(receiver.url).path} HTTP/1.1\r\nContent-Length: {len(body)}\r\n"
    with receiver.connect() as sock:
        twice = b"Content-Encoding: gzip\r\nContent-Encoding: identity\r\n"
        sock.sendall(head.encode() + lines + twice + b"\r\n" + body)
        assert sock.recv(1000).startswith(b"HTTP/1.1 415")


def test_blanks_around_the_signature_headers_are_no_part_of_them(receiver: Any) -> None:
    body, headers = sign(b"[]", receiver.private_key)
    lines = "".join(f"{name}:  {value} \t \r\n" for name, value in headers.items()).encode()
    head = f"POST {urlsplit(receiver.url).path} HTTP/1.1\r\nContent-Length: {len(body)}\r\n"
    with receiver.connect() as sock:
        sock.sendall(head.encode() + lines + b"\r\n" + body)
        assert sock.recv(1000).startswith(b"HTTP/1.1 204")


def test_too_long_bodies(start_receiver: Start) -> None:
    receiver = start_receiver(max_body_bytes=100_000)
    good = b"[" + b" " * 99_998 + b"]"
    assert receiver.post(*sign(good, receiver.private_key)).status_code == 204
    body, headers = sign(good + b" ", receiver.private_key)
    told = receiver.post(body, headers)
    assert (told.status_code, told.text) == (413, "the body has more than 100000 bytes\n")
    untold = receiver.post((body[i : i + 5000] for i in range(0, len(body), 5000)), headers)
    assert untold.status_code == 413
    huge = receiver.post(iter([b"x" * 50_000] * 3), headers)
    assert huge.status_code == 413
    assert receiver.log.end() == 1
    assert metric(receiver, 'sendgrid_webhook_refused_total{reason="too_large"}') == 3


def test_the_clock_window(start_receiver: Start) -> None:
    receiver = start_receiver(clock_window=300)
    now = int(time.time())
    for age, status in ((0, 204), (200, 204), (-200, 204), (400, 401), (-400, 401)):
        answer = receiver.post(*sign(b"[]", receiver.private_key, now - age))
        assert answer.status_code == status, age
    assert "300 s" in answer.text


def test_unsigned_only_when_allowed(start_receiver: Start) -> None:
    receiver = start_receiver(allow_unsigned=True, public_keys=())
    assert receiver.post(b"[]", {}).status_code == 204


def test_a_body_that_does_not_come_is_given_up(start_receiver: Start) -> None:
    receiver = start_receiver(body_timeout=0.3)
    _, headers = sign(b"[]", receiver.private_key)
    with receiver.connect() as sock:
        head = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
        path = urlsplit(receiver.url).path
        sock.sendall(
            f"POST {path} HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n{head}\r\n[".encode()
        )
        answer = sock.recv(1000)
        assert answer.startswith(b"HTTP/1.1 408")
        assert b"longer than 0.3 s" in answer
        assert sock.recv(1000) == b""


def test_a_head_that_does_not_come_is_given_up(
    receiver: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tap_sendgrid.webhook.protocol.HEAD_SECONDS", 0.3)
    for beginning in (b"", b"POST / HTTP/1.1\r\nX-Slow: "):
        with receiver.connect() as sock:
            started = time.monotonic()
            sock.sendall(beginning)
            assert sock.recv(1000) == b"", "closed without an answer"
            assert time.monotonic() - started < 5


def test_a_head_without_end_is_cut_off(receiver: Any) -> None:
    sent = 0
    with receiver.connect() as sock, suppress(ConnectionResetError, BrokenPipeError):
        sock.sendall(b"GET /healthz HTTP/1.1\r\n")
        while sent < 10_000_000:
            sock.sendall(b"X-More: " + b"x" * 1000 + b"\r\n")
            sent += 1000
            time.sleep(0.001)
    assert 60_000 < sent < 1_000_000
    assert receiver.look("/healthz").status_code == 200


def test_connections_are_kept_for_further_deliveries(receiver: Any) -> None:
    address = urlsplit(receiver.base)
    kept = http.client.HTTPConnection(str(address.hostname), address.port, timeout=10)
    kept.connect()
    own = kept.sock.getsockname()
    for _ in range(3):
        body, headers = sign(b"[]", receiver.private_key)
        kept.request("POST", urlsplit(receiver.url).path, body, headers)
        answer = kept.getresponse()
        assert (answer.status, answer.read()) == (204, b"")
        assert kept.sock.getsockname() == own
    kept.close()
