"""One POST to a webhook's URL: no redirects, no retries but for a token that is no good."""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from urllib.parse import unquote

import urllib3

from sendgrid_simulator.oauth import TokenSource, asks_for_a_new_token


def new_pool(connections: int) -> urllib3.PoolManager:
    """A pool that keeps so many connections to the receiver."""
    return urllib3.PoolManager(maxsize=connections, block=True, retries=False)


@lru_cache(maxsize=64)
def basic_auth(url: str) -> dict[str, str]:
    """The Authorization header of a URL with a user and a password in it, as SendGrid sends it."""
    auth = urllib3.util.parse_url(url).auth
    return dict(urllib3.make_headers(basic_auth=unquote(auth))) if auth else {}


def post(
    pool: urllib3.PoolManager,
    url: str,
    body: bytes,
    headers: Mapping[str, str],
    *,
    timeout: float = 10.0,
    tokens: TokenSource | None = None,
) -> int | None:
    """Posts ``body``; the status of the answer, or None when there was none.

    Args:
        pool: The connections.
        url: The receiver.
        body: The raw bytes.
        headers: All headers but the token's.
        timeout: Seconds to wait for the answer.
        tokens: Where bearer tokens come from, if the webhook has OAuth.
    """
    headers = {**headers, **basic_auth(url)}
    sent = {**headers, **(tokens.header() if tokens else {})}
    try:
        status, answer = _once(pool, url, body, sent, timeout)
        if tokens is not None and asks_for_a_new_token(status, answer):
            refused = sent.get("Authorization", "").removeprefix("Bearer ")
            sent = {**headers, **tokens.header(refused=refused)}
            status, _ = _once(pool, url, body, sent, timeout)
    except urllib3.exceptions.HTTPError:
        return None
    return status


def _once(
    pool: urllib3.PoolManager, url: str, body: bytes, headers: dict[str, str], timeout: float
) -> tuple[int, bytes]:
    response = pool.request(
        "POST", url, body=body, headers=headers, timeout=timeout, redirect=False
    )
    return response.status, response.data
