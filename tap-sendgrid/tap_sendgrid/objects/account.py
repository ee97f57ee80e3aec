"""Templates, senders and subusers."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from tap_sendgrid.api import scopes
from tap_sendgrid.api.errors import NothingToRead
from tap_sendgrid.api.pages import offset_pages, rows_of, token_pages
from tap_sendgrid.objects.base import MarketingStream, ObjectStream, Record
from tap_sendgrid.objects.values import text_or_none, timestamp
from tap_sendgrid.schemas.account import SENDERS, SUBUSERS, TEMPLATES

if TYPE_CHECKING:
    from singer_sdk.helpers.types import Context

    from tap_sendgrid.api.account import Account


class TemplatesStream(ObjectStream):
    """Transactional templates, legacy and dynamic."""

    name = "templates"
    columns = TEMPLATES
    scopes = ("templates.read",)
    replication_key = "updated_at"
    selected_by_default = False

    def read(self, account: Account, context: Context | None) -> Iterator[Record]:
        """``GET /v3/templates``; without ``generations`` it would give the legacy ones only."""
        rows = token_pages(
            account.client,
            "/v3/templates",
            page_size=200,
            params={"generations": "legacy,dynamic"},
        )
        for row in rows:
            yield {
                "id": row.get("id"),
                "name": row.get("name"),
                "generation": row.get("generation"),
                "updated_at": timestamp(row.get("updated_at")),
                "versions": [_version(version) for version in row.get("versions") or ()],
            }


def _version(version: dict[str, Any]) -> dict[str, Any]:
    return {
        **version,
        "active": bool(version.get("active")),  # 0 or 1 there
        "updated_at": timestamp(version.get("updated_at")),
    }


class SendersStream(MarketingStream):
    """Senders of marketing campaigns."""

    name = "senders"
    columns = SENDERS
    scopes = scopes.MARKETING
    selected_by_default = False

    def read_current(self, account: Account, context: Context | None) -> Iterator[Record]:
        """``GET /v3/marketing/senders``, all at once."""
        for row in rows_of(account.client.get("/v3/marketing/senders"), "results"):
            yield {
                **{
                    name: text_or_none(value) if value == "" else value
                    for name, value in row.items()
                },
                "id": str(row["id"]),
                "_id": row["id"],
                "created_at": timestamp(row.get("created_at")),
                "updated_at": timestamp(row.get("updated_at")),
            }

    def read_legacy(self, account: Account, context: Context | None) -> Iterator[Record]:
        """Not read: the legacy generation's senders have no public specification."""
        raise NothingToRead("senders are read from the current generation only")


class SubusersStream(ObjectStream):
    """Subusers of the parent account; always read as the parent."""

    name = "subusers"
    columns = SUBUSERS
    scopes = ("subusers.read",)
    selected_by_default = False
    per_subuser = False

    def read(self, account: Account, context: Context | None) -> Iterator[Record]:
        """``GET /v3/subusers``, by offset."""
        for row in offset_pages(account.client, "/v3/subusers", limit=500, overlap=10):
            yield {**row, "id": str(row["id"]), "_id": row["id"]}
