"""Segment's rules W1 to W18: the numbers are those of docs/segment-layout.md."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import psycopg
import pytest

from .harness import SCHEMA, Warehouse
from .messages import Message, events, record, schema

RECEIVED = "2026-03-01T10:00:00.5Z"

# The worked example of the reference: one element of the array that SendGrid posts, as the tap
# hands it on (`smtp-id` renamed, custom arguments in one object, `category` as compact JSON).
CLICK: Message = {
    "id": "ev1",
    "received_at": RECEIVED,
    "email": "a@x.io",
    "timestamp": 1513299569,
    "smtp_id": "<14c5@x>",
    "event": "click",
    "category": ["cat facts", "digest"],
    "sg_event_id": "ev1",
    "sg_message_id": "m1.filter",
    "url": "http://x.io",
    "url_offset": {"index": 0, "type": "html"},
    "ip": "1.2.3.4",
    "useragent": "Mozilla",
    "asm_group_id": 10,
    "custom_args": {"orderRef": "A-7"},
    "newsletter": {},
    "reason": None,
}
CLICK_SCHEMA = events("click", {"id": "string", "timestamp": "integer"})


def test_w01_w02_address(warehouse: Warehouse) -> None:
    warehouse.load(schema("Contact Lists"), record("Contact Lists", id="1", firstName="Ada"))
    assert warehouse.query("SELECT first_name FROM wh.contact_lists") == [("Ada",)]
    warehouse.load(schema("lists"), record("lists", id="1"), default_target_schema="SendGrid Prod")
    assert "lists" in warehouse.relations("send_grid_prod")


def test_w02_the_default_schema_is_the_sources_name(warehouse: Warehouse) -> None:
    warehouse.load(schema("lists"), record("lists", id="1"), default_target_schema=None)
    assert "lists" in warehouse.relations("sendgrid")


def test_w04_w05_names_of_nested_properties(warehouse: Warehouse) -> None:
    warehouse.load(
        schema("t"),
        record(
            "t",
            id="1",
            address={"street": "6th Street"},
            context={"field": {"nestedA": {"nestedB": 1}}},
            **{"smtp-id": "x", "HTMLBody": "b", "2FA Enabled": True},
        ),
    )
    (row,) = warehouse.rows("t")
    assert row["address_street"] == "6th Street"
    assert row["context_field_nested_a_nested_b"] == 1
    assert row["smtp_id"] == "x"
    assert row["htmlbody"] == "b"
    assert row["_2fa_enabled"] is True


def test_w06_colliding_properties_both_stay(warehouse: Warehouse) -> None:
    first = record("t", {"id": "1", "firstName": "a", "first_name": "b", "first": {"name": "c"}})
    warehouse.load(schema("t"), first)
    (row,) = warehouse.rows("t")
    assert row["first_name"] == "b"  # the one that Segment would have kept
    names = {value: name for name, value in row.items() if value in ("a", "c")}
    assert set(names) == {"a", "c"}
    # In the next run, whatever comes first, each goes to its own column again.
    warehouse.load(
        schema("t"), record("t", id="2", firstName="x"), record("t", id="3", first_name="y")
    )
    assert warehouse.by_id("t", "first_name") == {"1": "b", "2": None, "3": "y"}
    assert warehouse.by_id("t", names["a"]) == {"1": "a", "2": "x", "3": None}


def test_w07_an_empty_object_makes_no_column(warehouse: Warehouse) -> None:
    warehouse.load(schema("t"), record("t", id="1", newsletter={}, deep={"er": {}}))
    assert not [name for name in warehouse.types("t") if "newsletter" in name or "deep" in name]


def test_w08_arrays_are_compact_json_text(warehouse: Warehouse) -> None:
    value = ["507f1", {"b": [1, 2.5, None, True], "a": 'é"\\'}, []]
    warehouse.load(
        schema("t"),
        record("t", id="1", tags=value, plain=["cat facts", "digest"], none=[]),
    )
    (row,) = warehouse.rows("t")
    assert warehouse.types("t")["tags"] == "text"
    assert row["plain"] == '["cat facts","digest"]'
    assert row["none"] == "[]"
    assert json.loads(row["tags"]) == value
    assert ": " not in row["tags"]
    assert ", " not in row["tags"]


def test_w10_custom_arguments_stand_beside_the_fields(warehouse: Warehouse) -> None:
    warehouse.load(
        events("bounce", {"id": "string", "reason": "string", "email": "string"}),
        record(
            "bounce",
            id="1",
            reason="550",
            custom_args={"orderRef": "A-7", "reason": "mine", "date": "2026-01-02T03:04:05Z"},
        ),
    )
    (row,) = warehouse.rows("bounce")
    assert row["order_ref"] == "A-7"
    assert row["reason"] == "550"
    assert row["custom_args_reason"] == "mine"  # taken: the prefix comes back, nothing is lost
    assert row["date"] == datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)


def test_w11_other_properties_get_a_column_at_their_first_value(warehouse: Warehouse) -> None:
    warehouse.load(
        schema("t", {"id": "string", "declared": "integer"}),
        record("t", id="1", surprise=None),
    )
    assert warehouse.types("t")["declared"] == "integer"
    assert "surprise" not in warehouse.types("t")
    warehouse.load(schema("t"), record("t", id="2", surprise=7))
    assert warehouse.by_id("t", "surprise") == {"1": None, "2": 7}


@pytest.mark.parametrize("stream", [schema, events])
def test_w11_declared_properties_get_a_column_when_a_schema_changes(
    warehouse: Warehouse, stream: Callable[..., Message]
) -> None:
    warehouse.load(stream("t", {"id": "string"}), record("t", id="1", a=1))
    more = {"id": "string", "later": "integer"}
    warehouse.load(
        stream("t", {"id": "string"}),
        record("t", id="2", a=1),
        stream("t", more),
        record("t", id="3", a=1),
        stream("t", more | {"last": "boolean"}),
    )
    assert warehouse.types("t")["later"] == "integer"
    assert warehouse.types("t")["last"] == "boolean"
    assert warehouse.by_id("t", "a") == {"1": 1, "2": 1, "3": 1}


def test_w12_w13_w14_w16_meta_columns_come_first(warehouse: Warehouse) -> None:
    before = datetime.now(UTC) - timedelta(seconds=1)
    warehouse.load(
        CLICK_SCHEMA,
        record("click", CLICK),
        schema("lists", {"zeta": "string", "id": "string", "alpha": "string"}),
        record("lists", id="1", zeta="z", alpha="a"),
    )
    for table in ("click", "lists"):
        types = warehouse.types(table)
        assert list(types)[:3] == ["id", "received_at", "uuid_ts"]
        assert [types[name] for name in list(types)[:3]] == ["text", "timestamp", "timestamp"]
    (row,) = warehouse.rows("click")
    assert row["received_at"] == datetime(2026, 3, 1, 10, 0, 0, 500000, tzinfo=UTC)
    assert before < row["uuid_ts"] < datetime.now(UTC) + timedelta(seconds=1)
    (row,) = warehouse.rows("lists")
    assert before < row["received_at"] < datetime.now(UTC) + timedelta(seconds=1)
    # The tap's word on when it was extracted goes before our clock.
    message = {**record("lists", id="2"), "time_extracted": "2026-02-03T04:05:06+02:00"}
    warehouse.load(schema("lists"), message)
    assert warehouse.by_id("lists", "received_at")["2"] == datetime(2026, 2, 3, 2, 5, 6, tzinfo=UTC)


def test_w12_the_id_is_unique_and_text(warehouse: Warehouse) -> None:
    warehouse.load(schema("t", {"id": "integer"}), record("t", id=1), record("t", id=1))
    assert warehouse.rows("t", "id") == ["1"]
    if warehouse.engine == "postgres":  # DuckDB's keys would forbid changing columns
        with pytest.raises(psycopg.errors.UniqueViolation, match="t_pkey"):
            warehouse.execute("INSERT INTO wh.t (id, received_at) VALUES ('1', now())")


def test_w15_the_sources_own_id_stands_beside_the_rows(warehouse: Warehouse) -> None:
    warehouse.load(
        schema("lists", {"id": "integer", "name": "string", "recipient_count": "integer"}),
        record("lists", id=123, name="VIPs", recipient_count=100),
        record("lists", id=123, recipient_count=200),
    )
    (row,) = warehouse.rows("lists", "id", "_id", "name", "recipient_count")
    assert row == {"id": "123", "_id": 123, "name": "VIPs", "recipient_count": 200}
    assert warehouse.types("lists")["_id"] == "integer"


def test_w15_the_taps_native_id_keeps_its_name(warehouse: Warehouse) -> None:
    lines = schema("lists", {"id": "string", "_id": "integer"}), record("lists", id="123", _id=123)
    for _ in range(2):  # the second run finds `_id` there, and must not take it for the key's own
        warehouse.load(*lines)
    assert warehouse.rows("lists", "id", "_id") == [{"id": "123", "_id": 123}]
    assert set(warehouse.types("lists")) == {"id", "received_at", "uuid_ts", "_id"}


def test_w17_w18_sendgrids_words_and_epoch_stay(warehouse: Warehouse) -> None:
    warehouse.load(CLICK_SCHEMA, record("click", CLICK))
    types = warehouse.types("click")
    assert types["timestamp"] == "integer"
    assert not {"event_text", "anonymous_id", "sent_at", "original_timestamp"} & set(types)
    (row,) = warehouse.rows("click", "event", "timestamp")
    assert row == {"event": "click", "timestamp": 1513299569}


def test_w18_types_are_inferred_per_table(warehouse: Warehouse) -> None:
    warehouse.load(
        events("a"),
        record("a", id="1", when=1),
        events("b"),
        record("b", id="2", when="2026-01-01T00:00:00Z"),
    )
    assert warehouse.types("a")["when"] == "integer"
    assert warehouse.types("b")["when"] == "timestamp"
    assert set(warehouse.rows("activity", "id")) == {"1", "2"}


def test_worked_example_of_an_event(warehouse: Warehouse) -> None:
    warehouse.load(CLICK_SCHEMA, record("click", CLICK))
    expected: dict[str, Any] = {
        "id": "ev1",
        "received_at": datetime(2026, 3, 1, 10, 0, 0, 500000, tzinfo=UTC),
        "asm_group_id": 10,
        "category": '["cat facts","digest"]',
        "email": "a@x.io",
        "ip": "1.2.3.4",
        "url": "http://x.io",
        "useragent": "Mozilla",
        "sg_event_id": "ev1",
        "sg_message_id": "m1.filter",
        "event": "click",
        "order_ref": "A-7",
        "smtp_id": "<14c5@x>",
        "timestamp": 1513299569,
        "url_offset_index": 0,
        "url_offset_type": "html",
    }
    for table in ("click", "activity"):
        (row,) = warehouse.rows(table)
        row.pop("uuid_ts")
        assert row == expected


def test_w29_a_table_that_segment_made_is_taken_over(warehouse: Warehouse) -> None:
    warehouse.execute(f"CREATE SCHEMA {SCHEMA}")
    warehouse.execute(
        "CREATE TABLE wh.click (id varchar(1024) NOT NULL PRIMARY KEY, received_at timestamptz, "
        "uuid_ts timestamptz, email text, timestamp bigint, url_offset_index bigint)"
    )
    warehouse.execute(
        "INSERT INTO wh.click VALUES ('old', now(), now(), 'old@x.io', 1500000000, 3)"
    )
    warehouse.load(CLICK_SCHEMA, record("click", CLICK))
    rows = warehouse.by_id("click", "email", "timestamp", "url_offset_index", "order_ref")
    assert rows == {
        "old": {
            "email": "old@x.io",
            "timestamp": 1500000000,
            "url_offset_index": 3,
            "order_ref": None,
        },
        "ev1": {
            "email": "a@x.io",
            "timestamp": 1513299569,
            "url_offset_index": 0,
            "order_ref": "A-7",
        },
    }
    assert warehouse.count("activity") == 2
