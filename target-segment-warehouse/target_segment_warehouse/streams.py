"""What a stream is: its collection, its key, and the columns that its SCHEMA declares."""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from target_segment_warehouse.naming import Path
from target_segment_warehouse.types import Type, declared_columns


class Collection(enum.StrEnum):
    """How the rows of a table come about.

    Objects are upserted by ``id``, property by property (W31); events are appended, and a repeated
    ``id`` changes nothing (W34).
    """

    OBJECT = "object"
    EVENT = "event"


class InvalidSchemaError(ValueError):
    """A SCHEMA message that says nothing a table could be made from."""


@dataclass(frozen=True, slots=True)
class Stream:
    """One version of a stream: as long as its SCHEMA stays the same, this stays the same.

    Attributes:
        name: The stream's name as the tap gives it.
        collection: Whether its rows are objects or events.
        key: Names of the key properties; empty for a stream without a key, whose rows get an id of
            their own each.
        hoist: Properties whose content is flattened without their name as a prefix.
        columns: Declared leaf properties with their types.
        versioned: Whether ACTIVATE_VERSION may remove rows: not from collections that were marked
            as events, which are never updated and never deleted.
    """

    name: str
    collection: Collection
    key: tuple[str, ...]
    hoist: frozenset[str]
    columns: Mapping[Path, Type | None]
    versioned: bool

    def objects(self) -> list[Path]:
        """Properties that are objects as far as the schema tells."""
        prefixes = (path[:length] for path in self.columns for length in range(1, len(path)))
        return list(dict.fromkeys([*prefixes, *((name,) for name in self.hoist)]))


def stream_from_schema(
    name: str,
    schema: Mapping[str, Any],
    key_properties: list[str] | None,
    collections: Mapping[str, str] | None = None,
    load_method: str | None = None,
) -> Stream:
    """Read a SCHEMA message.

    Args:
        name: The stream's name.
        schema: Its JSON schema, perhaps with an ``x-segment`` annotation.
        key_properties: Its key.
        collections: The setting of that name: stream to ``object`` or ``event``.
        load_method: The setting of that name, which overrides all else.

    Raises:
        InvalidSchemaError: When the schema has no properties, or the annotation is not understood.
    """
    if not isinstance(schema.get("properties"), Mapping):
        raise InvalidSchemaError(
            f"The SCHEMA message of stream '{name}' has no 'properties'. "
            "Check that the tap writes a JSON schema of type object."
        )
    annotation = schema.get("x-segment")
    if not isinstance(annotation, Mapping):
        annotation = {}
    key = tuple(key_properties or ())
    marked = (collections or {}).get(name) or annotation.get("collection")
    hoist = annotation.get("hoist")
    if load_method == "append-only":
        marked, key = Collection.EVENT, ()
    elif load_method in {"upsert", "overwrite"} and key:
        marked = Collection.OBJECT
    if marked not in {None, *Collection}:
        raise InvalidSchemaError(
            f"Stream '{name}' is marked as collection '{marked}'; it can be 'object' or 'event'."
        )
    if marked == Collection.OBJECT and not key:
        raise InvalidSchemaError(
            f"Stream '{name}' is marked as an object collection but has no key_properties, "
            "so its rows cannot be told apart. Mark it as 'event' in the setting 'collections'."
        )
    return Stream(
        name=name,
        collection=Collection(marked or (Collection.OBJECT if key else Collection.EVENT)),
        key=key,
        hoist=frozenset(hoist if isinstance(hoist, list) else ()),
        columns=declared_columns(schema),
        versioned=marked != Collection.EVENT,
    )
