"""Segment's layout, rule by rule: the number in a test's name is that of docs/segment-layout.md."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from typing import Any

import psycopg
import pytest

from .harness import SCHEMA, Message, Warehouse, events, record, schema, state

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
    warehouse.load(
        schema("lists", {"id": "string", "_id": "integer"}), record("lists", id="123", _id=123)
    )
    assert warehouse.rows("lists", "id", "_id") == [{"id": "123", "_id": 123}]


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


def test_w19_w21_five_types(warehouse: Warehouse) -> None:
    warehouse.load(
        schema("t"),
        record(
            "t", id="1", s="x", i=1, f=1.5, b=True, d="2026-01-02T03:04:05.678Z", day="2026-01-02"
        ),
    )
    types = warehouse.types("t")
    assert {name: types[name] for name in "sifbd"} == {
        "s": "text",
        "i": "integer",
        "f": "float",
        "b": "boolean",
        "d": "timestamp",
    }
    (row,) = warehouse.rows("t", "s", "i", "f", "b", "d")
    assert row == {
        "s": "x",
        "i": 1,
        "f": 1.5,
        "b": True,
        "d": datetime(2026, 1, 2, 3, 4, 5, 678000, tzinfo=UTC),
    }


def test_w20_w22_w23_types_widen_and_nothing_is_cut(warehouse: Warehouse) -> None:
    long = "é" * 5000
    warehouse.load(
        schema("t"), record("t", id="1", n=1, s="short"), record("t", id="2", n=2.5, s=long)
    )
    assert warehouse.types("t")["n"] == "float"
    assert warehouse.by_id("t", "n") == {"1": 1.0, "2": 2.5}
    assert warehouse.by_id("t", "s")["2"] == long
    warehouse.load(schema("t"), record("t", id="3", n="three"))
    assert warehouse.types("t")["n"] == "text"
    assert warehouse.by_id("t", "n")["3"] == "three"
    assert float(warehouse.by_id("t", "n")["2"]) == 2.5


def test_w24_reserved_properties_get_an_underscore(warehouse: Warehouse) -> None:
    warehouse.load(
        schema("t", keys=["key"], properties={"key": "string"}),
        record("t", {"key": "k", "id": 5, "uuid_ts": "x", "Received At": "y"}),
    )
    (row,) = warehouse.rows("t", "id", "key", "_id", "_uuid_ts", "_received_at")
    assert row == {"id": "k", "key": "k", "_id": 5, "_uuid_ts": "x", "_received_at": "y"}


def test_w25_w27_open_is_called_the_same_everywhere(warehouse: Warehouse) -> None:
    warehouse.load(
        events("_open"),
        record("_open", id="1", event="open"),
        schema("select"),
        record("select", id="1"),
    )
    assert warehouse.rows("_open", "event") == ["open"]
    assert warehouse.count("select") == 1
    other = {**record("open", id="2", event="open")}
    warehouse.load(events("open"), other, default_target_schema="other")
    assert "_open" in warehouse.relations("other")


def test_w26_a_leading_digit_gets_an_underscore(warehouse: Warehouse) -> None:
    warehouse.load(schema("3doctors"), record("3doctors", {"id": "1", "4patients": 4}))
    assert warehouse.rows("_3doctors", "_4patients") == [4]


def test_w28_new_columns_are_appended(warehouse: Warehouse) -> None:
    warehouse.load(schema("t"), record("t", id="1", b=1))
    before = list(warehouse.types("t"))
    warehouse.load(schema("t"), record("t", id="2", a=2))
    assert list(warehouse.types("t")) == [*before, "a"]


def test_w28_columns_of_the_users_are_left_alone(warehouse: Warehouse) -> None:
    warehouse.load(schema("t"), record("t", id="1", a=1))
    warehouse.execute("ALTER TABLE wh.t ADD COLUMN note TEXT")
    warehouse.execute("UPDATE wh.t SET note = 'mine'")
    warehouse.load(schema("t"), record("t", id="1", a=2), record("t", id="2", a=3))
    assert warehouse.by_id("t", "note", "a") == {
        "1": {"note": "mine", "a": 2},
        "2": {"note": None, "a": 3},
    }


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


def test_w29_a_column_or_table_that_went_missing_comes_back(warehouse: Warehouse) -> None:
    warehouse.load(schema("t"), record("t", id="1", a=1), schema("u"), record("u", id="1"))
    warehouse.execute("ALTER TABLE wh.t DROP COLUMN a")
    warehouse.execute("DROP TABLE wh.u")
    warehouse.load(schema("t"), record("t", id="2", a=2), schema("u"), record("u", id="2", n=1))
    assert warehouse.by_id("t", "a") == {"1": None, "2": 2}
    assert warehouse.by_id("u", "n") == {"2": 1}


def test_w31_objects_are_merged_property_by_property(warehouse: Warehouse) -> None:
    warehouse.load(schema("t"), record("t", id="1", a=1), record("t", id="1", b=2))
    assert warehouse.by_id("t", "a", "b") == {"1": {"a": 1, "b": 2}}
    warehouse.load(
        schema("t"),
        record("t", id="1", c=3, a=None),
        record("t", id="2", b=5),
        record("t", id="1", c=4),
        record("t", id="2", b=None),
        record("t", id="2", c=1),
    )
    assert warehouse.by_id("t", "a", "b", "c") == {
        "1": {"a": None, "b": 2, "c": 4},
        "2": {"a": None, "b": None, "c": 1},
    }


@pytest.mark.parametrize("rows", [1, 2, 100])
def test_w32_the_last_record_wins_by_arrival(warehouse: Warehouse, rows: int) -> None:
    warehouse.load(
        schema("t"),
        *(record("t", id=str(n % 3), value=n) for n in range(30)),
        max_batch_rows=rows,
    )
    assert warehouse.by_id("t", "value") == {"0": 27, "1": 28, "2": 29}


def test_w34_a_repeated_event_changes_nothing(warehouse: Warehouse) -> None:
    warehouse.load(
        events("click"),
        record("click", id="1", url="first"),
        record("click", id="1", url="second", extra="x"),
    )
    uuid_ts = warehouse.rows("click", "uuid_ts")
    warehouse.load(events("click"), record("click", id="1", url="third"), record("click", id="2"))
    assert warehouse.by_id("click", "url") == {"1": "first", "2": None}
    assert warehouse.rows("click", "uuid_ts")[:1] == uuid_ts
    assert warehouse.rows("activity", "id") == ["1", "2"]


def test_w37_what_is_not_sent_stays(warehouse: Warehouse) -> None:
    warehouse.load(schema("a"), record("a", id="1", x=1), schema("b"), record("b", id="1"))
    warehouse.load(schema("b"), record("b", id="2"), schema("a", {"id": "string"}))
    assert warehouse.by_id("a", "x") == {"1": 1}
    assert warehouse.count("b") == 2


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


def test_collections_setting_goes_before_the_annotation(warehouse: Warehouse) -> None:
    warehouse.load(
        events("click"),
        record("click", id="1", n=1),
        record("click", id="1", n=2),
        schema("ticks"),
        record("ticks", id="1", n=1),
        record("ticks", id="1", n=2),
        schema("nokey", keys=[]),
        record("nokey", n=1),
        collections={"click": "object", "ticks": "event"},
    )
    assert warehouse.by_id("click", "n") == {"1": 2}
    assert warehouse.by_id("ticks", "n") == {"1": 1}
    assert warehouse.count("nokey") == 1
    warehouse.assert_activity_is_the_union(["ticks", "nokey"])


def test_w39_w40_w43_every_run_reports_each_collection(warehouse: Warehouse) -> None:
    warehouse.load(
        events("click"),
        record("click", id="1", n=1),
        schema("lists"),
        record("lists", id="1"),
        record("lists", id="2"),
        schema("empty"),
        state({"a": 1}),
    )
    warehouse.load(events("click"), record("click", id="2", n=1.5, extra="x"))
    rows = warehouse.rows(
        "sync_reports", "run_id", "table_name", "row_count", "status", "new_columns"
    )
    runs = {row["run_id"] for row in rows}
    assert len(runs) == 2
    by_table = {(row["table_name"], row["row_count"]): row for row in rows}
    assert ("lists", 2) in by_table
    assert by_table[("lists", 2)]["status"].lower() == "success"
    assert len([row for row in rows if row["table_name"] == "click"]) == 2
    assert any(
        "extra" in (row["new_columns"] or "") for row in rows if row["table_name"] == "click"
    )


def test_w29_columns_of_other_types_are_filled_or_widened(warehouse: Warehouse) -> None:
    """Tables that another loader, or a person, made: nothing that arrives is lost in them."""
    warehouse.execute(f"CREATE SCHEMA {SCHEMA}")
    columns = {
        "small": ("smallint", "1", [2, 70_000]),
        "int32": ("integer", "1", [2, 2**40]),
        "float32": ("real", "1.5", [2.5, 0.1]),
        "exact": ("numeric(10, 2)", "1.25", [2.25, 1.23456]),
        "short": ("varchar(5)", "'abc'", ["abcde", "abcdefghij"]),
        "fixed": ("char(3)", "'abc'", ["ab", "abcdef"]),
        "day": ("date", "DATE '2026-01-02'", ["2026-01-03", "2026-01-03T04:05:06Z"]),
        "naive": ("timestamp", "TIMESTAMP '2026-01-02 03:04:05'", ["2026-01-02T03:04:05+02:00"]),
        "unique_id": (
            "uuid",
            "'00000000-0000-0000-0000-000000000001'",
            ["00000000-0000-0000-0000-000000000002", "no uuid"],
        ),
        "document": ("json", "'{\"a\": 1}'", ["[1]", "no json"]),
    }
    listed = ", ".join(f"{name} {kind}" for name, (kind, _, _) in columns.items())
    warehouse.execute(f"CREATE TABLE wh.t (id text PRIMARY KEY, received_at timestamptz, {listed})")
    values = ", ".join(value for _, value, _ in columns.values())
    warehouse.execute(f"INSERT INTO wh.t VALUES ('old', now(), {values})")
    lines = [
        record("t", {"id": f"{name}{number}", name: value})
        for name, (_, _, given) in columns.items()
        for number, value in enumerate(given)
    ]
    warehouse.load(schema("t"), *lines)
    assert "uuid_ts" in warehouse.types("t")
    rows = warehouse.by_id("t")
    assert len(rows) == len(lines) + 1
    for name, (_, _, given) in columns.items():
        assert rows["old"][name] is not None
        for number, value in enumerate(given):
            row = rows[f"{name}{number}"]
            texts = {str(held).strip() for held in row.values() if held is not None}
            instants = {held.isoformat() for held in row.values() if isinstance(held, datetime)}
            instant = name in ("day", "naive")
            wanted = {str(value)}
            if instant:
                moment = datetime.fromisoformat(value)
                moment = moment.replace(tzinfo=moment.tzinfo or UTC).astimezone(UTC)
                wanted |= {moment.isoformat(), moment.isoformat().replace("+00:00", "Z")}
            assert (texts | instants) & wanted, (name, value, row)
