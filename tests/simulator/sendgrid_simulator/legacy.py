"""Legacy generation: contactdb lists, segments, recipients and fields, and campaigns.

Source: official specs lmc_contactdb and lmc_campaigns, the API blueprints of 2018, and how
connectors page: pages are fuzzy, one in the middle may be empty, the end is a 404.
"""

from __future__ import annotations

import base64
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from sendgrid_simulator.http import ApiError, Area, Call, json_response, not_found
from sendgrid_simulator.legacy_search import by_conditions, by_parameters
from sendgrid_simulator.population import Contact, FieldDefinition
from sendgrid_simulator.times import parse_time

if TYPE_CHECKING:
    from starlette.responses import Response

    from sendgrid_simulator.account import Account, Campaign, ContactList, Segment

area = Area("marketing_campaigns.read", family="legacy", eu=False)

_RESERVED = (
    ("first_name", "text"),
    ("last_name", "text"),
    ("email", "text"),
    ("created_at", "date"),
    ("updated_at", "date"),
    ("last_emailed", "date"),
    ("last_clicked", "date"),
    ("last_opened", "date"),
    ("lists", "set"),
    ("campaigns", "set"),
    ("my_custom_field", "text"),
)
_STATUS = {"draft": "Draft", "scheduled": "Scheduled", "triggered": "Sent"}


# -- recipients -------------------------------------------------------------------------------


def recipient_id(email: str) -> str:
    """The id of an address: URL-safe base64 of it in lower case."""
    return base64.urlsafe_b64encode(email.lower().encode()).decode()


def _custom_value(field: FieldDefinition, value: Any) -> Any:
    if value is None or field.field_type != "Date":
        return value
    return int(parse_time(value)) if isinstance(value, str) else value


def render_recipient(account: Account, contact: Contact) -> dict[str, Any]:
    """A recipient: epoch seconds, unset members null, every defined custom field present."""
    return {
        "id": recipient_id(contact.email),
        "email": contact.email,
        "first_name": contact.text.get("first_name") or None,
        "last_name": contact.text.get("last_name") or None,
        "created_at": contact.created_at,
        "updated_at": contact.updated_at,
        "last_emailed": contact.last_emailed,
        "last_opened": contact.last_opened,
        "last_clicked": contact.last_clicked,
        "custom_fields": [
            {
                "id": field.number,
                "name": field.name,
                "type": field.field_type.lower(),
                "value": _custom_value(field, contact.custom_fields.get(field.name)),
            }
            for field in account.contacts.fields
        ],
    }


def fuzzy_bounds(page: int, size: int, total: int, fuzzy: bool) -> tuple[int, int]:
    """First and last row of page ``page`` (from 1) over ``total`` rows.

    Fuzzy pages are one row over and under the size in turn, and the second one is empty, as when
    its rows were just deleted. Every row is on exactly one page.

    Raises:
        ApiError: 404 ``No more pages``, behind the end.
    """
    number = page - 1
    if fuzzy and total > size + 1:
        if number == 1:
            return 0, 0
        number -= number > 1
        first, last = number * size + number % 2, (number + 1) * size + (number + 1) % 2
    else:
        first, last = number * size, (number + 1) * size
    if first >= total and page > 1:
        raise ApiError(404, "No more pages", {})
    return first, min(last, total)


def _page(call: Call, total: int) -> tuple[int, int]:
    page = call.integer("page", 1, 1)
    size = call.integer("page_size", 100, 1, 1000)
    return fuzzy_bounds(page, size, total, call.account.options.fuzzy_pages)


def _recipients(call: Call, indexes: Sequence[int], **more: Any) -> Response:
    """A page of recipients by contact index."""
    first, last = _page(call, len(indexes))
    book = call.account.contacts
    rows = [render_recipient(call.account, book.get(i)) for i in indexes[first:last]]
    return json_response({"recipients": None if call.null_result else rows, **more})


@area.on("GET", "/v3/contactdb/recipients")
def recipients(call: Call) -> Response:
    """All recipients, page by page until the 404. There is no cursor and no snapshot."""
    book = call.account.contacts
    first, last = _page(call, book.slots)
    found = (book.at(slot) for slot in range(first, last))
    rows = [render_recipient(call.account, contact) for contact in found if contact is not None]
    return json_response({"recipients": None if call.null_result else rows})


@area.on("GET", "/v3/contactdb/recipients/count")
@area.on("GET", "/v3/contactdb/recipients/billable_count")
def recipient_count(call: Call) -> Response:
    """The number of recipients."""
    return json_response({"recipient_count": len(call.account.contacts)})


@area.on("GET", "/v3/contactdb/recipients/search")
def search(call: Call) -> Response:
    """Recipients by equality; a reserved date means its whole UTC day."""
    hits = by_parameters(call)
    return _recipients(call, hits, recipient_count=len(hits))


@area.on("POST", "/v3/contactdb/recipients/search")
def search_conditions(call: Call) -> Response:
    """Recipients by segment conditions; with epoch values lt and gt work to the second."""
    hits = by_conditions(call)
    return _recipients(call, hits, recipient_count=len(hits))


def _find(call: Call) -> Contact:
    text = call.param("id")
    try:
        email = base64.b64decode(text + "=" * (-len(text) % 4), b"-_", validate=True).decode()
    except ValueError:
        raise ApiError(400, "recipient ID is invalid") from None
    contact = call.account.contacts.find(email=email)
    if contact is None:
        raise ApiError(404, "recipient id not found")
    return contact


@area.on("GET", "/v3/contactdb/recipients/{id}")
def one_recipient(call: Call) -> Response:
    """One recipient, bare."""
    return json_response(render_recipient(call.account, _find(call)))


