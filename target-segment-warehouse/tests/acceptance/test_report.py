"""``--report``: the latest runs, from the warehouse; it only reads."""

from __future__ import annotations

import json
import os
from urllib.parse import urlsplit, urlunsplit

import psycopg
import pytest

from .harness import SCHEMA, Warehouse
from .messages import events, record, schema
from .processes import command


def test_the_report_of_the_latest_runs(warehouse: Warehouse) -> None:
    config = warehouse.folder / "config.json"
    config.write_text(json.dumps(warehouse.settings()))
    warehouse.load(events("click"), record("click", id="1", n=1))
    warehouse.load(events("click"), record("click", id="2", n=1.5, fresh="x"))
    warehouse.load(schema("lists"), record("lists", id="1"), record("lists", id="2"))
    done = command("--config", str(config), "--report", "2")
    assert done.returncode == 0, done.stderr.decode()
    text = done.stdout.decode()
    for word in ("click", "lists", "Success", "fresh", "n: integer to float"):
        assert word in text, text
    assert text.count("Run ") == 2
    assert len(warehouse.rows("sync_reports", "run_id")) == 3  # it reports no run of its own


def test_the_report_of_nothing_makes_nothing(warehouse: Warehouse) -> None:
    config = warehouse.folder / "config.json"
    if warehouse.engine == "duckdb":
        folder = warehouse.folder / "not" / "there"
        warehouse.url = f"duckdb:///{folder / 'warehouse.duckdb'}"
    config.write_text(json.dumps(warehouse.settings()))
    done = command("--config", str(config), "--report", "2")
    assert done.returncode == 1
    told = done.stderr.decode()
    assert "Traceback" not in told
    if warehouse.engine == "duckdb":
        assert str(folder) in told
        assert "warehouse_url" in told
        assert not folder.parent.exists()
    else:
        assert f"no schema {SCHEMA}" in told
        assert "default_target_schema" in told
        assert not warehouse.query(f"SELECT 1 FROM pg_namespace WHERE nspname = '{SCHEMA}'")


def test_the_report_of_a_schema_that_is_not_there(warehouse: Warehouse) -> None:
    warehouse.load(schema("lists"), record("lists", id="1"))
    config = warehouse.folder / "config.json"
    config.write_text(json.dumps(warehouse.settings(default_target_schema="other")))
    done = command("--config", str(config), "--report", "2")
    assert done.returncode == 1
    assert "no schema other" in done.stderr.decode()
    assert warehouse.relations("other") == {}


@pytest.mark.parametrize("engine", ["postgres"], indirect=True)
def test_the_report_neither_waits_for_a_run_nor_writes(warehouse: Warehouse) -> None:
    warehouse.load(schema("lists"), record("lists", id="1"))
    role = f"reader_{os.getpid()}"
    warehouse.execute(f"CREATE ROLE {role} LOGIN")
    try:
        parts = urlsplit(warehouse.url)
        host = parts.netloc.rpartition("@")[2]
        url = urlunsplit(parts._replace(netloc=f"{role}@{host}"))
        config = warehouse.folder / "config.json"
        config.write_text(json.dumps(warehouse.settings(warehouse_url=url)))
        refused = command("--config", str(config), "--report", "2")
        assert refused.returncode == 1
        assert "GRANT USAGE ON SCHEMA" in refused.stderr.decode()
        assert "LINE 1" not in refused.stderr.decode()
        warehouse.execute(f"GRANT USAGE ON SCHEMA {SCHEMA} TO {role}")
        warehouse.execute(f"GRANT SELECT ON {SCHEMA}.sync_reports TO {role}")
        with psycopg.connect(warehouse.url) as run:
            run.execute(f"SELECT pg_advisory_xact_lock(hashtext('segment:{SCHEMA}'))")
            done = command("--config", str(config), "--report", "2")
        assert done.returncode == 0, done.stderr.decode()
        assert "lists" in done.stdout.decode()
    finally:
        warehouse.execute(f"DROP OWNED BY {role}")
        warehouse.execute(f"DROP ROLE {role}")
