"""Ids that follow from a seed, whatever else the account holds."""

from __future__ import annotations

import base64
import uuid
from hashlib import blake2b


def stable_bytes(seed: int, kind: str, number: int, size: int = 16) -> bytes:
    """Bytes that look random and are the same for the same arguments (size at most 64)."""
    return blake2b(f"{seed} {kind} {number}".encode(), digest_size=size).digest()


def stable_uuid(seed: int, kind: str, number: int) -> str:
    """A version 4 UUID."""
    return str(uuid.UUID(bytes=stable_bytes(seed, kind, number), version=4))


def api_key(seed: int, number: int = 0) -> str:
    """An API key as SendGrid makes them: 69 characters, ``SG.<22>.<43>``."""
    key_id, secret = (
        base64.urlsafe_b64encode(stable_bytes(seed, kind, number, size))
        .decode()
        .rstrip("=")
        .replace("-", "A")
        for kind, size in (("key id", 16), ("key secret", 32))
    )
    return f"SG.{key_id}.{secret}"
