"""Signing webhook deliveries as SendGrid does: ECDSA P-256, SHA-256, over timestamp and body.

Source: Twilio docs "Event Webhook Security Features", checked on public signed deliveries.
"""

from __future__ import annotations

import base64
import time
from collections.abc import Iterable, Mapping
from typing import Any

import msgspec
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

SIGNATURE_HEADER = "X-Twilio-Email-Event-Webhook-Signature"
TIMESTAMP_HEADER = "X-Twilio-Email-Event-Webhook-Timestamp"

#: What every webhook POST carries besides its signature (captured from real deliveries).
DELIVERY_HEADERS = {
    "User-Agent": "SendGrid Event API",
    "Content-Type": "application/json;charset=utf-8",
    "Accept-Encoding": "gzip",
}

_encoder = msgspec.json.Encoder(order="sorted")
# The order of the NIST P-256 group: private keys are numbers below it.
_P256_ORDER = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551


def new_private_key(seed: int | None = None) -> ec.EllipticCurvePrivateKey:
    """A P-256 key pair: random, or the same for the same seed (for tests only, of course)."""
    if seed is None:
        return ec.generate_private_key(ec.SECP256R1())
    digest = hashes.Hash(hashes.SHA512())
    digest.update(f"sendgrid-simulator {seed}".encode())
    number = int.from_bytes(digest.finalize(), "big") % (_P256_ORDER - 1) + 1
    return ec.derive_private_key(number, ec.SECP256R1())


def public_key_text(private_key: ec.EllipticCurvePrivateKey) -> str:
    """The public key as SendGrid shows it: base64 of DER SubjectPublicKeyInfo, 124 characters."""
    der = private_key.public_key().public_bytes(
        serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    return base64.b64encode(der).decode()


def encode_event(event: Mapping[str, Any]) -> bytes:
    """One event as on the wire: keys in byte order, compact, non-ASCII text as raw UTF-8."""
    return _encoder.encode(event)


def frame_encoded(encoded: Iterable[bytes]) -> bytes:
    """The body of a delivery from encoded events: joined by ``,CRLF`` and ended by ``]CRLF``."""
    return b"[" + b",\r\n".join(encoded) + b"]\r\n"


def frame(events: Iterable[Mapping[str, Any]]) -> bytes:
    """The body of a delivery, byte for byte as SendGrid frames it, final CRLF included."""
    return frame_encoded(map(encode_event, events))


def sign_body(
    body: bytes, private_key: ec.EllipticCurvePrivateKey, timestamp: int | None = None
) -> dict[str, str]:
    """The headers of a signed delivery of ``body``.

    Args:
        body: The raw bytes that are posted.
        private_key: The webhook's key.
        timestamp: Unix seconds of this attempt; now when left out.

    Returns:
        All headers of the POST: user agent, content type, signature and timestamp.
    """
    stamp = str(int(time.time()) if timestamp is None else timestamp)
    signature = private_key.sign(stamp.encode() + body, ec.ECDSA(hashes.SHA256()))
    return {
        **DELIVERY_HEADERS,
        SIGNATURE_HEADER: base64.b64encode(signature).decode(),
        TIMESTAMP_HEADER: stamp,
    }


def sign_delivery(
    events: Iterable[Mapping[str, Any]],
    private_key: ec.EllipticCurvePrivateKey,
    timestamp: int | None = None,
) -> tuple[bytes, dict[str, str]]:
    """A signed delivery of ``events``: ``(body, headers)``, ready to be posted."""
    body = frame(events)
    return body, sign_body(body, private_key, timestamp)
