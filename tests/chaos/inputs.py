"""Hostile bodies and requests, each made from a seed and its number alone."""

from __future__ import annotations

import base64
import itertools
import json
import random
import time
from collections.abc import Sequence
from dataclasses import dataclass, field

from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey
from sendgrid_simulator import generate_events
from sendgrid_simulator.signing import (
    SIGNATURE_HEADER,
    TIMESTAMP_HEADER,
    encode_event,
    frame_encoded,
    sign_body,
)

EVENTS = list(generate_events(400, seed=99))
ENCODED = [encode_event(event) for event in EVENTS]

# Values in JSON that parsers, numbers, databases and people stumble over.
NASTY = (
    b"null", b"true", b"0", b"-0", b"-0.0", b"1e308", b"1e309", b"-1e-400", b"NaN", b"Infinity",
    b"-Infinity", b"9223372036854775807", b"9223372036854775808", b"-9223372036854775809",
    b"1" * 400, b"0.1" + b"3" * 60, b"1.0", b"1e2", b"01", b"1_000", b'""', b'" "', b'"\\u0000"',
    b'"\\ud800"', b'"\\udc00\\ud800"', b'"\\ud83d\\ude00"',
    b'"\xff\xfe"', b'"\xed\xa0\x80"', b'"\x00"',
    b'"\x1f"', b'"\\"', b'"a\nb"', b"[]", b"{}", b"[[]]", b'{"":""}', b'{"a":{"b":{"c":[1,{}]}}}',
    b'{"id":1,"name":2}', b'["x",1,null]', b"1767225600", b'"1767225600"', b"1767225600000",
    b"-1", b"1767225600.5", b"99999999999999999999", b'"-5"', b'"\xd9\xa1\xd9\xa2"',
    b'"' + b"x" * 5000 + b'"', b"[" * 60 + b"]" * 60, b'{"a":' * 40 + b"1" + b"}" * 40,
)  # fmt: skip
KEYS = (
    b"event", b"timestamp", b"sg_event_id", b"sg_message_id", b"smtp-id", b"smtp_id", b"email",
    b"category", b"tls", b"pool", b"newsletter", b"url_offset", b"asm_group_id", b"custom_args",
    b"id", b"received_at", b"uuid_ts", b"occurred_at", b"_repeated", b"", b" ", b"\\u0000",
    b"\\ud800", b"__proto__", b"a.b", b"a" * 300, b'\\"; DROP TABLE x; --', "ключ".encode(),
)  # fmt: skip
WHOLE = (
    b"", b" ", b"\r\n", b"null", b"true", b"17", b'"text"', b"{}", b"[]", b"[[]]",
    b"[null]", b"[{}]", b"[{},]", b"[,]", b"[{}", b"]", b"{}{}", b"[]\x00",
    b"\xef\xbb\xbf[]", b"\xff\xfe[\x00]\x00",
    b"[" * 5000, b"[" * 100_000, b'{"a":' * 20_000, b"[" * 900 + b"]" * 900,
    b'[{"event":' + b"[" * 2000 + b"]" * 2000 + b"}]", b"-" * 1000,
    b'["' + b"\\" * 999, b"\x1f\x8b\x08\x00",
    b"event=open&email=a%40b", b"<xml/>", b"[1e999999999]", b"[0." + b"9" * 5000 + b"]",
    b"[" + b"9" * 5000 + b"]", b'[{"timestamp":' + b"9" * 5000 + b"}]",
)  # fmt: skip
_NOISE = bytes(range(256))
_SIGNIFICANT = b'{}[]",:\\eEun0123456789-+.\r\n\x00\xff'


def mutated(rng: random.Random, data: bytes) -> bytes:
    """The bytes with one to four small damages."""
    damaged = bytearray(data)
    for _ in range(rng.randint(1, 4)):
        place = rng.randrange(len(damaged) + 1)
        kind = rng.randrange(6)
        if kind == 0 and place < len(damaged):
            damaged[place] ^= 1 << rng.randrange(8)
        elif kind == 1:
            damaged[place:place] = bytes([rng.choice(_SIGNIFICANT)])
        elif kind == 2:
            del damaged[place : place + rng.randint(1, 20)]
        elif kind == 3:
            damaged[place:place] = rng.choice(NASTY)
        elif kind == 4:
            start = rng.randrange(len(damaged) + 1)
            damaged[place:place] = damaged[start : start + rng.randint(1, 50)]
        else:
            damaged[place : place + 1] = bytes([rng.choice(_NOISE)])
    return bytes(damaged)


