"""target-postgres' own .singer files, with what they must leave behind."""

from __future__ import annotations

import json
from typing import Any

import pytest

from .harness import Warehouse
from .singer_files import POSTGRES, Loaded, messages, singer

pytestmark = pytest.mark.xdist_group("singer_files")


@pytest.fixture(scope="module")
def peer(module_warehouse: Warehouse) -> Loaded:
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
    return Loaded(module_warehouse, *((POSTGRES, name) for name in good), max_batch_rows=7)


# -- the SDK's -----------------------------------------------------------------------------------


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
