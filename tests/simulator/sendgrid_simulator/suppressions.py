"""Suppressions: five lists of addresses, unsubscribe groups and their members. Bare arrays.

Source: official spec suppressions, sendgrid-php#798 (default page 500), sendgrid/docs#5178. The
lists are current state: an address has one row in each, and a row that is removed is gone.
"""

from __future__ import annotations

import time
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from sendgrid_simulator.http import Area, Call, json_response, not_found
from sendgrid_simulator.times import DAY, date_of

if TYPE_CHECKING:
    from starlette.responses import Response

    from sendgrid_simulator.account import Account

area = Area("suppression.read")
asm_area = Area("asm.groups.read")

PAGE = 500
KINDS = ("bounces", "blocks", "invalid_emails", "spam_reports", "unsubscribes")
_MEMBERS = {
    "bounces": ("reason", "status"),
    "blocks": ("reason", "status"),
    "invalid_emails": ("reason",),
    "spam_reports": ("ip",),
    "unsubscribes": (),
}
_CLASSES = {
    "5.1.1": "Invalid Address",
    "5.2.2": "Mailbox Unavailable",
    "5.7.1": "Reputation",
    "550": "Technical Failure",
}


@dataclass
class Suppressed:
    """An address on one of the lists. ``status`` may be empty."""

    created: int
    email: str
    reason: str = ""
    status: str = ""
    ip: str = ""


@dataclass
class Group:
    """An unsubscribe group; ``members`` gives when each address left, by address."""

    id: int
    name: str
    description: str
    is_default: bool = False
    members: dict[str, int] = field(default_factory=dict)


def initial(account: Account) -> dict[str, dict[str, Suppressed]]:
    """The five lists by address: as many rows as the options say, and what the messages tell."""
    lists: dict[str, dict[str, Suppressed]] = {kind: {} for kind in KINDS}
    for kind in KINDS:
        for number in range(account.options.suppressions):
            email = f"{kind}.{number}@example.org"
            row = Suppressed(account.anchor - 40 * DAY + number * 60, email)
            row.reason = "550 5.1.1 user unknown" if number % 3 else "Mail domain is unknown"
            row.status = "5.1.1" if number % 3 else ""
            row.ip = "10.63.202.100"
            lists[kind][email] = row
    for message in account.messages:
        for event in message.events:
            if kind_of := _kind(event):
                row = Suppressed(event["timestamp"], event["email"])
                row.reason, row.status = event.get("reason", ""), event.get("status", "")
                row.ip = event.get("ip", "10.63.202.100")
                lists[kind_of][row.email] = row
    return lists


def _kind(event: dict[str, Any]) -> str:
    name = event["event"]
    if name == "bounce":
        return "blocks" if event["type"] == "blocked" else "bounces"
    return {"spamreport": "spam_reports", "unsubscribe": "unsubscribes"}.get(name, "")


def groups(account: Account) -> list[Group]:
    """The account's groups, with the members that its messages tell of."""
    news = Group(10, "Newsletter", "Our newsletter", is_default=True)
    offers = Group(11, "Offers", "Special offers")
    for number in range(account.options.suppressions):
        offers.members[f"member.{number}@example.org"] = account.anchor - 40 * DAY + number
    for message in account.messages:
        for event in message.events:
            if event["event"] == "group_unsubscribe":
                news.members[event["email"]] = event["timestamp"]
            elif event["event"] == "group_resubscribe":
                news.members.pop(event["email"], None)
    return [news, offers]


def _page(call: Call, rows: Iterable[dict[str, Any]], instant: str) -> Response:
    """A page of rows, newest first, within the inclusive bounds of start_time and end_time."""
    limit = call.integer("limit", PAGE, 1, PAGE)
    offset = call.integer("offset", 0, 0)
    start, end = call.integer("start_time", 0, 0), call.integer("end_time", 1 << 62, 0)
    email = call.query("email").lower()
    chosen = [row for row in rows if start <= row[instant] <= end]
    if email:
        chosen = [row for row in chosen if _like(row["email"].lower(), email)]
    chosen.sort(key=lambda row: -row[instant])
    page = chosen[offset : offset + limit]
    return json_response(None if call.null_result else page)


def _like(email: str, pattern: str) -> bool:
    """A prefix, or with ``%`` in front any part of the address."""
    return pattern.strip("%") in email if pattern.startswith("%") else email.startswith(pattern)


def _render(kind: str, row: Suppressed) -> dict[str, Any]:
    members = {name: getattr(row, name) for name in _MEMBERS[kind]}
    return {"created": row.created, "email": row.email, **members}


def _move(account: Account, kind: str) -> None:
    """New rows at the top of the list, as `SimulatorOptions.moving_offsets` asks."""
    rows = account.suppressions[kind]
    for _ in range(account.options.moving_offsets):
        row = Suppressed(int(time.time()), f"arrived.{len(rows)}@example.net", "550", "5.1.1")
        rows[row.email] = row


