"""What users of the SDK's targets expect to find: maps, flattening, metadata, versions, the CLI."""

from __future__ import annotations

import json
from datetime import UTC, datetime

import pytest

from .harness import Warehouse
from .messages import encode, events, record, schema, state
from .processes import command


def test_the_console_command_with_settings_from_the_environment(warehouse: Warehouse) -> None:
    done = command(
        "--config=ENV",
        env={
            "TARGET_SEGMENT_WAREHOUSE_WAREHOUSE_URL": warehouse.url,
            "TARGET_SEGMENT_WAREHOUSE_DEFAULT_TARGET_SCHEMA": "from_env",
            "TARGET_SEGMENT_WAREHOUSE_MAX_BATCH_ROWS": "10",
            "TARGET_SEGMENT_WAREHOUSE_MAX_BATCH_AGE_SECONDS": "2.5",
            "TARGET_SEGMENT_WAREHOUSE_SEGMENT_ALIASES": "true",
        },
        given=encode([schema("t"), record("t", id="1"), state({"t": 1})]),
    )
    assert done.returncode == 0, done.stderr.decode()
    assert json.loads(done.stdout) == {"t": 1}
    assert warehouse.rows("t", "id", schema_name="from_env") == ["1"]


@pytest.mark.parametrize("engine", ["duckdb"], indirect=True)
def test_input_from_a_file(warehouse: Warehouse) -> None:
    source = warehouse.folder / "messages.singer"
    source.write_bytes(encode([schema("t"), record("t", id="1"), state({"t": 1})]))
    config = warehouse.folder / "config.json"
    config.write_text(json.dumps(warehouse.settings()))
    done = command("--config", str(config), "--input", str(source))
    assert done.returncode == 0, done.stderr.decode()
    assert json.loads(done.stdout) == {"t": 1}
    assert warehouse.rows("t", "id") == ["1"]


def test_about_tells_the_truth() -> None:
    done = command("--about", "--format=json")
    about = json.loads(done.stdout)
    settings = about["settings"]["properties"]
    for name in (
        "warehouse_url",
        "default_target_schema",
        "collections",
        "activity",
        "max_batch_rows",
        "max_batch_age_seconds",
        "hard_delete",
        "add_record_metadata",
        "segment_aliases",
        "stream_maps",
    ):
        assert name in settings, name
        assert settings[name].get("description"), name
    assert settings["warehouse_url"].get("secret") is True
    assert {"about", "stream-maps", "structured-logging", "activate-version"} <= set(
        about["capabilities"]
    )
    assert command("--version").returncode == 0
    assert b"--config" in command("--help").stdout


@pytest.mark.parametrize("engine", ["duckdb"], indirect=True)
def test_a_setting_that_is_wrong_is_named(warehouse: Warehouse) -> None:
    lines = [schema("t"), record("t", id="1")]
    warehouse.run(*lines, activity="sometimes").failed("activity")
    warehouse.run(*lines, max_batch_rows="many").failed("max_batch_rows")
    warehouse.run(*lines, collections={"t": "thing"}).failed("collections")


def test_load_methods_do_what_they_say(warehouse: Warehouse) -> None:
    # Every SDK target advertises them; target-postgres upserts whatever is asked for.
    lines = [schema("t"), record("t", id="1", n=1), record("t", id="1", n=2), record("t", id="2")]
    for method, once, twice in (
        ("upsert", [2, None], [2, None]),
        ("append-only", [1, 2, None], [1, 1, 2, 2, None, None]),
    ):
        target = f"by_{method.replace('-', '_')}"
        config = {"load_method": method, "default_target_schema": target}
        warehouse.load(*lines, **config)
        assert warehouse.rows("t", "n", schema_name=target) == once
        warehouse.load(*lines, **config)
        assert warehouse.rows("t", "n", schema_name=target) == twice
    config = {"load_method": "overwrite", "default_target_schema": "by_overwrite"}
    warehouse.load(*lines, **config, max_batch_rows=1)
    assert warehouse.rows("t", "id", schema_name="by_overwrite") == ["1", "2"]
    warehouse.load(schema("t"), record("t", id="3", n=3), record("t", id="4"), **config)
    assert warehouse.rows("t", "id", schema_name="by_overwrite") == ["3", "4"]


