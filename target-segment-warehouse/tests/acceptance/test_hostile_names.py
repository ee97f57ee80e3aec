"""Names that a stranger chose: none is lost, none does harm. The rules themselves:
test_naming.py."""

from __future__ import annotations

import pytest

from .harness import SCHEMA, Warehouse
from .messages import events, record, schema

SHARED = "shared_by_many_names_of_a_length_that_no_postgres_ever_takes_unc"
NAMES = [
    f"{SHARED}_one",
    f"{SHARED}_two",
    "x" * 10_000,
    "é" * 40,
    "日本",
    "本日",
    "CamelTwin",
    "camelTwin",
    "camel_twin",
    "camel twin",
    'quo"te',
    "quo'te",
    "per%cent",
    "per%%cent %s %(x)s {x} $1 :x ?",
    "semi;colon; DROP TABLE wh.t; --",
    '"); DROP TABLE wh.t; --',
    "back\\slash",
    "new\nline",
    "nul\0l",
    "tab\t",
    "\x1b[31m",
    "😀",
    "",
    " ",
    "_",
    "__",
    "-",
    "1",
    "_1",
    "1_",
    "id_",
    "_id",
    "ID",
    "received_at_",
    "Received_At",
    "uuid_ts ",
    "select",
    "SELECT",
    "table",
    "user",
    "order",
    "xmin",
    "ctid",
    "tableoid",
    "rowid",
    "a.b",
    "a_b",
    "a",
    "__proto__",
    "constructor",
    "\u202eevil",
    "\ud800",
    "_sdc_x",
    "_overflow",
    "overflow",
    "_seq",
    "__seq",
    "ordinality",
    "key",
    "value",
    "data",
    "json",
    "new",
    "old",
    "excluded",
    "NULL",
    "true",
    # What the target's own SQL calls this and that.
    *("c0", "extracted", "h", "k", "kept", "kind", "kinds", "line", "members", "merged", "n"),
    *("name", "o", "place", "r", "record", "repeated", "several", "t", "text", "v"),
]


def test_every_name_gets_its_own_column(warehouse: Warehouse) -> None:
    values = {name: f"value {number}" for number, name in enumerate(NAMES)}
    nested = {"a": {"b": "nested"}}
    lines = [schema("t", {"id": "string"}), record("t", {**values, "id": "1"})]
    warehouse.load(*lines)
    lines = [schema("t", {"id": "string"}), record("t", {**nested, "id": "2"})]
    warehouse.load(*lines)
    rows = {row["id"]: row for row in warehouse.rows("t")}
    texts = sorted(v for v in rows["1"].values() if isinstance(v, str) and v.startswith("value"))
    assert texts == sorted(values.values())
    assert [v for v in rows["2"].values() if v == "nested"] == ["nested"]
    assert all(rows["1"][name] is None for name, v in rows["2"].items() if v == "nested")
    limit = 63 if warehouse.engine == "postgres" else 255
    assert all(len(name.encode()) <= limit for name in rows["1"])
    # The same again goes to the same columns.
    warehouse.load(schema("t"), record("t", {**{k: f"{v}!" for k, v in values.items()}, "id": "3"}))
    third = {row["id"]: row for row in warehouse.rows("t")}["3"]
    assert [name for name in third if name not in rows["1"]] == []
    for name, value in rows["1"].items():
        if isinstance(value, str) and value.startswith("value"):
            assert third[name] == f"{value}!"


def test_every_declared_name_too(warehouse: Warehouse) -> None:
    properties = {"id": "string", **dict.fromkeys(NAMES, "string")}
    values = {name: f"value {number}" for number, name in enumerate(NAMES)}
    warehouse.load(events("t", properties), record("t", {**values, "id": "1"}))
    (row,) = warehouse.rows("t")
    texts = sorted(v for v in row.values() if isinstance(v, str) and v.startswith("value"))
    assert texts == sorted(values.values())
    warehouse.assert_activity_is_the_union(["t"])


def test_every_stream_gets_its_own_table(warehouse: Warehouse) -> None:
    names = [name for name in NAMES[::3] if name]
    names += ["activity", "sync_reports", "_discards", "_columns", "open", "_open", "t_pkey", "t"]
    lines = [
        line
        for number, name in enumerate(names)
        for line in (schema(name), record(name, id="1", stream_number=number))
    ]
    for _ in range(2):
        warehouse.load(*lines)
        found = []
        for table in warehouse.relations():
            if "stream_number" in warehouse.types(table):
                found += warehouse.rows(table, "stream_number")
        assert sorted(found) == list(range(len(names)))
    assert warehouse.rows("t", "stream_number") == [len(names) - 1]


