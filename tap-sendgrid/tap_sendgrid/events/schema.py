"""JSON schemas of the event streams, made from the table of fields."""

from __future__ import annotations

from typing import Any

from tap_sendgrid.events.fields import RESERVED, EventType, Field, Kind, fields_of

# What a target needs to know about a stream: events are appended, custom arguments become columns.
EVENT_ANNOTATION: dict[str, Any] = {"collection": "event", "hoist": ["custom_args"]}

_JSON_TYPES: dict[Kind, str] = {
    "string": "string",
    "category": "string",
    "integer": "integer",
    "boolean": "boolean",
    "object": "object",
}


def event_schema(event_type: EventType) -> dict[str, Any]:
    """The schema of one event stream.

    Every property but ``id`` and ``received_at`` may be null or absent: SendGrid promises little.
    """
    properties: dict[str, Any] = {
        "id": {"type": ["string"]},
        "received_at": {"type": ["string"], "format": "date-time"},
        "occurred_at": {"type": ["string", "null"], "format": "date-time"},
        "timestamp": {"type": ["integer", "null"]},
    }
    for name, prop in properties.items():
        prop["description"] = RESERVED[name]
    for field in fields_of(event_type.word).values():
        properties[field.name] = _property(field)
    properties["custom_args"] = {
        "type": ["object", "null"],
        "properties": {},
        "additionalProperties": True,
        "description": RESERVED["custom_args"],
    }
    return {
        "type": "object",
        "description": event_type.description,
        "properties": properties,
        "required": ["id", "received_at"],
    }


def _property(field: Field) -> dict[str, Any]:
    prop: dict[str, Any] = {
        "type": [_JSON_TYPES[field.kind], "null"],
        "description": field.description,
    }
    if field.kind == "object":
        prop["properties"] = {
            name: {"type": [_JSON_TYPES[kind], "null"]} for name, kind in field.parts.items()
        }
        prop["additionalProperties"] = True
    return prop
