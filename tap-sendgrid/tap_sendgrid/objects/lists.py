"""Lists of contacts."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from tap_sendgrid.api.pages import rows_of, token_pages
from tap_sendgrid.objects.base import MarketingStream, Record
from tap_sendgrid.objects.values import text_or_none
from tap_sendgrid.schemas.marketing import LISTS

if TYPE_CHECKING:
    from singer_sdk.helpers.types import Context

    from tap_sendgrid.api.account import Account


class ListsStream(MarketingStream):
    """Lists of contacts, with the number of contacts on each."""

    name = "lists"
    columns = LISTS

    def read_current(self, account: Account, context: Context | None) -> Iterator[Record]:
        """``GET /v3/marketing/lists``, a thousand a page."""
        for row in token_pages(account.client, "/v3/marketing/lists", page_size=1000):
            yield {
                "id": text_or_none(row.get("id")),
                "name": row.get("name"),
                "recipient_count": row.get("contact_count"),
            }

    def read_legacy(self, account: Account, context: Context | None) -> Iterator[Record]:
        """``GET /v3/contactdb/lists``, all at once."""
        for row in rows_of(account.client.get("/v3/contactdb/lists"), "lists"):
            yield {
                "id": text_or_none(row.get("id")),
                "_id": row.get("id"),
                "name": row.get("name"),
                "recipient_count": row.get("recipient_count"),
            }
