"""`meltano run` over a log of events: our target against target-duckdb behind the same tap.

    python benchmarks/bench_pipeline.py [--events 1000000]

Wall time of `meltano run`, start-up of Meltano and both plugins included. Ours twice: with events
as lines (RECORD messages), as target-duckdb takes them, and in files (BATCH messages, which it
cannot take), as docs/events.md recommends for millions of events. Of three runs of ours the one in
the middle counts.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
from datetime import UTC, datetime
from pathlib import Path

import duckdb
import yaml
from measure import HERE, TIMES, machine, middle, run, save, table

ROOT = HERE.parent
sys.path.insert(0, str(ROOT / "tests"))

from pipeline import BIN, FOREIGN, project_in  # noqa: E402
from sendgrid_simulator import frame, generate_events  # noqa: E402
from tap_sendgrid.event_log import Delivery, open_event_log  # noqa: E402

PEER = "target-duckdb==0.8.0"
OURS = "target-segment-warehouse"


def fill_log(path: Path, events: int) -> int:
    """Log deliveries of 1,000 events until there are so many; return how many there are."""
    log = open_event_log(f"sqlite:///{path}")
    batch: list[dict] = []
    written = 0
    for event in generate_events(events, seed=5):
        batch.append(event)
        if len(batch) == 1000:
            log.append([Delivery(frame(batch), datetime.now(UTC))])
            written += len(batch)
            batch = []
            if written >= events:
                break
    log.close()
    return written


def project(folder: Path, warehouse: Path) -> Path:
    """Our meltano.yml with target-duckdb beside our target."""
    made = project_in(folder)
    config = yaml.safe_load((made / "meltano.yml").read_text())
    (made / ".meltano" / "loaders").unlink()
    (made / ".meltano" / "loaders").mkdir()
    for installed in (ROOT / ".meltano" / "loaders").iterdir():
        (made / ".meltano" / "loaders" / installed.name).symlink_to(installed)
    config["plugins"]["loaders"].append(
        {
            "name": "target-duckdb",
            "namespace": "target_duckdb",
            "pip_url": PEER,
            "executable": "target-duckdb",
            "settings": [{"name": "path"}, {"name": "default_target_schema"}],
            "config": {"path": str(warehouse), "default_target_schema": "sendgrid"},
        }
    )
    (made / "meltano.yml").write_text(yaml.safe_dump(config))
    return made


def batch_files(made: Path, folder: Path | None) -> None:
    """Have the tap put events into files in a folder, which the target removes; or not."""
    config = yaml.safe_load((made / "meltano.yml").read_text())
    tap = next(p for p in config["plugins"]["extractors"] if p["name"] == "tap-sendgrid-events")
    target = next(p for p in config["plugins"]["loaders"] if p["name"] == OURS)
    tap["config"] = {}
    if folder is not None:
        tap["config"]["batch_config"] = {
            "encoding": {"format": "jsonl", "compression": "none"},
            "storage": {"root": folder.as_uri()},
        }
    target["config"] = {"clean_up_batch_files": folder is not None}
    (made / "meltano.yml").write_text(yaml.safe_dump(config))


def rows_in(file: Path) -> int:
    """How many rows the tables of events hold."""
    with duckdb.connect(str(file), read_only=True) as connection:
        tables = connection.execute(
            "SELECT table_name FROM information_schema.tables"
            " WHERE table_schema = 'sendgrid' AND table_type = 'BASE TABLE'"
            " AND table_name <> 'sync_reports'"
            " AND (NOT starts_with(table_name, '_') OR table_name = '_open')"
        ).fetchall()
        return sum(
            connection.execute(f'SELECT count(*) FROM sendgrid."{table}"').fetchone()[0]
            for (table,) in tables
        )


def main() -> None:
    """Run both and print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--events", type=int, default=1_000_000)
    options = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="bench-pipeline-"))
    rows = []
    try:
        peer_file = folder / "peer.duckdb"
        made = project(folder / "project", peer_file)
        log = folder / "events.db"
        count = fill_log(log, options.events)
        environment = {k: v for k, v in os.environ.items() if not FOREIGN.match(k)} | {
            "PATH": f"{ROOT / '.tools/bin'}:{BIN}:{os.environ['PATH']}",
            "MELTANO_PROJECT_ROOT": str(made),
            "MELTANO_DATABASE_URI": f"sqlite:///{folder / 'meltano.db'}",
            "TAP_SENDGRID_EVENT_LOG_URL": f"sqlite:///{log}",
        }
        meltano = str(BIN / "meltano")
        subprocess.run(
            [meltano, "install", "loader", "target-duckdb"], cwd=made, env=environment, check=True
        )
        os.chdir(made)
        for target, messages in ((OURS, "RECORD"), (OURS, "BATCH"), ("target-duckdb", "RECORD")):
            file = peer_file if target != OURS else folder / f"{messages}.duckdb"
            config = {"TARGET_SEGMENT_WAREHOUSE_WAREHOUSE_URL": f"duckdb:///{file}"}
            batch_files(made, folder / "files" if messages == "BATCH" else None)
            command = [meltano, "run", "--full-refresh", "tap-sendgrid-events", target]
            log_file = folder / f"{target}-{messages}.log"
            results = []
            for _ in range(TIMES if target == OURS else 1):
                file.unlink(missing_ok=True)
                results.append(run(command, None, log_file, environment | config))
                print(target, messages, round(results[-1].seconds, 2), "s", flush=True)
            result = middle(results)
            rows.append(
                {
                    "target": target,
                    "messages": messages,
                    "events": count,
                    "rows": rows_in(file),
                    "seconds": round(result.seconds, 2),
                    "cpu_seconds": round(result.cpu_seconds, 2),
                    "events_per_second": round(count / result.seconds),
                }
            )
            print(rows[-1], flush=True)
    finally:
        os.chdir(ROOT)
        shutil.rmtree(folder, ignore_errors=True)
    save("pipeline", {"rows": rows})
    print(machine())
    print(table(list(rows[0]), [[str(v) for v in r.values()] for r in rows]))


if __name__ == "__main__":
    main()
