"""`activity` is exactly the union of the event tables: as a view, as a table, and when it
changes."""

from __future__ import annotations

import json

import pytest

from .harness import Warehouse
from .messages import Message, events, record, schema

MODES = ["view", "table"]


@pytest.mark.parametrize("mode", MODES)
def test_union_after_every_flush(warehouse: Warehouse, mode: str) -> None:
    process = warehouse.start(None, activity=mode, max_batch_rows=2)
    steps = [
        [events("click"), record("click", id="1", n=1), record("click", id="2", n=2)],
        [events("bounce"), record("bounce", id="3", reason="r"), record("bounce", id="4")],
        [record("click", id="5", n=1.5, fresh="x"), record("bounce", id="5", n="text")],
        [schema("lists"), record("lists", id="1"), record("click", id="6", n="t")],
    ]
    seen = 0
    for number, step in enumerate(steps, 1):
        process.send(*step, {"type": "STATE", "value": {"n": number}})
        process.until_states(number)
        tables = [name for name in ("click", "bounce") if name in warehouse.relations()]
        warehouse.assert_activity_is_the_union(tables)
        assert warehouse.count("activity") > seen
        seen = warehouse.count("activity")
    process.finish().ok()
    assert seen == 7
    kind = warehouse.relations()["activity"]
    assert kind == ("VIEW" if mode == "view" else "BASE TABLE")


def test_switching_on_a_filled_warehouse(warehouse: Warehouse) -> None:
    for number, mode in enumerate(
        ["view", "table", "table", "off", "table", "view", "off", "view"]
    ):
        warehouse.load(
            events("click"),
            record("click", id=f"c{number}", **{f"p{number}": number}),
            events("_open"),
            record("_open", id=f"o{number}", machine=bool(number % 2)),
            activity=mode,
        )
        if mode == "off":
            continue
        warehouse.assert_activity_is_the_union(["click", "_open"])
        kind = warehouse.relations()["activity"]
        assert kind == ("VIEW" if mode == "view" else "BASE TABLE")


@pytest.mark.parametrize("mode", MODES)
def test_collections_of_earlier_runs_stay_in_it(warehouse: Warehouse, mode: str) -> None:
    warehouse.load(events("click"), record("click", id="1", a=1), activity=mode)
    warehouse.load(events("bounce"), record("bounce", id="2", b=1), activity=mode)
    warehouse.load(schema("lists"), record("lists", id="9"), activity=mode)
    warehouse.assert_activity_is_the_union(["click", "bounce"])
    assert warehouse.rows("activity", "id") == ["1", "2"]


@pytest.mark.parametrize("mode", MODES)
def test_the_same_id_in_two_collections_is_two_rows(warehouse: Warehouse, mode: str) -> None:
    lines = [
        events("click"),
        record("click", id="1"),
        events("_open"),
        record("_open", id="1"),
    ]
    warehouse.load(*lines, activity=mode)
    warehouse.load(*lines, activity=mode)
    assert warehouse.rows("activity", "id") == ["1", "1"]
    warehouse.assert_activity_is_the_union(["click", "_open"])


@pytest.mark.parametrize("mode", MODES)
def test_columns_that_differ_in_type(warehouse: Warehouse, mode: str) -> None:
    warehouse.load(
        events("a"),
        record("a", id="1", x=1, y=1.5, z=True, w="2026-01-01T00:00:00Z"),
        events("b"),
        record("b", id="2", x=2.5, y="text", z="yes", w="later"),
        activity=mode,
    )
    assert warehouse.types("activity")["x"] == "float"
    assert warehouse.types("activity")["y"] == "text"
    assert warehouse.by_id("activity", "x") == {"1": 1.0, "2": 2.5}
    assert warehouse.by_id("activity", "z") == {"1": "true", "2": "yes"}
    assert warehouse.by_id("activity", "w")["2"] == "later"
    assert warehouse.by_id("activity", "w")["1"].startswith("2026-01-01")
    warehouse.load(events("a"), record("a", id="3", x="wide"), activity=mode)
    assert warehouse.by_id("activity", "x")["3"] == "wide"
    assert warehouse.count("activity") == 3


@pytest.mark.parametrize("mode", MODES)
def test_a_column_that_gets_the_type_of_the_union(warehouse: Warehouse, mode: str) -> None:
    warehouse.load(
        events("a"),
        record("a", id="1", at="2026-01-01T00:00:00Z"),
        events("b"),
        record("b", id="2", at="text"),
        activity=mode,
    )
    warehouse.load(events("a"), record("a", id="3", at="soon"), activity=mode)
    assert warehouse.by_id("activity", "at") == {
        "1": "2026-01-01T00:00:00Z", "2": "text", "3": "soon",
    }  # fmt: skip