def test_stream_maps(warehouse: Warehouse) -> None:
    maps = {
        "people": {
            "__alias__": "persons",
            "__filter__": "record['age'] > 17",
            "email": None,
            "email_hash": "md5(record['email'])",
            "name": "record['name'].upper()",
        },
        "dropped": "__NULL__",
        "copy": {"__source__": "plain", "twice": "int(record['n']) * 2"},
    }
    warehouse.load(
        schema("people", {"id": "string", "name": "string", "email": "string", "age": "integer"}),
        record("people", id="1", name="Ada", email="a@x.io", age=36),
        record("people", id="2", name="Kid", email="k@x.io", age=9),
        schema("dropped"),
        record("dropped", id="1"),
        schema("plain", {"id": "string", "n": "integer"}),
        record("plain", id="1", n=4),
        state({"done": True}),
        stream_maps=maps,
    )
    assert {"people", "dropped"}.isdisjoint(warehouse.relations())
    (row,) = warehouse.rows("persons")
    assert row["name"] == "ADA"
    assert "email" not in row
    assert len(row["email_hash"]) == 32
    assert warehouse.rows("plain", "n") == [4]
    assert warehouse.rows("copy", "twice") == [8]


def test_a_mapped_event_stays_an_event(warehouse: Warehouse) -> None:
    warehouse.load(
        events("click", {"id": "string", "email": "string", "custom_args": "object"}),
        record("click", id="1", email="a", custom_args={"plan": "pro"}),
        record("click", id="1", email="b"),
        stream_maps={"click": {"email": "record['email'] + '!'"}},
    )
    assert warehouse.by_id("click", "email") == {"1": "a!"}
    assert warehouse.rows("click", "plan") == ["pro"]
    warehouse.assert_activity_is_the_union(["click"])


def test_flattening_of_the_sdk(warehouse: Warehouse) -> None:
    warehouse.load(
        schema(
            "t",
            {
                "id": "string",
                "address": {
                    "type": "object",
                    "properties": {"street": {"type": "string"}, "geo": {"type": "object"}},
                },
            },
        ),
        record("t", id="1", address={"street": "6th", "geo": {"lat": 1.5}}),
        flattening_enabled=True,
        flattening_max_depth=1,
    )
    # The SDK's `address__street` is the same column as ours.
    assert warehouse.rows("t", "address_street") == ["6th"]


def test_metadata_columns_on_request(warehouse: Warehouse) -> None:
    message = {**record("t", id="1"), "time_extracted": "2026-01-01T00:00:00Z", "version": 7}
    warehouse.load(schema("t"), message, schema("plain"), record("plain", id="1"))
    assert not [name for name in warehouse.types("t") if name.startswith("_sdc")]
    warehouse.load(schema("t"), message, add_record_metadata=True)
    types = warehouse.types("t")
    assert types["_sdc_extracted_at"] == types["_sdc_batched_at"] == "timestamp"
    assert types["_sdc_deleted_at"] == types["_sdc_received_at"] == "timestamp"
    assert types["_sdc_table_version"] == types["_sdc_sequence"] == "integer"
    (row,) = warehouse.rows("t")
    assert row["_sdc_extracted_at"] == datetime(2026, 1, 1, tzinfo=UTC)
    assert row["_sdc_table_version"] == 7
    assert row["_sdc_deleted_at"] is None
    assert row["_sdc_received_at"] is not None
    assert row["_sdc_batched_at"] is not None


@pytest.mark.parametrize("hard", [True, False])
def test_a_record_marked_as_deleted(warehouse: Warehouse, hard: bool) -> None:
    lines = [
        schema("t"),
        record("t", id="1", name="Ada"),
        record("t", id="2", name="Bob"),
        record("t", id="2", _sdc_deleted_at="2026-01-01T00:00:00Z"),
    ]
    warehouse.load(*lines, hard_delete=hard, add_record_metadata=True)
    if hard:
        assert warehouse.rows("t", "id") == ["1"]
    else:
        assert warehouse.by_id("t", "_sdc_deleted_at", "name") == {
            "1": {"_sdc_deleted_at": None, "name": "Ada"},
            "2": {"_sdc_deleted_at": datetime(2026, 1, 1, tzinfo=UTC), "name": "Bob"},
        }


