"""Columns: one declaration gives the JSON schema, the data dictionary and the native sources."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

JsonSchema = dict[str, Any]

_TYPES: dict[str, JsonSchema] = {
    "string": {"type": ["string", "null"]},
    "integer": {"type": ["integer", "null"]},
    "number": {"type": ["number", "null"]},
    "boolean": {"type": ["boolean", "null"]},
    "timestamp": {"type": ["string", "null"], "format": "date-time"},
    "date": {"type": ["string", "null"], "format": "date"},
    "object": {"type": ["object", "null"], "additionalProperties": True},
    "strings": {"type": ["array", "null"], "items": {"type": ["string", "null"]}},
    "integers": {"type": ["array", "null"], "items": {"type": ["integer", "null"]}},
    "objects": {
        "type": ["array", "null"],
        "items": {"type": ["object", "null"], "additionalProperties": True},
    },
}


@dataclass(frozen=True)
class Column:
    """One property of an object stream.

    Attributes:
        name: The property's name in the record.
        kind: A key of the type table: string, integer, timestamp, strings (array of string) …
        text: What it means.
        current: The native field of the current API generation; None when it has none.
        legacy: The native field of the legacy generation; None when it has none.
        columns: The properties of an object whose properties are known.
    """

    name: str
    kind: str
    text: str
    current: str | None = None
    legacy: str | None = None
    columns: tuple[Column, ...] = ()

    @property
    def schema(self) -> JsonSchema:
        """The JSON schema of the property."""
        schema = dict(_TYPES[self.kind])
        if self.columns:
            schema["properties"] = {column.name: column.schema for column in self.columns}
            del schema["additionalProperties"]
        return {**schema, "description": self.text}


def key(text: str, current: str | None = "id", legacy: str | None = None) -> Column:
    """The ``id`` column: the key of every object stream, always a string."""
    return Column("id", "string", text, current, legacy)


NATIVE_ID = "The id as SendGrid has it, a number."

RECEIVED_AT = Column("received_at", "timestamp", "When the tap extracted the record (UTC).")

SUBUSER = Column("subuser", "string", "The subuser that the record belongs to (on_behalf_of).")


def object_schema(columns: Iterable[Column], *, subuser: bool = False) -> JsonSchema:
    """The JSON schema of a stream: its columns, then ``received_at``, and ``subuser`` if asked.

    The key is a plain, required string; every other property may be null.
    """
    every = [*columns, RECEIVED_AT, *([SUBUSER] if subuser else [])]
    properties = {column.name: column.schema for column in every}
    properties["id"] = {"type": "string", "description": properties["id"]["description"]}
    return {"type": "object", "properties": properties, "required": ["id"]}


def names(columns: Sequence[Column]) -> list[str]:
    """The property names of the columns, in order."""
    return [column.name for column in columns]