def strange_event(rng: random.Random) -> bytes:
    """An event of JSON syntax with strange keys and values, some keys twice."""
    members = []
    for _ in range(rng.randint(0, 8)):
        value = rng.choice(NASTY)
        if rng.random() < 0.3:
            value = json.dumps(rng.choice(list(rng.choice(EVENTS).values()))).encode()
        members.append(b'"' + rng.choice(KEYS) + b'":' + value)
    event = rng.choice(ENCODED)
    if rng.random() < 0.7 and members:
        return event[:-1] + b"," + b",".join(members) + b"}"
    return b"{" + b",".join(members) + b"}"


def body(rng: random.Random) -> bytes:
    """A body of any kind: as SendGrid sends it, strange, damaged, or anything at all."""
    kind = rng.random()
    if kind < 0.25:
        return frame_encoded(rng.choices(ENCODED, k=rng.randint(1, 6)))
    if kind < 0.55:
        return frame_encoded(
            [
                strange_event(rng) if rng.random() < 0.6 else rng.choice(ENCODED)
                for _ in range(rng.randint(1, 4))
            ]
        )
    if kind < 0.85:
        whole = frame_encoded(
            [
                strange_event(rng) if rng.random() < 0.3 else rng.choice(ENCODED)
                for _ in range(rng.randint(1, 3))
            ]
        )
        return mutated(rng, whole)
    if kind < 0.95:
        # The few that are slow to look at come seldom.
        return rng.choice(WHOLE if rng.random() < 0.05 else WHOLE[:20])
    return rng.randbytes(rng.randrange(300))


@dataclass
class Post:
    """A request before it becomes ASGI messages or bytes on a wire.

    Attributes:
        pristine: Nothing about it is wrong: it has to be accepted.
    """

    method: str
    path: str
    headers: list[tuple[bytes, bytes]]
    body: bytes
    query: bytes = b""
    pristine: bool = False
    chunks: list[bytes] = field(default_factory=list)


