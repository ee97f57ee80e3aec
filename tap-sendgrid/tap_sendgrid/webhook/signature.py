"""SendGrid's signature: ECDSA P-256 with SHA-256 over the timestamp header and the raw body.

https://www.twilio.com/docs/sendgrid/for-developers/tracking-events/getting-started-event-webhook-security-features
"""

from __future__ import annotations

import base64
import binascii
import hashlib
from collections.abc import Iterable

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, utils

SIGNATURE_HEADER = "x-twilio-email-event-webhook-signature"
TIMESTAMP_HEADER = "x-twilio-email-event-webhook-timestamp"

_ALGORITHM = ec.ECDSA(utils.Prehashed(hashes.SHA256()))
_LONGEST_SIGNATURE = 144  # base64 of DER; a P-256 signature has at most 96
_LONGEST_TIMESTAMP = 20


class BadPublicKey(ValueError):
    """A key that is none of SendGrid's: the message says what was expected."""


def load_public_key(text: str) -> ec.EllipticCurvePublicKey:
    """Read a key as SendGrid shows it: base64 of a DER SubjectPublicKeyInfo, or PEM.

    Raises:
        BadPublicKey: It is not a P-256 key.
    """
    lines = text.strip().splitlines()
    bare = "".join(line.strip() for line in lines if not line.startswith("-----"))
    try:
        key = serialization.load_der_public_key(base64.b64decode(bare, validate=True))
    except (ValueError, UnsupportedAlgorithm):
        key = None
    if not isinstance(key, ec.EllipticCurvePublicKey) or not isinstance(key.curve, ec.SECP256R1):
        raise BadPublicKey(
            "not a verification key: SendGrid shows it as one line of 124 characters that begins "
            "with MFkwEwYHKoZIzj0CAQ (Settings > Mail Settings > Event Webhooks > Security)"
        )
    return key


class SignedBody:
    """The digest of one delivery, made while its body arrives.

    Args:
        timestamp: Value of the timestamp header.
        signature: Value of the signature header.

    Raises:
        ValueError: The headers cannot be a signature.
    """

    def __init__(self, timestamp: bytes, signature: bytes) -> None:
        if len(timestamp) > _LONGEST_TIMESTAMP or not timestamp.isdigit():
            raise ValueError("the timestamp header is no epoch second")
        if len(signature) > _LONGEST_SIGNATURE:
            raise ValueError("the signature header is too long")
        try:
            self._signature = base64.b64decode(signature, validate=True)
        except binascii.Error as error:
            raise ValueError("the signature header is not base64") from error
        self.seconds = int(timestamp)
        self._hash = hashlib.sha256(timestamp)

    def update(self, chunk: bytes) -> None:
        """Take the next piece of the body."""
        self._hash.update(chunk)

    def is_signed_by(self, keys: Iterable[ec.EllipticCurvePublicKey]) -> bool:
        """Whether one of the keys made the signature."""
        digest = self._hash.digest()
        for key in keys:
            try:
                key.verify(self._signature, digest, _ALGORITHM)
            except InvalidSignature:
                continue
            return True
        return False
