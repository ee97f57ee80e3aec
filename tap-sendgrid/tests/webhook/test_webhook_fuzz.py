"""The receiver against made-up requests: no crash, no 5xx, nothing in the log that is not signed.

A short form runs with the suite; SENDGRID_WEBHOOK_FUZZ_INPUTS=1000000 makes it a long one.
"""

from __future__ import annotations

import asyncio
import base64
import json
import os
import random
import socket
from collections import Counter
from collections.abc import Callable
from typing import Any
from urllib.parse import urlsplit

from cryptography.hazmat.primitives.asymmetric import ec
from sendgrid_simulator.signing import sign_body
from tap_sendgrid.webhook.body import summarise
from tap_sendgrid.webhook.signature import SignedBody

INPUTS = int(os.environ.get("SENDGRID_WEBHOOK_FUZZ_INPUTS", "3000"))
SEED = int(os.environ.get("SENDGRID_WEBHOOK_FUZZ_SEED", "1"))
FOREIGN = ec.generate_private_key(ec.SECP256R1())
NAMES = (
    "X-Twilio-Email-Event-Webhook-Signature",
    "X-Twilio-Email-Event-Webhook-Timestamp",
    "Content-Encoding",
    "Content-Type",
    "Content-Length",
    "Transfer-Encoding",
    "Authorization",
    "Expect",
    "Connection",
    "Upgrade",
    "Host",
)


WORDS = (
    *(b"gzip", b"chunked", b"identity", b"0", b"-1", b"99999999999999999999", b"100-continue"),
    *(b"websocket", b"close", b"Bearer x.y.z", b"Basic !!"),
)


def noise(rng: random.Random, length: int) -> bytes:
    return rng.randbytes(rng.randrange(length))


def json_like(rng: random.Random, depth: int = 0) -> Any:
    """Something that could be, or nearly be, an event."""
    kind = rng.randrange(9 if depth < 4 else 6)
    if kind == 0:
        return rng.choice([None, True, False])
    if kind == 1:
        return rng.choice([0, -1, 10**400, 1e308, rng.randrange(2**64)])
    if kind <= 4:
        return "".join(rng.choice('aé\x00\\"\ud800😀<>\u2028\r\n') for _ in range(rng.randrange(8)))
    if kind == 5:
        return rng.choice(["open", "click", "event", "timestamp"])
    if kind == 6:
        return [json_like(rng, depth + 1) for _ in range(rng.randrange(4))]
    keys = ("event", "timestamp", "sg_event_id", "email", "category", "url_offset", "x")
    return {rng.choice(keys): json_like(rng, depth + 1) for _ in range(rng.randrange(5))}


def body(rng: random.Random) -> bytes:
    kind = rng.randrange(5)
    if kind == 0:
        return noise(rng, 300)
    text = json.dumps([json_like(rng) for _ in range(rng.randrange(5))]).encode()
    if kind == 1 and text:
        mutable = bytearray(text)
        mutable[rng.randrange(len(mutable))] = rng.randrange(256)
        return bytes(mutable)
    if kind == 2:
        return text[: rng.randrange(len(text) + 1)]
    return text


def header_value(rng: random.Random, name: str, content: bytes) -> bytes:
    signed = sign_body(content, FOREIGN, rng.randrange(2**32))
    kind = rng.randrange(5)
    if kind == 0 and name in signed:
        return signed[name].encode()
    if kind == 1:
        return base64.b64encode(noise(rng, 120))
    if kind == 2:
        return rng.choice([*WORDS, str(len(content)).encode()])
    return bytes(byte for byte in noise(rng, 40) if byte not in b"\r\n")


