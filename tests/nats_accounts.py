"""Operator, accounts and users of a NATS server, as its tool `nsc` would make them.

A NATS JWT is ``header.claims.signature``, signed with Ed25519 (``ed25519-nkey``); keys are base32
of a prefix, the 32 bytes, and a CRC-16. https://docs.nats.io/running-a-nats-service/nats_admin/security/jwt
"""

from __future__ import annotations

import base64
import binascii
import json
import time
import uuid
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

_SEED, _LETTERS = 18 << 3, {"operator": 14 << 3, "account": 0, "user": 20 << 3}
_UNLIMITED = ("subs", "data", "payload", "imports", "exports", "conn", "leaf")
_UNLIMITED_STORE = ("mem_storage", "disk_storage", "streams", "consumer")


def encode(prefix: bytes, content: bytes) -> str:
    """A key as text."""
    raw = prefix + content
    raw += binascii.crc_hqx(raw, 0).to_bytes(2, "little")
    return base64.b32encode(raw).decode().rstrip("=")


class Party:
    """An operator, an account or a user: a key pair, and what it says of others."""

    def __init__(self, kind: str) -> None:
        self.kind = kind
        self._key = Ed25519PrivateKey.generate()
        letter = _LETTERS[kind]
        self.public = encode(bytes([letter]), self._key.public_key().public_bytes_raw())
        prefix = bytes([_SEED | letter >> 5, (letter & 31) << 3])
        self.seed = encode(prefix, self._key.private_bytes_raw())

    def vouch_for(self, other: Party, claims: dict[str, Any], **more: Any) -> str:
        """A JWT about another party, signed by this one."""
        content = {
            "jti": uuid.uuid4().hex,
            "iat": int(time.time()),
            "iss": self.public,
            "sub": other.public,
            "name": other.kind,
            "nats": {"type": other.kind, "version": 2, **claims},
            **more,
        }
        parts = [_base64(json.dumps(p).encode()) for p in (_HEAD, content)]
        signature = self._key.sign(".".join(parts).encode())
        return ".".join([*parts, _base64(signature)])


_HEAD = {"typ": "JWT", "alg": "ed25519-nkey"}


class Operator:
    """An operator with the accounts `events` (has JetStream) and `system`."""

    def __init__(self) -> None:
        self._operator = Party("operator")
        self._account, self._system = Party("account"), Party("account")

    def server_config(self, more: str = "") -> str:
        """What makes a server trust this operator and know its accounts."""
        limits = dict.fromkeys(_UNLIMITED, -1) | {"wildcards": True}
        stored = limits | dict.fromkeys(_UNLIMITED_STORE, -1)
        vouch = self._operator.vouch_for
        return (
            f"operator: {vouch(self._operator, {})}\n"
            f"system_account: {self._system.public}\n"
            "resolver: MEMORY\n"
            "resolver_preload: {\n"
            f"  {self._account.public}: {vouch(self._account, {'limits': stored})}\n"
            f"  {self._system.public}: {vouch(self._system, {'limits': limits})}\n"
            f"}}\n{more}"
        )

    def credentials(
        self, permissions: dict[str, Any] | None = None, *, seconds: float | None = None
    ) -> str:
        """The credentials file of a new user of the account with JetStream.

        Args:
            permissions: Of the claims: ``pub`` and ``sub``.
            seconds: How long they are good; None: for ever.
        """
        user = Party("user")
        claims = {"subs": -1, "data": -1, "payload": -1, **(permissions or {})}
        more = {} if seconds is None else {"exp": int(time.time() + seconds)}
        token = self._account.vouch_for(user, claims, **more)
        return (
            f"-----BEGIN NATS USER JWT-----\n{token}\n------END NATS USER JWT------\n\n"
            "************************* IMPORTANT *************************\n"
            "NKEY Seed printed below can be used to sign and prove identity.\n"
            "NKEYs are sensitive and should be treated as secrets.\n\n"
            f"-----BEGIN USER NKEY SEED-----\n{user.seed}\n------END USER NKEY SEED------\n\n"
            "*************************************************************\n"
        )


def secrets_of(credentials: str) -> list[str]:
    """What of a credentials file must never be shown: the JWT and the seed."""
    lines = credentials.splitlines()
    return [lines[1], lines[lines.index("-----BEGIN USER NKEY SEED-----") + 1]]


def _base64(content: bytes) -> str:
    return base64.urlsafe_b64encode(content).rstrip(b"=").decode()
