"""Contacts from any of their three native forms to the JSON of a Singer record, fast.

An export's line is decoded into a compiled struct that holds just the selected properties and
encoded again: two calls of msgspec per contact, no Python object per property. What does not fit
the struct's types (or says unset with ``""`` or ``[]``) takes the slow way, property by property;
both ways give the same bytes.

A *body* is the JSON of a record without its braces and without ``received_at``, beginning with the
value of ``id``: ``"<uuid>","email":"a@example.com",…``.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import msgspec

from tap_sendgrid.api.errors import ExportFailed
from tap_sendgrid.api.generation import CustomField
from tap_sendgrid.events.parse import read_carefully
from tap_sendgrid.objects.values import text_or_none, timestamp
from tap_sendgrid.schemas.columns import JsonSchema
from tap_sendgrid.schemas.marketing import PROFILE_NAMES

_TIMES = ("created_at", "updated_at", "last_emailed", "last_opened", "last_clicked")
_ORDER = ("id", *PROFILE_NAMES, "alternate_emails", *_TIMES, "custom_fields")
_KINDS: dict[str, Any] = {
    "text": str | None,
    "number": int | float | None,
    "date": str | None,
}
_SCHEMAS: dict[str, JsonSchema] = {
    "text": {"type": ["string", "null"]},
    "number": {"type": ["number", "null"]},
    "date": {"type": ["string", "null"], "format": "date-time"},
}
#: What a struct does not take as the name of a member.
_ODD_NAME = re.compile(r'["\\\x00-\x1f]')
#: An empty string as a value: two quotes in a row are also the end of an escaped one.
_EMPTY = re.compile(rb'[:,\[]\s*""')
_OPENING = b'{"contact_id":'


class Body(msgspec.Struct, frozen=True, gc=False):
    """One contact, ready to be emitted.

    Attributes:
        updated_at: Its time of change, ISO 8601 without the final Z: such texts compare as times.
        json: The body.
    """

    updated_at: str
    json: bytes

    @property
    def id(self) -> str:
        """The contact's id."""
        return self.json[1 : self.json.index(b'"', 1)].decode()

    def record(self) -> dict[str, Any]:
        """The record as a dictionary."""
        record: dict[str, Any] = msgspec.json.decode(b'{"id":%b}' % self.json)
        return record


def custom_field_schema(fields: Iterable[CustomField]) -> JsonSchema:
    """The ``properties`` of ``custom_fields``: each defined field by name, typed by its kind."""
    return {
        field.name: {
            **_SCHEMAS.get(field.kind, _SCHEMAS["text"]),
            "description": f"Custom field of type {field.kind}.",
        }
        for field in fields
    }


