"""Values and types: whatever JSON can say is in the warehouse afterwards, or among the discards."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta, timezone
from decimal import Decimal
from itertools import product
from typing import Any

import pytest

from .harness import Warehouse
from .messages import Message, record, schema

VALUES: dict[str, Any] = {
    "integer": 7,
    "number": 2.5,
    "boolean": True,
    "string": "abc",
    "timestamp": "2026-01-02T03:04:05.678+05:30",
    "array": [1, {"a": "b"}],
}
DECLARED: dict[str, Message] = {
    "timestamp": {"type": ["string", "null"], "format": "date-time"},
}
PAIRS = [(one, two) for one, two in product(VALUES, repeat=2) if one != two]


def same(value: Any, stored: Any) -> bool:
    """Whether a column holds a value: as it is, or as text that says the same."""
    if isinstance(value, bool):
        return stored is value or stored == json.dumps(value)
    if isinstance(value, int | float):
        if isinstance(stored, str):
            return Decimal(stored) == Decimal(str(value))
        return not isinstance(stored, bool) and stored == value
    if isinstance(value, list):
        return isinstance(stored, str) and json.loads(stored) == value
    if isinstance(stored, datetime):
        return stored == datetime.fromisoformat(value)
    if isinstance(stored, str) and value == VALUES["timestamp"] and stored != value:
        return datetime.fromisoformat(stored) == datetime.fromisoformat(value)
    return bool(stored == value)


def assert_both_kept(warehouse: Warehouse, table: str) -> None:
    rows = warehouse.by_id(table)
    lost = [
        (one, two, rows["1"][name], rows["2"][name])
        for one, two in PAIRS
        for name in [f"{one}_{two}"]
        if not same(VALUES[one], rows["1"][name]) or not same(VALUES[two], rows["2"][name])
    ]
    assert lost == []
    types = warehouse.types(table)
    assert types["integer_number"] == types["number_integer"] == "float"
    assert {types[f"{one}_{two}"] for one, two in PAIRS if "string" in (one, two)} == {"text"}


def pairs(index: int) -> Message:
    return {f"{pair[0]}_{pair[1]}": VALUES[pair[index]] for pair in PAIRS}


@pytest.mark.parametrize("rows", [1, 100])
def test_every_pair_of_types_in_one_run(warehouse: Warehouse, rows: int) -> None:
    warehouse.load(
        schema("t"),
        record("t", pairs(0), id="1"),
        record("t", pairs(1), id="2"),
        max_batch_rows=rows,
    )
    assert_both_kept(warehouse, "t")


def test_every_pair_of_types_on_a_filled_table(warehouse: Warehouse) -> None:
    warehouse.load(schema("t"), record("t", pairs(0), id="1"))
    warehouse.load(schema("t"), record("t", pairs(1), id="2"))
    assert_both_kept(warehouse, "t")


def test_every_pair_of_declared_and_real_type(warehouse: Warehouse) -> None:
    def declare(kind: str) -> Message:
        return DECLARED.get(kind, {"type": [kind, "null"]})

    first = {f"{one}_{two}": declare(one) for one, two in PAIRS}
    second = {f"{one}_{two}": declare(two) for one, two in PAIRS}
    warehouse.load(
        schema("t", {"id": "string", **first}),
        record("t", pairs(0), id="1"),
        schema("t", {"id": "string", **second}),
        record("t", pairs(1), id="2"),
        schema("u", {"id": "string", **first}),
        record("u", pairs(1), id="2"),
        record("u", pairs(0), id="1"),
    )
    assert_both_kept(warehouse, "t")
    assert_both_kept(warehouse, "u")


def test_a_later_narrower_value_fits_the_wider_column(warehouse: Warehouse) -> None:
    warehouse.load(schema("t"), record("t", id="1", v=1.5, w="text"))
    warehouse.load(schema("t"), record("t", id="2", v=3, w=4), record("t", id="3", w=True))
    assert warehouse.types("t")["v"] == "float"
    assert warehouse.by_id("t", "v", "w") == {
        "1": {"v": 1.5, "w": "text"},
        "2": {"v": 3.0, "w": "4"},
        "3": {"v": None, "w": "true"},
    }


def test_objects_and_scalars_in_one_property(warehouse: Warehouse) -> None:
    warehouse.load(
        schema("t"),
        record("t", id="1", p=5),
        record("t", id="2", p={"x": 1, "y": {"z": "deep"}}),
        record("t", id="3", p=[1]),
        record("t", id="4", p={"x": "text", "y": 2}),
        max_batch_rows=3,
    )
    warehouse.load(schema("t"), record("t", id="5", p="back"), record("t", id="6", p={"x": 1.5}))
    rows = warehouse.by_id("t", "p", "p_x", "p_y", "p_y_z")
    assert {key: row["p"] for key, row in rows.items()} == {
        "1": "5", "2": None, "3": "[1]", "4": None, "5": "back", "6": None,
    }  # fmt: skip
    assert [rows[key]["p_x"] for key in "246"] == ["1", "text", "1.5"]
    assert rows["2"]["p_y_z"] == "deep"
    assert str(rows["4"]["p_y"]) == "2"


def test_instants(warehouse: Warehouse) -> None:
    given = {
        "offset": "2026-01-01T00:00:00+05:30",
        "fraction": "2026-01-01T00:00:00.123456Z",
        "none": "2026-01-01T00:00:00",
        "space": "2026-01-01 00:00:00+00:00",
        "far": "9999-12-31T23:59:59Z",
        "old": "1900-01-01T00:00:00Z",
    }
    properties = dict.fromkeys(given, DECLARED["timestamp"])
    warehouse.load(schema("t", {"id": "string", **properties}), record("t", given, id="1"))
    (row,) = warehouse.rows("t", *given)
    assert {name: kind for name, kind in warehouse.types("t").items() if name in given} == (
        dict.fromkeys(given, "timestamp")
    )
    assert row == {
        "offset": datetime(2026, 1, 1, tzinfo=timezone(timedelta(hours=5, minutes=30))),
        "fraction": datetime(2026, 1, 1, 0, 0, 0, 123456, tzinfo=UTC),
        "none": datetime(2026, 1, 1, tzinfo=UTC),
        "space": datetime(2026, 1, 1, tzinfo=UTC),
        "far": datetime(9999, 12, 31, 23, 59, 59, tzinfo=UTC),
        "old": datetime(1900, 1, 1, tzinfo=UTC),
    }


@pytest.mark.parametrize(
    "value",
    [
        "2016-12-31T23:59:60Z",
        "10000-01-01T00:00:00Z",
        "0000-00-00T00:00:00Z",
        "2026-02-30T00:00:00Z",
        "2026-01-01T25:00:00Z",
        "2026-01-01T00:00:00.123456789Z",
        "not a date",
        "",
        "now",
        "infinity",
        "epoch",
        # With its offset it is in the year 10000, or before the year 0.
        "9999-12-31T23:59:59-05:00",
        "0000-01-01T00:00:00+05:00",
        "2026-01-01T00:00:00+24:00",
        "2026-01-01T00:00:00+99:00",
        "2026-01-01T00:00:00+02:60",
        "2026-01-01T00:00:00+0099",
    ],
)
def test_what_is_no_instant_is_kept_as_text(warehouse: Warehouse, value: str) -> None:
    properties = {"id": "string", "at": DECLARED["timestamp"]}
    warehouse.load(schema("t", properties), record("t", id="1", at="2026-01-01T00:00:00Z"))
    warehouse.load(
        schema("t", properties),
        record("t", id="2", at=value),
        schema("u"),
        record("u", id="2", at=value),
    )
    for table in ("t", "u"):
        (row,) = (row for row in warehouse.rows(table) if row["id"] == "2")
        assert value in row.values(), row


def test_an_instant_of_the_year_0_stays_one(warehouse: Warehouse) -> None:
    texts = ["0000-01-01T00:00:00Z", "0000-12-31T23:59:59.5Z", "0001-01-01T00:00:00Z"]
    lines = [record("t", id=text, at=text) for text in texts]
    for rows in (1, 100):
        stream = f"t{rows}"
        own = [{**line, "stream": stream} for line in lines]
        warehouse.load(schema(stream), *own, max_batch_rows=rows)
        assert warehouse.types(stream)["at"] == "timestamp"
        warehouse.load(schema(stream), record(stream, id="text", at="text"))
        found = warehouse.by_id(stream, "at")
        assert {key: text.replace(".500000", ".5") for key, text in found.items()} == (
            dict(zip(texts, texts, strict=True)) | {"text": "text"}
        )


@pytest.mark.parametrize("engine", ["postgres"], indirect=True)
def test_instants_of_another_loader_in_other_years(warehouse: Warehouse) -> None:
    warehouse.execute("CREATE SCHEMA wh")
    warehouse.execute("CREATE TABLE wh.t (id text, at timestamptz)")
    for text in ("0045-03-15 00:00:00+00 BC", "12000-01-01 00:00:00.25+00"):
        warehouse.execute(f"INSERT INTO wh.t VALUES ('{text[:4]}', '{text}')")
    warehouse.load(schema("t"), record("t", id="text", at="text"))
    assert warehouse.by_id("t", "at") == {
        "0045": "-0044-03-15T00:00:00Z", "1200": "12000-01-01T00:00:00.250000Z", "text": "text",
    }  # fmt: skip


def test_empty_null_and_absent_differ(warehouse: Warehouse) -> None:
    lines = [
        schema("t", {"id": "string", "s": "string"}),
        record("t", id="empty", s=""),
        record("t", id="null", s=None),
        record("t", id="absent"),
    ]
    warehouse.load(*lines)
    assert warehouse.by_id("t", "s") == {"empty": "", "null": None, "absent": None}
    keys = ("empty", "null", "absent")
    warehouse.load(lines[0], *(record("t", id=key, s="full") for key in keys))
    warehouse.load(*lines)
    assert warehouse.by_id("t", "s") == {"empty": "", "null": None, "absent": "full"}


def test_text_of_every_kind(warehouse: Warehouse) -> None:
    texts = {
        "quotes": "a'b\"c`d$$e\\f",
        "csv": 'x,"y";z\t|\r\n\\N\\.',
        "emoji": "👩‍👩‍👧‍👦 é e\u0301",
        "controls": "".join(map(chr, range(1, 32))) + "\x7f\x85\u2028",
        "rtl": "\u202eabc",
        "null": "null",
        "number": "007",
        "true": "true",
        "braces": '{"a": 1}',
        "spaces": "  x  ",
        "wide": "\U0010ffff\ufffe",
    }
    warehouse.load(schema("t"), record("t", id="1", **texts))
    (row,) = warehouse.rows("t", *texts.keys())
    assert row == texts


def test_nul_characters(warehouse: Warehouse) -> None:
    lines = [
        schema("t", {"id": "string"}),
        record("t", id="1", s="a\0b", o={"deep": ["\0"], "er": "\0"}, fine="x"),
        record("t", id="2", s="plain"),
    ]
    warehouse.load(*lines)
    rows = warehouse.by_id("t", "s", "o_deep", "o_er", "fine")
    assert rows["1"]["fine"] == "x"
    assert rows["2"]["s"] == "plain"
    expected = {"s": "a\0b", "o_deep": '["\\u0000"]', "o_er": "\0"}
    for column, value in expected.items():
        if rows["1"][column] != value:
            assert warehouse.engine == "postgres"
            discards = warehouse.rows("_discards", "table_name", "row_id", "column_name", "value")
            (discard,) = (row for row in discards if row["column_name"] == column)
            assert discard["table_name"] == "t"
            assert discard["row_id"] == "1"
            assert "u0000" in discard["value"]


def test_a_40_mib_record(warehouse: Warehouse) -> None:
    text = "0123456789abcdef" * (40 * 65536)
    warehouse.load(schema("t"), record("t", id="1", s=text), record("t", id="2", s="small"))
    assert warehouse.query("SELECT id, length(s) FROM wh.t ORDER BY id") == [
        ("1", len(text)),
        ("2", 5),
    ]


def test_a_record_of_5000_columns(warehouse: Warehouse) -> None:
    values = {f"c{n}": n for n in range(5000)}
    config = {"max_columns": 1000}
    first = [record("t", id="1", **values), record("t", id="2", c1=1)]
    warehouse.load(schema("t"), *first, **config)
    warehouse.load(schema("t"), record("t", id="1", c4999=-1, c1="x"), **config)
    (row,) = (row for row in warehouse.rows("t") if row["id"] == "1")
    assert len(warehouse.types("t")) <= 1001
    overflow = json.loads(row.pop("_overflow"))
    found = {name: value for name, value in row.items() if name[0] == "c" and value is not None}
    assert not set(found) & set(overflow)
    assert found | overflow == values | {"c4999": -1, "c1": "x"}


def test_depth_1000(warehouse: Warehouse) -> None:
    deep: Any = "bottom"
    for _ in range(1000):
        deep = {"n": deep}
    lists: Any = "bottom"
    for _ in range(1000):
        lists = [lists]
    text = json.dumps({"id": "1", "lists": "LISTS", "fine": 1, "deep": "DEEP"})
    text = text.replace('"LISTS"', "[" * 1000 + '"bottom"' + "]" * 1000)
    text = text.replace('"DEEP"', '{"n":' * 1000 + '"bottom"' + "}" * 1000)
    warehouse.load(
        schema("t"),
        f'{{"type": "RECORD", "stream": "t", "record": {text}}}',
        record("t", id="2", fine=2),
    )
    assert warehouse.by_id("t", "fine") == {"1": 1, "2": 2}
    (row,) = (row for row in warehouse.rows("t") if row["id"] == "1")
    assert row["lists"] == "[" * 1000 + '"bottom"' + "]" * 1000
    assert any("bottom" in str(value) for name, value in row.items() if name != "lists")


@pytest.mark.parametrize("rows", [1, 2, 3])
@pytest.mark.parametrize("count", [0, 1, 2, 3])
def test_row_counts(warehouse: Warehouse, count: int, rows: int) -> None:
    lines: list[Message] = [schema("t"), schema("nokey", {"n": "integer"}, keys=[])]
    for n in range(count):
        lines += [record("t", id=str(n), n=n), record("nokey", n=n)]
    warehouse.load(*lines, max_batch_rows=rows)
    assert warehouse.rows("t", "id") == [str(n) for n in range(count)]
    assert warehouse.rows("nokey", "n") == list(range(count))


def test_duplicate_members_last_wins(warehouse: Warehouse) -> None:
    warehouse.load(
        schema("t"), '{"type":"RECORD","stream":"t","record":{"id":"1","a":1,"a":2,"id":"2"}}'
    )
    assert warehouse.by_id("t", "a") == {"2": 2}


def test_a_row_with_a_value_in_each_of_many_columns(warehouse: Warehouse) -> None:
    # 8 kB is what Postgres gives a row; a text that it moves elsewhere still takes 18 bytes.
    values = {f"c{n}": f"{n} " * 20 for n in range(1500)}
    warehouse.load(schema("t"), record("t", id="1", **values))
    (row,) = warehouse.rows("t")
    overflow = json.loads(row.pop("_overflow", None) or "{}")
    found = {name: value for name, value in row.items() if name[0] == "c" and value is not None}
    assert found | overflow == values
