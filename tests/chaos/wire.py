"""Raw bytes on sockets against a receiver that is served as in production."""

from __future__ import annotations

import asyncio
import os
import random
import re
import signal
import subprocess
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from pipeline import BIN
from sendgrid_simulator import new_private_key, public_key_text

from chaos.inputs import body, signed_headers

TOKEN = "the-secret-path-of-this-receiver"
LIMIT = 60_000
CONNECTIONS = 16
PATIENCE = 5.0
MEMORY_LIMIT_MB = 400
KEY = new_private_key(1)
STRANGER = new_private_key(3)
_STATUS = re.compile(rb"^HTTP/1\.1 (\d{3})", re.MULTILINE)


class Failure(Exception):
    """What must not be."""


@dataclass(frozen=True)
class Wire:
    """A request as bytes.

    Attributes:
        content: What is sent.
        good: It has to be accepted; any other must not be.
        ends: The sender closes its side afterwards: what was sent may lack its end.
    """

    content: bytes
    good: bool = False
    ends: bool = False


async def fuzz_server(inputs: int, seed: int, folder: Path) -> Counter[str]:
    """Send requests, whole and broken, over many connections; the answers by status.

    Raises:
        Failure: A 5xx, something accepted that was not sent, or a receiver that is not well.
    """
    process, port = await start(folder)
    seen: Counter[str] = Counter()
    waiting = iter(range(inputs))

    async def work() -> None:
        for number in waiting:
            rng = random.Random(seed << 41 | number)
            wire = make_request(rng, port)
            statuses = await exchange(port, wire)
            seen.update(statuses or ["no answer"])
            failed = any(status[0] == "5" for status in statuses)
            if failed or wire.good != ("204" in statuses):
                raise Failure(f"wire input {number} of seed {seed}: {statuses}\n{wire}"[:3000])

    try:
        await asyncio.gather(*(work() for _ in range(CONNECTIONS)))
        if await exchange(port, READY) != ["200"]:
            raise Failure("the receiver is not ready any more")
        memory = int(re.search(r"VmRSS:\s+(\d+)", status_of(process.pid))[1]) // 1024  # type: ignore[index]
        if memory > MEMORY_LIMIT_MB:
            raise Failure(f"the receiver holds {memory} MB")
        seen["memory in MB at the end"] = memory
    finally:
        process.send_signal(signal.SIGTERM)
        code = process.wait(60)
    if code != 0:
        raise Failure(f"the receiver ended with {code}")
    return seen


READY = Wire(b"GET /readyz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")


async def start(folder: Path) -> tuple[subprocess.Popen[bytes], int]:
    """A served receiver and its port."""
    log = folder / "wire.log"
    with log.open("wb") as out:
        process = subprocess.Popen(
            [
                str(BIN / "sendgrid-webhook"),
                "serve",
                "--port=0",
                f"--event-log-url=sqlite:///{folder / 'wire.db'}",
                f"--path-token={TOKEN}",
                f"--public-key={public_key_text(KEY)}",
                f"--max-body-bytes={LIMIT}",
            ],
            cwd=folder,
            env={k: v for k, v in os.environ.items() if not k.startswith(("TAP_", "SENDGRID_"))},
            stdout=out,
            stderr=subprocess.STDOUT,
        )
    for _ in range(600):
        if found := re.search(r"http://127\.0\.0\.1:(\d+)", log.read_text()):
            port = int(found[1])
            if await exchange(port, READY) == ["200"]:
                return process, port
        await asyncio.sleep(0.1)
    process.kill()
    raise Failure(f"the receiver did not start:\n{log.read_text()}")


async def exchange(port: int, wire: Wire) -> list[str]:
    """Send a request; the statuses that came back."""
    try:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
    except OSError:
        return []
    answer = b""
    try:
        writer.write(wire.content)
        if wire.ends:
            writer.write_eof()
        async with asyncio.timeout(PATIENCE):
            while block := await reader.read(65536):
                answer += block
    except (OSError, TimeoutError):
        pass
    finally:
        writer.transport.abort()
    return [status.decode() for status in _STATUS.findall(answer)]


def make_request(rng: random.Random, port: int) -> Wire:
    """A request: three in eight are good ones."""
    content = body(rng)
    lines = [b"%s: %s" % header for header in signed_headers(content, KEY, rng)]
    lines += [b"host: 127.0.0.1:%d" % port, b"connection: close"]
    rng.shuffle(lines)
    start_line = b"POST /%s HTTP/1.1" % TOKEN.encode()
    chunked = rng.random() < 0.3
    framed = in_chunks(content, rng) if chunked else content
    length = b"transfer-encoding: chunked" if chunked else b"content-length: %d" % len(content)
    kind = rng.randrange(8)
    if kind <= 2:
        return Wire(head(start_line, [*lines, length]) + framed, good=len(content) <= LIMIT)
    whole = head(start_line, [*lines, length]) + framed
    if kind == 3:  # cut off
        return Wire(whole[: rng.randrange(whole.index(b"\r\n\r\n") + 4)], ends=True)
    if kind == 4:  # lengths that are none
        wrong = rng.choice(
            (b"-1", b"+5", b"1_0", b"0x10", b"", b"9" * 30, b"5, 5", b"\xd9\xa1", b"1e3")
        )
        return Wire(head(start_line, [*lines, b"content-length: " + wrong]) + content, ends=True)
    if kind == 5:  # both framings: the classic of request smuggling
        both = [*lines, b"content-length: 4", b"transfer-encoding: chunked"]
        return Wire(head(start_line, both) + b"0\r\n\r\n" + whole, ends=True)
    if kind == 6:  # heads that are too long, or none
        flood = [b"x-%d: %s" % (n, b"y" * 200) for n in range(rng.choice((10, 2000)))]
        odd = rng.choice(
            (
                b"POST /%s HTTP/9.9" % TOKEN.encode(),
                b"POST",
                b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
                b"PRI * HTTP/2.0",
                b"POST http://[ HTTP/1.1",
                b"GET /" + b"%" * 100 + b" HTTP/1.1",
                b"GET /" + b"a" * 100_000 + b" HTTP/1.1",
                b"GET /?token=\xff HTTP/1.1",
            )
        )
        return Wire(head(odd, flood) + content, ends=True)
    forged = [b"%s: %s" % header for header in signed_headers(content, STRANGER, rng)]
    return Wire(head(start_line, [*forged, b"host: x", b"connection: close", length]) + framed)


def head(start_line: bytes, lines: list[bytes]) -> bytes:
    """The head of a request."""
    return b"\r\n".join([start_line, *lines]) + b"\r\n\r\n"


def in_chunks(content: bytes, rng: random.Random) -> bytes:
    """A body in chunked encoding."""
    parts = []
    while content:
        size = rng.randint(1, len(content))
        parts.append(b"%x\r\n%s\r\n" % (size, content[:size]))
        content = content[size:]
    return b"".join(parts) + b"0\r\n\r\n"


def status_of(process: int) -> str:
    """What Linux says about a process."""
    return Path(f"/proc/{process}/status").read_text()
