"""Small pieces of SQL text that more than one module needs."""

from __future__ import annotations

from collections.abc import Iterable

from target_segment_warehouse.naming import Path
from target_segment_warehouse.naming import quote as quote


def literal(text: str) -> str:
    """A string literal for DuckDB and for Postgres with standard strings."""
    if "\0" in text:
        raise ValueError("A literal cannot hold a NUL character")
    return "'" + text.replace("'", "''") + "'"


def pointer(path: Path) -> str:
    """A property's JSON pointer (RFC 6901), which unlike a JSON path can name any key."""
    return "".join("/" + key.replace("~", "~0").replace("/", "~1") for key in path)


def pointers(paths: Iterable[Path]) -> str:
    """A list of JSON pointers as a DuckDB literal."""
    return "[" + ", ".join(literal(pointer(path)) for path in paths) + "]::VARCHAR[]"
