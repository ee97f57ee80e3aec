"""Which generation of Marketing Campaigns an account has: exactly one, or none.

The wrong one answers 403 whatever the key's scopes (sendgrid-ruby#393, sendgrid-nodejs#1135). The
field definitions serve as the probe: contacts need them anyway.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum

from tap_sendgrid.api import scopes
from tap_sendgrid.api.client import Client
from tap_sendgrid.api.errors import Forbidden, MissingScope
from tap_sendgrid.api.pages import rows_of

logger = logging.getLogger("tap-sendgrid.api")

DEFINITIONS = {
    "marketing": "/v3/marketing/field_definitions",
    "legacy": "/v3/contactdb/custom_fields",
}
#: A key that may make keys has full access.
_FULL_ACCESS = "api_keys.create"


class Generation(Enum):
    """Generations of Marketing Campaigns."""

    MARKETING = "marketing"
    LEGACY = "legacy"
    NONE = "none"


@dataclass(frozen=True)
class CustomField:
    """A custom field of the contacts.

    Attributes:
        name: Its name: the key in ``custom_fields``.
        kind: ``text``, ``number`` or ``date``.
    """

    name: str
    kind: str


def fetch_custom_fields(client: Client, generation: str) -> tuple[CustomField, ...] | None:
    """The account's custom field definitions, in SendGrid's order (one request).

    None when SendGrid has null in their place, which tells neither that there are any nor that
    there are none.
    """
    # The key may be missing when there are none.
    found = client.get(DEFINITIONS[generation]).get("custom_fields", [])
    if found is None:
        return None
    rows = rows_of(found, None)
    kinds = ((row.get("field_type") or row.get("type") or "text") for row in rows)
    return tuple(
        CustomField(str(row["name"]), str(kind).lower())
        for row, kind in zip(rows, kinds, strict=True)
        if row.get("name")
    )


def probe(
    client: Client, held: Callable[[], frozenset[str]]
) -> tuple[Generation, tuple[CustomField, ...] | None]:
    """Find out which generation the account has, with one or two requests.

    Args:
        client: Who asks.
        held: Gives the key's scopes; called only when both generations answer 403.

    Returns:
        The generation, and its custom fields; None in their place: they are not known yet.

    Raises:
        MissingScope: Both answer 403 and the key cannot read marketing data at all.
    """
    for generation in (Generation.MARKETING, Generation.LEGACY):
        try:
            fields = fetch_custom_fields(client, generation.value)
        except Forbidden:
            continue
        logger.info("Marketing Campaigns: this account has the %s generation", generation.value)
        return generation, fields
    held_scopes = held()
    if scopes.allows(held_scopes, (*scopes.MARKETING, _FULL_ACCESS)):
        logger.info("Marketing Campaigns: this account does not use it")
        return Generation.NONE, ()
    raise MissingScope(scopes.MARKETING, "Marketing Campaigns (lists, contacts, campaigns)")
