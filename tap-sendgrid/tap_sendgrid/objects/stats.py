"""Statistics: of single sends and automations, and of all mail by day and category."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import date, timedelta
from typing import TYPE_CHECKING, Any

from singer_sdk.singerlib.catalog import REPLICATION_INCREMENTAL

from tap_sendgrid.api import scopes
from tap_sendgrid.api.pages import offset_pages, rows_of, token_pages
from tap_sendgrid.objects.base import MarketingStream, ObjectStream, Record
from tap_sendgrid.schemas import stats as schemas

if TYPE_CHECKING:
    from singer_sdk.helpers.types import Context

    from tap_sendgrid.api.account import Account
    from tap_sendgrid.objects.content import ContentMemory

#: Opens and clicks come late: so many days before the bookmark are read again.
LATE_DAYS = 7
#: Without start_date and bookmark, statistics begin here.
FIRST_DAYS = 365
_CATEGORIES_PER_REQUEST = 10
_STATS_PAGE = 50


class SingleSendStatsStream(MarketingStream):
    """Totals of each single send, by variation and phase of its A/B test."""

    name = "singlesend_stats"
    columns = schemas.SINGLESEND_STATS
    scopes = scopes.MARKETING
    selected_by_default = False

    def read_current(self, account: Account, context: Context | None) -> Iterator[Record]:
        """``GET /v3/marketing/stats/singlesends``, 50 a page (25 unless asked)."""
        path = "/v3/marketing/stats/singlesends"
        for row in token_pages(account.client, path, "results", _STATS_PAGE):
            parts = ("id", "ab_variation", "ab_phase", "aggregation")
            yield {
                **_counts(row.get("stats"), schemas.MARKETING_METRICS),
                **row,
                "id": ":".join(str(row.get(part) or "all") for part in parts),
                "singlesend_id": row.get("id"),
            }


class AutomationStatsStream(MarketingStream):
    """Totals of each automation, and of each of its steps."""

    name = "automation_stats"
    columns = schemas.AUTOMATION_STATS
    scopes = scopes.MARKETING
    selected_by_default = False

    def read_current(self, account: Account, context: Context | None) -> Iterator[Record]:
        """``GET /v3/marketing/stats/automations``, then each one's steps."""
        path = "/v3/marketing/stats/automations"
        for row in token_pages(account.client, path, "results", _STATS_PAGE):
            yield self._record(row)
            steps = token_pages(
                account.client,
                f"{path}/{row['id']}",
                "results",
                _STATS_PAGE,
                params={"group_by": "step_id"},
            )
            for step in steps:
                yield self._record(step)

    @staticmethod
    def _record(row: dict[str, Any]) -> Record:
        parts = ("id", "step_id", "aggregation")
        return {
            **_counts(row.get("stats"), schemas.MARKETING_METRICS),
            **row,
            "id": ":".join(str(row.get(part) or "all") for part in parts),
            "automation_id": row.get("id"),
        }


class DailyStatsStream(ObjectStream):
    """Statistics by day, from some days before the bookmark to today."""

    replication_key = "date"
    vanishes = False  # days stay, and only the last ones are read
    ids_clash = True
    selected_by_default = False

    def period(self, account: Account, context: Context | None) -> dict[str, str | int]:
        """The parameters start_date, end_date and aggregated_by."""
        today = account.client.server_now().date()
        state = self.get_context_state(context)
        bookmark = state.get("replication_key_value")
        first = today - timedelta(days=FIRST_DAYS)
        if self.config.get("start_date"):
            first = date.fromisoformat(self.config["start_date"][:10])
        if bookmark and self.replication_method == REPLICATION_INCREMENTAL:
            first = max(first, date.fromisoformat(bookmark[:10]) - timedelta(days=LATE_DAYS))
        return {
            "start_date": min(first, today).isoformat(),
            "end_date": today.isoformat(),
            "aggregated_by": "day",
        }

    def since(self, context: Context | None, memory: ContentMemory) -> None:
        """Nothing is left out: the period holds no other days, and counts of old ones change."""


class GlobalStatsStream(DailyStatsStream):
    """Statistics of all mail of the account, by day."""

    name = "global_stats"
    columns = schemas.GLOBAL_STATS
    scopes = ("stats.read", "stats.global.read")

    def read(self, account: Account, context: Context | None) -> Iterator[Record]:
        """``GET /v3/stats``."""
        params = self.period(account, context)
        for row in offset_pages(account.client, "/v3/stats", limit=500, params=params):
            for stats in row.get("stats") or ():
                yield {
                    **_counts(stats.get("metrics"), schemas.EMAIL_METRICS),
                    "id": row["date"],
                    "date": row["date"],
                }


class CategoryStatsStream(DailyStatsStream):
    """Statistics of each category, by day."""

    name = "category_stats"
    columns = schemas.CATEGORY_STATS
    scopes = ("stats.read", "categories.stats.read")

    def read(self, account: Account, context: Context | None) -> Iterator[Record]:
        """``GET /v3/categories``, then ``/v3/categories/stats`` for ten of them at a time."""
        rows = offset_pages(account.client, "/v3/categories", limit=500, overlap=10)
        names = list(dict.fromkeys(str(row["category"]) for row in rows))
        period = self.period(account, context)
        for at in range(0, len(names), _CATEGORIES_PER_REQUEST):
            some = names[at : at + _CATEGORIES_PER_REQUEST]
            answer = account.client.get("/v3/categories/stats", {**period, "categories": some})
            for row in rows_of(answer, None):
                for stats in row.get("stats") or ():
                    yield {
                        **_counts(stats.get("metrics"), schemas.EMAIL_METRICS),
                        "id": f"{row['date']}:{stats['name']}",
                        "date": row["date"],
                        "category": stats["name"],
                    }


def _counts(found: dict[str, Any] | None, names: tuple[str, ...]) -> Record:
    return {name: (found or {}).get(name) for name in names}
