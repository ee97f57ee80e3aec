"""Statistics, counted from the account's messages: global, by category, by Single Send.

Source: official specs stats and mc_stats. Days are UTC; every day asked for has a row.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from sendgrid_simulator.history import categories_of
from sendgrid_simulator.http import ApiError, Area, Call, json_response
from sendgrid_simulator.times import DAY, date_of, parse_time

if TYPE_CHECKING:
    from starlette.responses import Response

    from sendgrid_simulator.account import Account
    from sendgrid_simulator.messages import Message, MessageBook

area = Area("stats.read", "stats.global.read")
categories_area = Area("categories.stats.read", "categories.stats.sums.read", "stats.read")

METRICS = [
    "blocks",
    "bounce_drops",
    "bounces",
    "clicks",
    "deferred",
    "delivered",
    "invalid_emails",
    "opens",
    "processed",
    "requests",
    "spam_report_drops",
    "spam_reports",
    "unique_clicks",
    "unique_opens",
    "unsubscribe_drops",
    "unsubscribes",
]
MARKETING_METRICS = [
    "bounce_drops",
    "bounces",
    "clicks",
    "delivered",
    "invalid_emails",
    "opens",
    "requests",
    "spam_report_drops",
    "spam_reports",
    "unique_clicks",
    "unique_opens",
    "unsubscribes",
]
_OF_EVENT = {
    "processed": "processed",
    "deferred": "deferred",
    "delivered": "delivered",
    "open": "opens",
    "click": "clicks",
    "spamreport": "spam_reports",
    "unsubscribe": "unsubscribes",
}
_OF_DROP = {
    "Bounced Address": "bounce_drops",
    "Unsubscribed Address": "unsubscribe_drops",
    "Spam Reporting Address": "spam_report_drops",
}
Counts = Counter[str]


@dataclass
class Tally:
    """Counts by day, of everything, by category, and by Single Send; links clicked by send."""

    book: MessageBook
    everything: dict[str, Counts] = field(default_factory=dict)
    categories: dict[str, dict[str, Counts]] = field(default_factory=dict)
    sends: dict[str, dict[str, Counts]] = field(default_factory=dict)
    links: dict[str, Counter[tuple[str, int]]] = field(default_factory=dict)

    @classmethod
    def of(cls, book: MessageBook) -> Tally:
        """Counts all messages once."""
        tally = cls(book)
        for message in book:
            tally._add(message)
        return tally

    def _add(self, message: Message) -> None:
        send = str(message.marketing.get("singlesend_id", ""))
        series = [self.everything]
        series += [self.categories.setdefault(name, {}) for name in categories_of(message)]
        if send:
            series.append(self.sends.setdefault(send, {}))
        for day, metric in _metrics(message):
            for days in series:
                days.setdefault(day, Counter())[metric] += 1
        if send:
            for event in message.events:
                if event["event"] == "click":
                    link = (event["url"], event["url_offset"]["index"])
                    self.links.setdefault(send, Counter())[link] += 1


def _metrics(message: Message) -> Iterator[tuple[str, str]]:
    """What a message adds to: day and metric."""
    yield date_of(message.created_at), "requests"
    seen: set[str] = set()
    for event in message.events:
        name, day = event["event"], date_of(event["timestamp"])
        if name == "bounce":
            yield day, "blocks" if event["type"] == "blocked" else "bounces"
        elif name == "dropped":
            yield day, _OF_DROP.get(event["reason"], "invalid_emails")
        elif name in _OF_EVENT:
            yield day, _OF_EVENT[name]
            if name in ("open", "click") and name not in seen:
                seen.add(name)
                yield day, f"unique_{_OF_EVENT[name]}"


def tally_of(account: Account) -> Tally:
    """The account's tally, counted when it is first asked for."""
    if account.tally is None or account.tally.book is not account.messages:
        account.tally = Tally.of(account.messages)
    return account.tally


# -- periods ------------------------------------------------------------------------------------


def days_of(call: Call, *, required: bool = True) -> list[str]:
    """The days from start_date to end_date (today), both inclusive."""
    start, end = call.date("start_date"), call.date("end_date")
    if start is None:
        if required:
            raise ApiError(400, "start_date is required", {"field": "start_date"})
        start = call.account.anchor - 90 * DAY
    if end is None:
        end = int(time.time())
    if end < start:
        raise ApiError(400, "end_date must not be before start_date", {"field": "end_date"})
    return [date_of(second) for second in range(start, end + 1, DAY)]


def _periods(call: Call) -> list[tuple[str, list[str]]]:
    """The days as ``aggregated_by`` groups them: the first day of each period, and its days."""
    unit = call.query("aggregated_by", "day")
    if unit not in ("day", "week", "month"):
        raise ApiError(400, "aggregated_by must be day, week or month", {"field": "aggregated_by"})
    periods: dict[str, list[str]] = {}
    for day in days_of(call):
        first = day
        if unit == "month":
            first = f"{day[:7]}-01"
        elif unit == "week":
            number = int(parse_time(day)) // DAY
            first = date_of((number - (number + 3) % 7) * DAY)  # the epoch was a Thursday
        periods.setdefault(first, []).append(day)
    limit, offset = call.integer("limit", 1 << 31, 1), call.integer("offset", 0, 0)
    return list(periods.items())[offset : offset + limit]


