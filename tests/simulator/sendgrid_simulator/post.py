"""One POST to a webhook's URL: no redirects, no retry here, any answer or none."""

from __future__ import annotations

from collections.abc import Mapping

import urllib3

_pool = urllib3.PoolManager(num_pools=4, maxsize=4, retries=False)


def post_once(
    url: str, body: bytes, headers: Mapping[str, str], timeout: float = 10.0
) -> int | None:
    """Posts ``body``; the status of the answer, or None when there was none."""
    try:
        response = _pool.request(
            "POST", url, body=body, headers=dict(headers), timeout=timeout, redirect=False
        )
    except urllib3.exceptions.HTTPError:
        return None
    return response.status
