"""Writing contacts, in both generations: asynchronous jobs, and changes that surface late.

Source: official specs mc_contacts and lmc_contactdb. What is written is seen once
`SimulatorOptions.write_seconds` have passed.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any

from starlette.responses import Response

from sendgrid_simulator.http import ApiError, Area, Call, ids_in, json_response, not_found
from sendgrid_simulator.legacy import recipient_id
from sendgrid_simulator.population import TEXT_FIELDS
from sendgrid_simulator.times import iso

if TYPE_CHECKING:
    from sendgrid_simulator.account import Account

area = Area("marketing.read", family="marketing", eu=False)
legacy_area = Area("marketing_campaigns.read", family="legacy", eu=False)

_EMAIL = re.compile(r"[^@\s]+@[^@\s]+\.[^@\s]+")
MAX_CONTACTS = 30_000
Counts = dict[str, int]


@dataclass
class WriteJob:
    """A write that takes effect at ``due``; ``results`` counts what it did."""

    id: str
    kind: str
    requested: int
    started_at: float
    due: float
    apply: Callable[[], Counts] = field(repr=False)
    results: Counts | None = None


def settle(account: Account) -> None:
    """Lets the writes that are due take effect, in their order."""
    now = time.time()
    for job in account.jobs.values():
        if job.results is None and now >= job.due:
            job.results = job.apply()


def _start(account: Account, kind: str, requested: int, apply: Callable[[], Counts]) -> WriteJob:
    now = time.time()
    key = account.uuid("job", len(account.jobs))
    due = now + account.options.write_seconds
    account.jobs[key] = WriteJob(key, kind, requested, now, due, apply)
    return account.jobs[key]


def _upsert_one(account: Account, email: str, members: dict[str, Any], list_ids: list[str]) -> bool:
    """Adds or changes a contact; whether it is new."""
    book, now = account.contacts, int(time.time())
    found = book.find(email=email)
    if found is None:
        book.add(email, now, list_ids=list_ids, **members)
        joined = list_ids
    else:
        joined = [key for key in list_ids if key not in found.list_ids]
        book.update(found.index, now, list_ids=found.list_ids + joined, **members)
    for item in account.lists:
        item.contact_count += item.id in joined
    return found is None


def _remove(account: Account, indexes: list[int]) -> Counts:
    for index in indexes:
        gone = account.contacts.get(index)
        for item in account.lists:
            item.contact_count -= item.id in gone.list_ids
        account.contacts.delete(index)
    return {"deleted_count": len(indexes)}


# -- current generation -----------------------------------------------------------------------


def _writable(row: Any) -> bool:
    """Whether a contact can be written: an address, and members of the right kinds."""
    return (
        isinstance(row, dict)
        and _EMAIL.fullmatch(str(row.get("email", ""))) is not None
        and isinstance(row.get("custom_fields", {}), dict)
        and isinstance(row.get("alternate_emails", []), list)
    )


def _upsert(account: Account, rows: list[Any], list_ids: list[str]) -> Counts:
    counts = {"created_count": 0, "updated_count": 0, "errored_count": 0}
    names = {definition.id: definition.name for definition in account.contacts.fields}
    for row in rows:
        if not _writable(row):
            counts["errored_count"] += 1
            continue
        email = str(row["email"]).lower()
        members = {name: str(row[name]) for name in TEXT_FIELDS if name in row}
        if "alternate_emails" in row:
            members["alternate_emails"] = row["alternate_emails"]
        # On writing, custom fields go by id, not by name as on reading.
        custom = row.get("custom_fields", {})
        values = {names[key]: value for key, value in custom.items() if key in names}
        created = _upsert_one(account, email, members | {"custom_fields": values}, list_ids)
        counts["created_count" if created else "updated_count"] += 1
    return counts


@area.on("PUT", "/v3/marketing/contacts")
def upsert(call: Call) -> Response:
    """Adds or changes up to 30,000 contacts by a job."""
    body = call.json_object()
    rows = body.get("contacts")
    if not isinstance(rows, list) or not 1 <= len(rows) <= MAX_CONTACTS:
        raise ApiError(400, "1 to 30000 contacts are required", {"field": "contacts"})
    list_ids = [str(key) for key in ids_in(body, "list_ids")]
    if set(list_ids) - {item.id for item in call.account.lists}:
        raise ApiError(400, "list id does not exist", {"field": "list_ids"})
    apply = partial(_upsert, call.account, rows, list_ids)
    return json_response({"job_id": _start(call.account, "upsert", len(rows), apply).id}, 202)


@area.on("DELETE", "/v3/marketing/contacts")
def delete(call: Call) -> Response:
    """Removes the contacts with these ids, or all of them, by a job."""
    book = call.account.contacts
    if call.query("delete_all_contacts") == "true":
        indexes = list(book.order())
    else:
        found = [book.find(id=key) for key in filter(None, call.query("ids").split(","))]
        indexes = [contact.index for contact in found if contact is not None]
        if not found:
            raise ApiError(400, "ids are required", {"field": "ids"})
    apply = partial(_remove, call.account, indexes)
    return json_response({"job_id": _start(call.account, "delete", len(indexes), apply).id}, 202)


@area.on("GET", "/v3/marketing/contacts/imports/{id}")
def job_status(call: Call) -> Response:
    """What became of a job; upserts and deletes share their ids."""
    job = call.account.jobs.get(call.param("id"))
    if job is None:
        raise not_found()
    body: dict[str, Any] = {
        "id": job.id,
        "status": "pending" if job.results is None else "completed",
        "job_type": job.kind,
        "results": {"requested_count": job.requested, **(job.results or {})},
        "started_at": iso(int(job.started_at)),
    }
    if job.results is not None:
        body["finished_at"] = iso(int(job.due))
    return json_response(body)


# -- legacy generation ------------------------------------------------------------------------


def _persist(account: Account, rows: list[tuple[str, dict[str, Any]]]) -> Counts:
    for email, members in rows:
        _upsert_one(account, email, members, [])
    return {}


def _save(call: Call, *, create: bool) -> Response:
    """A partly bad batch is still 201; what is wrong with which row is in the answer."""
    rows = call.json()
    if not isinstance(rows, list) or len(rows) > 1000:
        raise ApiError(400, "at most 1000 recipients are allowed")
    account = call.account
    custom = {definition.name for definition in account.contacts.fields}
    saved: list[tuple[str, dict[str, Any]]] = []
    bad: list[int] = []
    new = 0
    for number, row in enumerate(rows):
        email = str(row.get("email", "")).lower() if isinstance(row, dict) else ""
        known = account.contacts.find(email=email) if email else None
        if not _EMAIL.fullmatch(email) or (known is None and not create):
            bad.append(number)
            continue
        members = {name: row[name] for name in ("first_name", "last_name") if name in row}
        members["custom_fields"] = {name: row[name] for name in custom if name in row}
        saved.append((email, members))
        new += known is None
    _start(account, "recipients", len(rows), partial(_persist, account, saved))
    body = {
        "new_count": new,
        "updated_count": len(saved) - new,
        "error_count": len(bad),
        "error_indices": bad,
        "persisted_recipients": [recipient_id(email) for email, _ in saved],
        "errors": [{"message": "Invalid email.", "error_indices": bad}] if bad else [],
    }
    return json_response(body, 201)


@legacy_area.on("POST", "/v3/contactdb/recipients")
def add_recipients(call: Call) -> Response:
    """Adds or changes recipients."""
    return _save(call, create=True)


@legacy_area.on("PATCH", "/v3/contactdb/recipients")
def change_recipients(call: Call) -> Response:
    """Changes recipients; unknown ones are errors."""
    return _save(call, create=False)


@legacy_area.on("DELETE", "/v3/contactdb/recipients")
def delete_recipients(call: Call) -> Response:
    """Removes the recipients with these ids."""
    wanted = call.json()
    if not isinstance(wanted, list):
        raise ApiError(400, "an array of recipient ids is required")
    book = call.account.contacts
    keys = set(map(str, wanted))
    indexes = [index for index in book.order() if recipient_id(book.get(index).email) in keys]
    _start(call.account, "delete", len(indexes), partial(_remove, call.account, indexes))
    return Response(status_code=204)
