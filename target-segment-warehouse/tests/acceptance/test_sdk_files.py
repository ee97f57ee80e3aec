"""The SDK's own .singer files, with what they must leave behind."""

from __future__ import annotations

import json
from typing import Any

import pytest

from .harness import Warehouse
from .processes import Result
from .singer_files import SDK, Loaded, messages, singer

pytestmark = pytest.mark.xdist_group("singer_files")


@pytest.fixture(scope="module")
def sdk(module_warehouse: Warehouse) -> Loaded:
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
    return Loaded(module_warehouse, *((SDK, name) for name in good))


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


def is_subsequence(part: list[Any], whole: list[Any]) -> bool:
    rest = iter(whole)
    return all(any(item == other for other in rest) for item in part)
