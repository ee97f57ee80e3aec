"""OAuth 2.0 client credentials, with which SendGrid may authenticate its deliveries.

Source: Twilio docs "Event Webhook Security Features". How SendGrid encodes the grant request is not
documented; here the credentials go in the form body and, when asked, as Basic authentication.
"""

from __future__ import annotations

import threading
import time
from typing import Literal
from urllib.parse import urlencode

import msgspec
import urllib3

#: RFC 6750 errors in an answer of 400, 401 or 403: SendGrid fetches another token and tries again.
TOKEN_ERRORS = (b"invalid_request", b"invalid_token", b"insufficient_scope")


class TokenSource:
    """Fetches a token when it is needed, and keeps it until it expires.

    Args:
        client_id: The client's id.
        client_secret: Its secret.
        token_url: Where tokens are.
        encoding: ``form`` puts the credentials in the body, ``basic`` in a header.
        longest: Seconds after which a token is not used any more, whatever its own lifetime.
    """

    def __init__(
        self,
        client_id: str,
        client_secret: str,
        token_url: str,
        encoding: Literal["form", "basic"] = "form",
        longest: float = float("inf"),
    ) -> None:
        self._client_id = client_id
        self._client_secret = client_secret
        self._token_url = token_url
        self._encoding = encoding
        self._longest = longest
        self._lock = threading.Lock()
        self._token = ""
        self._until = 0.0

    def header(self, *, refused: str = "") -> dict[str, str]:
        """The Authorization header; a new token when this one was refused.

        Returns:
            An empty dict when no token can be had: the delivery then goes without.
        """
        with self._lock:
            if refused and refused == self._token:
                self._token = ""
            if not self._token or time.monotonic() >= self._until:
                self._fetch()
            return {"Authorization": f"Bearer {self._token}"} if self._token else {}

    def _fetch(self) -> None:
        fields = {"grant_type": "client_credentials"}
        headers = {"Content-Type": "application/x-www-form-urlencoded"}
        if self._encoding == "basic":
            pair = f"{self._client_id}:{self._client_secret}"
            headers |= urllib3.make_headers(basic_auth=pair)
        else:
            fields |= {"client_id": self._client_id, "client_secret": self._client_secret}
        self._token = ""
        try:
            response = urllib3.request(
                "POST",
                self._token_url,
                body=urlencode(fields),
                headers=headers,
                timeout=10.0,
                retries=False,
            )
            answer = msgspec.json.decode(response.data)
        except (urllib3.exceptions.HTTPError, msgspec.DecodeError):
            return
        if response.status == 200 and isinstance(answer, dict):
            self._token = str(answer.get("access_token", ""))
            lifetime = min(float(answer.get("expires_in", 3600)), self._longest)
            self._until = time.monotonic() + lifetime


def asks_for_a_new_token(status: int, body: bytes) -> bool:
    """Whether an answer says that the token is no good (any more)."""
    return status in (400, 401, 403) and any(error in body for error in TOKEN_ERRORS)