class Requests:
    """Makes requests for a receiver.

    Args:
        path: The secret path.
        keys: Those that the receiver knows.
        stranger: One that it does not know.
        limit: The receiver's limit of a body in bytes.
    """

    def __init__(
        self,
        path: str,
        keys: Sequence[EllipticCurvePrivateKey],
        stranger: EllipticCurvePrivateKey,
        limit: int,
    ) -> None:
        self._path = path
        self._keys = keys
        self._stranger = stranger
        self._limit = limit
        self._bad = (
            self._damage_body,
            self._damage_signature,
            self._damage_timestamp,
            self._odd_headers,
            self._odd_target,
            self._forge,
            self._too_large,
        )

    def make(self, rng: random.Random) -> Post:
        """A request: about a third are good ones, the others have something wrong about them."""
        content = body(rng)
        headers = signed_headers(content, rng.choice(self._keys), rng)
        post = Post("POST", self._path, headers, content, pristine=len(content) <= self._limit)
        if rng.random() > 0.35:
            post.pristine = False
            rng.choice(self._bad)(post, rng)
        cuts = sorted(rng.randrange(len(post.body) + 1) for _ in range(rng.choice((0, 0, 1, 4))))
        edges = [0, *cuts, len(post.body)]
        post.chunks = [post.body[a:b] for a, b in itertools.pairwise(edges)]
        return post

    def _damage_body(self, post: Post, rng: random.Random) -> None:
        post.body = mutated(rng, post.body)

    def _damage_signature(self, post: Post, rng: random.Random) -> None:
        signature = _get(post, SIGNATURE_HEADER)
        raw = bytearray(base64.b64decode(signature))
        kind = rng.randrange(8)
        if kind == 0:
            raw[rng.randrange(len(raw))] ^= 1 << rng.randrange(8)
            signature = base64.b64encode(raw)
        elif kind == 1:
            signature = mutated(rng, signature)
        elif kind == 2:
            signature = base64.b64encode(rng.randbytes(rng.choice((0, 1, 8, 64, 70, 72, 107))))
        elif kind == 3:
            signature = b"A" * rng.choice((0, 1, 4, 96, 143, 144, 145, 10_000))
        elif kind == 4:  # r = s = 0 and 1
            number = rng.randrange(2)
            signature = base64.b64encode(bytes([0x30, 6, 2, 1, number, 2, 1, number]))
        elif kind == 5:
            signature = base64.urlsafe_b64encode(raw)
        elif kind == 6:
            signature = signature.rstrip(b"=") + rng.choice((b"", b"\n", b" ", b"====", b"\xff"))
        else:
            signature = base64.b64encode(raw + rng.randbytes(rng.randint(1, 4)))
        _set(post, SIGNATURE_HEADER, signature)

    def _damage_timestamp(self, post: Post, rng: random.Random) -> None:
        stamp = _get(post, TIMESTAMP_HEADER)
        changed = rng.choice(
            (
                b"", b" ", b"0", b"-" + stamp, b"+" + stamp, b"0" + stamp, stamp + b"0", stamp[:-1],
                stamp + b".0", b" " + stamp, b"9" * 20, b"9" * 21, b"1e9", b"nan", b"\xb2\xb3",
                "١٢".encode(), stamp[::-1], mutated(rng, stamp),
            )
        )  # fmt: skip
        _set(post, TIMESTAMP_HEADER, changed)

    def _odd_headers(self, post: Post, rng: random.Random) -> None:
        for _ in range(rng.randint(1, 3)):
            kind = rng.randrange(5)
            if kind == 0 and post.headers:
                del post.headers[rng.randrange(len(post.headers))]
            elif kind == 1 and post.headers:
                post.headers.append(rng.choice(post.headers))
            elif kind == 2:
                value = rng.choice(
                    (b"gzip", b"br", b"deflate", b"identity, gzip", b"\xff", b"GZIP")
                )
                post.headers.append((b"content-encoding", value))
            elif kind == 3:
                name = rng.choice((b"content-type", b"user-agent", b"authorization", b"cookie"))
                post.headers.append((name, rng.randbytes(rng.randrange(600))))
            else:
                name = rng.choice((SIGNATURE_HEADER, TIMESTAMP_HEADER)).lower().encode()
                post.headers.append((name, rng.randbytes(rng.randrange(100))))

    def _odd_target(self, post: Post, rng: random.Random) -> None:
        post.method = rng.choice(
            ("POST", "GET", "HEAD", "PUT", "OPTIONS", "DELETE", "post", "X", "")
        )
        secret = self._path
        post.path = rng.choice(
            (
                secret, secret + "/", secret[:-1], secret + "x", "/" + secret, secret.upper(), "/",
                "", "/metrics", "/healthz", "/readyz", "/oauth/token", secret + "/oauth/token",
                "/../" + secret, secret + "\x00", secret + "\udc80", "/" + "a" * 9000, "/ключ", "*",
            )
        )  # fmt: skip
        post.query = rng.choice((b"", b"token=", b"token=x", b"\xff\xfe", b"token=" + b"a" * 5000))

    def _forge(self, post: Post, rng: random.Random) -> None:
        kind = rng.randrange(3)
        if kind == 0:  # another account's key
            post.headers = signed_headers(post.body, self._stranger, rng)
        elif kind == 1:  # another delivery's signature
            post.headers = signed_headers(b"[]\r\n", rng.choice(self._keys), rng)
        else:  # none at all
            names = (SIGNATURE_HEADER.lower().encode(), TIMESTAMP_HEADER.lower().encode())
            post.headers = [h for h in post.headers if h[0] not in names]

    def _too_large(self, post: Post, rng: random.Random) -> None:
        post.body = b"[" + b" " * (self._limit + rng.choice((-1, 0, 1, 1000)))
        post.headers = signed_headers(post.body, rng.choice(self._keys), rng)
        if rng.random() < 0.5:
            post.headers.append((b"content-length", str(len(post.body)).encode()))


def signed_headers(
    content: bytes, key: EllipticCurvePrivateKey, rng: random.Random
) -> list[tuple[bytes, bytes]]:
    """The headers of a delivery, as ASGI has them."""
    signed = sign_body(content, key, int(time.time()) - rng.randrange(100_000))
    return [(name.lower().encode(), value.encode()) for name, value in signed.items()]


def _get(post: Post, name: str) -> bytes:
    return dict(post.headers)[name.lower().encode()]


def _set(post: Post, name: str, value: bytes) -> None:
    raw = name.lower().encode()
    post.headers = [(n, value if n == raw else v) for n, v in post.headers]
