"""Throws hostile input at the receiver and at event parsing (``python -m chaos.fuzz --help``).

Three stages: the receiver's ASGI application in this process (most inputs), the served receiver
over a socket with raw bytes, and the way from a logged body to Singer records. Each input follows
from seed and number, so that a failure can be had again with ``--only``.
"""

from __future__ import annotations

import argparse
import asyncio
import codecs
import hashlib
import json
import random
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path

import msgspec
from sendgrid_simulator import new_private_key, public_key_text
from tap_sendgrid.event_log import Delivery, EventLogError
from tap_sendgrid.event_log.sqlite import SQLiteEventLog
from tap_sendgrid.events import event_stream_classes
from tap_sendgrid.events.convert import Converter
from tap_sendgrid.events.reader import convert_delivery
from tap_sendgrid.webhook.app import Receiver
from tap_sendgrid.webhook.keys import KeyRing
from tap_sendgrid.webhook.settings import ReceiverSettings

from chaos import wire
from chaos.asgi import Server, is_genuine
from chaos.inputs import Post, Requests, body

TOKEN = "the-secret-path-of-this-receiver"
LIMIT = 60_000
ALLOWED = {200, 204, 400, 401, 404, 405, 408, 413, 415, 503, None}
AT_ONCE = 64
KEYS = [new_private_key(1), new_private_key(2)]
STRANGER = new_private_key(3)


class Failure(Exception):
    """What must not be; says how to have it again."""


def input_rng(seed: int, number: int) -> random.Random:
    """The source of input ``number``."""
    return random.Random(seed << 40 | number)


class UnreliableLog(SQLiteEventLog):
    """A log that cannot take one batch in fifty."""

    rng = random.Random(0)
    refused = 0

    def append(self, deliveries: Sequence[Delivery]) -> list[int]:
        """Store them, or say that there is no space."""
        if self.rng.random() < 0.02:
            self.refused += 1
            raise EventLogError("full", "no space is left")
        return super().append(deliveries)


async def fuzz_receiver(numbers: Sequence[int], seed: int, folder: Path) -> Counter[str]:
    """Send requests to the application; what it answered, by status.

    Raises:
        Failure: A crash, an answer that must not be, a body taken unsigned, or the log holding
            something else than what was acknowledged.
    """
    log = UnreliableLog(folder / "fuzz.db")
    settings = ReceiverSettings(str(log.path), TOKEN, "status-token", max_body_bytes=LIMIT)
    keys = KeyRing(log, [public_key_text(key) for key in KEYS])
    requests = Requests("/" + TOKEN, KEYS, STRANGER, LIMIT)
    answers: Counter[str] = Counter()
    stored: Counter[bytes] = Counter()
    waiting = iter(numbers)
    progress = Progress("receiver", len(numbers))

    async def work(server: Server) -> None:
        for number in waiting:
            rng = input_rng(seed, number)
            post = requests.make(rng)
            cut = rng.random() < 0.02
            status = await server.ask(post, disconnect=cut)
            answers[str(status)] += 1
            if problem := judge(post, status, cut=cut):
                raise Failure(f"input {number} of seed {seed}: {problem}\n{post}")
            if status == 204:
                stored[hashlib.sha256(post.body).digest()] += 1
            progress.step()

    async with Server(Receiver(settings, log, keys)) as server:
        await asyncio.gather(*(work(server) for _ in range(AT_ONCE)))
    with closing(SQLiteEventLog(folder / "fuzz.db")) as again:
        found = Counter(hashlib.sha256(d.delivery.body).digest() for d in again.read(0))
    if found != stored:
        raise Failure(f"{found.total()} deliveries are stored, {stored.total()} were acknowledged")
    answers["batches the log refused"] = log.refused
    return answers


def judge(post: Post, status: int | None, *, cut: bool) -> str | None:
    """What is wrong about an answer; None when nothing is."""
    if status not in ALLOWED:
        return f"answered {status}"
    if status is None and not cut:
        return "not answered"
    if status == 204 and not (
        post.method == "POST"
        and post.path == "/" + TOKEN
        and is_genuine(post, [key.public_key() for key in KEYS])
    ):
        return "accepted, but it is not signed by one of the keys"
    if post.pristine and not cut and status not in {204, 503}:
        return f"a good delivery was answered {status}"
    return None