@pytest.mark.parametrize("names", [["a", "a_pkey"], ["a_pkey", "a"], ["a", "a_pkey", "a_pkey1"]])
@pytest.mark.parametrize("max_batch_rows", [1, 100])
def test_a_stream_called_like_an_index(
    warehouse: Warehouse, names: list[str], max_batch_rows: int
) -> None:
    lines = [
        line
        for name in names
        for line in (schema(name), record(name, id=name, of=name), record(name, id="2", of=name))
    ]
    for _ in range(2):
        warehouse.load(*lines, max_batch_rows=max_batch_rows)
        holders = [t for t in warehouse.relations() if "of" in warehouse.types(t)]
        found = [warehouse.rows(table, "of") for table in holders]
        assert sorted(found) == [[name, name] for name in sorted(names)]
    assert warehouse.rows("a", "of") == ["a", "a"]


@pytest.mark.parametrize(
    "name", ['we"ird', "Weird; DROP SCHEMA wh", "日本", "select", "pg_temp", "x" * 200]
)
def test_schema_names(warehouse: Warehouse, name: str) -> None:
    warehouse.load(schema("t"), record("t", id="1"), default_target_schema=name)
    schemas = warehouse.query(
        "SELECT table_schema FROM information_schema.tables WHERE table_name = 't'"
    )
    assert len(schemas) == 1
    assert warehouse.rows("t", "id", schema_name=schemas[0][0]) == ["1"]
    warehouse.load(schema("t"), record("t", id="2"), default_target_schema=name)
    assert warehouse.rows("t", "id", schema_name=schemas[0][0]) == ["1", "2"]


def test_hoisted_names_may_be_hostile_too(warehouse: Warehouse) -> None:
    arguments = {name: f"arg {number}" for number, name in enumerate(NAMES)}
    fields = {name: f"field {number}" for number, name in enumerate(NAMES)}
    warehouse.load(
        events("click", {"id": "string"}),
        record("click", {**fields, "id": "1", "custom_args": arguments}),
    )
    for table in ("click", "activity"):
        (row,) = warehouse.rows(table)
        texts = sorted(v for v in row.values() if isinstance(v, str) and v[:4] in ("arg ", "fiel"))
        assert texts == sorted([*arguments.values(), *fields.values()])


def test_a_view_in_the_schema_is_not_a_table(warehouse: Warehouse) -> None:
    warehouse.load(schema("t"), record("t", id="1"))
    warehouse.execute(f"CREATE VIEW {SCHEMA}.users AS SELECT id FROM {SCHEMA}.t")
    warehouse.load(schema("users"), record("users", id="7", name="Ada"))
    tables = [name for name, kind in warehouse.relations().items() if kind == "BASE TABLE"]
    (table,) = [name for name in tables if name.startswith("users")]
    assert warehouse.rows(table, "name") == ["Ada"]
    assert warehouse.query(f"SELECT id FROM {SCHEMA}.users") == [("1",)]


@pytest.mark.parametrize("engine", ["duckdb"], indirect=True)
@pytest.mark.parametrize("mode", ["view", "table"])
def test_names_that_others_gave_in_upper_case(warehouse: Warehouse, mode: str) -> None:
    warehouse.execute(
        """CREATE SCHEMA "Wh";
        CREATE TABLE wh."A" ("ID" VARCHAR, "Received_At" TIMESTAMPTZ, "Name" VARCHAR);
        INSERT INTO wh.a VALUES ('1', now(), 'old');
        CREATE TABLE wh."Sync_Reports" ("Run_Id" VARCHAR)"""
    )
    for _ in range(2):
        warehouse.load(
            events("a"),
            record("a", id="1", name="new"),
            record("a", id="2", name="x"),
            events("b"),
            record("b", id="3", name="y"),
            activity=mode,
        )
        assert warehouse.query("SELECT id, name FROM wh.a ORDER BY id") == [
            ("1", "old"),
            ("2", "x"),
        ]
        assert warehouse.query("SELECT id, name FROM wh.activity ORDER BY id") == [
            ("1", "old"),
            ("2", "x"),
            ("3", "y"),
        ]
        warehouse.execute('ALTER TABLE wh.b RENAME TO "B"')
        warehouse.execute('ALTER TABLE wh.b RENAME COLUMN name TO "NAME"')


@pytest.mark.parametrize("engine", ["duckdb"], indirect=True)
def test_an_activity_in_upper_case(warehouse: Warehouse) -> None:
    warehouse.execute("CREATE SCHEMA wh; CREATE TABLE wh.\"Activity\" AS SELECT 'mine' AS id")
    for mode in ("view", "table", "off"):
        warehouse.load(events("a"), record("a", id="1"), activity=mode)
        assert warehouse.query("SELECT id FROM wh.activity") == [("mine",)]
