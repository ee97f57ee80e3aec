"""The ways in which SendGrid pages. Each yields single rows.

No collection may be cut silently: page sizes are always sent, and every pager says how it knows
that it is at the end.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from tap_sendgrid.api.client import Client, Params
from tap_sendgrid.api.errors import NotFound, SendGridError

Row = dict[str, Any]


def rows_of(answer: Any, key: str | None) -> list[Row]:
    """The rows of an answer: under ``key``, or the answer itself; ``null`` counts as none."""
    found = answer.get(key) if key and isinstance(answer, dict) else answer
    if found is None:
        return []
    if not isinstance(found, list):
        raise SendGridError(f"SendGrid's answer has no array {key or ''!r} where one should be.")
    # Webhook settings are known to answer [{}] for none.
    return [row for row in found if row]


def token_pages(
    client: Client, path: str, key: str = "result", page_size: int | None = 100
) -> Iterator[Row]:
    """Rows of the current generation: the last page is the one without ``_metadata.next``."""
    params: Params | None = {"page_size": page_size} if page_size else None
    answer = client.get(path, params)
    seen: set[str] = set()
    while True:
        yield from rows_of(answer, key)
        following = (answer.get("_metadata") or {}).get("next")
        if not following:
            return
        if following in seen:
            raise SendGridError(f"SendGrid's pages of {path} go round in a circle.")
        seen.add(following)
        answer = client.get(following)


def offset_pages(
    client: Client,
    path: str,
    *,
    key: str | None = None,
    limit: int = 500,
    params: Params | None = None,
    overlap: int = 0,
) -> Iterator[Row]:
    """Rows by limit and offset: the last page is the one shorter than ``limit``.

    Args:
        client: Who asks.
        path: The endpoint.
        key: Where the rows are; None for a bare array.
        limit: Rows per page.
        params: Further parameters.
        overlap: Rows to read again at the head of each further page: rows that left the list
            while it was paged moved the others up.
    """
    offset = 0
    while True:
        answer = client.get(path, {**(params or {}), "limit": limit, "offset": offset})
        rows = rows_of(answer, key)
        yield from rows
        if len(rows) < limit:
            return
        offset += limit - overlap


def legacy_pages(client: Client, path: str, page_size: int = 1000) -> Iterator[list[Row]]:
    """Pages of legacy recipients: asked until the 404 ``No more pages``.

    A page may be short, over-full or empty before the end (OpenAPI lmc_contactdb), so nothing but
    the 404 ends them; a run of empty pages does too, for accounts that never answer 404.
    """
    page, empty = 1, 0
    while empty < _EMPTY_PAGES:
        try:
            answer = client.get(path, {"page": page, "page_size": page_size})
        except NotFound:
            return
        rows = rows_of(answer, "recipients")
        if rows:
            yield rows
        elif isinstance(answer, dict) and answer.get("recipient_count") == 0:
            return
        empty = 0 if rows else empty + 1
        page += 1


#: More empty pages in a row than batched deletes leave behind.
_EMPTY_PAGES = 50