def fuzz_parsing(numbers: Sequence[int], seed: int) -> Counter[str]:
    """Turn bodies into records; how many there were.

    Raises:
        Failure: A crash, a record that is no JSON, or an element that became neither a record nor
            a reason.
    """
    converter = Converter({c.event_type.stream: frozenset() for c in event_stream_classes})
    encode = msgspec.json.Encoder().encode
    now = datetime(2026, 11, 23, tzinfo=UTC)
    counts: Counter[str] = Counter()
    progress = Progress("parsing", len(numbers))
    for number in numbers:
        content = body(input_rng(seed, number))
        try:
            converted = convert_delivery(converter, Delivery(content, now))
            for stream, record in converted.records:
                line = encode(record)
                if b"\n" in line or not isinstance(record["id"], str) or not record["id"]:
                    raise Failure(f"{stream}: {line!r}")
                if number % 10 == 0:
                    json.loads(line, parse_constant=_refuse)
            elements = _count_elements(content)
            if elements is not None and elements != len(converted.records) + len(
                converted.rejected
            ):
                raise Failure(f"{elements} elements gave {converted}")
            if not converted.records and not converted.rejected and elements != 0:
                raise Failure("gave neither records nor a reason")
        except Exception as problem:
            raise Failure(f"input {number} of seed {seed}: {problem!r}\n{content!r}") from problem
        counts["records"] += len(converted.records)
        counts["rejected"] += len(converted.rejected)
        progress.step()
    return counts


def _count_elements(content: bytes) -> int | None:
    """How many elements a body has that any JSON parser can read; None for other bodies."""
    try:
        value = json.loads(content.removeprefix(codecs.BOM_UTF8).decode())
    except (ValueError, RecursionError):
        return None
    return len(value) if isinstance(value, list) else None


def _refuse(constant: str) -> None:
    raise ValueError(f"{constant} is no JSON")


class Progress:
    """A line every few seconds."""

    def __init__(self, name: str, total: int) -> None:
        self._name, self._total = name, total
        self._done = 0
        self._started = self._told = time.monotonic()

    def step(self) -> None:
        """One more."""
        self._done += 1
        now = time.monotonic()
        if self._done % 1000 == 0 and now - self._told > 10:
            self._told = now
            rate = self._done / (now - self._started)
            print(f"  {self._name}: {self._done:,} of {self._total:,}, {rate:,.0f}/s", flush=True)


def main() -> int:
    """Run the stages; 0 if nothing was found."""
    parser = argparse.ArgumentParser(prog="chaos.fuzz", description=__doc__)
    parser.add_argument("--inputs", type=int, default=100_000, help="of all stages together")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--only", type=int, help="one input of the first and last stage")
    given = parser.parse_args()
    raw = given.inputs // 50
    each = (given.inputs - raw) // 2
    numbers = range(each) if given.only is None else range(given.only, given.only + 1)
    started = time.monotonic()
    try:
        with tempfile.TemporaryDirectory(prefix="fuzz-") as folder:
            print(f"receiver, in process: {len(numbers):,} requests", flush=True)
            answers = asyncio.run(fuzz_receiver(numbers, given.seed, Path(folder)))
            print(f"  answers {dict(sorted(answers.items()))}")
            if given.only is None:
                print(f"receiver, over sockets: {raw:,} requests", flush=True)
                seen = asyncio.run(wire.fuzz_server(raw, given.seed, Path(folder)))
                print(f"  answers {dict(sorted(seen.items()))}")
        print(f"parsing: {len(numbers):,} bodies", flush=True)
        print(f"  {dict(fuzz_parsing(numbers, given.seed))}")
    except (Failure, wire.Failure) as failure:
        print(f"FOUND  {failure}")
        return 1
    total = 2 * len(numbers) + (raw if given.only is None else 0)
    print(f"{total:,} inputs in {time.monotonic() - started:.0f} s: nothing found")
    return 0


if __name__ == "__main__":
    sys.exit(main())