@pytest.mark.parametrize("rows", [1, 100])
def test_an_object_that_comes_again_after_its_deletion_is_new(
    warehouse: Warehouse, rows: int
) -> None:
    config = {"hard_delete": True, "max_batch_rows": rows}
    gone = "2026-01-01T00:00:00Z"
    warehouse.load(
        schema("t"),
        record("t", id="1", name="Ada", old="x"),
        record("t", id="2", name="Bob"),
        record("t", id="3", name="Cleo"),
        record("t", id="4", name="Dan"),
        **config,
    )
    warehouse.load(
        schema("t"),
        record("t", id="1", email="a@x.io"),
        record("t", id="1", _sdc_deleted_at=gone),
        record("t", id="1", name="Ada again"),
        record("t", id="1", city="Rome"),
        record("t", id="2", _sdc_deleted_at=gone),
        record("t", id="2", name="Bob again"),
        record("t", id="2", _sdc_deleted_at=gone),
        record("t", id="4", city="Oslo"),
        record("t", id="5", name="Eve"),
        record("t", id="5", _sdc_deleted_at=gone),
        **config,
    )
    nothing = {"name": None, "old": None, "email": None, "city": None, "_sdc_deleted_at": None}
    found = warehouse.by_id("t", *nothing)
    assert found == {
        "1": {**nothing, "name": "Ada again", "city": "Rome"},
        "3": {**nothing, "name": "Cleo"},
        "4": {**nothing, "name": "Dan", "city": "Oslo"},
    }
    if rows > 1:
        (report,) = warehouse.rows(
            "sync_reports", "row_count", "rows_deleted", where="WHERE rows_deleted > 0"
        )
        assert report == {"row_count": 10, "rows_deleted": 2}


@pytest.mark.parametrize("kind", ["timestamp", "date", "text", "varchar(40)", "bigint", "boolean"])
def test_metadata_columns_of_another_loader(warehouse: Warehouse, kind: str) -> None:
    warehouse.execute("CREATE SCHEMA wh")
    warehouse.execute(
        f"CREATE TABLE wh.t (id varchar, _sdc_extracted_at {kind}, _sdc_deleted_at {kind}, "
        "_sdc_sequence double precision, _sdc_sync_started_at numeric)"
    )
    message = {**record("t", id="1"), "time_extracted": "2026-01-01T00:00:00Z"}
    gone = record("t", id="2", _sdc_deleted_at="2026-01-02T00:00:00Z")
    warehouse.load(schema("t"), message, gone, add_record_metadata=True)
    rows = warehouse.by_id("t")
    assert str(rows["1"]["_sdc_extracted_at"]).startswith("2026-01-01")
    assert str(rows["2"]["_sdc_deleted_at"]).startswith("2026-01-02")
    assert rows["1"]["_sdc_deleted_at"] is None
    assert rows["1"]["_sdc_sequence"] > 1.7e12
    assert float(rows["1"]["_sdc_sync_started_at"]) > 1.7e12
    warehouse.load(schema("t"), gone, add_record_metadata=True, hard_delete=True)
    assert set(warehouse.by_id("t")) == {"1"}
    kept = [{**record("t", id="3"), "version": 3}]
    warehouse.load(schema("t"), *kept, {**kept[0], "type": "ACTIVATE_VERSION", "version": 3})
    assert warehouse.by_id("t")["1"]["_sdc_deleted_at"] is not None


@pytest.mark.parametrize(
    ("kind", "older"),
    [("text", "'v7'"), ("varchar(40)", "''"), ("numeric(18, 0)", "2"), ("boolean", "true")],
)
def test_a_version_column_of_another_loader(warehouse: Warehouse, kind: str, older: str) -> None:
    # What is no number there is no version, and so an older row than any that has one.
    warehouse.execute("CREATE SCHEMA wh")
    warehouse.execute(f"CREATE TABLE wh.t (id varchar, _sdc_table_version {kind})")
    warehouse.execute(f"INSERT INTO wh.t VALUES ('none', NULL), ('older', {older})")
    new = {**record("t", id="new"), "version": 7}
    lines = [schema("t"), new, {"type": "ACTIVATE_VERSION", "stream": "t", "version": 7}]
    warehouse.load(*lines)
    gone = warehouse.by_id("t", "_sdc_deleted_at")
    assert {key for key, when in gone.items() if when} == {"none", "older"}
    warehouse.load(*lines, hard_delete=True)
    assert warehouse.rows("t", "id") == ["new"]
    later = {"type": "ACTIVATE_VERSION", "stream": "t", "version": 8}
    warehouse.load(schema("t"), later, hard_delete=True)  # of which no row ever comes
    assert warehouse.rows("t", "id") == []


