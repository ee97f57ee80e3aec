"""Templates, senders and subusers.

Source: official specs templates and mc_senders; Twilio docs "Subusers API" (bare array).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from sendgrid_simulator.http import (
    ApiError,
    Area,
    Call,
    json_response,
    not_found,
    paged,
    token_page,
)
from sendgrid_simulator.ids import stable_uuid
from sendgrid_simulator.times import DAY, iso

if TYPE_CHECKING:
    from starlette.responses import Response

    from sendgrid_simulator.account import Account

templates_area = Area("templates.read")
senders_area = Area("marketing.read", family="marketing", eu=False)
subusers_area = Area("subusers.read")


@dataclass
class Template:
    """A template; the newest of its versions is active. Dynamic ones have ids ``d-<hex>``."""

    id: str
    name: str
    generation: str
    updated_at: int
    versions: list[dict[str, Any]] = field(default_factory=list)


def _plain_time(seconds: int) -> str:
    """Templates have their own form of time: ``2021-04-28 13:12:46``."""
    return iso(seconds).replace("T", " ").rstrip("Z")


def initial_templates(account: Account) -> list[Template]:
    """As many templates as the options say, every third of the legacy kind."""
    result = []
    for number in range(account.options.templates):
        key = stable_uuid(account.seed, "template", number)
        legacy = number % 3 == 2
        changed = account.anchor - 90 * DAY + number * DAY
        template = Template(
            key if legacy else f"d-{key.replace('-', '')}",
            f"Template {number}",
            "legacy" if legacy else "dynamic",
            changed,
        )
        template.versions = [
            _version(account, template, number * 10 + n, active=n == 0) for n in range(2)
        ]
        result.append(template)
    return result


def _version(account: Account, template: Template, number: int, *, active: bool) -> dict[str, Any]:
    return {
        "id": stable_uuid(account.seed, "template version", number),
        "template_id": template.id,
        "active": int(active),
        "name": f"{template.name}, version {number}",
        "subject": "Hello {{first_name}}",
        "updated_at": _plain_time(template.updated_at),
        "generate_plain_content": True,
        "html_content": "<p>Hello</p>",
        "plain_content": "Hello",
        "editor": "code",
        "thumbnail_url": "//thumbs.example/1.png",
    }


def _render(template: Template, *, contents: bool) -> dict[str, Any]:
    hidden = () if contents else ("html_content", "plain_content")
    versions = [{k: v for k, v in row.items() if k not in hidden} for row in template.versions]
    return {
        "id": template.id,
        "name": template.name,
        "generation": template.generation,
        "updated_at": _plain_time(template.updated_at),
        "versions": versions,
    }


@templates_area.on("GET", "/v3/templates")
def templates(call: Call) -> Response:
    """Templates of the asked generations; without ``generations`` only the legacy ones."""
    wanted = (call.query("generations") or "legacy").split(",")
    if set(wanted) - {"legacy", "dynamic"}:
        raise ApiError(400, "invalid generations", {"field": "generations"})
    rows = [item for item in call.account.templates if item.generation in wanted]
    page, metadata = token_page(call, rows, default=10, high=200)
    return paged(call, [_render(item, contents=False) for item in page], metadata)


def _template(call: Call) -> Template:
    for item in call.account.templates:
        if item.id == call.param("id"):
            return item
    raise not_found()


@templates_area.on("GET", "/v3/templates/{id}")
def one_template(call: Call) -> Response:
    """One template with its versions."""
    return json_response(_render(_template(call), contents=True))


@templates_area.on("GET", "/v3/templates/{id}/versions/{version}", "templates.versions.read")
def one_version(call: Call) -> Response:
    """One version of a template."""
    for row in _template(call).versions:
        if row["id"] == call.param("version"):
            return json_response(row)
    raise not_found()


def initial_senders(account: Account) -> list[dict[str, Any]]:
    """Two senders, as the API gives them."""
    return [
        {
            "id": 1001 + number,
            "nickname": f"Sender {number}",
            "from": {"email": f"news{number}@sender.example", "name": "News"},
            "reply_to": {"email": "support@sender.example", "name": "Support"},
            "address": "1 Main St",
            "address_2": "",
            "city": "Denver",
            "state": "CO",
            "zip": "80202",
            "country": "United States",
            "verified": number == 0,
            "locked": False,
            "created_at": account.anchor - 400 * DAY,
            "updated_at": account.anchor - 300 * DAY + number,
        }
        for number in range(2)
    ]


@senders_area.on("GET", "/v3/marketing/senders")
def senders(call: Call) -> Response:
    """All senders."""
    return json_response({"results": None if call.null_result else call.account.senders})


@senders_area.on("GET", "/v3/marketing/senders/{id}")
def one_sender(call: Call) -> Response:
    """One sender."""
    for row in call.account.senders:
        if str(row["id"]) == call.param("id"):
            return json_response(row)
    raise not_found()


@subusers_area.on("GET", "/v3/subusers")
def subusers(call: Call) -> Response:
    """The parent's subusers, a bare array; ``username`` narrows, limit and offset page."""
    limit, offset = call.integer("limit", 100, 1, 500), call.integer("offset", 0, 0)
    name = call.query("username")
    children = [] if call.account.username else list(call.simulator.subusers.values())
    rows = [
        {
            "disabled": False,
            "id": account.user_id,
            "username": account.username,
            "email": f"{account.username}@example.com",
        }
        for account in children
        if not name or account.username.startswith(name)
    ]
    return json_response(None if call.null_result else rows[offset : offset + limit])
