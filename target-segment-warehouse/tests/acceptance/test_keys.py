"""Row ids: from keys of every kind, unique, and refused by name where there is none."""

from __future__ import annotations

import json

import pytest

from .harness import Warehouse
from .messages import Message, record, schema


def test_nul_in_a_key(warehouse: Warehouse) -> None:
    result = warehouse.run(schema("t"), record("t", id="a\0b", n=1), record("t", id="ok", n=2))
    result.ok()
    rows = warehouse.by_id("t", "n")
    assert rows["ok"] == 2
    if len(rows) == 1:  # the record cannot be there: then it is among the discards, whole
        discards = warehouse.rows("_discards", "table_name", "value")
        assert any(row["table_name"] == "t" and '"n"' in row["value"] for row in discards)


def test_keys_that_cannot_be_stored_stay_apart(warehouse: Warehouse) -> None:
    keys = ["x", "x\0", "x\ud800", "x\ud801", "x\ufffd"]
    for property_ in ("n", "m"):
        lines = [record("t", {"id": key, property_: n}) for n, key in enumerate(keys)]
        pairs = [record("u", {"id": key, "k": key, property_: n}) for n, key in enumerate(keys)]
        warehouse.load(schema("t"), *lines, schema("u", keys=["id", "k"]), *pairs)
    for table in ("t", "u"):
        rows = warehouse.rows(table, "n", "m")
        assert rows == [{"n": n, "m": n} for n in range(len(keys))]
    discards = warehouse.rows("_discards", "row_id", "value", where="WHERE table_name = 't'")
    unstorable = {json.dumps(key) for key in keys[2 if warehouse.engine == "duckdb" else 1 : 4]}
    assert {row["value"] for row in discards} == unstorable
    assert len({row["row_id"] for row in discards}) == len(unstorable)


def test_composite_keys_stay_apart(warehouse: Warehouse) -> None:
    keys = [("a,b", "c"), ("a", "b,c"), ("a_b", "c"), ("a", "b_c"), ("3", "8"), ("", ""), ("_", "")]
    warehouse.load(
        schema("t", {"k1": "string", "k2": "string"}, keys=["k1", "k2"]),
        *(record("t", k1=one, k2=two, n=n) for n, (one, two) in enumerate(keys)),
        *(record("t", k1=one, k2=two, m=n) for n, (one, two) in enumerate(keys)),
        schema("numbers", {"a": "integer", "b": "integer"}, keys=["a", "b"]),
        record("numbers", a=3, b=8),
    )
    rows = warehouse.rows("t", "k1", "k2", "n", "m")
    assert [(row["k1"], row["k2"]) for row in rows] == sorted(keys)
    assert all(row["n"] == row["m"] for row in rows)
    assert warehouse.rows("numbers", "id", "a", "b") == [{"id": "3_8", "a": 3, "b": 8}]


def test_keys_of_every_type(warehouse: Warehouse) -> None:
    properties = {"id": {}}
    warehouse.load(
        schema("t", properties),
        record("t", id=1, n=1),
        record("t", id="1", n=2),
        record("t", id=True, n=3),
        record("t", id=1.5, n=4),
        record("t", id=2**70, n=5),
    )
    assert warehouse.by_id("t", "n") == {"1": 2, "true": 3, "1.5": 4, str(2**70): 5}


@pytest.mark.parametrize("key", ["null", "absent"])
def test_a_missing_key_is_refused_by_name(warehouse: Warehouse, key: str) -> None:
    values: Message = {"secret": "payload-4711"} | ({"id": None} if key == "null" else {})
    result = warehouse.run(schema("people"), record("people", id="1"), record("people", values))
    result.failed("people", "id", "line 3")
    assert "payload-4711" not in result.stderr


def test_an_object_is_no_key(warehouse: Warehouse) -> None:
    lines = [schema("t", {"id": {}}), record("t", id="1"), record("t", id={"$oid": "4711"})]
    result = warehouse.run(*lines).failed("'id'", "an object", "line 3", "stream_maps")
    assert "no value" not in result.stderr
    assert "4711" not in result.stderr


def test_keys_longer_than_an_index_takes(warehouse: Warehouse) -> None:
    keys = ["".join(chr(33 + (n * n * k + n) % 90) for n in range(10_000)) for k in (3, 5)]
    keys += [keys[0] + "x", "é" * 2000]
    for _ in range(2):
        warehouse.load(schema("t"), *(record("t", id=key, n=n) for n, key in enumerate(keys)))
    assert warehouse.rows("t", "n") == [0, 1, 2, 3]
    everything = {value for row in warehouse.rows("t") for value in row.values()}
    assert everything >= set(keys)


def test_another_key_is_told(warehouse: Warehouse) -> None:
    first = warehouse.load(schema("t"), record("t", id="1", acc="x"))
    assert "key_properties" not in first.stderr
    two = schema("t", keys=["id", "acc"])
    second = warehouse.load(two, record("t", id="1", acc="x"))
    assert set(warehouse.by_id("t")) == {"1", "1_x"}
    assert 'key_properties were ["id"] and are ["id", "acc"] now' in second.stderr
    third = warehouse.load(two, record("t", id="2", acc="x"))
    assert "key_properties" not in third.stderr
