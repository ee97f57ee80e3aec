"""Recipients of the legacy generation: a search by ``updated_at``, or all pages.

The search (``POST /v3/contactdb/recipients/search``) works to the second with epoch values and the
operators gt and lt. Whether its answer is paged is documented nowhere, so its count decides whether
it gave everything; if not, all pages are read.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from datetime import datetime
from typing import Any

from tap_sendgrid.api.client import Client
from tap_sendgrid.api.errors import RequestRejected, SendGridError, ServiceUnavailable
from tap_sendgrid.api.pages import legacy_pages, rows_of

logger = logging.getLogger("tap-sendgrid.recipients")

_PATH = "/v3/contactdb/recipients"


class PagesMoved(SendGridError):
    """Recipients were deleted while the pages were read, so that some were passed over."""


def updated_since(client: Client, since: datetime) -> list[dict[str, Any]] | None:
    """The recipients with ``updated_at >= since``; None when the search does not serve."""
    condition = {
        "field": "updated_at",
        "value": str(int(since.timestamp()) - 1),
        "operator": "gt",
        "and_or": "",
    }
    try:
        answer = client.post(f"{_PATH}/search", {"conditions": [condition]})
    except (RequestRejected, ServiceUnavailable) as problem:
        logger.info("The search for recipients does not serve (%s); reading all pages", problem)
        return None
    rows = rows_of(answer, "recipients")
    count = answer.get("recipient_count")
    if count is not None and count > len(rows):
        logger.info("The search gave %d of %d recipients; reading all pages", len(rows), count)
        return None
    return [plain(row) for row in rows]


def all_pages(client: Client) -> Iterator[list[dict[str, Any]]]:
    """All recipients, a page at a time.

    Raises:
        PagesMoved: There are more recipients than the pages gave.
    """
    before = _count(client)
    found = 0
    for page in legacy_pages(client, _PATH):
        found += len(page)
        yield [plain(row) for row in page]
    if before is not None and found < before:
        after = _count(client)
        if after is None or found < min(before, after):
            raise PagesMoved(
                f"SendGrid has {after or before:,} recipients, but its pages gave {found:,}: some "
                "were deleted while they were read. What was found is synced; the next run reads "
                "all pages again."
            )


def plain(row: dict[str, Any]) -> dict[str, Any]:
    """The recipient with its custom fields as an object by name."""
    fields = row.get("custom_fields")
    if not isinstance(fields, list):
        return row
    named = {field["name"]: field.get("value") for field in fields if field.get("name")}
    return {**row, "custom_fields": named}


def _count(client: Client) -> int | None:
    try:
        count = client.get(f"{_PATH}/count").get("recipient_count")
    except RequestRejected:
        return None
    return None if count is None else int(count)
