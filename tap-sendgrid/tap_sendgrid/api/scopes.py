"""Permissions: which scope a collection needs, and what a 403 means.

SendGrid's 403 ``access forbidden`` does not say whether a scope is missing, the account has the
other marketing generation, or the address is not allowed (IP Access Management). Any valid key may
call ``GET /v3/scopes``, so that answer tells them apart.
"""

from __future__ import annotations

from collections.abc import Collection

from tap_sendgrid.api.client import Client
from tap_sendgrid.api.errors import Forbidden, IPRestricted, MissingScope, SendGridError

#: marketing.read grants read and write: no read-only scope exists for the current generation.
MARKETING = ("marketing.read",)
LEGACY = ("marketing_campaigns.read",)


def fetch(client: Client) -> frozenset[str]:
    """The key's scopes.

    Raises:
        IPRestricted: 403 here can only mean that the address is not allowed.
        InvalidCredentials: SendGrid does not know the key.
    """
    try:
        answer = client.get("/v3/scopes")
    except Forbidden as problem:
        raise IPRestricted(f"HTTP 403: {problem.answer}") from None
    return frozenset(answer.get("scopes") or ())


def allows(held: Collection[str], needed: Collection[str]) -> bool:
    """Whether one of the needed scopes is held; nothing needed is always allowed."""
    return not needed or any(scope in held for scope in needed)


def explain(
    problem: Forbidden, held: Collection[str], needed: tuple[str, ...], what: str
) -> SendGridError:
    """The better name of a 403, given what the key holds and the request needs."""
    return problem if allows(held, needed) else MissingScope(needed, what)
