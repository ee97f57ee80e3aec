"""Random messages against a model of a few lines: the warehouse holds what the model says."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from datetime import datetime
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from target_segment_warehouse.naming import column_name

from .harness import Warehouse
from .messages import Message, events, record, schema

EXAMPLES = int(os.environ.get("EXAMPLES", "30"))

KEYS = st.sampled_from(["a", "b", "c", "camelCase", "d e", "nested"])
TEXT = st.one_of(
    st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=8),
    st.sampled_from(["", "1", "true", "null", "2026-01-01T00:00:00Z", "[1]", "{}"]),
)
NUMBERS = st.one_of(
    st.integers(-(2**63), 2**63 - 1),
    st.integers(-5, 5),
    st.floats(allow_nan=False, allow_infinity=False, width=32).filter(lambda x: x == x + 0.0),
)
SCALARS = st.one_of(st.none(), st.booleans(), NUMBERS, TEXT)
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.one_of(
        st.lists(inner, max_size=3), st.dictionaries(st.sampled_from("xyz"), inner, max_size=2)
    ),
    max_leaves=4,
)
RECORDS = st.tuples(
    st.sampled_from(["people", "click"]),
    st.sampled_from(["1", "2", "3"]),
    st.dictionaries(KEYS, VALUES, max_size=4),
)
STEPS = st.lists(
    st.one_of(RECORDS, RECORDS, RECORDS, st.sampled_from(["flush", "schema"])), max_size=25
)


def parts(value: Message, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
    """Everything in a record by its path, an object before its content."""
    for key, inner in value.items():
        yield (*path, key), inner
        if isinstance(inner, dict):
            yield from parts(inner, (*path, key))


class Model:
    """What the layout says: objects merged by property, events kept as they first came.

    A property that is an object now has no value of its own any more, and one that is none, or
    null, has no content any more.
    """

    def __init__(self) -> None:
        self.tables: dict[str, dict[str, dict[tuple[str, ...], Any]]] = {}

    def take(self, table: str, row_id: str, values: Message) -> None:
        rows = self.tables.setdefault(table, {})
        if table == "click" and row_id in rows:
            return
        row = rows.setdefault(row_id, {})
        for path, value in parts(values):
            if isinstance(value, dict):
                row[path] = None
            else:
                row |= dict.fromkeys([other for other in row if other[: len(path)] == path])
                row[path] = value


def says_the_same(value: Any, stored: Any) -> bool:
    """Whether what is stored is the value: itself, or its text in a column that became text."""
    if value is None:
        return stored is None
    if isinstance(value, list):
        return isinstance(stored, str) and json.loads(stored) == value
    if isinstance(value, bool):
        return stored is value or stored == json.dumps(value)
    if isinstance(value, int | float):
        if isinstance(stored, str):
            try:
                return Decimal(stored) == Decimal(str(value)) or float(stored) == value
            except ArithmeticError:
                return False
        return not isinstance(stored, bool) and stored == value
    if isinstance(stored, datetime):
        return datetime.fromisoformat(value) == stored
    if stored == value:
        return True
    try:  # an instant that was widened to text
        return datetime.fromisoformat(stored) == datetime.fromisoformat(value)
    except (TypeError, ValueError):
        return False


def check(warehouse: Warehouse, model: Model) -> None:
    for table, expected in model.tables.items():
        rows = {row["id"]: row for row in warehouse.rows(table)}
        assert set(rows) == set(expected)
        for row_id, values in expected.items():
            row = rows[row_id]
            named = {column_name(path): value for path, value in values.items()}
            for name, value in named.items():
                if value is not None:
                    assert says_the_same(value, row[name]), (table, row_id, name, value, row[name])
                else:
                    assert row.get(name) is None, (table, row_id, name, row[name])
            filled = {name for name, value in row.items() if value is not None}
            assert filled <= set(named) | {"id", "received_at", "uuid_ts"}


def run_steps(warehouse: Warehouse, steps: list[Any], rows: int, activity: str) -> None:
    model = Model()
    lines: list[Message] = [schema("people"), events("click", hoist=False)]
    for step in steps:
        if step == "flush":
            warehouse.load(*lines, max_batch_rows=rows, activity=activity)
            lines = [schema("people"), events("click", hoist=False)]
        elif step == "schema":
            lines.append(schema("people", {"id": "string", "a": "integer", "new": "boolean"}))
        else:
            table, row_id, values = step
            lines.append(record(table, values, id=row_id))
            model.take(table, row_id, values)
    warehouse.load(*lines, max_batch_rows=rows, activity=activity)
    check(warehouse, model)
    if "click" in model.tables:
        warehouse.assert_activity_is_the_union(["click"])


@pytest.mark.parametrize(
    ("engine", "examples"), [("duckdb", EXAMPLES), ("postgres", EXAMPLES // 2)]
)
def test_the_warehouse_is_what_the_model_says(
    engine: str, examples: int, make_warehouse: Callable[[str], Warehouse]
) -> None:
    warehouse = make_warehouse(engine)

    @settings(
        max_examples=examples,
        deadline=None,
        database=None,
        suppress_health_check=list(HealthCheck),
        phases=[Phase.generate, Phase.shrink],
    )
    @given(STEPS, st.sampled_from([1, 3, 100]), st.sampled_from(["view", "table"]))
    def run(steps: list[Any], rows: int, activity: str) -> None:
        warehouse.execute("DROP SCHEMA IF EXISTS wh CASCADE")
        run_steps(warehouse, steps, rows, activity)

    run()
