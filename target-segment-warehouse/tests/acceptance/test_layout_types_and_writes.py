"""Segment's rules W19 to W44: the numbers are those of docs/segment-layout.md."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from .harness import SCHEMA, Warehouse
from .messages import events, record, schema, state


def test_w19_w21_five_types(warehouse: Warehouse) -> None:
    warehouse.load(
        schema("t"),
        record(
            "t", id="1", s="x", i=1, f=1.5, b=True, d="2026-01-02T03:04:05.678Z", day="2026-01-02"
        ),
    )
    types = warehouse.types("t")
    assert {name: types[name] for name in "sifbd"} == {
        "s": "text",
        "i": "integer",
        "f": "float",
        "b": "boolean",
        "d": "timestamp",
    }
    (row,) = warehouse.rows("t", "s", "i", "f", "b", "d")
    assert row == {
        "s": "x",
        "i": 1,
        "f": 1.5,
        "b": True,
        "d": datetime(2026, 1, 2, 3, 4, 5, 678000, tzinfo=UTC),
    }


def test_w20_w22_w23_types_widen_and_nothing_is_cut(warehouse: Warehouse) -> None:
    long = "é" * 5000
    warehouse.load(
        schema("t"), record("t", id="1", n=1, s="short"), record("t", id="2", n=2.5, s=long)
    )
    assert warehouse.types("t")["n"] == "float"
    assert warehouse.by_id("t", "n") == {"1": 1.0, "2": 2.5}
    assert warehouse.by_id("t", "s")["2"] == long
    warehouse.load(schema("t"), record("t", id="3", n="three"))
    assert warehouse.types("t")["n"] == "text"
    assert warehouse.by_id("t", "n")["3"] == "three"
    assert float(warehouse.by_id("t", "n")["2"]) == 2.5


def test_w24_reserved_properties_get_an_underscore(warehouse: Warehouse) -> None:
    warehouse.load(
        schema("t", keys=["key"], properties={"key": "string"}),
        record("t", {"key": "k", "id": 5, "uuid_ts": "x", "Received At": "y"}),
    )
    (row,) = warehouse.rows("t", "id", "key", "_id", "_uuid_ts", "_received_at")
    assert row == {"id": "k", "key": "k", "_id": 5, "_uuid_ts": "x", "_received_at": "y"}


def test_w25_w27_open_is_called_the_same_everywhere(warehouse: Warehouse) -> None:
    warehouse.load(
        events("_open"),
        record("_open", id="1", event="open"),
        schema("select"),
        record("select", id="1"),
    )
    assert warehouse.rows("_open", "event") == ["open"]
    assert warehouse.count("select") == 1
    other = {**record("open", id="2", event="open")}
    warehouse.load(events("open"), other, default_target_schema="other")
    assert "_open" in warehouse.relations("other")


def test_w26_a_leading_digit_gets_an_underscore(warehouse: Warehouse) -> None:
    warehouse.load(schema("3doctors"), record("3doctors", {"id": "1", "4patients": 4}))
    assert warehouse.rows("_3doctors", "_4patients") == [4]


def test_w28_new_columns_are_appended(warehouse: Warehouse) -> None:
    warehouse.load(schema("t"), record("t", id="1", b=1))
    before = list(warehouse.types("t"))
    warehouse.load(schema("t"), record("t", id="2", a=2))
    assert list(warehouse.types("t")) == [*before, "a"]


def test_w28_columns_of_the_users_are_left_alone(warehouse: Warehouse) -> None:
    warehouse.load(schema("t"), record("t", id="1", a=1))
    warehouse.execute("ALTER TABLE wh.t ADD COLUMN note TEXT")
    warehouse.execute("UPDATE wh.t SET note = 'mine'")
    warehouse.load(schema("t"), record("t", id="1", a=2), record("t", id="2", a=3))
    assert warehouse.by_id("t", "note", "a") == {
        "1": {"note": "mine", "a": 2},
        "2": {"note": None, "a": 3},
    }


def test_w29_a_column_or_table_that_went_missing_comes_back(warehouse: Warehouse) -> None:
    warehouse.load(schema("t"), record("t", id="1", a=1), schema("u"), record("u", id="1"))
    warehouse.execute("ALTER TABLE wh.t DROP COLUMN a")
    warehouse.execute("DROP TABLE wh.u")
    warehouse.load(schema("t"), record("t", id="2", a=2), schema("u"), record("u", id="2", n=1))
    assert warehouse.by_id("t", "a") == {"1": None, "2": 2}
    assert warehouse.by_id("u", "n") == {"2": 1}


def test_w31_objects_are_merged_property_by_property(warehouse: Warehouse) -> None:
    warehouse.load(schema("t"), record("t", id="1", a=1), record("t", id="1", b=2))
    assert warehouse.by_id("t", "a", "b") == {"1": {"a": 1, "b": 2}}
    warehouse.load(
        schema("t"),
        record("t", id="1", c=3, a=None),
        record("t", id="2", b=5),
        record("t", id="1", c=4),
        record("t", id="2", b=None),
        record("t", id="2", c=1),
    )
    assert warehouse.by_id("t", "a", "b", "c") == {
        "1": {"a": None, "b": 2, "c": 4},
        "2": {"a": None, "b": None, "c": 1},
    }


@pytest.mark.parametrize("rows", [1, 2, 100])
def test_w32_the_last_record_wins_by_arrival(warehouse: Warehouse, rows: int) -> None:
    warehouse.load(
        schema("t"),
        *(record("t", id=str(n % 3), value=n) for n in range(30)),
        max_batch_rows=rows,
    )
    assert warehouse.by_id("t", "value") == {"0": 27, "1": 28, "2": 29}


def test_w34_a_repeated_event_changes_nothing(warehouse: Warehouse) -> None:
    warehouse.load(
        events("click"),
        record("click", id="1", url="first"),
        record("click", id="1", url="second", extra="x"),
    )
    uuid_ts = warehouse.rows("click", "uuid_ts")
    warehouse.load(events("click"), record("click", id="1", url="third"), record("click", id="2"))
    assert warehouse.by_id("click", "url") == {"1": "first", "2": None}
    assert warehouse.rows("click", "uuid_ts")[:1] == uuid_ts
    assert warehouse.rows("activity", "id") == ["1", "2"]


def test_w37_what_is_not_sent_stays(warehouse: Warehouse) -> None:
    warehouse.load(schema("a"), record("a", id="1", x=1), schema("b"), record("b", id="1"))
    warehouse.load(schema("b"), record("b", id="2"), schema("a", {"id": "string"}))
    assert warehouse.by_id("a", "x") == {"1": 1}
    assert warehouse.count("b") == 2


def test_collections_setting_goes_before_the_annotation(warehouse: Warehouse) -> None:
    warehouse.load(
        events("click"),
        record("click", id="1", n=1),
        record("click", id="1", n=2),
        schema("ticks"),
        record("ticks", id="1", n=1),
        record("ticks", id="1", n=2),
        schema("nokey", keys=[]),
        record("nokey", n=1),
        collections={"click": "object", "ticks": "event"},
    )
    assert warehouse.by_id("click", "n") == {"1": 2}
    assert warehouse.by_id("ticks", "n") == {"1": 1}
    assert warehouse.count("nokey") == 1
    warehouse.assert_activity_is_the_union(["ticks", "nokey"])


def test_w39_w40_w43_every_run_reports_each_collection(warehouse: Warehouse) -> None:
    warehouse.load(
        events("click"),
        record("click", id="1", n=1),
        schema("lists"),
        record("lists", id="1"),
        record("lists", id="2"),
        schema("empty"),
        state({"a": 1}),
    )
    warehouse.load(events("click"), record("click", id="2", n=1.5, extra="x"))
    rows = warehouse.rows(
        "sync_reports", "run_id", "table_name", "row_count", "status", "new_columns"
    )
    runs = {row["run_id"] for row in rows}
    assert len(runs) == 2
    by_table = {(row["table_name"], row["row_count"]): row for row in rows}
    assert ("lists", 2) in by_table
    assert by_table[("lists", 2)]["status"].lower() == "success"
    assert len([row for row in rows if row["table_name"] == "click"]) == 2
    assert any(
        "extra" in (row["new_columns"] or "") for row in rows if row["table_name"] == "click"
    )


def test_w29_columns_of_other_types_are_filled_or_widened(warehouse: Warehouse) -> None:
    """Tables that another loader, or a person, made: nothing that arrives is lost in them."""
    warehouse.execute(f"CREATE SCHEMA {SCHEMA}")
    columns = {
        "small": ("smallint", "1", [2, 70_000]),
        "int32": ("integer", "1", [2, 2**40]),
        "float32": ("real", "1.5", [2.5, 0.1]),
        "exact": ("numeric(10, 2)", "1.25", [2.25, 1.23456]),
        "short": ("varchar(5)", "'abc'", ["abcde", "abcdefghij"]),
        "fixed": ("char(3)", "'abc'", ["ab", "abcdef"]),
        "day": ("date", "DATE '2026-01-02'", ["2026-01-03", "2026-01-03T04:05:06Z"]),
        "naive": ("timestamp", "TIMESTAMP '2026-01-02 03:04:05'", ["2026-01-02T03:04:05+02:00"]),
        "unique_id": (
            "uuid",
            "'00000000-0000-0000-0000-000000000001'",
            ["00000000-0000-0000-0000-000000000002", "no uuid"],
        ),
        "document": ("json", "'{\"a\": 1}'", ["[1]", "no json"]),
    }
    listed = ", ".join(f"{name} {kind}" for name, (kind, _, _) in columns.items())
    warehouse.execute(f"CREATE TABLE wh.t (id text PRIMARY KEY, received_at timestamptz, {listed})")
    values = ", ".join(value for _, value, _ in columns.values())
    warehouse.execute(f"INSERT INTO wh.t VALUES ('old', now(), {values})")
    lines = [
        record("t", {"id": f"{name}{number}", name: value})
        for name, (_, _, given) in columns.items()
        for number, value in enumerate(given)
    ]
    warehouse.load(schema("t"), *lines)
    assert "uuid_ts" in warehouse.types("t")
    rows = warehouse.by_id("t")
    assert len(rows) == len(lines) + 1
    for name, (_, _, given) in columns.items():
        assert rows["old"][name] is not None
        for number, value in enumerate(given):
            row = rows[f"{name}{number}"]
            texts = {str(held).strip() for held in row.values() if held is not None}
            instants = {held.isoformat() for held in row.values() if isinstance(held, datetime)}
            instant = name in ("day", "naive")
            wanted = {str(value)}
            if instant:
                moment = datetime.fromisoformat(value)
                moment = moment.replace(tzinfo=moment.tzinfo or UTC).astimezone(UTC)
                wanted |= {moment.isoformat(), moment.isoformat().replace("+00:00", "Z")}
            assert (texts | instants) & wanted, (name, value, row)


@pytest.mark.parametrize(
    "use",
    [
        "CREATE INDEX part ON {t} (id) WHERE n > 0",
        "ALTER TABLE {t} ADD CHECK (n > 0)",
        "CREATE TABLE other (n bigint PRIMARY KEY); INSERT INTO other VALUES (1); "
        "ALTER TABLE {t} ADD FOREIGN KEY (n) REFERENCES other",
    ],
    ids=["index", "check", "foreign key"],
)
@pytest.mark.parametrize("engine", ["postgres"], indirect=True)
def test_a_column_that_cannot_change_its_type_gets_a_sibling(
    warehouse: Warehouse, use: str
) -> None:
    warehouse.load(schema("t", {"n": "integer"}), record("t", id="1", n=1))
    for statement in use.split("; "):
        warehouse.execute(statement.format(t=f"{SCHEMA}.t"))
    result = warehouse.load(schema("t"), record("t", id="1", n="text"))
    assert warehouse.by_id("t", "n_text") == {"1": "text"}
    assert "in use by something else" in result.stderr


@pytest.mark.parametrize("engine", ["postgres"], indirect=True)
def test_of_a_column_and_its_sibling_one_has_the_value(warehouse: Warehouse) -> None:
    warehouse.load(schema("t"), *(record("t", id=at, n=5) for at in "12"))
    warehouse.execute("CREATE VIEW wh.mine AS SELECT id, n FROM wh.t")
    # Neither is null anywhere, and not every record carries the property.
    warehouse.load(schema("t"), record("t", id="1", n="text"), record("t", id="2"))
    assert warehouse.by_id("t", "n", "n_text") == {
        "1": {"n": None, "n_text": "text"},
        "2": {"n": 5, "n_text": None},
    }
    warehouse.load(schema("t"), record("t", id="1", n=6), record("t", id="2"))
    assert warehouse.by_id("t", "n", "n_text") == {
        "1": {"n": 6, "n_text": None},
        "2": {"n": 5, "n_text": None},
    }
    warehouse.load(schema("t"), record("t", id="2", n="a"), record("t", id="2", m=1))
    assert warehouse.by_id("t", "n", "n_text")["2"] == {"n": None, "n_text": "a"}


@pytest.mark.parametrize("engine", ["duckdb"], indirect=True)  # where updates stay in memory
@pytest.mark.parametrize("size", [200, 50_000])
def test_more_text_is_updated_than_memory_holds(warehouse: Warehouse, size: int) -> None:
    count = 40_000_000 // size
    for n, text in enumerate("ab"):
        lines = [record("t", id=str(i), text=f"{i} {text * size}", n=n) for i in range(count)]
        lines[7]["record"].pop("text")
        warehouse.load(schema("t"), *lines)
        if n == 0:
            warehouse.execute("ALTER TABLE wh.t ADD COLUMN mine integer")
            warehouse.execute("UPDATE wh.t SET mine = 6")
    (total,) = warehouse.query(
        "SELECT count(*), count(DISTINCT id), min(n), sum(mine), count(text) FROM wh.t"
    )
    assert total == (count, count, 1, 6 * count, count - 1)
    assert warehouse.query(f"SELECT count(*) FROM wh.t WHERE text = id || ' {'b' * size}'") == [
        (count - 1,)
    ]