@pytest.mark.parametrize("value", [3, "v3", 10**15])
@pytest.mark.parametrize("metadata", [True, False])
def test_a_property_called_like_the_version(
    warehouse: Warehouse, value: int | str, metadata: bool
) -> None:
    declared = {"type": ["integer", "string", "null"]}
    row = {**record("t", id="1", _sdc_table_version=value), "version": 100}
    lines = [
        schema("t", {"id": "string", "_sdc_table_version": declared}),
        row,
        {"type": "ACTIVATE_VERSION", "stream": "t", "version": 100},
    ]
    for _ in range(2):
        warehouse.load(*lines, hard_delete=True, add_record_metadata=metadata)
        assert warehouse.by_id("t", "_sdc_table_version", "sdc_table_version") == {
            "1": {"_sdc_table_version": 100, "sdc_table_version": str(value)}
        }
        warehouse.load(schema("u"), record("u", row["record"]), add_record_metadata=metadata)
        assert warehouse.by_id("u", "sdc_table_version") == {"1": value}


@pytest.mark.parametrize("engine", ["postgres"], indirect=True)
def test_a_metadata_column_in_use(warehouse: Warehouse) -> None:
    warehouse.load(schema("t"), record("t", id="1", _sdc_sequence=True))
    warehouse.execute("CREATE VIEW wh.mine AS SELECT _sdc_sequence FROM wh.t")
    for _ in range(2):
        result = warehouse.load(schema("t"), record("t", id="2"), add_record_metadata=True)
        assert "_sdc_sequence_integer" in result.stderr
        assert warehouse.by_id("t")["2"]["_sdc_sequence_integer"] > 1.7e12
        assert warehouse.by_id("t", "_sdc_sequence") == {"1": True, "2": None}


def test_a_changed_key(warehouse: Warehouse) -> None:
    properties = {"id": "integer", "name": "string", "email": "string"}
    warehouse.load(
        schema("people", properties),
        record("people", id=1, name="Alice", email="alice@example.com"),
        schema("people", properties, keys=["email"]),
        record("people", id=2, name="Bob", email="bob@example.com"),
    )
    assert warehouse.by_id("people", "name") == {"1": "Alice", "bob@example.com": "Bob"}


def test_unknown_fields_are_kept(warehouse: Warehouse) -> None:
    closed = {**schema("t", {"id": "string"})}
    closed["schema"]["additionalProperties"] = False
    warehouse.load(closed, record("t", id="1", surprise="kept"))
    assert warehouse.by_id("t", "surprise") == {"1": "kept"}


def test_secrets_and_data_are_not_logged(warehouse: Warehouse) -> None:
    result = warehouse.start(
        [schema("t"), record("t", id="1", email="payload-4711@example.com"), state({"t": "4711-s"})]
    ).finish()
    result.ok()
    assert "4711" not in result.stderr


def test_structured_logging(warehouse: Warehouse) -> None:
    config = warehouse.folder / "config.json"
    config.write_text(json.dumps(warehouse.settings()))
    logging = warehouse.folder / "logging.yaml"
    logging.write_text(
        "version: 1\ndisable_existing_loggers: false\n"
        "formatters:\n  structured:\n    '()': singer_sdk.logging.StructuredFormatter\n"
        "handlers:\n  console:\n    class: logging.StreamHandler\n    formatter: structured\n"
        "    stream: ext://sys.stderr\n"
        "root:\n  level: INFO\n  handlers: [console]\n"
    )
    done = command(
        "--config",
        str(config),
        env={"SINGER_SDK_LOG_CONFIG": str(logging)},
        given=encode([schema("t"), record("t", id="1"), state({"t": 1})]),
    )
    assert done.returncode == 0, done.stderr.decode()
    lines = done.stderr.decode().splitlines()
    assert lines
    assert all(json.loads(line)["level"] for line in lines)
