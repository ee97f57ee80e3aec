"""Segments of contacts."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import requests

from tap_sendgrid.api.errors import Forbidden, NotFound, RequestRejected
from tap_sendgrid.api.generation import Generation
from tap_sendgrid.api.pages import rows_of
from tap_sendgrid.objects.base import MarketingStream, Record
from tap_sendgrid.objects.concurrent import map_ahead
from tap_sendgrid.objects.values import text_or_none, timestamp
from tap_sendgrid.schemas.marketing import SEGMENTS

if TYPE_CHECKING:
    from singer_sdk.helpers.types import Context

    from tap_sendgrid.api.account import Account


class SegmentsStream(MarketingStream):
    """Segments of contacts, of every kind that the account has."""

    name = "segments"
    columns = SEGMENTS

    def read_current(self, account: Account, context: Context | None) -> Iterator[Record]:
        """``GET /v3/marketing/segments/2.0``, then those of the deprecated first kind."""
        client = account.client
        for row in rows_of(client.get("/v3/marketing/segments/2.0"), "results"):
            parents = row.get("parent_list_ids") or []
            yield {**_current(row), "list_id": text_or_none(parents[0] if parents else None)}
        try:
            first_kind = rows_of(client.get("/v3/marketing/segments"), "results")
        except Forbidden:
            raise
        except RequestRejected as gone:  # deprecated since 2022
            if gone.status < requests.codes.bad_request:  # a proxy speaks
                raise
            self.logger.debug("No segments of the first kind: %s", gone)
            return
        for row in first_kind:
            record = _current(row)
            record["list_id"] = text_or_none(row.get("parent_list_id"))
            record["query_version"] = record["query_version"] or "1"
            yield record

    def enrich(self, account: Account, records: Iterator[Record]) -> Iterator[Record]:
        """Changed segments with their query, which only the single segment tells."""
        if account.generation() is Generation.LEGACY or not self.mask["properties", "query_dsl"]:
            return records
        return map_ahead(lambda record: self._with_query(account, record), records)

    @staticmethod
    def _with_query(account: Account, record: Record) -> Record:
        kind = "" if record["query_version"] == "1" else "/2.0"
        native = record["id"].rpartition(":")[2]
        path = f"/v3/marketing/segments{kind}/{native}"
        try:
            detail = account.client.get(path, {"contacts_sample": "false"})
        except NotFound:  # deleted after it was listed
            return record
        record["query_dsl"] = text_or_none(detail.get("query_dsl"))
        return record

    def read_legacy(self, account: Account, context: Context | None) -> Iterator[Record]:
        """``GET /v3/contactdb/segments``, all at once."""
        for row in rows_of(account.client.get("/v3/contactdb/segments"), "segments"):
            yield {
                "id": text_or_none(row.get("id")),
                "_id": row.get("id"),
                "name": row.get("name"),
                "list_id": text_or_none(row.get("list_id")),
                "recipient_count": row.get("recipient_count"),
                "conditions": row.get("conditions"),
            }


def _current(row: dict[str, Any]) -> Record:
    status = row.get("status")
    return {
        "id": text_or_none(row.get("id")),
        "name": row.get("name"),
        "recipient_count": row.get("contacts_count"),
        "query_version": text_or_none(row.get("query_version")),
        "status": status
        and {
            "query_validation": status.get("query_validation"),
            "error_message": text_or_none(status.get("error_message")),
        },
        "created_at": timestamp(row.get("created_at")),
        "updated_at": timestamp(row.get("updated_at")),
        "sample_updated_at": timestamp(row.get("sample_updated_at")),
        "next_sample_update": timestamp(row.get("next_sample_update")),
    }
