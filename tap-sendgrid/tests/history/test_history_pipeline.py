"""An event that came by webhook and by backfill is one row of the warehouse."""

from __future__ import annotations

import json
import subprocess
import sys
from datetime import timedelta
from pathlib import Path

import duckdb
from sendgrid_simulator import Simulator
from tap_sendgrid.event_log import EventLog
from tap_sendgrid.events import event_stream_classes
from tap_sendgrid.history.backfill import as_deliveries
from tap_sendgrid.tap import TapSendGrid

from .conftest import Command, first_message_at, webhook_events

TAP = "from tap_sendgrid.__main__ import main; main()"
TARGET = (
    "from target_segment_warehouse.target import TargetSegmentWarehouse;"
    "TargetSegmentWarehouse.cli()"
)


def load(folder: Path, log_url: str) -> None:
    """Run the tap into the target, from the start of the log."""
    config = {"event_log_url": log_url}
    catalog = TapSendGrid(config=config).catalog_dict
    names = {stream_class.name for stream_class in event_stream_classes}
    for stream in catalog["streams"]:
        for entry in stream["metadata"]:
            if not entry["breadcrumb"]:
                entry["metadata"]["selected"] = stream["tap_stream_id"] in names
    target = {
        "warehouse_url": f"duckdb:///{folder / 'warehouse.duckdb'}",
        "default_target_schema": "sendgrid",
    }
    for name, content in {"config": config, "catalog": catalog, "target": target}.items():
        (folder / f"{name}.json").write_text(json.dumps(content))
    files = ["--config", str(folder / "config.json"), "--catalog", str(folder / "catalog.json")]
    messages = subprocess.run(
        [sys.executable, "-c", TAP, *files], check=True, capture_output=True, timeout=200
    ).stdout
    arguments = ["--config", str(folder / "target.json")]
    subprocess.run(
        [sys.executable, "-c", TARGET, *arguments],
        check=True,
        capture_output=True,
        input=messages,
        timeout=200,
    )


def rows(folder: Path) -> dict[str, int]:
    with duckdb.connect(str(folder / "warehouse.duckdb"), read_only=True) as connection:
        found = connection.execute("SELECT event, count(*) FROM sendgrid.activity GROUP BY 1")
        return dict(found.fetchall())


def test_an_event_that_came_both_ways_is_one_row(
    simulator: Simulator, log: EventLog, log_url: str, command: Command, tmp_path: Path
) -> None:
    events = webhook_events(simulator)
    since = first_message_at(simulator)
    log.append(list(as_deliveries(events, since + timedelta(hours=1))))
    load(tmp_path, log_url)
    before = rows(tmp_path)
    assert sum(before.values()) == len(events)
    result = command(simulator, "backfill", "--since", since.isoformat())
    assert result.exit_code == 0, result.output
    load(tmp_path, log_url)
    assert rows(tmp_path) == before