@pytest.mark.parametrize("mode", MODES)
def test_rows_that_are_removed_go_from_it(warehouse: Warehouse, mode: str) -> None:
    def lines(number: int) -> list[Message]:
        return [
            schema("e", {"n": "integer"}, keys=[]),
            {**record("e", n=number), "version": number},
            {"type": "ACTIVATE_VERSION", "stream": "e", "version": number},
        ]

    warehouse.load(*lines(1), activity=mode)
    warehouse.load(*lines(2), activity=mode)
    warehouse.assert_activity_is_the_union(["e"])
    assert warehouse.rows("activity", "_sdc_deleted_at", "n")[0]["n"] == 1
    warehouse.load(*lines(3), activity=mode, hard_delete=True, max_batch_rows=1)
    warehouse.assert_activity_is_the_union(["e"])
    assert warehouse.rows("activity", "n") == [3]
    warehouse.load(*lines(4)[:2], activity=mode, load_method="overwrite")
    warehouse.assert_activity_is_the_union(["e"])
    assert warehouse.rows("activity", "n") == [4]


@pytest.mark.parametrize("mode", MODES)
def test_tables_that_become_event_tables_and_cease_to_be(warehouse: Warehouse, mode: str) -> None:
    lines = [events("a"), record("a", id="1"), schema("b"), record("b", id="2")]
    warehouse.load(*lines, activity=mode)
    warehouse.execute("CREATE TABLE wh.c AS SELECT * FROM wh.b")
    more = [events("c"), record("c", id="2"), record("c", id="3")]
    warehouse.load(*lines, *more, activity=mode, collections={"b": "event"}, max_batch_rows=1)
    warehouse.assert_activity_is_the_union(["a", "b", "c"])
    assert warehouse.rows("activity", "id") == ["1", "2", "2", "3"]
    warehouse.load(*lines, activity=mode)
    warehouse.assert_activity_is_the_union(["a", "c"])


def test_no_events_no_activity(warehouse: Warehouse) -> None:
    warehouse.load(schema("lists"), record("lists", id="1"))
    assert "activity" not in warehouse.relations() or warehouse.count("activity") == 0


@pytest.mark.parametrize("mode", MODES)
def test_views_of_the_user_survive(warehouse: Warehouse, mode: str) -> None:
    warehouse.load(
        events("click"), record("click", id="1", n=1, s="a"), schema("t"), record("t", id="1", n=1),
        activity=mode,
    )  # fmt: skip
    warehouse.execute("CREATE SCHEMA mine")
    for name, table in (("on_click", "click"), ("on_activity", "activity"), ("on_t", "t")):
        warehouse.execute(f"CREATE VIEW mine.{name} AS SELECT id, n FROM wh.{table}")
    warehouse.load(
        events("click"),
        record("click", id="2", n=2, fresh=1),
        events("bounce"),
        record("bounce", id="3", n=3),
        schema("t"),
        record("t", id="2", n=2, fresh=1),
        activity=mode,
    )
    assert warehouse.rows("on_activity", "id", schema_name="mine") == ["1", "2", "3"]
    result = warehouse.load(
        events("click"),
        record("click", id="4", n="four"),
        schema("t"),
        record("t", id="4", n="four"),
        activity=mode,
    )
    for table in ("click", "t"):
        (row,) = (row for row in warehouse.rows(table) if row["id"] == "4")
        holders = [name for name, value in row.items() if value == "four"]
        assert len(holders) == 1, row
        if holders != ["n"]:  # the engine would not change a column in use: a sibling, and said so
            assert "n" in holders[0]
            assert holders[0] in result.stderr
    for name, count in (("on_click", 3), ("on_activity", 4), ("on_t", 3)):
        assert len(warehouse.query(f"SELECT id, n FROM mine.{name}")) == count


def test_segment_aliases(warehouse: Warehouse) -> None:
    lines = [events("spam_report"), record("spam_report", id="1", event="spamreport")]
    warehouse.load(*lines)
    assert "spamreport" not in warehouse.relations()
    warehouse.load(*lines, segment_aliases=True)
    assert warehouse.relations()["spamreport"] == "VIEW"
    assert warehouse.rows("spamreport", "id", "event") == [{"id": "1", "event": "spamreport"}]
    warehouse.load(
        events("spam_report"), record("spam_report", id="2", fresh=1), segment_aliases=True
    )
    assert warehouse.by_id("spamreport", "fresh") == {"1": None, "2": 1}
    assert warehouse.rows("activity", "id") == ["1", "2"]  # each row once, alias or not


