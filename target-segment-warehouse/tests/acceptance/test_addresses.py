"""The setting ``warehouse_url``: mistakes in it are told without what may be a password."""

from __future__ import annotations

from urllib.parse import urlsplit, urlunsplit

import pytest
from target_segment_warehouse.warehouses import open_warehouse
from target_segment_warehouse.warehouses.base import WarehouseError
from target_segment_warehouse.workbench import Workbench

from .harness import Warehouse
from .messages import record, schema

ON_POSTGRES = pytest.mark.parametrize("engine", ["postgres"], indirect=True)


@pytest.mark.parametrize(
    "url",
    [
        "host=localhost password=s3cr dbname=x",
        "postgresql:/user:s3cr@localhost/db",
        "user:s3cr@localhost/db",
        "postgresql://user:s3cr%zz@localhost/db",
        "postgresql://user:s3cr%00@localhost/db",
        "postgresql://user:s3cr/pw@localhost/db",
        "postgresql://user:1/s3cr@localhost/db",
        "postgresql://user:pw@s3cr@localhost:1/db",
        "postgresql://[s3cr",
        "postgresql://user:s3cr",
        "postgresql://localhost:1/db?password=a&s3cr",
        "mysql://user:s3cr@localhost/db",
    ],
)
def test_a_password_in_a_url_that_is_wrong_is_not_told(url: str) -> None:
    workbench = Workbench()
    with pytest.raises(WarehouseError, match="warehouse_url") as told:
        open_warehouse(url, "s", workbench, 1).begin()
    assert "s3cr" not in str(told.value)
    workbench.close()


@pytest.mark.parametrize(
    "url",
    [
        "postgresql://",
        "postgresql:///db",
        "postgres://user@localhost",
        "postgresql://user:p?:%40@localhost:/db?sslmode=require&connect_timeout=10",
        "postgresql://user:pw@[::1]:5432,other:5433/db?target_session_attrs=any",
        "postgresql://%2Fvar%2Frun/db",
        "postgresql:///db?host=/tmp&user=x",
        "postgresql://localhost?",
    ],
)
def test_what_libpq_reads_is_passed_on(url: str) -> None:
    workbench = Workbench()
    open_warehouse(url, "s", workbench, 1)
    workbench.close()


@pytest.mark.parametrize("url", ["duckdb:///:memory:", "duckdb:///:memory:name", "duckdb://"])
def test_a_database_that_would_be_gone_is_refused(url: str) -> None:
    workbench = Workbench()
    with pytest.raises(WarehouseError, match="names no file"):
        open_warehouse(url, "s", workbench, 1)
    workbench.close()


@ON_POSTGRES
def test_text_is_utf_8_whatever_the_session_s_encoding(warehouse: Warehouse) -> None:
    joint = "&" if "?" in warehouse.url else "?"
    lines = [schema("t"), record("t", id="é", v="é漢\U0001f600")]
    for _ in range(2):
        latin = f"{warehouse.url}{joint}client_encoding=LATIN1"
        warehouse.load(*lines, warehouse_url=latin)
    assert warehouse.by_id("t", "v") == {"é": "é漢\U0001f600"}


@ON_POSTGRES
def test_a_database_without_every_character_is_refused(warehouse: Warehouse) -> None:
    warehouse.execute("DROP DATABASE IF EXISTS latin1")
    warehouse.execute(
        "CREATE DATABASE latin1 ENCODING 'LATIN1' LC_COLLATE 'C' LC_CTYPE 'C' TEMPLATE template0"
    )
    url = urlunsplit(urlsplit(warehouse.url)._replace(path="/latin1"))
    result = warehouse.run(schema("t"), record("t", id="漢"), warehouse_url=url)
    result.failed("LATIN1")
    assert "ENCODING 'UTF8'" in result.stderr
    warehouse.execute("DROP DATABASE latin1")
