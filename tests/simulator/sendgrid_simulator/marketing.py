"""Current generation: field definitions, lists, segments (v1 and 2.0) and single sends.

Source: official specs mc_custom_fields, mc_lists, mc_segments, mc_segments_2.0, mc_singlesends;
where they are silent or wrong, what connectors observed (the reference, 2B).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sendgrid_simulator.contacts import render_contact
from sendgrid_simulator.http import (
    ApiError,
    Area,
    Call,
    json_response,
    not_found,
    paged,
    token_page,
)
from sendgrid_simulator.times import iso

if TYPE_CHECKING:
    from starlette.responses import Response

    from sendgrid_simulator.account import Campaign, ContactList, Segment

area = Area("marketing.read", family="marketing", eu=False)

_RESERVED = [
    "first_name",
    "last_name",
    "email",
    "alternate_emails",
    "address_line_1",
    "address_line_2",
    "city",
    "state_province_region",
    "postal_code",
    "country",
    "phone_number",
    "whatsapp",
    "line",
    "facebook",
    "unique_name",
    "email_domains",
    "last_clicked",
    "last_opened",
    "last_emailed",
    "singlesend_id",
    "automation_id",
    "created_at",
    "updated_at",
    "contact_id",
]
_DATES = {"last_clicked", "last_opened", "last_emailed", "created_at", "updated_at"}


def reserved_fields() -> list[dict[str, Any]]:
    """The reserved fields with their ids; those from ``email_domains`` on are read only."""
    fields: list[dict[str, Any]] = []
    for number, name in enumerate(_RESERVED):
        kind = "Date" if name in _DATES else "Text"
        reserved = {"id": f"_rf{number}_{kind[0]}", "name": name, "field_type": kind}
        fields.append(reserved | ({"read_only": True} if number >= 15 else {}))
    return fields


@area.on("GET", "/v3/marketing/field_definitions")
def field_definitions(call: Call) -> Response:
    """Custom and reserved fields; ``custom_fields`` is missing when there are none."""
    base = f"{call.base_url}/v3/marketing/field_definitions"
    custom = [
        {
            "id": field.id,
            "name": field.name,
            "field_type": field.field_type,
            "_metadata": {"self": f"{base}/{field.id}"},
        }
        for field in call.account.contacts.fields
    ]
    body: dict[str, Any] = {"custom_fields": custom} if custom else {}
    if call.null_result:
        body["custom_fields"] = None
    body |= {"reserved_fields": reserved_fields(), "_metadata": {"self": base}}
    return json_response(body)


# -- lists ------------------------------------------------------------------------------------


def _render_list(call: Call, item: ContactList) -> dict[str, Any]:
    return {
        "id": item.id,
        "name": item.name,
        "contact_count": item.contact_count,
        "_metadata": {"self": f"{call.base_url}/v3/marketing/lists/{item.id}"},
    }


def _find_list(call: Call) -> ContactList:
    for item in call.account.lists:
        if item.id == call.param("id"):
            return item
    raise ApiError(404, "List ID does not exist")


@area.on("GET", "/v3/marketing/lists")
def lists(call: Call) -> Response:
    """All lists, sorted by id (as in a connector's recorded answers)."""
    ordered = sorted(call.account.lists, key=lambda item: item.id)
    page, metadata = token_page(call, ordered)
    return paged(call, [_render_list(call, item) for item in page], metadata)


@area.on("GET", "/v3/marketing/lists/{id}")
def one_list(call: Call) -> Response:
    """One list; with ``contact_sample=true`` up to 50 of its contacts."""
    item = _find_list(call)
    body = _render_list(call, item)
    if call.query("contact_sample") == "true":
        book = call.account.contacts
        members = (book.get(index) for index in book.order())
        sample = [render_contact(call, c) for c in members if item.id in c.list_ids]
        body["contact_sample"] = sample[:50]
    return json_response(body)


@area.on("GET", "/v3/marketing/lists/{id}/contacts/count")
def list_count(call: Call) -> Response:
    """The number of contacts on a list."""
    count = _find_list(call).contact_count
    return json_response({"contact_count": count, "billable_count": count})


# -- segments ---------------------------------------------------------------------------------


def _segments(call: Call, version: str) -> list[Segment]:
    """The segments of one kind that the query parameters ask for."""
    chosen = [item for item in call.account.segments if item.version == version]
    ids = set(filter(None, call.query("ids").split(",")))
    parents = set(filter(None, call.query("parent_list_ids").split(",")))
    if len(ids) > 50 or len(parents) > 50:
        raise ApiError(400, "at most 50 ids are allowed", {"field": "ids"})
    without = call.query("no_parent_list_id") == "true"
    if ids:
        chosen = [item for item in chosen if item.id in ids]
    if parents or without:
        chosen = [
            item
            for item in chosen
            if (item.parent_list.id in parents if item.parent_list else without)
        ]
    return chosen


def _render_segment(call: Call, item: Segment) -> dict[str, Any]:
    body: dict[str, Any] = {
        "id": item.id,
        "name": item.name,
        "contacts_count": item.contacts_count,
        "created_at": iso(item.created_at),
        "updated_at": iso(item.updated_at),
        "sample_updated_at": iso(item.updated_at + 3600),
        "next_sample_update": iso(item.updated_at + 7200),
    }
    parent = item.parent_list.id if item.parent_list else None
    if item.version == "1":
        return body | {"parent_list_id": parent}
    status = {"query_validation": "INVALID" if item.error_message else "VALID"}
    if item.error_message:
        status["error_message"] = item.error_message
    return body | {
        "parent_list_ids": [parent] if parent else None,
        "query_version": "2",
        "status": status,
        "_metadata": {"self": f"{call.base_url}/v3/marketing/segments/2.0/{item.id}"},
    }


def _detail(call: Call, version: str) -> Response:
    item = next(
        (s for s in call.account.segments if s.id == call.param("id") and s.version == version),
        None,
    )
    if item is None:
        raise not_found()
    body = _render_segment(call, item) | {"query_dsl": item.query_dsl}
    if call.query("contacts_sample") != "false":
        book = call.account.contacts
        sample: list[dict[str, Any]] = []
        for contact in map(book.get, book.order()):
            if item.id in contact.segment_ids:
                sample.append(render_contact(call, contact))
                if len(sample) == 50:
                    break
        body["contacts_sample"] = sample
    if version == "2":
        body |= {"refreshes_used": 0, "max_refreshes": 2}
        body["last_refreshed_at"] = iso(item.updated_at)
    return json_response(body)


@area.on("GET", "/v3/marketing/segments/2.0")
def segments_2(call: Call) -> Response:
    """All segments 2.0. The body is ``results``; the spec's schema of one object is its fault."""
    rows = [_render_segment(call, item) for item in _segments(call, "2")]
    return json_response({"results": None if call.null_result else rows})


@area.on("GET", "/v3/marketing/segments/2.0/{id}")
def one_segment_2(call: Call) -> Response:
    """One segment 2.0 with its query and a sample of its contacts."""
    return _detail(call, "2")


@area.on("GET", "/v3/marketing/segments")
def segments_1(call: Call) -> Response:
    """The segments of the deprecated first kind."""
    rows = [_render_segment(call, item) for item in _segments(call, "1")]
    return json_response({"results": None if call.null_result else rows})


@area.on("GET", "/v3/marketing/segments/{id}")
def one_segment_1(call: Call) -> Response:
    """One segment of the first kind."""
    return _detail(call, "1")


# -- single sends -----------------------------------------------------------------------------


def _render_single_send(item: Campaign) -> dict[str, Any]:
    return {
        "id": item.id,
        "name": item.name,
        "status": item.status,
        "categories": item.categories,
        "is_abtest": item.abtest is not None,
        "abtest": item.abtest,
        "created_at": iso(item.created_at),
        "updated_at": iso(item.updated_at),
    } | ({} if item.send_at is None else {"send_at": iso(item.send_at)})


def _single_sends(call: Call, rows: list[Campaign]) -> Response:
    page, metadata = token_page(call, rows)
    return paged(call, [_render_single_send(item) for item in page], metadata)


@area.on("GET", "/v3/marketing/singlesends")
def single_sends(call: Call) -> Response:
    """All single sends, newest first."""
    rows = sorted(call.account.campaigns, key=lambda item: -item.created_at)
    return _single_sends(call, rows)


@area.on("GET", "/v3/marketing/campaigns")
def campaigns(call: Call) -> Response:
    """Single sends in another shape: not in the spec, but there, as a connector shows."""
    rows = sorted(call.account.campaigns, key=lambda item: -item.created_at)
    page, metadata = token_page(call, rows)
    hidden = ("categories", "abtest", "send_at")
    shown = [
        {key: value for key, value in _render_single_send(item).items() if key not in hidden}
        | {"channels": ["email"]}
        for item in page
    ]
    return paged(call, shown, metadata)


@area.on("GET", "/v3/marketing/singlesends/categories")
def single_send_categories(call: Call) -> Response:
    """The categories of all single sends."""
    names = {name for item in call.account.campaigns for name in item.categories}
    return json_response({"categories": sorted(names)[:1000]})


@area.on("POST", "/v3/marketing/singlesends/search")
def search_single_sends(call: Call) -> Response:
    """Single sends by part of the name, status and category."""
    wanted = call.json_object()
    rows = [
        item
        for item in sorted(call.account.campaigns, key=lambda item: -item.created_at)
        if str(wanted.get("name", "")).lower() in item.name.lower()
        and item.status in (wanted.get("status") or [item.status])
        and set(wanted.get("categories") or ()) <= set(item.categories)
    ]
    return _single_sends(call, rows)


@area.on("GET", "/v3/marketing/singlesends/{id}")
def one_single_send(call: Call) -> Response:
    """One single send with its recipients and its mail."""
    item = next((c for c in call.account.campaigns if c.id == call.param("id")), None)
    if item is None:
        raise not_found()
    body = _render_single_send(item)
    body.setdefault("send_at", None)
    body["send_to"] = {
        "list_ids": item.list_ids,
        "segment_ids": item.segment_ids,
        "all": False,
    }
    body["email_config"] = {
        "subject": item.subject,
        "html_content": item.html_content,
        "plain_content": item.plain_content,
        "generate_plain_content": True,
        "design_id": "",
        "editor": item.editor,
        "suppression_group_id": item.suppression_group_id,
        "custom_unsubscribe_url": item.custom_unsubscribe_url,
        "sender_id": item.sender_id,
        "ip_pool": None,
    }
    body["warnings"] = []
    return json_response(body)
