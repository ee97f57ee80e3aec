"""Statistics of Single Sends and automations (current generation), 25 rows a page, at most 50.

Source: official spec mc_stats.
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any

from starlette.responses import Response

from sendgrid_simulator.http import (
    ApiError,
    Area,
    Call,
    json_response,
    not_found,
    paged,
    token_page,
)
from sendgrid_simulator.ids import stable_bytes, stable_uuid
from sendgrid_simulator.stats import MARKETING_METRICS, Counts, days_of, sum_of, tally_of

if TYPE_CHECKING:
    from sendgrid_simulator.account import Account

area = Area("marketing.read", family="marketing", eu=False)


def _known(call: Call, ids: list[str]) -> list[str]:
    wanted = list(filter(None, call.query("singlesend_ids").split(",")))
    if len(wanted) > 25:
        raise ApiError(400, "at most 25 ids are allowed", {"field": "singlesend_ids"})
    return [key for key in ids if not wanted or key in wanted]


def _sent(account: Account) -> list[str]:
    return [item.id for item in account.campaigns if item.status == "triggered"]


def _row(call: Call, key: str, days: list[str] | None, aggregation: str) -> dict[str, Any]:
    series = tally_of(call.account).sends.get(key, {})
    chosen = list(series) if days is None else days
    return {
        "id": key,
        "ab_variation": "all",
        "ab_phase": "all",
        "aggregation": aggregation,
        "stats": sum_of(series, chosen, MARKETING_METRICS),
    }


def _answer(call: Call, rows: list[dict[str, Any]]) -> Response:
    page, metadata = token_page(call, rows, default=25, high=50)
    return paged(call, page, metadata, "results")


@area.on("GET", "/v3/marketing/stats/singlesends")
def single_sends(call: Call) -> Response:
    """The totals of all Single Sends that went out."""
    ids = _known(call, _sent(call.account))
    return _answer(call, [_row(call, key, None, "total") for key in ids])


def _one(call: Call) -> str:
    if call.param("id") not in _sent(call.account):
        raise not_found()
    return call.param("id")


def _daily(call: Call) -> bool:
    unit = call.query("aggregated_by", "total")
    if unit not in ("day", "total"):
        raise ApiError(400, "aggregated_by must be day or total", {"field": "aggregated_by"})
    return unit == "day"


@area.on("GET", "/v3/marketing/stats/singlesends/export")
def export(call: Call) -> Response:
    """The totals as CSV."""
    wanted = set(filter(None, call.query("ids").split(",")))
    lines = [",".join(["id", *MARKETING_METRICS])]
    for key in _sent(call.account):
        if not wanted or key in wanted:
            stats = _row(call, key, None, "total")["stats"]
            lines.append(",".join([key, *map(str, stats.values())]))
    return Response("\n".join(lines) + "\n", media_type="text/csv")


@area.on("GET", "/v3/marketing/stats/singlesends/{id}")
def one_single_send(call: Call) -> Response:
    """One Single Send: in total, or day by day."""
    key = _one(call)
    days = days_of(call, required=False)
    if _daily(call):
        return _answer(call, [_row(call, key, [day], day) for day in days])
    return _answer(call, [_row(call, key, days, "total")])


@area.on("GET", "/v3/marketing/stats/singlesends/{id}/links")
def links(call: Call) -> Response:
    """The links of one Single Send that were clicked."""
    clicked: Counter[tuple[str, int]] = tally_of(call.account).links.get(_one(call), Counter())
    rows = [
        {
            "url": url,
            "url_location": place,
            "clicks": clicks,
            "ab_variation": "all",
            "ab_phase": "all",
        }
        for (url, place), clicks in sorted(clicked.items())
    ]
    page, metadata = token_page(call, rows, default=25, high=50)
    body = {"results": page, "_metadata": metadata, "total_clicks": clicked.total()}
    return json_response(body)


# -- automations ----------------------------------------------------------------------------------


def _automation_ids(account: Account) -> list[str]:
    numbers = range(account.options.automations)
    return [stable_uuid(account.seed, "automation", number) for number in numbers]


def _steps(account: Account, key: str) -> dict[str, dict[str, int]]:
    """The statistics of an automation's two steps."""
    steps = {}
    for number in range(2):
        noise = stable_bytes(account.seed, key, number, len(MARKETING_METRICS))
        counts = dict(zip(MARKETING_METRICS, noise, strict=True))
        steps[stable_uuid(account.seed, f"step {key}", number)] = counts
    return steps


def _automation_row(key: str, step: str, aggregation: str, stats: dict[str, int]) -> dict[str, Any]:
    return {"id": key, "step_id": step, "aggregation": aggregation, "stats": stats}


def _total(account: Account, key: str) -> dict[str, Any]:
    total: Counts = Counter()
    for counts in _steps(account, key).values():
        total.update(counts)
    stats = {name: total[name] for name in MARKETING_METRICS}
    return _automation_row(key, "all", "total", stats)


@area.on("GET", "/v3/marketing/stats/automations")
def automations(call: Call) -> Response:
    """The totals of all automations."""
    wanted = list(filter(None, call.query("automation_ids").split(",")))
    keys = [key for key in _automation_ids(call.account) if not wanted or key in wanted]
    return _answer(call, [_total(call.account, key) for key in keys])


@area.on("GET", "/v3/marketing/stats/automations/{id}")
def one_automation(call: Call) -> Response:
    """One automation: in total, or by step."""
    key = call.param("id")
    if key not in _automation_ids(call.account):
        raise not_found()
    if call.query("group_by") != "step_id":
        return _answer(call, [_total(call.account, key)])
    steps = _steps(call.account, key).items()
    return _answer(call, [_automation_row(key, step, "total", stats) for step, stats in steps])