@area.on("GET", "/v3/contactdb/recipients/{id}/lists")
def lists_of_recipient(call: Call) -> Response:
    """The lists that a recipient is on."""
    ids = _find(call).list_ids
    return json_response({"lists": [_list(x) for x in call.account.lists if x.id in ids]})


# -- lists and segments -----------------------------------------------------------------------


def _list(item: ContactList) -> dict[str, Any]:
    return {"id": item.number, "name": item.name, "recipient_count": item.contact_count}


def _numbered(call: Call, rows: Sequence[Any], missing: str) -> Any:
    for item in rows:
        if str(item.number) == call.param("id"):
            return item
    raise ApiError(404, missing)


@area.on("GET", "/v3/contactdb/lists")
def lists(call: Call) -> Response:
    """All lists: no pages, no parameters."""
    rows = [_list(item) for item in call.account.lists]
    return json_response({"lists": None if call.null_result else rows})


@area.on("GET", "/v3/contactdb/lists/{id}")
def one_list(call: Call) -> Response:
    """One list."""
    return json_response(_list(_numbered(call, call.account.lists, "List ID does not exist")))


def _members(call: Call, item: ContactList | Segment) -> list[int]:
    """Indexes of the contacts on a list or in a segment; the generated ones by arithmetic."""
    book = call.account.contacts
    kind = "list_ids" if item in call.account.lists else "segment_ids"
    generated = range(0, book.size, item.every) if item.every else ()
    hidden = book.deleted | book.changed.keys()
    indexes = [index for index in generated if index not in hidden]
    changed = sorted(book.changed.items())
    return indexes + [index for index, contact in changed if item.id in getattr(contact, kind)]


@area.on("GET", "/v3/contactdb/lists/{id}/recipients")
def list_recipients(call: Call) -> Response:
    """The recipients on a list."""
    item = _numbered(call, call.account.lists, "List ID does not exist")
    return _recipients(call, _members(call, item))


def _segment(item: Segment) -> dict[str, Any]:
    body: dict[str, Any] = {
        "id": item.number,
        "name": item.name,
        "conditions": item.conditions,
        "recipient_count": item.contacts_count,
    }
    return body | ({"list_id": item.parent_list.number} if item.parent_list else {})


@area.on("GET", "/v3/contactdb/segments")
def segments(call: Call) -> Response:
    """All segments: no pages."""
    rows = [_segment(item) for item in call.account.segments]
    return json_response({"segments": None if call.null_result else rows})


@area.on("GET", "/v3/contactdb/segments/{id}")
def one_segment(call: Call) -> Response:
    """One segment."""
    return json_response(_segment(_numbered(call, call.account.segments, "not found")))


@area.on("GET", "/v3/contactdb/segments/{id}/recipients")
def segment_recipients(call: Call) -> Response:
    """The recipients in a segment."""
    return _recipients(call, _members(call, _numbered(call, call.account.segments, "not found")))


# -- fields and status ------------------------------------------------------------------------


@area.on("GET", "/v3/contactdb/custom_fields")
def custom_fields(call: Call) -> Response:
    """The custom fields."""
    rows = [
        {"id": field.number, "name": field.name, "type": field.field_type.lower()}
        for field in call.account.contacts.fields
    ]
    return json_response({"custom_fields": None if call.null_result else rows})


@area.on("GET", "/v3/contactdb/reserved_fields")
def reserved_fields(call: Call) -> Response:
    """The fields that every recipient has."""
    return json_response({"reserved_fields": [{"name": n, "type": t} for n, t in _RESERVED]})


@area.on("GET", "/v3/contactdb/status")
def status(call: Call) -> Response:
    """Whether uploads are late."""
    seconds = call.account.options.worker_delay_seconds
    rows = [{"id": "worker_delay", "value": "delayed" if seconds else "OK"}]
    if seconds:
        rows.append({"id": "worker_delay_seconds", "value": f"{seconds:.1f}"})
    return json_response({"status": rows})


# -- campaigns --------------------------------------------------------------------------------


def _render_campaign(account: Account, item: Campaign) -> dict[str, Any]:
    """A campaign; in drafts most is null."""
    lists = [x.number for x in account.lists if x.id in item.list_ids]
    segments_ = [x.number for x in account.segments if x.id in item.segment_ids]
    return {
        "id": item.number,
        "title": item.name,
        "subject": item.subject or None,
        "sender_id": item.sender_id,
        "list_ids": lists or None,
        "segment_ids": segments_ or None,
        "categories": item.categories or None,
        "suppression_group_id": item.suppression_group_id,
        "custom_unsubscribe_url": item.custom_unsubscribe_url,
        "ip_pool": None,
        "html_content": item.html_content or None,
        "plain_content": item.plain_content or None,
        "editor": item.editor,
        "status": _STATUS[item.status],
    }


@area.on("GET", "/v3/campaigns")
def campaigns(call: Call) -> Response:
    """All campaigns, newest first; ten at a time unless the request says otherwise."""
    limit = call.integer("limit", 10, 1)
    offset = call.integer("offset", 0, 0)
    rows = sorted(call.account.campaigns, key=lambda item: -item.created_at)
    page = [_render_campaign(call.account, item) for item in rows[offset : offset + limit]]
    return json_response({"result": None if call.null_result else page})


@area.on("GET", "/v3/campaigns/{id}")
def one_campaign(call: Call) -> Response:
    """One campaign."""
    item = _numbered(call, call.account.campaigns, "not found")
    return json_response(_render_campaign(call.account, item))


@area.on("GET", "/v3/campaigns/{id}/schedules")
def schedule(call: Call) -> Response:
    """When a campaign goes out."""
    item: Campaign = _numbered(call, call.account.campaigns, "not found")
    if item.send_at is None:
        raise not_found()
    return json_response({"send_at": item.send_at})
