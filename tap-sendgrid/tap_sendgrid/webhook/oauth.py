"""OAuth 2.0 client credentials: tokens for SendGrid to send with each delivery (RFC 6749, 6750).

A token is its time of expiry and an HMAC over it, so that every worker and machine that knows
the client secret can check it, and none has to remember it.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import json
import secrets
import time
from urllib.parse import parse_qs, unquote_plus

TOKEN_SECONDS = 3600


class TokenIssuer:
    """Issues and checks the tokens of one client.

    Args:
        client_id: As entered in SendGrid.
        client_secret: As entered in SendGrid.
    """

    def __init__(self, client_id: str, client_secret: str) -> None:
        self._client_id = client_id
        self._client_secret = client_secret
        self._key = hashlib.sha256(b"sendgrid-webhook token\0" + client_secret.encode()).digest()

    def answer(self, authorization: bytes | None, body: bytes) -> tuple[int, bytes]:
        """Status and JSON body of the answer to a token request.

        Args:
            authorization: The header of that name: HTTP Basic, or None.
            body: The form; the credentials may be in it instead of the header.
        """
        try:
            form = parse_qs(body.decode(), max_num_fields=20)
        except (ValueError, UnicodeDecodeError):
            return 400, _json({"error": "invalid_request"})
        clients = _basic(authorization) or [
            (form.get("client_id", [""])[-1], form.get("client_secret", [""])[-1])
        ]
        # All are compared to their ends, so that the time tells nothing.
        same = [
            hmac.compare_digest(name.encode(), self._client_id.encode())
            & hmac.compare_digest(password.encode(), self._client_secret.encode())
            for name, password in clients
        ]
        if not any(same):
            return 401, _json({"error": "invalid_client"})
        if form.get("grant_type", ["client_credentials"]) != ["client_credentials"]:
            return 400, _json({"error": "unsupported_grant_type"})
        return 200, _json(
            {"access_token": self.issue(), "token_type": "Bearer", "expires_in": TOKEN_SECONDS}
        )

    def issue(self) -> str:
        """A new token."""
        content = f"{int(time.time()) + TOKEN_SECONDS}.{secrets.token_urlsafe(9)}"
        return f"{content}.{self._sign(content)}"

    def accepts(self, authorization: bytes | None) -> bool:
        """Whether a request's Authorization header carries a token that we issued and is fresh."""
        scheme, _, token = (authorization or b"").decode("latin-1").partition(" ")
        content, _, signature = token.strip().rpartition(".")
        expiry = content.partition(".")[0]
        return (
            scheme.lower() == "bearer"
            and hmac.compare_digest(signature.encode(), self._sign(content).encode())
            and int(expiry) > time.time()
        )

    def _sign(self, content: str) -> str:
        digest = hmac.new(self._key, content.encode(), hashlib.sha256).digest()
        return base64.urlsafe_b64encode(digest).rstrip(b"=").decode()


def _basic(authorization: bytes | None) -> list[tuple[str, str]]:
    """Id and secret of an HTTP Basic header, as they may be meant.

    RFC 6749 (section 2.3.1) has them form-encoded within, which many clients leave out: where it
    matters, a secret with + or %, only the comparison can tell.
    """
    scheme, _, value = (authorization or b"").partition(b" ")
    if scheme.lower() != b"basic":
        return []
    try:
        name, colon, password = base64.b64decode(value, validate=True).decode().partition(":")
    except (binascii.Error, UnicodeDecodeError):
        return []
    plain, decoded = (name, password), (unquote_plus(name), unquote_plus(password))
    return [plain, decoded] if colon else []


def _json(value: dict[str, object]) -> bytes:
    return json.dumps(value).encode()
