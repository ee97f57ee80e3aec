"""Each part with the field's own: our tap into other targets, another tap into our target."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest
from pipeline import BIN, ROOT, Pipeline, project_in
from sendgrid_simulator import RetryPolicy, Simulator

SELECT = '["lists.*", "segments.*", "campaigns.*", "recipients.*", "click.*", "bounce.*"]'


def sent(pipeline: Pipeline, event: str) -> int:
    messages = pipeline.simulator.account.messages
    return sum(e["event"] == event for message in messages for e in message.events)


@pytest.fixture
def fed(tmp_path: Path, simulator: Simulator) -> Iterator[Pipeline]:
    """A pipeline whose log holds the account's events."""
    pipeline = Pipeline(tmp_path, simulator, "duckdb:///unused", project_in(tmp_path / "project"))
    pipeline.start_receiver()
    simulator.deliver(retry=RetryPolicy(first=0.1))
    yield pipeline
    pipeline.stop()


def test_target_jsonl(fed: Pipeline) -> None:
    fed.meltano(
        "run",
        "tap-sendgrid",
        "target-jsonl",
        TAP_SENDGRID__SELECT=SELECT,
        TARGET_JSONL_DESTINATION_PATH=str(fed.folder),
    )
    lines = {
        path.name.split("-")[0]: [json.loads(line) for line in path.read_text().splitlines()]
        for path in fed.folder.glob("*.jsonl")
    }
    assert len(lines["recipients"]) == fed.simulator.options.contacts
    assert len(lines["click"]) == sent(fed, "click")
    assert {r["event"] for r in lines["click"]} == {"click"}


def test_meltanolabs_target_postgres(fed: Pipeline, postgres_url: str) -> None:
    fed.meltano(
        "run",
        "tap-sendgrid",
        "target-postgres",
        TAP_SENDGRID__SELECT=SELECT,
        TARGET_POSTGRES_SQLALCHEMY_URL=postgres_url.replace(
            "postgresql://", "postgresql+psycopg://"
        ),
    )
    with psycopg.connect(postgres_url) as connection:
        found = {
            table: connection.execute(f"SELECT count(*) FROM sendgrid.{table}").fetchone()[0]
            for table in ("lists", "recipients", "click", "bounce")
        }
    assert found == {
        "lists": len(fed.simulator.account.lists),
        "recipients": fed.simulator.options.contacts,
        "click": sent(fed, "click"),
        "bounce": sent(fed, "bounce"),
    }


@pytest.fixture
def people(tmp_path: Path) -> Path:
    """A CSV file for another public tap."""
    path = tmp_path / "people.csv"
    path.write_text("id,full_name,age\n1,Ann,31\n2,Bob,\n3,Cléo,57\n")
    return path


def test_another_public_tap(tmp_path: Path, people: Path) -> None:
    """tap-spreadsheets (Meltano SDK, reads local files) into our target, twice: no row is added."""
    config = tmp_path / "tap.json"
    config.write_text(
        json.dumps(
            {
                "files": [
                    {
                        "path": str(people),
                        "format": "csv",
                        "table_name": "people",
                        "primary_keys": ["id"],
                    }
                ]
            }
        )
    )
    url = f"duckdb:///{tmp_path / 'w.duckdb'}"
    target = tmp_path / "target.json"
    target.write_text(json.dumps({"warehouse_url": url, "default_target_schema": "office"}))
    tap = [
        str(ROOT / ".tools/bin/uv"),
        "tool",
        "run",
        "--quiet",
        "--from",
        "tap-spreadsheets==1.1.2",
    ]
    for _ in range(2):
        messages = subprocess.run(
            [*tap, "tap-spreadsheets", "--config", str(config)], check=True, capture_output=True
        ).stdout
        subprocess.run(
            [str(BIN / "target-segment-warehouse"), "--config", str(target)],
            input=messages,
            check=True,
            capture_output=True,
        )
    reader = Pipeline(tmp_path, None, url)  # type: ignore[arg-type]
    names = reader.query('SELECT full_name FROM office.people ORDER BY "id"')
    assert names == [("Ann",), ("Bob",), ("Cléo",)]
