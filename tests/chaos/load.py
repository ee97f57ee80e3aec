"""The load: numbered, signed events with SendGrid's retries, and the record of what got a 2xx."""

from __future__ import annotations

import hashlib
import random
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import msgspec
from sendgrid_simulator import RetryPolicy, SendReport, WebhookSender, generate_events
from sendgrid_simulator.mixing import disorder, repeat
from sendgrid_simulator.oauth import TokenSource
from sendgrid_simulator.sender import Batch
from sendgrid_simulator.signing import encode_event, frame_encoded
from sendgrid_simulator.webhooks import Webhook

TABLE_OF = {"open": "_open", "spamreport": "spam_report"}
NEW_ARGUMENT_EVERY = 2_000
SPOILED_SHARE = 0.003
HASHED_SHARE = 0.02
REPEATED_SHARE = 0.03
UNHEARD_OF_SHARE = 0.01
# SendGrid's own schedule is not published; this one is short, so that a run is.
RETRIES = RetryPolicy(first=0.3, longest=4.0)


class _Numbered(msgspec.Struct):
    number: int


_number_of = msgspec.json.Decoder(_Numbered).decode


@dataclass
class Ledger:
    """What was sent and what was acknowledged, by event number.

    Attributes:
        tables: Of each event that was made, the table that it belongs to; its number is its place.
        acknowledged: One byte an event: 1 once a delivery with it got a 2xx.
        spoiled: Bodies that are no JSON and got a 2xx all the same: they belong in quarantine.
        bodies: SHA-256, in hexadecimal, of each body that got a 2xx.
        deliveries: Deliveries that got a 2xx.
    """

    tables: list[str] = field(default_factory=list)
    acknowledged: bytearray = field(default_factory=bytearray)
    spoiled: set[bytes] = field(default_factory=set)
    bodies: set[bytes] = field(default_factory=set)
    deliveries: int = 0
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def made(self, table: str) -> int:
        """The number of a new event."""
        self.tables.append(table)
        self.acknowledged.append(0)
        return len(self.tables) - 1

    def acknowledge(self, encoded: list[bytes]) -> None:
        """Note that a delivery of these events got a 2xx."""
        digest = hashlib.sha256(frame_encoded(encoded)).hexdigest().encode()
        with self._lock:
            self.deliveries += 1
            self.bodies.add(digest)
            for event in encoded:
                if event.startswith(b"{"):
                    self.acknowledged[_number_of(event).number] = 1
                else:
                    self.spoiled.add(b"[" + event + b"]\r\n")

    @property
    def acknowledged_events(self) -> int:
        """How many events got a 2xx."""
        return self.acknowledged.count(1)


def numbered_events(ledger: Ledger, seed: int, stop: threading.Event) -> Iterator[dict[str, Any]]:
    """Events of all types, each with a number of its own, until stopped.

    Every ``NEW_ARGUMENT_EVERY`` events a custom argument appears that no event had before, so
    that columns are added, and ``activity`` is changed, while processes die.
    """
    rng = random.Random(seed)
    patterns = list(generate_events(3000, seed=seed))
    while not stop.is_set():
        pattern = patterns[rng.randrange(len(patterns))]
        word = pattern["event"] if rng.random() > UNHEARD_OF_SHARE else "unheard_of"
        table = "other_event" if word == "unheard_of" else TABLE_OF.get(word, word)
        number = ledger.made(table)
        event = pattern | {
            "event": word,
            "number": number,
            "sg_event_id": f"chaos-{seed}-{number}",
        }
        if rng.random() < HASHED_SHARE:
            del event["sg_event_id"]  # its id is then made of its content
        if number >= NEW_ARGUMENT_EVERY:
            newest = min(number // NEW_ARGUMENT_EVERY, 60)
            event[f"late_{rng.randint(1, newest)}"] = f"value {number % 100}"
        yield event


def deliveries(events: Iterator[dict[str, Any]], seed: int) -> Iterator[Batch]:
    """Deliveries of 1 to 150 events, out of order, some events repeated, a few bodies spoiled."""
    rng = random.Random(seed + 1)
    stream = repeat(disorder(events, seed, window=300), REPEATED_SHARE, seed)
    serial = 0
    while True:
        size = rng.choice((1, 1, 3, 10, 50, 150))
        encoded = [encode_event(event) for _, event in zip(range(size), stream, strict=False)]
        if not encoded:
            return
        yield Batch(encoded)
        if rng.random() < SPOILED_SHARE:
            serial += 1
            yield Batch([b"spoiled %d" % serial])


class Load:
    """Sends from a thread until told to stop, then until everything is acknowledged.

    Args:
        url: Where to.
        private_key: The webhook's.
        rate: Events a second.
        seed: What the events and their order follow from.
        tokens: Where bearer tokens come from; None sends none.
    """

    def __init__(
        self,
        url: str,
        private_key: Any,
        rate: float,
        seed: int,
        tokens: TokenSource | None = None,
    ) -> None:
        self.ledger = Ledger()
        self._stop = threading.Event()
        events = numbered_events(self.ledger, seed, self._stop)
        self._sender = WebhookSender(
            url,
            private_key,
            connections=8,
            retry=RETRIES,
            rate=rate,
            timeout=3.0,
            tokens=tokens,
            on_acknowledged=self.ledger.acknowledge,
        )
        self._thread = threading.Thread(
            target=self._sender.send, args=(deliveries(events, seed),), name="load", daemon=True
        )

    def start(self) -> None:
        """Begin to send."""
        self._thread.start()

    @property
    def report(self) -> SendReport:
        """What became of it so far."""
        return self._sender.report

    def finish(self, seconds: float) -> bool:
        """Make no new events, retry the rest; whether all was acknowledged within the time."""
        self._stop.set()
        self._thread.join(seconds)
        done = not self._thread.is_alive()
        self._sender.stop()
        self._thread.join(30)
        return done


def tokens_of(webhook: Webhook, longest: float) -> TokenSource | None:
    """Where the tokens of a webhook come from; None for one without OAuth.

    Args:
        webhook: As it is registered.
        longest: Seconds after which a token is not used any more.
    """
    if not webhook.oauth_client_id or not webhook.oauth_token_url:
        return None
    return TokenSource(
        webhook.oauth_client_id,
        webhook.oauth_client_secret or "",
        webhook.oauth_token_url,
        longest=longest,
    )