def sum_of(series: dict[str, Counts], days: list[str], names: list[str]) -> dict[str, int]:
    """The counts of these days; a count that never happened is 0."""
    total: Counts = Counter()
    for day in days:
        total.update(series.get(day, {}))
    return {name: total[name] for name in names}


@area.on("GET", "/v3/stats")
def global_stats(call: Call) -> Response:
    """Counts of everything per day, week or month: a bare array."""
    series = tally_of(call.account).everything
    rows = [
        {"date": first, "stats": [{"metrics": sum_of(series, days, METRICS)}]}
        for first, days in _periods(call)
    ]
    return json_response(None if call.null_result else rows)


def _kinds(call: Call, metrics: list[str], kind: str, names: list[str]) -> Response:
    """Statistics by client, device and so on: one name gets all counts, the others none."""
    series = tally_of(call.account).everything
    rows = []
    for first, days in _periods(call):
        stats = [
            {
                "type": kind,
                "name": name,
                "metrics": sum_of(series if number == 0 else {}, days, metrics),
            }
            for number, name in enumerate(names)
        ]
        rows.append({"date": first, "stats": stats})
    return json_response(None if call.null_result else rows)


_OPENS = ["opens", "unique_opens"]
_CLICKS = ["clicks", "unique_clicks"]
_PROVIDER = ["blocks", "bounces", "deferred", "delivered", "processed", "requests", "spam_reports"]


@area.on("GET", "/v3/geo/stats", "geo.stats.read", "stats.read")
def geo(call: Call) -> Response:
    """By state or province; in the EU there are none."""
    names = [] if call.account.options.region == "eu" else ["TX", "CA"]
    return _kinds(call, _CLICKS + _OPENS, "province", names)


@area.on("GET", "/v3/devices/stats", "devices.stats.read", "stats.read")
def devices(call: Call) -> Response:
    """By kind of device."""
    return _kinds(call, _OPENS, "device", ["Webmail", "Phone"])


@area.on("GET", "/v3/clients/stats", "clients.stats.read", "stats.read")
def clients(call: Call) -> Response:
    """By mail client."""
    return _kinds(call, _OPENS, "client", ["Gmail", "Outlook"])


@area.on("GET", "/v3/browsers/stats", "browsers.stats.read", "stats.read")
def browsers(call: Call) -> Response:
    """By browser."""
    return _kinds(call, _CLICKS, "browser", ["Chrome", "Firefox"])


@area.on("GET", "/v3/mailbox_providers/stats", "mailbox_providers.stats.read", "stats.read")
def mailbox_providers(call: Call) -> Response:
    """By mailbox provider."""
    return _kinds(call, [*_PROVIDER, *_CLICKS, *_OPENS], "mailbox_provider", ["Gmail", "Yahoo"])


# -- categories -----------------------------------------------------------------------------------


@categories_area.on("GET", "/v3/categories", "categories.read", "categories.stats.read")
def categories(call: Call) -> Response:
    """The categories' names, 50 at a time."""
    limit, offset = call.integer("limit", 50, 1), call.integer("offset", 0, 0)
    names = sorted(n for n in tally_of(call.account).categories if call.query("category") in n)
    rows = [{"category": name} for name in names[offset : offset + limit]]
    return json_response(None if call.null_result else rows)


@categories_area.on("GET", "/v3/categories/stats")
def category_stats(call: Call) -> Response:
    """Counts of up to ten categories per day, week or month."""
    names = call.request.query_params.getlist("categories")
    if not 1 <= len(names) <= 10:
        raise ApiError(400, "1 to 10 categories are required", {"field": "categories"})
    tally = tally_of(call.account).categories
    rows = []
    for first, days in _periods(call):
        stats = [
            {
                "type": "category",
                "name": name,
                "metrics": sum_of(tally.get(name, {}), days, METRICS),
            }
            for name in names
        ]
        rows.append({"date": first, "stats": stats})
    return json_response(None if call.null_result else rows)


@categories_area.on("GET", "/v3/categories/stats/sums")
def category_sums(call: Call) -> Response:
    """The categories with most of a metric over the whole period, five at a time."""
    days, tally = days_of(call), tally_of(call.account).categories
    metric = call.query("sort_by_metric") or "delivered"
    if metric not in METRICS:
        raise ApiError(400, "unknown metric", {"field": "sort_by_metric"})
    limit, offset = call.integer("limit", 5, 1), call.integer("offset", 0, 0)
    stats = [
        {"type": "category", "name": name, "metrics": sum_of(series, days, METRICS)}
        for name, series in tally.items()
    ]
    sign = 1 if call.query("sort_by_direction") == "asc" else -1
    stats.sort(key=lambda row: sign * row["metrics"][metric])  # type: ignore[index]
    return json_response({"date": days[0], "stats": stats[offset : offset + limit]})
