"""Other sessions of Postgres: people who read or keep a transaction open, and settings that would
end a load."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator
from urllib.parse import quote

import psycopg
import pytest

from .harness import SCHEMA, Warehouse
from .messages import record, schema, state
from .processes import Process

pytestmark = pytest.mark.parametrize("engine", ["postgres"], indirect=True)

TEXT = "x" * 1000


@contextlib.contextmanager
def session(warehouse: Warehouse, *statements: str) -> Iterator[psycopg.Connection]:
    """A session of somebody's that has run statements in a transaction, which stays open."""
    with psycopg.connect(warehouse.url, application_name="notebook") as connection:
        for statement in statements:
            connection.execute(statement)  # type: ignore[arg-type]
        yield connection
        connection.rollback()


@contextlib.contextmanager
def database_setting(warehouse: Warehouse, name: str, value: str) -> Iterator[None]:
    """A setting that the database gives to new sessions."""
    ((database,),) = warehouse.query("SELECT current_database()")
    warehouse.execute(f"ALTER DATABASE {database} SET {name} = '{value}'")
    try:
        yield
    finally:
        warehouse.execute(f"ALTER DATABASE {database} RESET {name}")


def until(reached: Callable[[], object], process: Process, timeout: float = 30) -> None:
    """Wait for something that comes while a target runs."""
    deadline = time.monotonic() + timeout
    while not reached():
        assert time.monotonic() < deadline, process.stderr.read_text()[-3000:]
        time.sleep(0.02)


def waiting(warehouse: Warehouse) -> int:
    """How many sessions wait for a lock."""
    return len(warehouse.query("SELECT 1 FROM pg_stat_activity WHERE wait_event_type = 'Lock'"))


@pytest.mark.parametrize("level", ["repeatable read", "serializable"])
def test_runs_that_overlap_where_transactions_are_isolated(
    warehouse: Warehouse, level: str
) -> None:
    lock = f"SELECT pg_advisory_xact_lock(hashtext('segment:{SCHEMA}'))"
    lines = [schema("o"), *(record("o", id=str(n), x=n) for n in range(50))]
    with database_setting(warehouse, "default_transaction_isolation", level):
        with session(warehouse, lock):
            processes = [warehouse.start(lines) for _ in range(2)]
            until(lambda: waiting(warehouse) == 2, processes[0])
        for process in processes:
            process.finish().ok()
    assert warehouse.count("o") == 50


def test_a_pause_in_a_flush_is_no_reason_to_end_it(warehouse: Warehouse) -> None:
    with (
        database_setting(warehouse, "idle_in_transaction_session_timeout", "500ms"),
        database_setting(warehouse, "statement_timeout", "500ms"),
    ):
        process = warehouse.start(None)
        big = (record("t", id=str(n), text=TEXT) for n in range(36_000))
        process.send(schema("t"), *big)
        until(lambda: warehouse.query("SELECT 1 FROM pg_locks WHERE locktype='advisory'"), process)
        time.sleep(3)
        others = warehouse.query("SELECT application_name FROM pg_stat_activity")
        assert ("target-segment-warehouse",) in others
        process.send(record("t", id="last"), state({"t": 1}))
        result = process.finish().ok()
    assert result.states == [{"t": 1}]
    assert "connecting again" not in result.stderr
    assert warehouse.count("t") == 36_001


def test_a_time_limit_in_the_url_holds(warehouse: Warehouse) -> None:
    """It is meant for this target; a database's is meant for people."""
    warehouse.load(schema("t"), record("t", id="1"))
    mark = "&" if "?" in warehouse.url else "?"
    url = f"{warehouse.url}{mark}options={quote('-c statement_timeout=300')}"
    with session(warehouse, f"LOCK TABLE {SCHEMA}.t IN SHARE MODE"):
        lines = [schema("t"), record("t", id="2")]
        warehouse.run(*lines, warehouse_url=url).failed("statement timeout")
