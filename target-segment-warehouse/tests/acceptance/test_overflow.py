"""`_overflow`: properties beyond the columns that a table, or a row, has room for."""

from __future__ import annotations

import json

import pytest

from .harness import Warehouse
from .messages import Message, record, schema

FEW = {"max_columns": 10}


def held(warehouse: Warehouse, row_id: str = "1") -> Message:
    """What a row of ``t`` says of each property, in columns or in the JSON column, but once."""
    row = warehouse.by_id("t")[row_id]
    overflow = json.loads(row.pop("_overflow", None) or "{}")
    columns = {
        name: value
        for name, value in row.items()
        if value is not None and name not in {"received_at", "uuid_ts"}
    }
    overflow = {name: value for name, value in overflow.items() if value is not None}
    assert not columns.keys() & overflow.keys()
    return columns | overflow


def many(first: int, last: int, text: str) -> Message:
    """Properties, each with a text as long as one that Postgres moves out of the row."""
    return {f"c{n:04}": text * 25 for n in range(first, last)}


@pytest.mark.parametrize("is_one_run", [True, False])
def test_overflowing_properties_with_one_name_both_stay(
    warehouse: Warehouse, *, is_one_run: bool
) -> None:
    values = {f"c{n}": n for n in range(8)}
    records = [
        record("t", id="1", **values, fooBar="camel", a={"b": 1}),
        record("t", id="1", foo_bar="snake", aB=2),
        record("t", id="2", foo_bar="s", fooBar="c", aB=3, a_b=4),
        record("t", id="1", fooBar="other"),
    ]
    if is_one_run:
        warehouse.load(schema("t"), *records, max_batch_rows=1, **FEW)
    else:
        for each in records:
            warehouse.load(schema("t"), each, **FEW)
    first, second = held(warehouse, "1"), held(warehouse, "2")
    assert first["foo_bar"] == "other"  # the first that came has the plain name
    assert second["foo_bar"] == "c"
    (hashed,) = (name for name in first if name.startswith("foo_bar_"))
    assert (first[hashed], second[hashed]) == ("snake", "s")
    assert sorted(value for name, value in first.items() if name[:3] == "a_b") == [1, 2]
    assert sorted(value for name, value in second.items() if name[:3] == "a_b") == [3, 4]
    found = warehouse.rows("_columns", "column_name", "path")
    assert {"column_name": hashed, "path": '["foo_bar"]'} in found


def test_a_column_takes_a_property_out_of_the_overflow(warehouse: Warehouse) -> None:
    values = {f"c{n}": n for n in range(8)}
    warehouse.load(schema("t"), record("t", id="1", **values), record("t", id="2", c7=7), **FEW)
    assert "c7" not in warehouse.types("t")
    changes = [record("t", id="1", c7=70), record("t", id="2", c6=60)]
    warehouse.load(schema("t"), *changes)
    assert held(warehouse) == values | {"c7": 70}
    assert held(warehouse, "2") == {"c6": 60, "c7": 7}
    assert warehouse.by_id("t", "c7") == {"1": 70, "2": None}
    warehouse.load(schema("t"), record("t", id="2", c7=None), record("t", id="1", c7=71))
    assert held(warehouse) == values | {"c7": 71}
    assert held(warehouse, "2") == {"c6": 60}


@pytest.mark.parametrize("engine", ["duckdb"], indirect=True)  # the one that merges in memory
@pytest.mark.parametrize("is_one_run", [True, False])
def test_more_json_than_memory_is_merged(warehouse: Warehouse, *, is_one_run: bool) -> None:
    names = [f"property_{n}" for n in range(100)]
    first, second = (
        [record("t", id=str(n), **dict.fromkeys(names, f"{text} {n} " * 20)) for n in range(900)]
        for text in ("the first text", "the second text")
    )
    second[7]["record"].pop(names[50])
    for records in [first + second] if is_one_run else [first, second]:
        warehouse.load(schema("t"), *records, **FEW)
    expected = dict.fromkeys(names, "the second text 7 " * 20)
    assert held(warehouse, "7") == expected | {names[50]: "the first text 7 " * 20}
    assert held(warehouse, "899") == dict.fromkeys(names, "the second text 899 " * 20)


# -- rows too wide for a page, which only Postgres has -------------------------------------------

