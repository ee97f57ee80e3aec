"""The SDK's and target-postgres' own .singer files, with what they must leave behind (not only that
nothing is raised). Both sets come out of their wheels; nothing of theirs is copied here."""

from __future__ import annotations

import json
from collections.abc import Iterator
from importlib import resources
from typing import Any

import pytest

from .harness import Message, Result, Warehouse

SDK = "singer_sdk.testing.target_test_streams"
POSTGRES = "target_postgres.tests.data_files"

pytestmark = pytest.mark.xdist_group("singer_files")


def singer(package: str, name: str) -> bytes:
    """The bytes of a .singer file of a wheel."""
    data = resources.files(package).joinpath(f"{name}.singer").read_bytes()
    return data if data.endswith(b"\n") else data + b"\n"


def messages(data: bytes, kind: str) -> list[Message]:
    return [m for m in map(json.loads, data.splitlines()) if m["type"] == kind]


class Loaded:
    """Several files loaded in one run, one after the other."""

    def __init__(self, warehouse: Warehouse, *files: tuple[str, str], **config: Any) -> None:
        self.warehouse = warehouse
        self.input = b"".join(singer(package, name) for package, name in files)
        self.result = warehouse.load(self.input, **config)


@pytest.fixture(scope="module", params=["duckdb", "postgres"])
def module_warehouses(request, make_warehouse):
    return lambda: make_warehouse(request.param)


@pytest.fixture(scope="module")
def sdk(module_warehouses) -> Iterator[Loaded]:
    good = [
        "array_data",
        "camelcase",
        "camelcase_complex_schema",
        "duplicate_records",
        "encoded_string_data",
        "no_primary_keys",
        "no_primary_keys_append",
        "optional_attributes",
        "pk_updates",
        "record_missing_fields",
        "schema_no_properties",
        "schema_updates",
        "special_chars_in_attributes",
        "user_location_data",
        "user_location_upsert_data",
    ]
    return Loaded(module_warehouses(), *((SDK, name) for name in good))


@pytest.fixture(scope="module")
def peer(module_warehouses) -> Iterator[Loaded]:
    good = [
        "base16_content_encoding_interpreted",
        "base16_content_encoding_not_interpreted",
        "commits",
        "jsonb_data",
        "large_int",
        "large_numeric_primary_key",
        "missing_value",
        "multiple_schema_messages",
        "new_array_column",
        "reserved_keywords",
        "tap_countries",
        "test_no_type",
        "uppercase_stream_name_with_column_alter",
        "encoded_strings",
    ]
    return Loaded(module_warehouses(), *((POSTGRES, name) for name in good), max_batch_rows=7)


# -- the SDK's -----------------------------------------------------------------------------------
def test_array_data(sdk: Loaded) -> None:
    assert sdk.warehouse.by_id("test_array_data", "fruits") == {
        "1": '["apple","orange","pear"]',
        "2": '["banana","apple"]',
        "3": '["pear"]',
        "4": '["orange","banana","apple","pear"]',
    }


def test_camelcase(sdk: Loaded) -> None:
    assert sdk.warehouse.by_id("test_camelcase", "client_name") == {
        "1": "Gitter Windows Desktop App",
        "2": "Gitter iOS App",
    }


def test_camelcase_complex_schema(sdk: Loaded) -> None:
    assert sdk.warehouse.count("forecasting_type_to_category") == 0
    types = sdk.warehouse.types("forecasting_type_to_category")
    assert types["is_deleted"] == "boolean"
    assert types["id"] == "text"


def test_duplicate_records(sdk: Loaded) -> None:
    assert sdk.warehouse.by_id("test_duplicate_records", "metric") == {"1": 100, "2": 20}


@pytest.mark.parametrize(
    ("stream", "path", "column", "count"),
    [
        ("test_strings", ("info",), "info", 11),
        ("test_strings_in_objects", ("info", "value"), "info_value", 11),
        ("test_strings_in_arrays", ("strings",), "strings", 6),
    ],
)
def test_encoded_string_data(
    sdk: Loaded, stream: str, path: tuple[str, ...], column: str, count: int
) -> None:
    found = sdk.warehouse.by_id(stream, column)
    assert len(found) == count
    for message in messages(sdk.input, "RECORD"):
        if message["stream"] != stream:
            continue
        value = message["record"]
        for key in path:
            value = value[key]
        row_id = str(message["record"]["id"])
        stored = found[row_id]
        if isinstance(value, list):
            stored = json.loads(stored)
        if stored != value:
            # Only what the engine cannot hold, and then it stands among the discards.
            assert "\\u0000" in json.dumps(value)
            assert sdk.warehouse.engine == "postgres"
            discards = sdk.warehouse.rows("_discards", "table_name", "row_id", "column_name")
            assert {"table_name": stream, "row_id": row_id, "column_name": column} in discards


