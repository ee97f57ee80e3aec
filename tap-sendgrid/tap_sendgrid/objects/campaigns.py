"""Campaigns: the current generation's single sends, the legacy one's campaigns."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any

from tap_sendgrid.api.errors import NotFound
from tap_sendgrid.api.generation import Generation
from tap_sendgrid.api.pages import offset_pages, token_pages
from tap_sendgrid.objects.base import MarketingStream, Record
from tap_sendgrid.objects.concurrent import map_ahead
from tap_sendgrid.objects.values import id_texts, text_or_none, timestamp
from tap_sendgrid.schemas.columns import names
from tap_sendgrid.schemas.marketing import CAMPAIGNS

if TYPE_CHECKING:
    from singer_sdk.helpers.types import Context

    from tap_sendgrid.api.account import Account

_ABTEST_TIMES = ("winner_selected_at", "expiration_date")
_ABTEST = names(next(column for column in CAMPAIGNS if column.name == "abtest").columns)


class CampaignsStream(MarketingStream):
    """Campaigns with their content, audience and sender.

    The list of single sends has no content, so each one that changed is asked for by itself.
    """

    name = "campaigns"
    columns = CAMPAIGNS
    replication_key = "updated_at"

    def enrich(self, account: Account, records: Iterator[Record]) -> Iterator[Record]:
        """Single sends with their detail, a few asked for at a time."""
        if account.generation() is Generation.LEGACY:
            return records
        return map_ahead(lambda record: self._with_detail(account, record), records)

    def read_current(self, account: Account, context: Context | None) -> Iterable[Record]:
        """``GET /v3/marketing/singlesends``, a hundred a page: what the list says of each."""
        for row in token_pages(account.client, "/v3/marketing/singlesends", page_size=100):
            yield _listed(row)

    def read_legacy(self, account: Account, context: Context | None) -> Iterator[Record]:
        """``GET /v3/campaigns`` by offset; the time of a scheduled one is asked for."""
        rows = offset_pages(account.client, "/v3/campaigns", key="result", limit=100, overlap=10)
        for row in rows:
            record = {name: row.get(name) for name in names(CAMPAIGNS)}
            record.update(
                id=text_or_none(row.get("id")),
                _id=row.get("id"),
                title=row.get("title"),
                list_ids=id_texts(row.get("list_ids")),
                segment_ids=id_texts(row.get("segment_ids")),
                send_at=self._schedule(account, row),
            )
            yield record

    def _schedule(self, account: Account, row: dict[str, Any]) -> str | None:
        if str(row.get("status")).lower() != "scheduled":
            return None
        try:
            answer = account.client.get(f"/v3/campaigns/{row['id']}/schedules")
        except NotFound:  # sent or unscheduled in the meantime
            return None
        return timestamp(answer.get("send_at"))

    def _with_detail(self, account: Account, record: Record) -> Record:
        native = record["id"].rpartition(":")[2]
        try:
            detail = account.client.get(f"/v3/marketing/singlesends/{native}")
        except NotFound:  # deleted after it was listed: what the list said stands
            return record
        record.update(_detail(detail))
        return record


def _listed(row: dict[str, Any]) -> Record:
    abtest = row.get("abtest")
    if abtest:
        abtest = {name: abtest.get(name) for name in _ABTEST}
        abtest.update({name: timestamp(abtest[name]) for name in _ABTEST_TIMES})
    return {
        "id": text_or_none(row.get("id")),
        "title": row.get("name"),
        "status": row.get("status"),
        "categories": row.get("categories"),
        "is_abtest": row.get("is_abtest"),
        "abtest": abtest or None,
        "send_at": timestamp(row.get("send_at")),
        "created_at": timestamp(row.get("created_at")),
        "updated_at": timestamp(row.get("updated_at")),
    }


def _detail(row: dict[str, Any]) -> Record:
    email = row.get("email_config") or {}
    audience = row.get("send_to") or {}
    return {
        "subject": text_or_none(email.get("subject")),
        "list_ids": id_texts(audience.get("list_ids")),
        "segment_ids": id_texts(audience.get("segment_ids")),
        "send_to_all": audience.get("all"),
        "sender_id": email.get("sender_id"),
        "suppression_group_id": email.get("suppression_group_id"),
        "custom_unsubscribe_url": text_or_none(email.get("custom_unsubscribe_url")),
        "ip_pool": text_or_none(email.get("ip_pool")),
        "editor": text_or_none(email.get("editor")),
        "design_id": text_or_none(email.get("design_id")),
        "html_content": text_or_none(email.get("html_content")),
        "plain_content": text_or_none(email.get("plain_content")),
    }
