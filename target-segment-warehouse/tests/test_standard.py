"""The SDK's standard target tests, whole, on every engine."""

from __future__ import annotations

from typing import Any

import pytest
from singer_sdk.testing import SuiteConfig, get_target_test_class
from target_segment_warehouse.target import TargetSegmentWarehouse


class _Standard:
    """Gives the runner, made when the class is, the warehouse of each test."""

    @pytest.fixture(autouse=True)
    def warehouse(self, request: pytest.FixtureRequest, runner: Any) -> None:
        runner.config = {"warehouse_url": request.getfixturevalue(self.url_fixture)}

    url_fixture: str


def _suite() -> type:
    return get_target_test_class(
        target_class=TargetSegmentWarehouse,
        config={},
        suite_config=SuiteConfig(),
    )


@pytest.fixture
def duckdb_url(tmp_path: Any) -> str:
    return f"duckdb:///{tmp_path}/warehouse.duckdb"


class TestDuckDB(_Standard, _suite()):  # type: ignore[misc]
    url_fixture = "duckdb_url"


class TestPostgres(_Standard, _suite()):  # type: ignore[misc]
    url_fixture = "postgres_url"