def test_no_primary_keys(sdk: Loaded) -> None:
    assert sdk.warehouse.rows("test_no_pk", "metric") == [101, 11, 202, 22, 303, 33, 404, 505]
    assert sdk.warehouse.rows("test_no_pk", "_id") == [1, 1, 2, 2, 3, 3, 4, 5]
    assert len(set(sdk.warehouse.rows("test_no_pk", "id"))) == 8


def test_no_primary_keys_twice(warehouse: Warehouse) -> None:
    for _ in range(2):
        warehouse.load(singer(SDK, "no_primary_keys"))
        warehouse.load(singer(SDK, "no_primary_keys_append"))
    assert warehouse.count("test_no_pk") == 16


def test_optional_attributes(sdk: Loaded) -> None:
    assert sdk.warehouse.by_id("test_optional_attributes", "optional") == {
        "1": "This is optional",
        "2": None,
        "3": "Also optional",
        "4": None,
    }


def test_pk_updates(sdk: Loaded) -> None:
    # The file's keys stand inside the schema, so by its messages the stream has none.
    assert sdk.warehouse.rows("example_stream", "name", "email") == [
        {"name": "Alice", "email": "alice@example.com"},
        {"name": "Bob", "email": "bob@example.com"},
    ]


def test_record_missing_fields(sdk: Loaded) -> None:
    assert sdk.warehouse.by_id("record_missing_fields", "optional") == {
        "1": "now you see me",
        "2": None,
    }
    assert {} not in sdk.result.states  # an empty state says nothing and would wipe the bookmark


def test_schema_no_properties(sdk: Loaded) -> None:
    for stream, metrics in (
        ("test_object_schema_with_properties", [187, 203]),
        ("test_object_schema_no_properties", [1, 2]),
    ):
        assert sdk.warehouse.rows(stream, "object_store_metric") == metrics
        assert sdk.warehouse.rows(stream, "object_store_id") == [1, 2]


def test_schema_updates(sdk: Loaded) -> None:
    rows = sdk.warehouse.by_id(
        "test_schema_updates", "a1", "a2", "a3", "a4_id", "a4_value", "a5", "a6"
    )
    assert rows == {
        str(n): dict(zip(("a1", "a2", "a3", "a4_id", "a4_value", "a5", "a6"), values, strict=True))
        for n, values in {
            1: (101, "string1", None, None, None, None, None),
            2: (102, "string2", True, None, None, None, None),
            3: (103, "string3", False, 1, 1, '["banana","apple"]', None),
            4: (104, "string4", True, 2, 22, '["orange","pear"]', None),
            5: (105, "string5", False, 3, 33, '["apple"]', 985),
            6: (106, "string6", True, 4, 444, '["banana","orange"]', 341),
        }.items()
    }
    assert sdk.warehouse.types("test_schema_updates")["a1"] == "float"


def test_special_chars_in_attributes(sdk: Loaded) -> None:
    assert sdk.warehouse.rows(
        "test_special_chars_in_attributes", "id", "d_env", "d_agent_type", "d_agent_os_version"
    ) == [
        {
            "id": "a2e98886",
            "d_env": "prod",
            "d_agent_type": "desktop",
            "d_agent_os_version": "10.13.1",
        }
    ]


def test_user_location(sdk: Loaded) -> None:
    assert sdk.warehouse.by_id("test_users", "name") == {
        "1": "Johny",
        "2": "George",
        "3": "Jacob",
        "4": "Josh",
        "5": "Jim",
        "8": "Thomas",
        "12": "Paul",
        "13": "Mary",
    }
    assert sdk.warehouse.by_id("test_locations", "name") == {
        "1": "Philly",
        "2": "NY",
        "3": "San Francisco",
        "6": "Colorado",
        "8": "Boston",
    }
    assert sdk.warehouse.by_id(
        "test_user_in_location", "user_id", "location_id", "info_weather", "info_mood"
    ) == {
        row_id: dict(
            zip(("user_id", "location_id", "info_weather", "info_mood"), values, strict=True)
        )
        for row_id, values in {
            "1": (1, 4, "rainy", "sad"),
            "2": (2, 3, "sunny", "satisfied"),
            "3": (1, 3, "sunny", "happy"),
            "6": (3, 2, "sunny", "happy"),
            "14": (4, 1, "cloudy", "ok"),
        }.items()
    }


def test_the_last_state_comes_out(sdk: Loaded) -> None:
    given = [message["value"] for message in messages(sdk.input, "STATE") if message["value"]]
    assert is_subsequence(sdk.result.states, given)
    assert sdk.result.states[-1] == given[-1]


