"""What a user makes beside our tables: indexes, constraints, computed columns, other relations."""

from __future__ import annotations

import pytest

from .harness import Warehouse
from .messages import events, record, schema


@pytest.mark.parametrize(
    "statement",
    [
        "CREATE INDEX mine ON wh.t(id)",
        "CREATE INDEX mine ON wh.t(v)",
        "CREATE VIEW wh.mine AS SELECT v + 1 AS w FROM wh.t",
    ],
)
def test_a_column_changes_though_something_depends_on_its_table(
    warehouse: Warehouse, statement: str
) -> None:
    warehouse.load(events("t"), record("t", id="1", v=1))
    warehouse.execute(statement)
    warehouse.load(events("t"), record("t", id="2", v="x", w=True))
    warehouse.load(events("t"), record("t", id="3", v="y"), record("t", id="4", v=4))
    rows = warehouse.by_id("t")
    held = {key: row.get("v_text") or row["v"] for key, row in rows.items()}
    assert {key: str(value) for key, value in held.items()} == {
        "1": "1",
        "2": "x",
        "3": "y",
        "4": "4",
    }
    assert rows["2"]["w"] is True


@pytest.mark.parametrize("engine", ["duckdb"], indirect=True)  # Postgres lets such tables be made
@pytest.mark.parametrize(
    "definition",
    [
        "id text, v bigint CHECK (v > 0)",
        "id text, v bigint UNIQUE",
        "id text, v bigint, w bigint GENERATED ALWAYS AS (v + 1)",
        "id text PRIMARY KEY, v bigint); CREATE TABLE wh.mine (id text REFERENCES wh.t(id)",
    ],
)
def test_a_column_that_cannot_change_has_one_beside_it(
    warehouse: Warehouse, definition: str
) -> None:
    warehouse.execute("CREATE SCHEMA wh")
    warehouse.execute(f"CREATE TABLE wh.t ({definition})")
    result = warehouse.load(schema("t"), record("t", id="1", v=1), record("t", id="2", v="x"))
    assert warehouse.by_id("t", "v", "v_text") == {
        "1": {"v": 1, "v_text": None},
        "2": {"v": None, "v_text": "x"},
    }
    assert "v_text" in result.stderr


@pytest.mark.parametrize(
    ("engine", "always", "second"),
    [
        ("duckdb", "GENERATED ALWAYS AS (v * 2)", 4),
        ("postgres", "GENERATED ALWAYS AS (v * 2) STORED", 4),
        ("postgres", "GENERATED ALWAYS AS IDENTITY", 2),
    ],
    indirect=["engine"],
)
def test_a_column_that_computes_itself_is_left_to_its_maker(
    warehouse: Warehouse, always: str, second: int
) -> None:
    warehouse.execute("CREATE SCHEMA wh")
    warehouse.execute(f"CREATE TABLE wh.t (id text, v bigint, mine bigint {always})")
    for n in (1, 2):
        warehouse.load(schema("t"), record("t", id=str(n), v=n, mine=f"theirs {n}"))
    rows = warehouse.by_id("t")
    (ours,) = (name for name in rows["1"] if name.startswith("mine_"))
    assert [rows[key][ours] for key in ("1", "2")] == ["theirs 1", "theirs 2"]
    assert rows["2"]["mine"] == second


@pytest.mark.parametrize(
    "statement",
    [
        "CREATE VIEW wh.sync_reports AS SELECT 1 AS run_id",
        "CREATE TABLE wh.sync_reports (run_id int, status int)",
        "CREATE TABLE wh.sync_reports (mine int)",
        "CREATE VIEW wh._columns AS SELECT 1 AS table_name",
        "CREATE TABLE wh._collections (table_name int)",
        "CREATE TABLE wh._discards (id int)",
    ],
)
def test_somebody_s_relation_of_a_name_that_the_target_needs(
    warehouse: Warehouse, statement: str
) -> None:
    warehouse.execute("CREATE SCHEMA wh")
    warehouse.execute(statement)
    lines = [schema("t"), record("t", id="1", at="9999999-01-01", text="a\x00b\ud800")]
    result = warehouse.run(*lines).failed("is not this target's")
    assert "default_target_schema" in result.stderr
    assert "Traceback" not in result.stderr


@pytest.mark.parametrize("engine", ["postgres"], indirect=True)
@pytest.mark.parametrize("kind", ["ENUM ('a')", "(a int)", "RANGE (SUBTYPE = int)"])
def test_a_type_of_somebody_s_with_the_name_of_a_stream(warehouse: Warehouse, kind: str) -> None:
    warehouse.execute("CREATE SCHEMA wh")
    warehouse.execute(f"CREATE TYPE wh.t AS {kind}")
    for n in (1, 2):
        warehouse.load(schema("t"), record("t", id=str(n)))
    (ours,) = (name for name in warehouse.relations() if name.startswith("t_"))
    assert warehouse.count(ours) == 2
