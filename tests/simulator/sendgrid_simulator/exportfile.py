"""The rows of export files, fast: each of the 1,024 profiles is rendered once, rows are formatted.

What a row says is what `ContactBook.get` says of the contact; a test compares the two.
"""

from __future__ import annotations

from array import array
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec

from sendgrid_simulator.population import PROFILES, TEXT_FIELDS, Contact, ContactBook
from sendgrid_simulator.times import iso

_json = msgspec.json.Encoder(order="sorted")
_BEFORE_TIMES = TEXT_FIELDS[:8]  # FIRST_NAME … COUNTRY, then ALTERNATE_EMAILS
_AFTER_ALTERNATE = ("phone_number", "whatsapp", "line", "facebook", "unique_name")
_NEWER = ("phone_number_id", "external_id", "anonymous_id")


@dataclass
class Snapshot:
    """The contacts of an export at the moment at which it became ready.

    Attributes:
        book: Where generated contacts are computed.
        indexes: The contacts, in the file's order.
        changed: The contacts that were changed or added by then.
        fields: Names of the custom fields by then.
        clock: How times are written.
    """

    book: ContactBook
    indexes: Sequence[int]
    changed: dict[int, Contact]
    fields: list[str]
    clock: Callable[[int], str] = iso

    @classmethod
    def take(cls, book: ContactBook, list_ids: list[str], segment_ids: list[str]) -> Snapshot:
        """All contacts, or those on one of these lists or in one of these segments."""
        wanted = set(list_ids) | set(segment_ids)
        indexes: Iterable[int] = book.order()
        if wanted:
            indexes = (i for i in indexes if wanted.intersection(_memberships(book, i)))
        fields = [definition.name for definition in book.fields]
        return cls(book, array("I", indexes), dict(book.changed), fields)


def _memberships(book: ContactBook, index: int) -> list[str]:
    contact = book.get(index)
    return contact.list_ids + contact.segment_ids


def mean_row_bytes(snapshot: Snapshot, file_type: str) -> int:
    """Bytes of a row, as the first hundred tell."""
    rows = json_rows if file_type == "json" else csv_rows
    indexes = snapshot.indexes[:100]
    size = sum(map(len, rows(snapshot, indexes, 100)))
    return max(1, size // max(1, len(indexes)))


# -- newline-delimited JSON --------------------------------------------------------------------


def export_object(contact: Contact, clock: Callable[[int], str] = iso) -> dict[str, Any]:
    """A contact as an export's JSON has it: ``contact_id``, and what is unset left out."""
    row: dict[str, Any] = {name: value for name, value in contact.text.items() if value}
    row |= {
        "contact_id": contact.id,
        "email": contact.email,
        "created_at": clock(contact.created_at),
        "updated_at": clock(contact.updated_at),
    }
    if contact.alternate_emails:
        row["alternate_emails"] = contact.alternate_emails
    if contact.custom_fields:
        row["custom_fields"] = contact.custom_fields
    return {name: value for name, value in row.items() if value != ""}


def _members(row: dict[str, Any], low: str, high: str) -> str:
    """The JSON members whose names sort between, each with a comma behind it."""
    part = {name: value for name, value in row.items() if low < name < high}
    return _json.encode(part).decode()[1:-1] + "," if part else ""


def json_rows(snapshot: Snapshot, indexes: Sequence[int], chunk: int) -> Iterator[bytes]:
    """The lines of a JSON export, so many of them at a time."""
    book, changed, known = snapshot.book, snapshot.changed, set(snapshot.fields)
    parts = []
    for profile in book.profiles:
        custom = {k: v for k, v in profile["custom_fields"].items() if k in known}
        row = {k: v for k, v in profile.items() if k != "custom_fields"}
        if custom:
            row["custom_fields"] = custom
        parts.append(
            (
                _members(row, "", "contact_id"),
                _members(row, "contact_id", "created_at"),
                _members(row, "created_at", "email"),
                _members(row, "email", "updated_at"),
            )
        )
    mixed, id_of, email_of = book.mixed, book.id_of, book.email_of
    created, updated, clock = book.created_at, book.updated_at, snapshot.clock
    for start in range(0, len(indexes), chunk):
        lines: list[str] = []
        for i in indexes[start : start + chunk]:
            if i in changed:
                lines.append(_json.encode(export_object(changed[i], clock)).decode() + "\n")
                continue
            a, b, c, d = parts[mixed(i) % PROFILES]
            lines.append(
                f'{{{a}"contact_id":"{id_of(i)}",{b}"created_at":"{clock(created(i))}",'
                f'{c}"email":"{email_of(i)}",{d}"updated_at":"{clock(updated(i))}"}}\n'
            )
        yield "".join(lines).encode()


# -- CSV ---------------------------------------------------------------------------------------


def _cells(values: Iterable[Any]) -> str:
    return ",".join('"' + str(value).replace('"', '""') + '"' for value in values)


def _sides(row: dict[str, Any], custom: dict[str, Any], fields: list[str]) -> tuple[str, str]:
    """The cells between the address and the times, and those behind the id."""
    alternate = ",".join(row.get("alternate_emails", ()))
    left = [row.get(name, "") for name in _BEFORE_TIMES] + [alternate]
    left += [row.get(name, "") for name in _AFTER_ALTERNATE]
    right = [custom.get(name, "") for name in fields] + [row.get(name, "") for name in _NEWER]
    return _cells(left), _cells(right)


def csv_rows(snapshot: Snapshot, indexes: Sequence[int], chunk: int) -> Iterator[bytes]:
    """The lines of a CSV export, header first, so many at a time; nothing for no contacts."""
    if not indexes:
        return
    book, changed, fields = snapshot.book, snapshot.changed, snapshot.fields
    clock = snapshot.clock
    header = ["email", *_BEFORE_TIMES, "alternate_emails", *_AFTER_ALTERNATE]
    header += ["created_at", "updated_at", "contact_id", *fields, *_NEWER]
    yield (_cells(name.upper() for name in header) + "\n").encode()
    sides = [_sides(row, row["custom_fields"], fields) for row in book.profiles]
    for start in range(0, len(indexes), chunk):
        lines: list[str] = []
        for i in indexes[start : start + chunk]:
            contact = changed.get(i)
            if contact is None:
                left, right = sides[book.mixed(i) % PROFILES]
                email, key = book.email_of(i), book.id_of(i)
                created, updated = clock(book.created_at(i)), clock(book.updated_at(i))
            else:
                row = {**contact.text, "alternate_emails": contact.alternate_emails}
                left, right = _sides(row, contact.custom_fields, fields)
                email, key = contact.email, contact.id
                created, updated = clock(contact.created_at), clock(contact.updated_at)
            lines.append(f'"{email}",{left},"{created}","{updated}","{key}",{right}\n')
        yield "".join(lines).encode()
