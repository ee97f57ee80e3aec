"""A SCHEMA in mid-stream that makes a stream one of events, or of objects."""

from __future__ import annotations

import pytest

from .harness import Warehouse
from .messages import events, record, schema


@pytest.mark.parametrize("activity", ["view", "table"])
@pytest.mark.parametrize("rows", [1, 100])
def test_objects_become_events_where_the_schema_says_so(
    warehouse: Warehouse, rows: int, activity: str
) -> None:
    warehouse.load(
        events("click"),
        record("click", id="c"),
        schema("t"),
        record("t", id="1", n=1),
        record("t", id="1", n=2),
        events("t"),
        record("t", id="1", n=3),
        record("t", id="2", n=4),
        record("t", id="2", n=5),
        max_batch_rows=rows,
        activity=activity,
    )
    assert warehouse.by_id("t", "n") == {"1": 2, "2": 4}
    warehouse.assert_activity_is_the_union(["click", "t"])


@pytest.mark.parametrize("activity", ["view", "table"])
@pytest.mark.parametrize("rows", [1, 100])
@pytest.mark.parametrize("before", [1, 600])
def test_events_become_objects_where_the_schema_says_so(
    warehouse: Warehouse, rows: int, activity: str, before: int
) -> None:
    rows = rows if before == 1 else 10 * before
    # Some of them are taken on trust, and are there twice for a while.
    more = [record("t", id=str(n), n=0) for n in range(before)]
    warehouse.load(
        events("click"),
        record("click", id="c"),
        events("t"),
        *more,
        *more,
        record("t", id="x", n=1),
        record("t", id="x", n=2),
        schema("t"),
        record("t", id="x", n=3),
        record("t", id="0", n=4),
        max_batch_rows=rows,
        activity=activity,
    )
    assert warehouse.by_id("t", "n") == {r["record"]["id"]: 0 for r in more} | {"x": 3, "0": 4}
    assert warehouse.count("t") == before + 1
    assert warehouse.rows("activity", "id") == ["c"]


@pytest.mark.parametrize("rows", [1, 100])
def test_objects_that_were_events_in_between_are_there_once(
    warehouse: Warehouse, rows: int
) -> None:
    warehouse.load(
        schema("t"),
        record("t", id="1", n=1),
        events("t"),
        record("t", id="2", n=2),
        schema("t"),
        record("t", id="2", n=3),
        record("t", id="1", n=4),
        max_batch_rows=rows,
    )
    assert warehouse.by_id("t", "n") == {"1": 4, "2": 3}
    assert warehouse.count("t") == 2


@pytest.mark.parametrize("activity", ["view", "table"])
@pytest.mark.parametrize("is_one_run", [True, False])
def test_activity_is_empty_when_the_last_events_become_objects(
    warehouse: Warehouse, activity: str, *, is_one_run: bool
) -> None:
    first, second = [events("t"), record("t", id="1", n=1)], [schema("t"), record("t", id="2", n=2)]
    for messages in [first + second] if is_one_run else [first, second]:
        warehouse.load(*messages, activity=activity, max_batch_rows=1)
    assert warehouse.rows("activity", "id") == []
    warehouse.load(schema("t"), record("t", id="3"), activity=activity)
    assert warehouse.rows("activity", "id") == []
    warehouse.load(events("u"), record("u", id="4"), activity=activity)
    assert warehouse.rows("activity", "id") == ["4"]


def test_what_is_hoisted_follows_the_schema(warehouse: Warehouse) -> None:
    warehouse.load(
        schema("t"),
        record("t", id="1", n=1),
        events("t"),
        record("t", id="2", custom_args={"plan": "pro"}),
    )
    assert warehouse.by_id("t", "plan") == {"1": None, "2": "pro"}
