"""Builders of Singer messages."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from typing import Any

Message = dict[str, Any]
Line = Message | str | bytes


def schema(
    stream: str,
    properties: dict[str, Any] | None = None,
    keys: Sequence[str] = ("id",),
    **top_level: Any,
) -> Message:
    """A SCHEMA message; a property given as a string is of that type, or null."""
    given = {"id": "string"} if properties is None else properties
    expanded = {
        name: {"type": [kind, "null"]} if isinstance(kind, str) else kind
        for name, kind in given.items()
    }
    return {
        "type": "SCHEMA",
        "stream": stream,
        "key_properties": list(keys),
        "schema": {"type": "object", "properties": expanded, **top_level},
    }


def events(stream: str, properties: dict[str, Any] | None = None, *, hoist: bool = True) -> Message:
    """The SCHEMA of an event collection as tap-sendgrid annotates it."""
    annotation: Message = {"collection": "event"}
    if hoist:
        annotation["hoist"] = ["custom_args"]
    return schema(stream, properties, **{"x-segment": annotation})


def record(stream: str, values: Message | None = None, **more: Any) -> Message:
    """A RECORD message."""
    return {"type": "RECORD", "stream": stream, "record": {**(values or {}), **more}}


def state(value: Any) -> Message:
    """A STATE message."""
    return {"type": "STATE", "value": value}


def encode(lines: Iterable[Line]) -> bytes:
    """Messages as the bytes of a Singer pipe; text and bytes go in as they are."""
    parts = []
    for line in lines:
        if isinstance(line, dict):
            try:
                raw = json.dumps(line, ensure_ascii=False).encode()
            except UnicodeEncodeError:  # a lone surrogate has to be escaped
                raw = json.dumps(line).encode()
        else:
            raw = line.encode() if isinstance(line, str) else line
        parts.append(raw if raw.endswith(b"\n") else raw + b"\n")
    return b"".join(parts)
