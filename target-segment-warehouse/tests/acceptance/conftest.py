"""Fixtures: each test gets an empty warehouse, on DuckDB and on Postgres."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

import psycopg
import pytest

from .harness import Warehouse
from .processes import Zygote


@pytest.fixture(scope="session")
def zygote() -> Iterator[Zygote]:
    """The process that forks targets, one per test worker."""
    process = Zygote()
    yield process
    process.close()


@pytest.fixture(autouse=True)
def _no_process_is_left(zygote: Zygote) -> Iterator[None]:
    yield
    while zygote.processes:
        zygote.processes.pop().abandon()


@pytest.fixture(params=["duckdb", "postgres"])
def engine(request: pytest.FixtureRequest) -> str:
    """The name of the engine under test."""
    return str(request.param)


@pytest.fixture(scope="session")
def make_warehouse(
    request: pytest.FixtureRequest, zygote: Zygote, tmp_path_factory: pytest.TempPathFactory
) -> Callable[[str], Warehouse]:
    """Makes empty warehouses that outlive a test: ``make_warehouse("postgres")``."""

    def make(engine: str) -> Warehouse:
        folder = tmp_path_factory.mktemp("warehouse")
        if engine == "duckdb":
            url = f"duckdb:///{folder / 'warehouse.duckdb'}"
        else:
            server = request.getfixturevalue("postgres_server")
            name = f"test_{uuid.uuid4().hex[:12]}"
            with psycopg.connect(server, autocommit=True) as connection:
                connection.execute(f'CREATE DATABASE "{name}"')
            url = urlunsplit(urlsplit(server)._replace(path=f"/{name}"))
        return Warehouse(engine, url, folder, zygote)

    return make


@pytest.fixture
def warehouse(
    request: pytest.FixtureRequest, engine: str, zygote: Zygote, tmp_path: Path
) -> Warehouse:
    """An empty warehouse."""
    url = f"duckdb:///{tmp_path / 'warehouse.duckdb'}"
    if engine == "postgres":
        url = request.getfixturevalue("postgres_url")
    return Warehouse(engine, url, tmp_path, zygote)


@pytest.fixture(scope="module", params=["duckdb", "postgres"])
def module_warehouse(
    request: pytest.FixtureRequest, make_warehouse: Callable[[str], Warehouse]
) -> Warehouse:
    """A warehouse that the tests of a module share, one on each engine."""
    return make_warehouse(request.param)