def _declare(kind: str) -> None:
    scope = ("suppression.read", f"suppression.{kind}.read")

    @area.on("GET", f"/v3/suppression/{kind}", *scope)
    def listing(call: Call) -> Response:
        rows = [_render(kind, row) for row in call.account.suppressions[kind].values()]
        response = _page(call, rows, "created")
        _move(call.account, kind)
        return response

    if kind == "unsubscribes":
        return  # one address is asked for at /v3/asm/suppressions/global/{email}

    @area.on("GET", f"/v3/suppression/{kind}/{{email}}", *scope)
    def one(call: Call) -> Response:
        row = call.account.suppressions[kind].get(call.param("email"))
        return json_response([] if row is None else [_render(kind, row)])


for _name in KINDS:
    _declare(_name)


def _by_day(call: Call, label: str, values: Iterable[tuple[int, str]]) -> Response:
    """Counts per day and value, between start_date and end_date."""
    low, last = call.date("start_date") or 0, call.date("end_date")
    high = 1 << 62 if last is None else last + DAY
    days: dict[str, dict[str, int]] = {}
    for created, value in values:
        if low <= created < high:
            counts = days.setdefault(date_of(created), {})
            counts[value] = counts.get(value, 0) + 1
    result = [
        {"date": day, "stats": [{label: value, "count": n} for value, n in counts.items()]}
        for day, counts in sorted(days.items())
    ]
    return json_response({"result": result})


@area.on("GET", "/v3/suppression/bounces/classifications", "di.bounce_block_classification.read")
def classifications(call: Call) -> Response:
    """Bounces per day and classification."""
    rows = call.account.suppressions["bounces"].values()
    values = ((row.created, _CLASSES.get(row.status, "Unclassified")) for row in rows)
    return _by_day(call, "classification", values)


@area.on(
    "GET",
    "/v3/suppression/bounces/classifications/{name}",
    "di.bounce_block_classification.read",
)
def one_classification(call: Call) -> Response:
    """Bounces of one classification per day and domain."""
    rows = call.account.suppressions["bounces"].values()
    wanted = call.param("name")
    chosen = (r for r in rows if _CLASSES.get(r.status, "Unclassified") == wanted)
    return _by_day(call, "domain", ((r.created, r.email.partition("@")[2]) for r in chosen))


# -- unsubscribe groups -------------------------------------------------------------------------


def _render_group(group: Group) -> dict[str, Any]:
    return {
        "id": group.id,
        "name": group.name,
        "description": group.description,
        "is_default": group.is_default,
        "unsubscribes": len(group.members),
    }


def _group(call: Call) -> Group:
    for group in call.account.groups:
        if str(group.id) == call.param("id"):
            return group
    raise not_found()


@asm_area.on("GET", "/v3/asm/groups")
def all_groups(call: Call) -> Response:
    """All groups, or those named by the repeatable ``id``."""
    wanted = call.request.query_params.getlist("id")
    rows = [_render_group(g) for g in call.account.groups if not wanted or str(g.id) in wanted]
    return json_response(None if call.null_result else rows)


@asm_area.on("GET", "/v3/asm/groups/{id}")
def one_group(call: Call) -> Response:
    """One group."""
    return json_response(_render_group(_group(call)))


@asm_area.on("GET", "/v3/asm/groups/{id}/suppressions", "asm.groups.suppressions.read")
def group_members(call: Call) -> Response:
    """The addresses of a group, bare: no times, no pages."""
    members = list(_group(call).members)
    return json_response(None if call.null_result else members)


@asm_area.on("GET", "/v3/asm/suppressions", "asm.groups.suppressions.read", "asm.groups.read")
def all_members(call: Call) -> Response:
    """The members of all groups; silently cut at 500 (limit and offset work, undocumented)."""
    rows = [
        {"email": email, "group_id": group.id, "group_name": group.name, "created_at": left}
        for group in call.account.groups
        for email, left in group.members.items()
    ]
    return _page(call, rows, "created_at")


@asm_area.on("GET", "/v3/asm/suppressions/global/{email}", "asm.suppressions.global.read")
def globally(call: Call) -> Response:
    """The address if it left everything, else an empty object."""
    email = call.param("email")
    found = email in call.account.suppressions["unsubscribes"]
    return json_response({"recipient_email": email} if found else {})


@asm_area.on("GET", "/v3/asm/suppressions/{email}", "asm.groups.suppressions.read")
def groups_of(call: Call) -> Response:
    """Every group, and whether the address left it."""
    rows = []
    for group in call.account.groups:
        row = _render_group(group)
        del row["unsubscribes"]
        rows.append(row | {"suppressed": call.param("email") in group.members})
    return json_response({"suppressions": rows})
