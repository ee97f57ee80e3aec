"""The schemas, and the columns that they become in Segment's layout."""

from __future__ import annotations

from typing import Any

import jsonschema
import pytest
from tap_sendgrid.events import event_stream_classes
from tap_sendgrid.events.convert import Converter
from tap_sendgrid.events.fields import EVENT_TYPES, FIELDS, fields_of
from tap_sendgrid.events.schema import event_schema


def test_thirteen_streams() -> None:
    assert [stream_class.name for stream_class in event_stream_classes] == [
        "processed",
        "deferred",
        "delivered",
        "bounce",
        "dropped",
        "_open",
        "click",
        "spam_report",
        "unsubscribe",
        "group_unsubscribe",
        "group_resubscribe",
        "account_status_change",
        "other_event",
    ]


@pytest.mark.parametrize("event_type", EVENT_TYPES, ids=lambda e: e.stream)
def test_schemas_are_valid_and_described(event_type: Any) -> None:
    schema = event_schema(event_type)
    jsonschema.Draft202012Validator.check_schema(schema)
    for name, prop in schema["properties"].items():
        assert prop["description"], name
        assert ("null" in prop["type"]) == (name not in schema["required"])


def test_a_field_is_defined_once() -> None:
    names = [field.name for field in FIELDS]
    assert len(names) == len(set(names))
    assert all(field.source and field.description for field in FIELDS)


# segment-warehouse-layout §5.2: the columns of event tables that were seen in production.
SEEN_COLUMNS = {
    "event": "string",
    "email": "string",
    "timestamp": "integer",
    "sg_event_id": "string",
    "sg_message_id": "string",
    "smtp_id": "string",
    "category": "string",
    "ip": "string",
    "useragent": "string",
    "url": "string",
    "url_offset_index": "integer",
    "url_offset_type": "string",
    "asm_group_id": "integer",
    "attempt": "string",
    "reason": "string",
    "status": "string",
    "response": "string",
    "tls": "integer",
    "type": "string",
    "sg_template_id": "string",
    "sg_template_name": "string",
    "sg_content_type": "string",
    "template_id": "string",
    "singlesend_id": "string",
    "sg_user_id": "integer",
    "marketing_campaign_id": "integer",
    "marketing_campaign_name": "string",
    "marketing_campaign_split_id": "integer",
    "marketing_campaign_version": "string",
    "nlvx_campaign_id": "integer",
    "nlvx_user_id": "integer",
}


def flat(properties: dict[str, Any], prefix: str = "") -> dict[str, str]:
    columns: dict[str, str] = {}
    for name, prop in properties.items():
        if "properties" in prop:
            columns |= flat(prop["properties"], f"{prefix}{name}_")
        else:
            columns[prefix + name] = next(t for t in prop["type"] if t != "null")
    return columns


def test_every_column_seen_in_segments_tables_is_in_some_schema_with_its_type() -> None:
    columns: dict[str, str] = {}
    for event_type in EVENT_TYPES:
        columns |= flat(event_schema(event_type)["properties"])
    assert {name: columns.get(name) for name in SEEN_COLUMNS} == SEEN_COLUMNS


def test_every_field_of_an_event_reaches_a_property_of_its_schema() -> None:
    values = {"string": "x", "category": "x", "integer": 1, "boolean": True, "object": {}}
    converter = Converter({e.stream: () for e in EVENT_TYPES})
    for event_type in EVENT_TYPES:
        event = {f.key: values[f.kind] for f in fields_of(event_type.word).values()}
        event["event"] = event_type.word or "new"
        converted = converter.convert(event, "2026-01-02T03:04:05.678901Z")
        assert converted is not None
        stream, record = converted
        assert stream == event_type.stream
        assert "custom_args" not in record
        assert set(record) <= set(event_schema(event_type)["properties"])
