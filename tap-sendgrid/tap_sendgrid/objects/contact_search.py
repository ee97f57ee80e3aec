"""The cheap way to changed contacts: a search by ``updated_at``, halved until it fits.

A search gives the first 50 matches and the number of all of them, without pages. So an interval of
time with more than 50 is searched again in two halves. A bulk import gives one second to thousands
of contacts, which nothing can split; then only an export helps.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timedelta
from typing import Any

from tap_sendgrid.api.client import Client
from tap_sendgrid.api.errors import RequestRejected, ServiceUnavailable
from tap_sendgrid.api.pages import rows_of

_PATH = "/v3/marketing/contacts/search"
_CAP = 50
_MOST_REQUESTS = 200
# What the two ways cost, roughly: a search is one round trip; an export is a job that takes about
# a minute before the first row, and then as long as its rows take to download and read.
_SEARCH_SECONDS = 0.3
_EXPORT_SECONDS = 60.0
_EXPORT_ROWS_PER_SECOND = 20_000


class TooMany(Exception):
    """An export is the cheaper way."""


class ContactSearch:
    """Finds the contacts that were updated since some instant, if they are few.

    Args:
        client: Who asks.
        total: Number of contacts in the account, or a guess: an export reads them all.
    """

    def __init__(self, client: Client, total: int) -> None:
        self._client = client
        self._budget = 3
        self._export_seconds = _EXPORT_SECONDS + total / _EXPORT_ROWS_PER_SECOND

    def updated_since(
        self, since: datetime, known: tuple[datetime, int] | None = None
    ) -> list[dict[str, Any]]:
        """The contacts with ``updated_at >= since``, as the API gives them.

        Args:
            since: The moment.
            known: A later moment, and how many contacts between the two the caller knows. If they
                are too many to be given and have not become more, they are left out: a bulk import
                that was synced does not cost an export each time.

        Raises:
            TooMany: An export costs less, or the search does not serve.
        """
        try:
            rows, count = self._search(since, None)
            if count <= len(rows):
                return rows
            if known and known[1] > _CAP and self._search(since, known[0])[1] <= known[1]:
                since = known[0]
                rows, count = self._search(since, None)
                if count <= len(rows):
                    return rows
            # Halving meets every row about twice, in groups of half the cap.
            requests = 2 * -(-count // (_CAP // 2)) + 1
            if requests > _MOST_REQUESTS or requests * _SEARCH_SECONDS > self._export_seconds:
                raise TooMany(f"{count:,} contacts changed")
            self._budget = 2 * requests
            return list(self._halves(since, None))
        except RequestRejected as problem:
            # 408: it took longer than 20 s; 400: the query is not understood.
            raise TooMany(f"the search does not serve ({problem.status})") from None
        except ServiceUnavailable as problem:
            raise TooMany("the search does not answer") from problem

    def _halves(self, low: datetime, high: datetime | None) -> Iterator[dict[str, Any]]:
        # The earlier half first: what changes meanwhile moves into the later one, which is open.
        end = high or self._client.server_now()
        middle = low + (end - low) / 2
        middle = middle.replace(microsecond=0)
        if middle <= low:
            middle = low + timedelta(seconds=1)
        if middle >= end:
            raise TooMany("one second has more contacts than a search gives")
        for start, stop in ((low, middle), (middle, high)):
            rows, count = self._search(start, stop)
            if count <= len(rows):
                yield from rows
            else:
                yield from self._halves(start, stop)

    def _search(self, low: datetime, high: datetime | None) -> tuple[list[dict[str, Any]], int]:
        if self._budget <= 0:
            raise TooMany("the search takes too many requests")
        self._budget -= 1
        query = f"updated_at >= TIMESTAMP '{_literal(low)}'"
        if high is not None:
            query += f" AND updated_at < TIMESTAMP '{_literal(high)}'"
        answer = self._client.post(_PATH, {"query": query})
        rows = rows_of(answer, "result")
        count = answer.get("contact_count")
        if count is None:  # as many as a search gives may be a part of them
            count = len(rows) + (len(rows) >= _CAP)
        return rows, int(count)


def _literal(moment: datetime) -> str:
    return moment.strftime("%Y-%m-%dT%H:%M:%SZ")