def request(rng: random.Random, path: bytes) -> bytes:
    """A request as bytes, from well-formed to nonsense."""
    if rng.random() < 0.05:
        return noise(rng, 2000)
    content = body(rng)
    method = rng.choice([b"POST"] * 8 + [b"GET", b"PUT", b"HEAD", b"OPTIONS", b"POS\x00T", b"PRI"])
    target = rng.choice(
        [path] * 8 + [b"/", b"*", b"/metrics", path + b"?x=%ff", b"//%00", b"http://x/"]
    )
    lines = [method + b" " + target + b" HTTP/1." + rng.choice([b"1"] * 9 + [b"0", b"9"])]
    names = rng.sample(NAMES, rng.randrange(len(NAMES)))
    lines += [name.encode() + b": " + header_value(rng, name, content) for name in names]
    if rng.random() < 0.8:
        lines = [line for line in lines if not line.startswith((b"Content-Length", b"Transfer-"))]
        lines.append(b"Content-Length: %d" % len(content))
    raw = b"\r\n".join(lines) + b"\r\n\r\n" + content
    if rng.random() < 0.1:
        mutable = bytearray(raw)
        mutable[rng.randrange(len(mutable))] = rng.randrange(256)
        raw = bytes(mutable)
    return raw


async def answer(host: str, port: int, raw: bytes) -> bytes:
    """The status of the answer, or what came instead of one."""
    reader, writer = await asyncio.open_connection(host, port)
    try:
        writer.write(raw)
        writer.write_eof()
        head = await asyncio.wait_for(reader.read(4096), 10)
    except ConnectionResetError:
        return b"reset"
    finally:
        writer.close()
    return head[9:12] if head.startswith(b"HTTP/1.") else b"closed" if not head else b"odd"


async def bombard(host: str, port: int, path: bytes, count: int) -> Counter[bytes]:
    rng = random.Random(SEED)
    statuses: Counter[bytes] = Counter()
    for start in range(0, count, 50):
        wave = [request(rng, path) for _ in range(min(50, count - start))]
        statuses.update(await asyncio.gather(*(answer(host, port, raw) for raw in wave)))
    return statuses


def test_made_up_requests_crash_nothing_and_enter_nothing(
    start_receiver: Callable[..., Any],
) -> None:
    receiver = start_receiver(body_timeout=0.5)
    address = urlsplit(receiver.url)
    statuses = asyncio.run(
        bombard(str(address.hostname), address.port or 0, address.path.encode(), INPUTS)
    )
    assert sum(statuses.values()) == INPUTS
    assert not [status for status in statuses if status.startswith(b"5")], statuses
    assert {b"400", b"401", b"404", b"405", b"415"} <= statuses.keys(), statuses
    assert b"204" not in statuses
    assert b"odd" not in statuses
    assert receiver.log.end() == 0
    assert receiver.log.status().quarantined == 0
    assert receiver.send().status_code == 204, "and it still works"


def test_signed_bodies_of_any_content_are_kept_as_they_are(
    start_receiver: Callable[..., Any],
) -> None:
    receiver = start_receiver()
    rng = random.Random(SEED)
    sent = []
    address = urlsplit(receiver.base)
    with socket.create_connection((address.hostname, address.port)) as sock:
        for _ in range(max(200, INPUTS // 10)):
            content = body(rng)
            head = (
                f"POST {urlsplit(receiver.url).path} HTTP/1.1\r\nContent-Length: {len(content)}\r\n"
            )
            for name, value in sign_body(content, receiver.private_key).items():
                head += f"{name}: {value}\r\n"
            sock.sendall(head.encode() + b"\r\n" + content)
            assert sock.recv(4096).startswith(b"HTTP/1.1 204")
            sent.append(content)
    assert receiver.bodies == sent
    unreadable = sum(summarise(content).problem is not None for content in sent)
    assert receiver.log.status().quarantined == unreadable > 0


def test_no_bytes_break_the_parsers() -> None:
    rng = random.Random(SEED)
    for _ in range(INPUTS):
        content = body(rng)
        summary = summarise(content)
        assert (summary.problem is None) or not summary.events
        for value in (noise(rng, 100), base64.b64encode(noise(rng, 100))):
            try:
                signed = SignedBody(str(rng.randrange(10**10)).encode(), value)
            except ValueError:
                continue
            signed.update(content)
            assert not signed.is_signed_by([FOREIGN.public_key()])
