"""The short form of `make chaos`, and whether its verdict would see what it looks for."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import uuid
from pathlib import Path
from typing import Any

import duckdb
import pytest
from chaos import fuzz, wire
from chaos.endpoint import Endpoint
from chaos.forwarding import Forwarding
from chaos.load import Ledger
from chaos.processes import MARK, Processes
from chaos.verify import Verdict, judge_reports, judge_rows
from pipeline import ROOT
from sendgrid_simulator import new_private_key, public_key_text, sign_delivery


@pytest.mark.parametrize(
    ("engine", "log", "more"), [("duckdb", "sqlite", ()), ("postgres", "nats", ("--oauth",))]
)
def test_nothing_acknowledged_is_lost_or_twice(
    engine: str, log: str, more: tuple[str, ...]
) -> None:
    environment = os.environ | {"PYTHONPATH": str(ROOT / "tests")}
    run = subprocess.run(
        [
            *(sys.executable, "-m", "chaos", "--no-meltano", "--seconds=8", "--rate=200"),
            *("--receivers=1", "--fault-pause=0.7", f"--engine={engine}", f"--log={log}"),
            *more,
        ],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        timeout=240,
    )
    assert run.returncode == 0, run.stdout + run.stderr
    figures = dict(line.split("  ", 1) for line in run.stdout.splitlines() if line.startswith("**"))
    assert {name: value.strip() for name, value in figures.items()} == {
        "**lost**": "0",
        "**lost from activity**": "0",
        "**lost from quarantine**": "0",
        "**forwarded lost**": "0",
        "**forwarded spoiled**": "0",
        "**twice**": "0",
        "**never sent**": "0",
    }
    assert "kill -9 in all" in run.stdout


@pytest.fixture
def warehouse() -> Any:
    """Three events of three tables, as they should be, and the report of their run."""
    with duckdb.connect() as connection:
        connection.execute("CREATE SCHEMA sendgrid; USE sendgrid")
        for table, number in (("delivered", 0), ("click", 1), ("_open", 2)):
            connection.execute(
                f"CREATE TABLE {table} AS SELECT 'id-{number}' AS id, {number} AS number"
            )
        connection.execute(
            "CREATE VIEW activity AS FROM delivered UNION ALL FROM click UNION ALL FROM _open"
        )
        connection.execute(
            "CREATE TABLE sync_reports AS FROM (VALUES ('delivered', 1, 'Success'),"
            " ('click', 1, 'Success'), ('_open', 1, 'Running'))"
            " AS t(table_name, rows_inserted, status)"
        )
        yield connection


def judged(warehouse: Any) -> Verdict:
    ledger = Ledger()
    for table in ("delivered", "click", "_open", "bounce"):
        ledger.made(table)
    ledger.acknowledged[0:3] = b"\1\1\1"  # the fourth was sent and never acknowledged

    def query(sql: str) -> list[tuple[Any, ...]]:
        return warehouse.execute(sql).fetchall()

    verdict = Verdict()
    judge_rows(query, ledger, verdict)
    judge_reports(query, verdict)
    return verdict


def test_a_whole_warehouse_is_good(warehouse: Any) -> None:
    verdict = judged(warehouse)
    assert verdict.good
    assert verdict.rows == 3


@pytest.mark.parametrize(
    ("damage", "where"),
    [
        ("DELETE FROM click", {"lost", "lost_from_activity", "odd"}),
        ("INSERT INTO click FROM click", {"twice", "odd"}),
        ("INSERT INTO click VALUES ('id-0', 0)", {"unknown", "odd", "twice"}),
        ("INSERT INTO click VALUES ('x', 77)", {"unknown", "odd"}),
        ("INSERT INTO click VALUES ('x', NULL)", {"unknown", "odd"}),
        (
            "CREATE OR REPLACE VIEW activity AS FROM delivered UNION ALL FROM click",
            {"lost_from_activity"},
        ),
        ("UPDATE sync_reports SET status = 'Unheard of'", {"odd"}),
    ],
)  # fmt: skip
def test_damage_is_seen(warehouse: Any, damage: str, where: set[str]) -> None:
    warehouse.execute(damage)
    verdict = judged(warehouse)
    assert not verdict.good
    assert {name for name, found in vars(verdict).items() if isinstance(found, list) and found} == (
        where
    )
    assert len(verdict.problems()) >= len(where)


def test_what_an_endpoint_did_not_get_as_sent_is_seen(tmp_path: Path) -> None:
    ledger, taken, calm = Ledger(), tmp_path / "endpoint.taken", tmp_path / "endpoint.calm"
    calm.touch()
    key = new_private_key()
    posts = [sign_delivery([{"number": ledger.made("click")}], key) for _ in range(4)]
    for number, (body, _) in enumerate(posts):
        ledger.acknowledge([body.strip(b"[]\r\n")])
        assert len(ledger.bodies) == number + 1
    with Endpoint(0, public_key_text(key), taken, calm, 1) as endpoint:
        (body, headers), altered, renamed = posts[0], posts[1], posts[2]
        assert endpoint.answer(body, headers) == 204
        assert endpoint.answer(body, headers) == 204
        endpoint.answer(altered[0].replace(b"number", b"Number"), altered[1])
        endpoint.answer(renamed[0], renamed[1] | {"User-Agent": "somebody else"})
    forwarding = Forwarding(Processes(tmp_path, {MARK: "none"}), 1, 1)
    verdict = Verdict()
    forwarding.judge(ledger, verdict)
    assert sorted(forwarding.copies.values()) == [2]
    assert len(verdict.forwarded_lost) == 3
    assert len(verdict.forwarded_spoiled) == 2
    assert not verdict.good


def test_hostile_input_in_the_short_form(tmp_path: Path) -> None:
    seed = uuid.uuid4().int % 1_000_000
    answers = asyncio.run(fuzz.fuzz_receiver(range(1000), seed, tmp_path))
    assert answers["204"] > 200
    assert answers["401"] > 100
    seen = asyncio.run(wire.fuzz_server(100, seed, tmp_path))
    assert seen["204"] > 20
    counts = fuzz.fuzz_parsing(range(2000), seed)
    assert counts["records"] > 1000
    assert counts["rejected"] > 100
