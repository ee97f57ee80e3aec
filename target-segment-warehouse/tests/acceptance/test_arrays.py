"""What is in an array is no property, whatever other properties are called."""

from __future__ import annotations

import json

import pytest

from .harness import Warehouse
from .messages import record, schema


def test_an_array_says_nothing_of_an_object_with_numbers_for_keys(warehouse: Warehouse) -> None:
    warehouse.load(
        schema("t"),
        record("t", id="1", items={"0": "keep", "2": "me"}),
        record("t", id="2", items={"0": "b"}),
    )
    warehouse.load(
        schema("t"),
        record("t", id="3", items=["c"]),
        record("t", id="1", status="paid"),
        record("t", id="2", items={"0": "b"}),
    )
    assert warehouse.by_id("t", "items", "items_0", "items_2", "status") == {
        "1": {"items": None, "items_0": "keep", "items_2": "me", "status": "paid"},
        "2": {"items": None, "items_0": "b", "items_2": None, "status": None},
        "3": {"items": '["c"]', "items_0": None, "items_2": None, "status": None},
    }


@pytest.mark.parametrize("rows", [1, 100])
def test_what_is_in_an_array_is_no_property(warehouse: Warehouse, rows: int) -> None:
    warehouse.load(
        schema("t"),
        record("t", id="1", a={"0": {"b": 1, "1": 2}}, n={"0": 1}, o={"x": {"0": 1}}),
        record("t", id="2", a=[{"b": "t", "zzz": 1}], n=["text"], o={"x": [{"0": "t"}]}),
        record("t", id="3", a={"0": ["x", "y"]}, n=[[5]], o=[1]),
        max_batch_rows=rows,
    )
    names = ("a", "a_0", "a_0_b", "a_0_1", "n", "n_0", "o", "o_x", "o_x_0")
    empty = dict.fromkeys(names)
    assert warehouse.by_id("t", *names) == {
        "1": {**empty, "a_0_b": 1, "a_0_1": 2, "n_0": 1, "o_x_0": 1},
        "2": {**empty, "a": '[{"b":"t","zzz":1}]', "n": '["text"]', "o_x": '[{"0":"t"}]'},
        "3": {**empty, "a_0": '["x","y"]', "n": "[[5]]", "o": "[1]"},
    }
    assert set(warehouse.types("t")) == {"id", "received_at", "uuid_ts", *names}


def test_what_is_in_an_array_is_no_declared_property_either(warehouse: Warehouse) -> None:
    inner = {"properties": {"0": {"properties": {"b": {"type": "integer"}}}}}
    warehouse.load(schema("t", {"id": "string", "a": inner}), record("t", id="1", a=[{"b": 5}]))
    assert warehouse.by_id("t", "a", "a_0_b") == {"1": {"a": '[{"b":5}]', "a_0_b": None}}


def test_what_is_in_an_array_does_not_overflow(warehouse: Warehouse) -> None:
    many = {f"c{n:02}": n for n in range(12)}
    warehouse.load(
        schema("t"),
        record("t", id="1", **many, zz={"0": 1}),
        record("t", id="2", zz=[5]),
        max_columns=10,
    )
    overflow = {key: json.loads(text) for key, text in warehouse.by_id("t", "_overflow").items()}
    assert overflow["1"]["zz_0"] == 1
    assert overflow["2"] == {"zz": [5]}
