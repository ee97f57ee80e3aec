"""Other sessions of Postgres: people who read or keep a transaction open, and settings that would
end a load."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Iterator
from urllib.parse import quote

import psycopg
import pytest

from .harness import SCHEMA, Warehouse
from .messages import events, record, schema, state
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


def waits(process: Process) -> bool:
    """Whether a target has said that it waits."""
    return process.stderr.exists() and "Waiting for" in process.stderr.read_text()


def holds(warehouse: Warehouse, relation: str) -> bool:
    """Whether a session has, until it commits, a table or view to itself."""
    return bool(
        warehouse.query(
            f"SELECT 1 FROM pg_locks WHERE relation = to_regclass('{SCHEMA}.{relation}') "
            "AND granted AND mode = 'AccessExclusiveLock'"
        )
    )


def background(warehouse: Warehouse, sql: str) -> tuple[threading.Thread, list[object]]:
    """A query that runs in a thread, and what comes of it."""
    outcome: list[object] = []

    def read() -> None:
        try:
            outcome.extend(warehouse.query(sql)[0])
        except psycopg.Error as error:
            outcome.append(str(error))

    thread = threading.Thread(target=read)
    thread.start()
    return thread, outcome


@pytest.mark.parametrize("first", [{"n": 1}, {"n": 1.5}], ids=["new column", "wider column"])
def test_readers_of_activity_and_a_load_do_not_deadlock(
    warehouse: Warehouse, first: dict[str, float]
) -> None:
    old = {} if first == {"n": 1} else {"n": 1}
    for stream in ("a1", "b1", "c1"):
        warehouse.load(events(stream), record(stream, id="0", **old))
    process = warehouse.start(None)
    # More than is held before it is loaded: the table is altered while the rest is still to come.
    big = [record("b1", id=str(n), text=TEXT, **first) for n in range(1, 32_001)]
    process.send(events("a1"), events("b1"), *big)
    until(lambda: holds(warehouse, "b1"), process)
    reader, counted = background(warehouse, f"SELECT count(*) FROM {SCHEMA}.activity")
    time.sleep(1.5)  # longer than Postgres' deadlock_timeout
    # Who reads one of the other tables does not wait.
    assert warehouse.query(f"SELECT count(*) FROM {SCHEMA}.a1") == [(1,)]
    process.send(record("a1", id="1", **first), state({"t": 1}))
    assert process.finish().ok().states == [{"t": 1}]
    reader.join(30)
    assert counted == [32_004]
    warehouse.assert_activity_is_the_union(["a1", "b1", "c1"])


def test_objects_that_change_leave_readers_of_activity_alone(warehouse: Warehouse) -> None:
    warehouse.load(events("click"), record("click", id="0"), schema("o"), record("o", id="0", n=1))
    process = warehouse.start(None)
    big = [record("o", id=str(n), text=TEXT, n=1.5) for n in range(1, 32_001)]
    process.send(schema("o"), *big)
    until(lambda: holds(warehouse, "o"), process)
    assert warehouse.query(f"SELECT count(*) FROM {SCHEMA}.activity") == [(1,)]
    process.finish().ok()
    assert warehouse.types("o")["n"] == "float"


def test_an_open_session_is_named_and_not_waited_for_for_ever(warehouse: Warehouse) -> None:
    warehouse.load(events("click"), record("click", id="0"))
    with session(warehouse, f"SELECT count(*) FROM {SCHEMA}.activity") as reader:
        process = warehouse.start(
            [events("click"), record("click", id="1", fresh=1), state({"t": 1})],
            lock_timeout_seconds=6,
        )
        until(lambda: waits(process), process)
        # Others read meanwhile, however long the target waits.
        longest = 0.0
        while process.zygote.wait(process.pid, 0) is None:
            began = time.monotonic()
            warehouse.query(f"SELECT count(*) FROM {SCHEMA}.activity")
            longest = max(longest, time.monotonic() - began)
            time.sleep(0.05)
        assert longest < 4
        result = process.finish().failed("lock_timeout_seconds", "notebook", "pg_terminate_backend")
        assert f"session {reader.info.backend_pid} " in result.stderr.splitlines()[-1]
        assert result.stderr.count("Waiting for") == 1
        assert result.states == []
    assert warehouse.rows("click", "id") == ["0"]


def test_an_open_session_is_waited_for(warehouse: Warehouse) -> None:
    warehouse.load(events("click"), record("click", id="0"))
    with session(warehouse, f"SELECT count(*) FROM {SCHEMA}.activity") as reader:
        process = warehouse.start([events("click"), record("click", id="1", fresh=1)])
        until(lambda: waits(process), process)
        reader.rollback()
        process.finish().ok()
    assert warehouse.by_id("click", "fresh") == {"0": None, "1": 1}
    warehouse.assert_activity_is_the_union(["click"])


def test_a_table_that_somebody_has_locked_for_writing(warehouse: Warehouse) -> None:
    lines = [schema("t"), record("t", id="1"), state({"t": 1})]
    warehouse.load(*lines)
    with session(warehouse, f"LOCK TABLE {SCHEMA}.t IN SHARE MODE") as holder:
        result = warehouse.run(schema("t"), record("t", id="2"), lock_timeout_seconds=1)
        result.failed("lock_timeout_seconds", f"session {holder.info.backend_pid} ")
    assert warehouse.rows("t", "id") == ["1"]


def test_another_run_that_does_not_end_is_named(warehouse: Warehouse) -> None:
    lock = f"SELECT pg_advisory_xact_lock(hashtext('segment:{SCHEMA}'))"
    with session(warehouse, lock) as other:
        lines = [schema("t"), record("t", id="1")]
        result = warehouse.run(*lines, lock_timeout_seconds=2)
        pid = f"session {other.info.backend_pid} "
        result.failed("lock_timeout_seconds", pid, f"Waiting for the schema {SCHEMA}")
        process = warehouse.start(lines)
        until(lambda: waits(process), process)
        other.rollback()
        process.finish().ok()
    assert warehouse.rows("t", "id") == ["1"]


@pytest.mark.parametrize("level", ["repeatable read", "serializable"])
def test_runs_that_overlap_where_transactions_are_isolated(
    warehouse: Warehouse, level: str
) -> None:
    lock = f"SELECT pg_advisory_xact_lock(hashtext('segment:{SCHEMA}'))"
    lines = [schema("o"), *(record("o", id=str(n), x=n) for n in range(50))]
    with database_setting(warehouse, "default_transaction_isolation", level):
        with session(warehouse, lock):
            processes = [warehouse.start(lines) for _ in range(2)]
            for process in processes:
                until(lambda p=process: waits(p), process)
        for process in processes:
            process.finish().ok()
    assert warehouse.count("o") == 50


def test_a_schema_that_somebody_makes_at_the_same_time(warehouse: Warehouse) -> None:
    with session(warehouse, f"CREATE SCHEMA {SCHEMA}") as other:
        process = warehouse.start([schema("t"), record("t", id="1")])
        until(
            lambda: warehouse.query("SELECT 1 FROM pg_stat_activity WHERE wait_event_type='Lock'"),
            process,
        )
        other.commit()
        process.finish().ok()
    assert warehouse.rows("t", "id") == ["1"]


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