class ContactCodec:
    """Turns contacts into bodies.

    Args:
        fields: The account's custom fields, those selected.
        selected: Names of the selected properties.
    """

    def __init__(self, fields: Sequence[CustomField], selected: Iterable[str]) -> None:
        chosen = {*selected, "id", "updated_at"}
        self._names = [name for name in _ORDER if name in chosen]
        self._fields = list(fields)
        self._dates = [n for n, field in enumerate(self._fields) if field.kind == "date"]
        # Structs refuse some names; then every contact takes the slow way.
        self._compiled = not any(_ODD_NAME.search(field.name) for field in self._fields)
        self._custom = _custom_struct(self._fields) if self._compiled else None
        self._struct = _contact_struct(self._names, self._custom)
        self._decode: Callable[[bytes], Any] = msgspec.json.Decoder(self._struct).decode
        self._decode_any: Callable[[bytes], Any] = msgspec.json.Decoder().decode
        self._encode: Callable[[Any], bytes] = msgspec.json.Encoder().encode

    def lines(self, lines: Iterable[bytes], since: str) -> list[Body]:
        """Bodies of an export's lines.

        Args:
            lines: NDJSON, one contact each; blank ones are passed over. Bytes that are not UTF-8
                become text, as those of events do (`tap_sendgrid.events.parse`).
            since: Contacts updated before this instant are left out (text as `Body.updated_at`).

        Raises:
            ExportFailed: A line is no JSON object.
        """
        decode, encode, start = self._decode, self._encode, len(_OPENING)
        times = [name for name in _TIMES if name in self._names and name != "updated_at"]
        dates = [f"c{n}" for n in self._dates] if "custom_fields" in self._names else []
        found: list[Body] = []
        for line in lines:
            try:
                if b"[]" in line or (b'""' in line and _EMPTY.search(line)) or not self._compiled:
                    raise msgspec.ValidationError
                contact = decode(line)
                changed = contact.updated_at
                if changed[-1] != "Z" or changed[10] != "T":
                    raise msgspec.ValidationError
                for name in times:
                    value = getattr(contact, name)
                    if value is not None and (len(value) < 20 or value[-1] != "Z"):
                        raise msgspec.ValidationError
                for name in dates:
                    value = getattr(contact.custom_fields, name)
                    if value is not None and (len(value) < 20 or value[-1] != "Z"):
                        raise msgspec.ValidationError
            except (msgspec.DecodeError, UnicodeDecodeError, TypeError, IndexError):
                if not line.strip():
                    continue
                body = self.contact(self._any(line))
                if body.updated_at >= since:
                    found.append(body)
                continue
            changed = changed[:-1]
            if changed >= since:
                found.append(Body(changed, encode(contact)[start:-1]))
        return found

    def contact(self, raw: dict[str, Any]) -> Body:
        """The body of a contact as the API or a CSV export gives it (names in lower case)."""
        values: dict[str, Any] = {}
        for name in self._names:
            if name == "id":
                values[name] = text_or_none(raw.get("contact_id") or raw.get("id"))
            elif name == "custom_fields":
                values[name] = self._custom_values(raw)
            elif name == "alternate_emails":
                values[name] = _addresses(raw.get(name))
            elif name in _TIMES:
                values[name] = timestamp(raw.get(name))
            else:
                values[name] = text_or_none(raw.get(name))
        if values["id"] is None:
            raise ExportFailed("SendGrid sent a contact without an id")
        json = self._encode(self._struct(**values))
        return Body((values["updated_at"] or "").removesuffix("Z"), json[len(_OPENING) : -1])

    def _any(self, line: bytes) -> dict[str, Any]:
        try:
            raw = self._decode_any(line)
        except (msgspec.DecodeError, UnicodeDecodeError):
            try:
                raw = read_carefully(line)  # one byte that is not UTF-8 must not hold up all others
            except (ValueError, RecursionError) as problem:
                raise ExportFailed(f"a line of the export is no JSON: {problem}") from None
        if not isinstance(raw, dict):
            raise ExportFailed("a line of the export is no JSON object")
        return raw

    def _custom_values(self, raw: dict[str, Any]) -> Any:
        given = raw.get("custom_fields")
        if given is None:  # a CSV row: fields are columns, in upper case there, lower here
            given = {field.name: raw.get(field.name.lower()) for field in self._fields}
        values = [_custom_value(given.get(field.name), field.kind) for field in self._fields]
        if self._custom is None:
            return {field.name: value for field, value in zip(self._fields, values, strict=True)}
        return self._custom(*values)


def _custom_struct(fields: Sequence[CustomField]) -> Any:
    """A struct type whose JSON has exactly the given custom fields, in order."""
    # The attributes are c0, c1 …: the names of custom fields may be anything.
    return msgspec.defstruct(
        "CustomFields",
        [(f"c{n}", _KINDS.get(field.kind, str | None), None) for n, field in enumerate(fields)],
        rename={f"c{n}": field.name for n, field in enumerate(fields)},
        gc=False,
    )


def _contact_struct(names: Sequence[str], custom: Any) -> Any:
    """A struct type whose JSON has exactly the given properties, in order; ``id`` comes first."""
    special: dict[str, tuple[Any, Any]] = {
        "alternate_emails": (list[str] | None, None),
        "updated_at": (str, ""),
        "custom_fields": (Any, None),
    }
    if custom is not None:
        special["custom_fields"] = (custom, msgspec.field(default_factory=custom))
    members: list[Any] = [(name, *special.get(name, (str | None, None))) for name in names[1:]]
    return msgspec.defstruct(
        "Contact", [("id", str), *members], rename={"id": "contact_id"}, gc=False
    )


def _custom_value(value: Any, kind: str) -> Any:
    if value is None or value == "":
        return None
    if kind == "date":
        return timestamp(value)
    if kind != "number":
        return str(value)
    if isinstance(value, int | float):
        return value
    try:
        return int(value)
    except ValueError:
        pass
    try:
        return float(value)
    except ValueError:
        return value


def _addresses(value: Any) -> list[str] | None:
    """Alternate addresses: an array in JSON; text with commas, or a JSON array, in CSV."""
    if not value:
        return None
    if isinstance(value, str):
        text = value.strip()
        if text.startswith("["):
            try:
                value = msgspec.json.decode(text)
            except msgspec.DecodeError:
                value = [text]
        else:
            value = [item.strip() for item in text.split(",")]
    return [str(item) for item in value if item] or None
