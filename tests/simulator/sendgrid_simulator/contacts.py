"""Contacts of the current generation, except their export: sample, search, batch, count.

Source: official spec mc_contacts. List and search stop at 50 rows; there are no pages.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sendgrid_simulator.http import ApiError, Area, Call, json_response, not_found
from sendgrid_simulator.population import TEXT_FIELDS, Contact, ContactBook
from sendgrid_simulator.sgql import Language, Query, QueryError, parse
from sendgrid_simulator.times import iso, iso_fraction

if TYPE_CHECKING:
    from starlette.responses import Response

area = Area("marketing.read", family="marketing", eu=False)

CAP = 50
_IDENTIFIERS = ("email", "phone_number_id", "external_id", "anonymous_id")
_MEMBERS = ("created_at", "updated_at", "email", "alternate_emails", "list_ids", "segment_ids")


def _value(contact: Contact, name: str) -> Any:
    if name in _MEMBERS:
        return getattr(contact, name)
    if name == "contact_id":
        return contact.id
    if name in TEXT_FIELDS:
        return contact.text.get(name, "")
    return contact.custom_fields.get(name)


def _language(book: ContactBook) -> Language:
    names = {*_MEMBERS, *TEXT_FIELDS, "contact_id", *(field.name for field in book.fields)}
    return Language(_value, names.__contains__, ("created_at", "updated_at"), "updated_at")


def render_contact(call: Call, contact: Contact) -> dict[str, Any]:
    """A contact as the API gives it: unset text is ``""``, unset custom fields are left out."""
    body: dict[str, Any] = {name: contact.text.get(name, "") for name in TEXT_FIELDS}
    clock = iso_fraction if call.account.options.fractional_times else iso
    return body | {
        "id": contact.id,
        "email": contact.email,
        "alternate_emails": contact.alternate_emails,
        "list_ids": contact.list_ids,
        "segment_ids": contact.segment_ids,
        "custom_fields": contact.custom_fields,
        "created_at": clock(contact.created_at),
        "updated_at": clock(contact.updated_at),
        "_metadata": {"self": f"{call.base_url}/v3/marketing/contacts/{contact.id}"},
    }


@area.on("GET", "/v3/marketing/contacts")
def sample(call: Call) -> Response:
    """The 50 newest contacts, sorted by address. There is no way to get the others."""
    book = call.account.contacts
    newest = sorted(book.newest(CAP), key=lambda contact: contact.email)
    return json_response(
        {
            "result": None if call.null_result else [render_contact(call, c) for c in newest],
            "contact_count": len(book),
            "_metadata": {"self": f"{call.base_url}/v3/marketing/contacts"},
        }
    )


@area.on("GET", "/v3/marketing/contacts/count")
def count(call: Call) -> Response:
    """The number of contacts."""
    total = len(call.account.contacts)
    body: dict[str, Any] = {"contact_count": total, "billable_count": total}
    subusers = call.simulator.subusers
    if subusers and not call.account.username:
        breakdown = {str(a.user_id): len(a.contacts) for a in subusers.values()}
        body["billable_breakdown"] = {
            "total": total + sum(breakdown.values()),
            "breakdown": breakdown,
        }
    return json_response(body)


@area.on("POST", "/v3/marketing/contacts/batch")
def batch(call: Call) -> Response:
    """Up to 100 contacts by id, with their list_ids and segment_ids; unknown ids are left out."""
    ids = call.json_object().get("ids")
    if not isinstance(ids, list) or not ids or len(ids) > 100:
        raise ApiError(400, "ids must be an array of 1 to 100 contact ids", {"field": "ids"})
    found = [call.account.contacts.find(id=str(item)) for item in ids]
    rows = [render_contact(call, contact) for contact in found if contact is not None]
    if not rows:
        raise not_found()
    return json_response({"result": None if call.null_result else rows})


@area.on("POST", "/v3/marketing/contacts/search")
def search(call: Call) -> Response:
    """The first 50 contacts that match an SGQL query, and the number of all that do."""
    text = call.json_object().get("query")
    if not isinstance(text, str) or not text.strip():
        raise ApiError(400, "query is required", {"field": "query"})
    if call.simulator.options.search_timeout:
        raise ApiError(408, "request timed out", {"field": "query"})
    try:
        query = parse(text, _language(call.account.contacts))
    except QueryError as error:
        raise ApiError(400, f"invalid query: {error}", {"field": "query"}) from None
    first, total = run(call.account.contacts, query)
    return json_response(
        {
            "result": None if call.null_result else [render_contact(call, c) for c in first],
            "contact_count": total,
            "_metadata": {"self": f"{call.base_url}/v3/marketing/contacts/search"},
        }
    )


def run(book: ContactBook, query: Query) -> tuple[list[Contact], int]:
    """The first 50 matches and the number of all; by arithmetic when only times are asked."""
    key, email = query.equals.get("contact_id", ""), query.equals.get("email", "")
    if key or email:
        found = book.find(id=key) if key else book.find(email=email)
        hits = [found] if found is not None and query.test(found) else []
        return hits, len(hits)
    hits = [contact for _, contact in sorted(book.changed.items()) if query.test(contact)]
    hidden = book.deleted | book.changed.keys()
    candidates = book.updated_between(query.low, query.high)
    if query.only_clock:
        total = len(hits) + len(candidates) - sum(1 for i in hidden if i in candidates)
        for index in candidates:
            if len(hits) >= CAP:
                break
            if index not in hidden:
                hits.append(book.get(index))
        return hits[:CAP], total
    total = len(hits)
    for index in candidates:
        if index in hidden or not query.test(contact := book.get(index)):
            continue
        total += 1
        if len(hits) < CAP:
            hits.append(contact)
    return hits[:CAP], total


@area.on("POST", "/v3/marketing/contacts/search/emails")
def by_email(call: Call) -> Response:
    """Contacts by address; 404 when none is known."""
    return _by_identifier(call, "email", call.json_object().get("emails"))


@area.on("POST", "/v3/marketing/contacts/search/identifiers/{kind}")
def by_identifier(call: Call) -> Response:
    """Contacts by one of their identifiers; 404 when none is known."""
    return _by_identifier(call, call.param("kind"), call.json_object().get("identifiers"))


def _by_identifier(call: Call, kind: str, wanted: Any) -> Response:
    if kind not in _IDENTIFIERS:
        raise ApiError(400, "invalid identifier type", {"field": "identifier_type"})
    if not isinstance(wanted, list) or not wanted or len(wanted) > 100:
        raise ApiError(400, "an array of 1 to 100 identifiers is required", {"field": kind})
    book = call.account.contacts
    result: dict[str, Any] = {}
    for value in map(str, wanted):
        contact = book.find(email=value.lower()) if kind == "email" else None
        if kind != "email":
            everyone = map(book.get, book.order())
            contact = next((c for c in everyone if c.text.get(kind) == value), None)
        result[value] = (
            {"contact": render_contact(call, contact)}
            if contact is not None
            else {"error": "contact not found"}
        )
    if all("error" in row for row in result.values()):
        raise not_found()
    return json_response({"result": result})


@area.on("GET", "/v3/marketing/contacts/{id}")
def one(call: Call) -> Response:
    """One contact; 404 when it is gone."""
    contact = call.account.contacts.find(id=call.param("id"))
    if contact is None:
        raise not_found()
    return json_response(render_contact(call, contact))