def is_subsequence(part: list[Any], whole: list[Any]) -> bool:
    rest = iter(whole)
    return all(any(item == other for other in rest) for item in part)


@pytest.mark.parametrize("rows", [1, 2, 3, 10])
def test_multiple_state_messages(warehouse: Warehouse, rows: int) -> None:
    data = singer(SDK, "multiple_state_messages")
    result = warehouse.load(data, max_batch_rows=rows)
    given = [message["value"] for message in messages(data, "STATE")]
    assert is_subsequence(result.states, given)
    assert result.states[-1] == given[-1]
    if rows == 1:
        assert result.states == given
    assert warehouse.rows("test_multiple_state_messages_a", "metric") == [
        100, 200, 300, 400, 500, 600,
    ]  # fmt: skip
    assert warehouse.rows("test_multiple_state_messages_b", "metric") == [
        110, 220, 330, 440, 550, 660,
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("name", "texts"),
    [
        ("invalid_schema", ["test_invalid_schema", "properties"]),
        ("record_before_schema", ["test_record_before_schema", "schema", "line 1"]),
        ("record_missing_key_property", ["test_record_missing_key_property", "id"]),
    ],
)
def test_refused_files(warehouse: Warehouse, name: str, texts: list[str]) -> None:
    result: Result = warehouse.run(singer(SDK, name)).failed(*texts)
    assert result.states == []
    assert "8214" not in result.stderr  # what is wrong, not the data


# -- target-postgres' ----------------------------------------------------------------------------
def test_commits(peer: Loaded) -> None:
    records = [m["record"] for m in messages(peer.input, "RECORD") if m["stream"] == "commits"]
    rows = peer.warehouse.by_id("commits", "parent_ids", "commit_message", "legacy_id")
    assert len(records) == len(rows) == 30
    types = peer.warehouse.types("commits")
    assert types["authored_date"] == "timestamp"
    assert types["legacy_id"] == "text"  # integers and strings in one column
    for given in records:
        row = rows[given["id"]]
        parents = given.get("parent_ids")
        assert row["commit_message"] == given.get("commit_message")
        assert row["legacy_id"] == (None if "legacy_id" not in given else str(given["legacy_id"]))
        if isinstance(parents, list):
            assert json.loads(row["parent_ids"]) == parents
        else:
            assert row["parent_ids"] == parents


def test_jsonb_data(peer: Loaded) -> None:
    rows = peer.warehouse.by_id("test_jsonb_data", "event_data_test_test_name")
    assert rows == {"1": None, "2": "test_value"}


def test_large_int(peer: Loaded) -> None:
    assert peer.warehouse.by_id("test_large_int", "_id") == {
        "99999999999999999": 99999999999999999,
        "2": 2,
    }


def test_large_numeric_primary_key(peer: Loaded) -> None:
    assert peer.warehouse.rows("test_large_numeric_primary_key", "id") == ["34639314995"]


def test_missing_value(peer: Loaded) -> None:
    names = peer.warehouse.by_id("test_missing_value", "name")
    assert names == {"1": "Yannis", "2": "Micael", "3": "Jacob", "4": "Josh", "5": None}


def test_multiple_schema_messages(peer: Loaded) -> None:
    rows = peer.warehouse.by_id("test_multiple_schema_messages", "metric")
    assert rows == {str(n): n * 100 for n in range(1, 7)}
    assert "schema changed" not in peer.result.stderr.lower()


def test_new_array_column(peer: Loaded) -> None:
    given = {
        str(message["record"]["id"]): message["record"].get("arr")
        for message in messages(peer.input, "RECORD")
        if message["stream"] == "test_new_array_column"
    }
    found = peer.warehouse.by_id("test_new_array_column", "arr")
    assert {key: value and json.loads(value) for key, value in found.items()} == given


def test_reserved_keywords(peer: Loaded) -> None:
    schemas = messages(peer.input, "SCHEMA")
    (keywords,) = (
        message["schema"]["properties"]
        for message in schemas
        if message["stream"] == "reserved_keywords"
    )
    (row,) = peer.warehouse.rows("reserved_keywords")
    row.pop("id")
    assert sum(value == "data" for value in row.values()) == len(keywords)


def test_tap_aapl(warehouse: Warehouse) -> None:
    peer = Loaded(warehouse, (POSTGRES, "tap_aapl"))
    (record,) = (m["record"] for m in messages(peer.input, "RECORD") if m["stream"] == "aapl")
    (row,) = peer.warehouse.rows("aapl")
    overflow = json.loads(row.pop("_overflow"))
    held = row | overflow
    assert held["general_code"] == record["General"]["Code"] == "AAPL"
    filled = [name for name, value in held.items() if value is not None]
    assert len(filled) == count_leaves(record) + 3  # with id, received_at and uuid_ts


