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