postgres = pytest.mark.parametrize("engine", ["postgres"], indirect=True)


@postgres
def test_an_object_that_grows_too_wide_over_several_records(warehouse: Warehouse) -> None:
    steps = [(0, 200, "a"), (150, 350, "b"), (300, 500, "c"), (50, 250, "d")]
    expected: Message = {}
    for first, last, text in steps:
        values = many(first, last, text)
        warehouse.load(
            schema("t"),
            record("t", id="1", **values),
            record("t", id="small", c0000=text),
            record("t", {"id": text}, **values),
        )
        expected |= values
        assert held(warehouse) == expected
    assert held(warehouse, "small") == {"c0000": "d"}
    for first, last, text in steps:
        assert held(warehouse, text) == many(first, last, text)
    # What has room stays in its columns.
    assert [row_id for row_id, text in warehouse.by_id("t", "_overflow").items() if text] == ["1"]


@postgres
@pytest.mark.parametrize("is_one_run", [True, False])
def test_the_latest_value_of_a_wide_object_counts(
    warehouse: Warehouse, *, is_one_run: bool
) -> None:
    steps: list[Message] = [
        many(0, 450, "wide"),
        {"c0449": "later"},  # from the JSON column into its own
        {"c0449": None, "c0448": "x", "c0000": "y"},
        many(400, 450, "again"),
        {"c0449": "1"},
        many(0, 450, "anew") | {"c0447": None},  # from columns into the JSON column
        {"c0446": None},
    ]
    expected: Message = {}
    records = []
    for step in steps:
        records += [record("t", step, id="1"), record("t", id="2", c0000="narrow")]
        expected |= step
    if is_one_run:
        warehouse.load(schema("t"), *records, max_batch_rows=2)
    else:
        for each in records:
            warehouse.load(schema("t"), each)
    assert held(warehouse) == {name: value for name, value in expected.items() if value is not None}
    assert held(warehouse, "2") == {"c0000": "narrow"}


@postgres
def test_the_version_of_a_wide_row_is_in_its_column(warehouse: Warehouse) -> None:
    for version in (1, 2):
        rows = [{**record("t", many(0, 450, "w"), id=f"{version}"), "version": version}]
        activate = {"type": "ACTIVATE_VERSION", "stream": "t", "version": version}
        warehouse.load(schema("t"), *rows, activate, add_record_metadata=True, hard_delete=True)
        assert warehouse.rows("t", "id", "_sdc_table_version") == [
            {"id": f"{version}", "_sdc_table_version": version}
        ]
    deleted = record("t", many(0, 450, "w"), id="2", _sdc_deleted_at="2026-01-01T00:00:00Z")
    warehouse.load(schema("t"), deleted, add_record_metadata=True)
    assert warehouse.rows("t", "_sdc_deleted_at") != [None]


def test_objects_of_which_hundreds_of_properties_are_null_or_absent(warehouse: Warehouse) -> None:
    # Whether a record carries a property goes to the server as well as what it is.
    first = {f"c{n}": n for n in range(900)}
    nulls = dict.fromkeys(list(first)[:899])
    last = {f"c{n}": -n for n in range(1, 900)}
    warehouse.load(schema("t"), *(record("t", id=at, **first) for at in "123"))
    warehouse.load(
        schema("t"), record("t", id="1", **nulls), record("t", id="2"), record("t", id="3", **last)
    )
    assert held(warehouse, "1") == {"c899": 899}
    assert held(warehouse, "2") == first
    assert held(warehouse, "3") == {"c0": 0, **last}


def test_a_full_table_takes_a_row_that_is_too_wide(warehouse: Warehouse) -> None:
    wide = many(0, 1595, "b")
    short = dict.fromkeys(wide, "a")
    warehouse.load(schema("t"), *(record("t", id=at, **short) for at in "123"))
    assert "_overflow" not in warehouse.by_id("t")["1"]
    warehouse.load(
        schema("t"),
        record("t", id="1", **wide | {"c0000": None, "c1594": None}),
        record("t", id="2", **dict(list(wide.items())[1:])),
        record("t", id="4", **wide),
    )
    assert held(warehouse, "1") == dict(list(wide.items())[1:-1])
    assert held(warehouse, "2") == {**wide, "c0000": "a"}
    assert held(warehouse, "3") == short
    assert held(warehouse, "4") == wide
