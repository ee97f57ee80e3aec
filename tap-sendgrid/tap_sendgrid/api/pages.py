"""The ways in which SendGrid pages.

No collection may be cut silently: page sizes are always sent, and every pager says how it knows
that it is at the end.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from tap_sendgrid.api.client import Client, Params
from tap_sendgrid.api.errors import NotFound, SendGridError, UnexpectedAnswer

#: More empty pages in a row than batched deletes leave behind.
_EMPTY_PAGES = 50
#: How often rows that moved are read from the start before it is given up.
_TRIES_MOVED = 3


class PagesIgnored(SendGridError):
    """An endpoint gives the same rows whatever limit and offset say."""


class PagesMoved(SendGridError):
    """Rows were removed while the pages were read, so that others were passed over."""


def rows_of(answer: Any, key: str | None) -> list[Any]:
    """The rows of an answer: under ``key``, or the answer itself; ``null`` counts as none.

    Raises:
        UnexpectedAnswer: There is something else, or nothing, where the array should be.
    """
    found = answer.get(key, answer) if key and isinstance(answer, dict) else answer
    if found is None:
        return []
    if not isinstance(found, list):
        raise UnexpectedAnswer(f"SendGrid's answer has no array {key or ''!r} where one should be.")
    # Webhook settings are known to answer [{}] for none.
    return [row for row in found if row]


def token_pages(
    client: Client,
    path: str,
    key: str = "result",
    page_size: int = 100,
    *,
    params: Params | None = None,
) -> Iterator[dict[str, Any]]:
    """Rows of the current generation: the last page is the one without ``_metadata.next``."""
    answer = client.get(path, {**(params or {}), "page_size": page_size})
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
) -> Iterator[dict[str, Any]]:
    """Rows by limit and offset: the last page is shorter than the first, or empty.

    How many rows a page may have is not documented for every endpoint (/v3/campaigns,
    /v3/asm/suppressions, /v3/subusers). So a first page with fewer rows than were asked for may be
    as long as the server lets it be, and is not taken for the last: the page behind it is asked
    for.

    Args:
        client: Who asks.
        path: The endpoint.
        key: Where the rows are; None for a bare array.
        limit: Rows per page.
        params: Further parameters.
        overlap: Rows at the end of a page to ask for again with the next one: rows that were
            removed meanwhile moved the others up. Those that come twice are given once. When none
            of them comes again, more were removed, and others were passed over: all is read, and
            given, once more.

    Raises:
        PagesIgnored: The second page is the first one again, and that is full.
        PagesMoved: Rows were passed over each time.
    """
    offset, moved, size, again = 0, 0, limit, overlap
    tail: list[Any] = []
    first: list[Any] | None = None
    while True:
        answer = client.get(path, {**(params or {}), "limit": limit, "offset": offset})
        rows = rows_of(answer, key)
        if first is None:
            first = rows
            size = min(len(rows), limit)
            again = min(overlap, size // 2)
        elif answer is None:
            raise UnexpectedAnswer(f"SendGrid's answer to {path} is null from row {offset} on.")
        elif rows and rows == first:
            if size < limit:  # the same rows whatever is asked for: these are all
                return
            raise PagesIgnored(f"SendGrid does not page {path}: limit and offset change nothing.")
        elif tail and not any(row in tail for row in rows):
            moved += 1
            if moved == _TRIES_MOVED:
                raise PagesMoved(
                    f"Rows of {path} were removed while its pages were read, {moved} times, so "
                    "that others were passed over. What was found is synced; the next run reads "
                    "all of it again."
                )
            offset, tail, first = 0, [], None
            continue
        yield from (row for row in rows if row not in tail)
        if not rows or len(rows) != size:  # longer: the limit was ignored, and this is all
            return
        tail = rows[-again:] if again else []
        offset += size - again


def legacy_pages(
    client: Client, path: str, page_size: int = 1000, *, body: Any = None
) -> Iterator[tuple[list[dict[str, Any]], int | None]]:
    """Pages of legacy recipients, each with ``recipient_count`` if given: until the 404.

    A page may be short, over-full or empty before the end (OpenAPI lmc_contactdb), so nothing but
    the 404 ``No more pages`` ends them; a count of 0 or a long run of empty pages does too.

    Args:
        client: Who asks.
        path: The endpoint.
        page_size: Rows per page, 1000 at most.
        body: What to POST for each page; None: GET.
    """
    page, empty = 1, 0
    while empty < _EMPTY_PAGES:
        params = {"page": page, "page_size": page_size}
        try:
            answer = client.get(path, params) if body is None else client.post(path, body, params)
        except NotFound:
            return
        rows = rows_of(answer, "recipients")
        count = answer.get("recipient_count")
        if rows:
            yield rows, count
        elif count == 0:
            return
        empty = 0 if rows else empty + 1
        page += 1
