"""Recipients of the legacy generation: a search by ``updated_at``, or all pages.

The search (``POST /v3/contactdb/recipients/search``) works to the second with epoch values and the
operators gt and lt. How its answer is paged is documented nowhere: pages are asked for as
elsewhere, and its count decides whether they gave everything; if not, all recipients are read.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from typing import Any

from tap_sendgrid.api.client import Client
from tap_sendgrid.api.errors import RequestRejected, SendGridError, ServiceUnavailable
from tap_sendgrid.api.pages import PagesMoved, legacy_pages

_PATH = "/v3/contactdb/recipients"


class SearchFailed(SendGridError):
    """The search for changed recipients does not serve."""


def updated_since(client: Client, since: datetime) -> Iterator[list[dict[str, Any]]]:
    """The recipients with ``updated_at >= since``, a page at a time.

    Raises:
        SearchFailed: The search does not serve; all pages have to be read.
    """
    condition = {
        "field": "updated_at",
        "value": str(int(since.timestamp()) - 1),
        "operator": "gt",
        "and_or": "",
    }
    pages = legacy_pages(client, f"{_PATH}/search", body={"conditions": [condition]})
    seen: set[str] = set()
    total = 0
    try:
        for page, count in pages:
            total = count or total
            fresh = [row for row in page if row["id"] not in seen]
            if not fresh:  # the same page again: pages are not known here
                break
            seen.update(row["id"] for row in fresh)
            yield [plain(row) for row in fresh]
            if count is not None and len(seen) >= count:
                return
    except (RequestRejected, ServiceUnavailable) as problem:
        raise SearchFailed(str(problem)) from problem
    if len(seen) < total:
        raise SearchFailed(f"it gave {len(seen):,} of {total:,} recipients")


def all_pages(client: Client, before: int | None) -> Iterator[list[dict[str, Any]]]:
    """All recipients, a page at a time.

    Args:
        client: Who asks.
        before: Of `recipient_count`.

    Raises:
        PagesMoved: There are more recipients than the pages gave.
    """
    found = 0
    for page, _ in legacy_pages(client, _PATH):
        found += len(page)
        yield [plain(row) for row in page]
    if before is not None and found < before:
        after = recipient_count(client)
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


def recipient_count(client: Client) -> int | None:
    """The number of recipients that the account has now; None when SendGrid does not tell."""
    try:
        count = client.get(f"{_PATH}/count").get("recipient_count")
    except RequestRejected:
        return None
    return None if count is None else int(count)