@pytest.mark.parametrize("engine", ["postgres"], indirect=True)
@pytest.mark.parametrize("mode", MODES)
def test_a_union_wider_than_an_engine_allows(warehouse: Warehouse, mode: str) -> None:
    lines = [events("a"), events("b")]
    for name in ("a", "b"):
        lines += [
            record(name, {"id": f"{name}{n}", **{f"{name}_{n}_{k}": k for k in range(100)}})
            for n in range(9)
        ]
    warehouse.load(*lines, activity=mode)
    rows = {row["id"]: row for row in warehouse.rows("activity")}
    assert set(rows) == {f"{name}{n}" for name in "ab" for n in range(9)}
    for row_id, row in rows.items():
        found = {name: value for name, value in row.items() if name[:2] in ("a_", "b_")}
        found |= json.loads(row["_overflow"] or "{}")
        found = {name: value for name, value in found.items() if value is not None}
        assert found == {f"{row_id[0]}_{row_id[1]}_{k}": k for k in range(100)}


@pytest.mark.parametrize("kind", ["TABLE", "VIEW"])
def test_an_activity_of_the_user_is_left_alone(warehouse: Warehouse, kind: str) -> None:
    warehouse.execute("CREATE SCHEMA wh")
    warehouse.execute(f"CREATE {kind} wh.activity AS SELECT 'old' AS id, 'precious' AS mine")
    lines = [events("click"), record("click", id="1", n=1), record("click", id="1", n="text")]
    for mode in (*MODES, "off"):
        result = warehouse.load(*lines, activity=mode, max_batch_rows=1)
        assert warehouse.rows("activity") == [{"id": "old", "mine": "precious"}]
        assert ("wh.activity" in result.stderr) == (mode != "off")
    warehouse.execute(f"ALTER {kind} wh.activity RENAME TO mine")
    for mode in MODES:
        assert "wh.activity" not in warehouse.load(*lines, activity=mode).stderr
        warehouse.assert_activity_is_the_union(["click"])
    assert warehouse.rows("mine", "id") == ["old"]


def test_an_alias_of_the_user_is_left_alone(warehouse: Warehouse) -> None:
    warehouse.execute("CREATE SCHEMA wh")
    warehouse.execute("CREATE VIEW wh.spamreport AS SELECT 'precious' AS mine")
    for value in (1, "text"):
        result = warehouse.load(
            events("spam_report"), record("spam_report", id="1", n=value), segment_aliases=True
        )
        assert warehouse.rows("spamreport", "mine") == ["precious"]
        assert "wh.spamreport" in result.stderr


@pytest.mark.parametrize("engine", ["postgres"], indirect=True)
def test_a_table_in_use_is_taken_up_again(warehouse: Warehouse) -> None:
    warehouse.load(events("click"), record("click", id="1"), activity="table")
    warehouse.execute("CREATE SCHEMA mine")
    warehouse.execute("CREATE VIEW mine.on_activity AS SELECT id FROM wh.activity")
    warehouse.load(events("click"), record("click", id="2"), activity="off")
    assert warehouse.rows("activity", "id") == ["1"]
    warehouse.load(events("click"), record("click", id="3"), activity="table")
    warehouse.assert_activity_is_the_union(["click"])


def test_a_view_that_is_not_kept_survives_a_change_of_type(warehouse: Warehouse) -> None:
    lines = [events("click"), record("click", id="1", n=1, s="a")]
    lines += [events("spam_report"), record("spam_report", id="2", n=2)]
    warehouse.load(*lines, segment_aliases=True)
    views = {name: warehouse.types(name) for name in ("activity", "spamreport")}
    warehouse.load(
        *(events("click"), record("click", id="3", n="three")),
        *(events("spam_report"), record("spam_report", id="4", n="four")),
        activity="off",
    )
    for name, types in views.items():
        assert list(warehouse.types(name)) == list(types)
    assert warehouse.by_id("activity", "n") == {"1": "1", "2": "2", "3": "three", "4": "four"}
    assert warehouse.by_id("spamreport", "n") == {"2": "2", "4": "four"}
    warehouse.load(*lines)  # it is known as the target's own
    warehouse.assert_activity_is_the_union(["click", "spam_report"])