def count_leaves(value: Any) -> int:
    if isinstance(value, dict):
        return sum(map(count_leaves, value.values()))
    return int(value is not None)


def test_tap_countries(peer: Loaded) -> None:
    assert peer.warehouse.count("continents") == 7
    assert peer.warehouse.count("countries") == 250


def test_no_type(peer: Loaded) -> None:
    assert peer.warehouse.count("test_no_type") == 15
    rows = peer.warehouse.rows("test_no_type", "data_type", "new_value", "new_value_x")
    found = {row["data_type"]: (row["new_value"], row["new_value_x"]) for row in rows}
    assert found["Percent"] == ("50.0", None)
    assert found["DateOnly"] == ("2023-08-11", None)
    assert found["DateTime"] == ("2024-08-16T04:00:00.000Z", None)
    assert found["Boolean"] == ("true", None)
    assert found["Object"] == (None, 2)
    assert found["DynamicEnum"] == ("Inactive", None)
    old = peer.warehouse.rows("test_no_type", "data_type", "old_value")
    (listed,) = (row["old_value"] for row in old if row["data_type"] == "List")
    assert json.loads(listed) == [1.0, 2.0, 3.0]


@pytest.mark.parametrize("suffix", ["interpreted", "not_interpreted"])
def test_base16_content_encoding(peer: Loaded, suffix: str) -> None:
    stream = f"test_base_16_encoding_{suffix}"
    rows = peer.warehouse.by_id(stream, "contract_address", "raw_event_data")
    assert rows == {
        message["record"]["id"]: {
            name: message["record"][name] for name in ("contract_address", "raw_event_data")
        }
        for message in messages(peer.input, "RECORD")
        if message["stream"] == stream
    }


def test_uppercase_stream_name_with_column_alter(peer: Loaded) -> None:
    table = "uppercase_stream_name_with_column_alter"
    assert peer.warehouse.by_id(table, "client_number") == {"1": "1", "2": "2"}


def test_encoded_strings(peer: Loaded) -> None:
    for message in messages(peer.input, "RECORD"):
        if message["stream"] == "test_strings":
            row_id = str(message["record"]["id"])
            assert peer.warehouse.by_id("test_strings", "info")[row_id] == message["record"]["info"]


# -- ACTIVATE_VERSION ----------------------------------------------------------------------------
def test_activate_version_hard(warehouse: Warehouse) -> None:
    config = {"hard_delete": True, "add_record_metadata": True}
    data = singer(POSTGRES, "test_activate_version_hard")
    warehouse.load(data, **config)
    assert warehouse.count("test_activate_version_hard") == 7
    warehouse.execute(
        "INSERT INTO wh.test_activate_version_hard (id, received_at, code, name) VALUES "
        "('M1', now(), 'M1', 'by hand'), ('M2', now(), 'M2', 'by hand')"
    )
    warehouse.load(data, **config)
    assert warehouse.count("test_activate_version_hard") == 7


def test_activate_version_soft(warehouse: Warehouse) -> None:
    config = {"add_record_metadata": True}
    warehouse.load(singer(POSTGRES, "test_activate_version_soft"), **config)
    assert warehouse.rows("test_activate_version_soft", "_sdc_deleted_at") == [None] * 7
    warehouse.load(singer(POSTGRES, "test_activate_version_soft_with_delete"), **config)
    deleted = warehouse.by_id("test_activate_version_soft", "_sdc_deleted_at")
    assert {code for code, when in deleted.items() if when} == {"SA"}
    warehouse.load(singer(POSTGRES, "test_activate_version_soft_with_delete"), **config)
    again = warehouse.by_id("test_activate_version_soft", "_sdc_deleted_at")
    assert again["SA"] == deleted["SA"]  # the mark tells when it went, not when we looked


def test_activate_version_without_rows_empties_the_table(warehouse: Warehouse) -> None:
    config = {"hard_delete": True, "add_record_metadata": True}
    warehouse.load(singer(POSTGRES, "test_activate_version_deletes_data_properly"), **config)
    assert warehouse.count("test_activate_version_deletes_data_properly") == 7
    warehouse.load(singer(POSTGRES, "test_activate_version_deletes_data_properly_2"), **config)
    assert warehouse.count("test_activate_version_deletes_data_properly") == 0


def test_activate_version_uppercase_stream_name(warehouse: Warehouse) -> None:
    warehouse.load(
        singer(POSTGRES, "test_activate_version_uppercase_stream_name"), hard_delete=True
    )
    assert warehouse.by_id("account", "name")["OC"] == "Oceania"
    assert warehouse.count("account") == 7
