"""What every request passes before an endpoint answers: faults, key, address, scope, rate limit.

The order and the bodies: reference "Auth", "Rate limits" and "Error bodies"; an address that IP
Access Management does not allow gets 403 on every endpoint (sendgrid-csharp#427).
"""

from __future__ import annotations

import math
import time
from typing import TYPE_CHECKING

from sendgrid_simulator.http import ApiError, Endpoint, forbidden, not_found

if TYPE_CHECKING:
    from starlette.requests import Request

    from sendgrid_simulator.account import Account
    from sendgrid_simulator.options import SimulatorOptions

#: Limits that are documented or were seen live; `SimulatorOptions.rate_limits` goes over them.
DOCUMENTED_LIMITS: dict[str, tuple[int, float]] = {
    "GET /v3/messages": (6, 60.0),
    "POST /v3/contactdb/recipients": (3, 2.0),
}
_BAD_KEY = "The provided authorization grant is invalid, expired, or revoked"


class RateLimiter:
    """Calls per endpoint and key in fixed windows, as the X-RateLimit headers tell them."""

    def __init__(self, options: SimulatorOptions) -> None:
        self._options = options
        self._windows: dict[tuple[str, str], tuple[float, int]] = {}

    def _limit(self, method: str, template: str) -> tuple[int, float]:
        exact = f"{method} {template}"
        own = self._options.rate_limits
        matches = [prefix for prefix in own if template.startswith(prefix) or exact == prefix]
        if matches:
            return own[max(matches, key=len)]
        if exact in DOCUMENTED_LIMITS:
            return DOCUMENTED_LIMITS[exact]
        if template.startswith("/v3/messages") and method == "GET":
            return DOCUMENTED_LIMITS["GET /v3/messages"]
        return self._options.rate_limit

    def count(self, method: str, template: str, who: str) -> tuple[dict[str, str], bool]:
        """Counts a call: the three headers of its answer, and whether it is within the limit."""
        limit, seconds = self._limit(method, template)
        now = time.time()
        key = (f"{method} {template}", who)
        end, used = self._windows.get(key, (0.0, 0))
        if now >= end:
            end, used = now + seconds, 0
        used += 1
        self._windows[key] = (end, used)
        headers = {
            "X-RateLimit-Limit": str(limit),
            "X-RateLimit-Remaining": str(max(0, limit - used)),
            "X-RateLimit-Reset": str(math.ceil(end)),
        }
        return headers, used <= limit


def authorize(
    request: Request,
    endpoint: Endpoint,
    account: Account,
    subusers: dict[str, Account],
) -> Account:
    """The account that an API call acts on.

    Raises:
        ApiError: 401 or 403, as SendGrid words them.
    """
    options = account.options
    kind, _, key = request.headers.get("authorization", "").partition(" ")
    if kind.lower() != "bearer" or not key.strip():
        raise ApiError(401, "authorization required")
    owner = next((a for a in (account, *subusers.values()) if key in a.api_keys), None)
    if owner is None:
        # The bytes as observed: message first (sendgrid-php#793).
        error = ApiError(401, _BAD_KEY)
        error.body = {"errors": [{"message": _BAD_KEY, "field": None, "help": None}]}
        raise error
    client = request.client.host if request.client else ""
    if options.allowed_ips is not None and client not in options.allowed_ips:
        raise forbidden()
    scopes = owner.api_keys[key]
    target = owner
    behalf = request.headers.get("on-behalf-of", "")
    if behalf:
        subuser = subusers.get(behalf) if owner is account else None
        if subuser is None:
            raise forbidden()
        target = subuser
    if options.region == "eu" and not endpoint.eu:
        raise not_found()
    if endpoint.family not in ("any", target.generation):
        raise forbidden()
    if endpoint.scope and not scopes.intersection(endpoint.scope):
        raise forbidden()
    return target
