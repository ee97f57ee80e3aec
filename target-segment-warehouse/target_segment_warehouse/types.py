"""The five logical types of Segment's warehouses, how they widen, and what a JSON schema declares.

Types widen without loss only (integer to float, anything to text); a value that a type cannot hold
exactly is never squeezed into it (deviation from W20 to W23, see ``docs/segment-layout.md``).
"""

from __future__ import annotations

import enum
from collections.abc import Iterator, Mapping
from typing import Any

from target_segment_warehouse.messages import REPLACEMENT, without_surrogates
from target_segment_warehouse.naming import Path


class Type(enum.StrEnum):
    """A logical column type (W19)."""

    TIMESTAMP = "timestamp"
    INTEGER = "integer"
    FLOAT = "float"
    BOOLEAN = "boolean"
    TEXT = "text"


def join(first: Type | None, second: Type | None) -> Type | None:
    """The narrowest type that holds the values of both; None stands for no values at all.

    Whether the integers at hand are exact as floats is for the caller to check.
    """
    if first is None or first is second:
        return second
    if second is None:
        return first
    if {first, second} == {Type.INTEGER, Type.FLOAT}:
        return Type.FLOAT
    return Type.TEXT


MAX_DEPTH = 32
"""Objects nested deeper than this are kept as JSON text instead of further columns."""

_TIMESTAMP_FORMATS = frozenset({"date-time", "date"})
_SCALARS = {
    "integer": Type.INTEGER,
    "number": Type.FLOAT,
    "boolean": Type.BOOLEAN,
    "array": Type.TEXT,
}


def declared_columns(schema: Mapping[str, Any]) -> dict[Path, Type | None]:
    """The columns that a stream's JSON schema declares, with their types.

    Args:
        schema: The ``schema`` of a SCHEMA message.

    Returns:
        A type for every leaf property, None where the schema does not name one (any value goes).
        Objects without declared properties give no column (W7).
    """
    return dict(_leaves(schema, ()))


def _leaves(schema: Mapping[str, Any], path: Path) -> Iterator[tuple[Path, Type | None]]:
    properties: dict[str, Any] = {}
    types: set[Type] = set()
    is_object = False
    for alternative in _alternatives(schema):
        for name in _type_names(alternative):
            if name == "object":
                is_object = True
            elif name == "string":
                types.add(_string_type(alternative))
            elif name in _SCALARS:
                types.add(_SCALARS[name])
        children = alternative.get("properties")
        if isinstance(children, Mapping):
            is_object = True
            properties |= children
    if types or not (is_object or properties):
        if path:
            yield path, _joined(types)
    elif len(path) >= MAX_DEPTH:
        yield path, Type.TEXT
    if len(path) < MAX_DEPTH:
        for key, child in properties.items():
            # As keys of records are cleaned where no engine could hold them.
            name = without_surrogates(key).replace("\0", REPLACEMENT)
            yield from _leaves(child if isinstance(child, Mapping) else {}, (*path, name))


def _alternatives(schema: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    """The schema itself and what its combinators offer, at any depth."""
    yield schema
    for combinator in ("anyOf", "oneOf", "allOf"):
        options = schema.get(combinator)
        for option in options if isinstance(options, list) else ():
            if isinstance(option, Mapping):
                yield from _alternatives(option)


def _type_names(schema: Mapping[str, Any]) -> list[str]:
    names = schema.get("type")
    if isinstance(names, str):
        return [names]
    return [name for name in names if isinstance(name, str)] if isinstance(names, list) else []


def _string_type(schema: Mapping[str, Any]) -> Type:
    return Type.TIMESTAMP if schema.get("format") in _TIMESTAMP_FORMATS else Type.TEXT


def _joined(types: set[Type]) -> Type | None:
    joined: Type | None = None
    for type_ in types:
        joined = join(joined, type_)
    return joined
