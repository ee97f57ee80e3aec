"""`make demo`: a SendGrid on localhost, all the way into a DuckDB file, with nothing to set up.

With TAP_SENDGRID_API_KEY set, the same meltano.yml runs against the real SendGrid instead: objects
from its API, and the events that your receiver has logged.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import duckdb
from pipeline import BIN, ROOT, Pipeline
from sendgrid_simulator import RetryPolicy, Simulator, SimulatorOptions

WAREHOUSE = ROOT / "output" / "warehouse.duckdb"
RUN = ("run", "tap-sendgrid", "target-segment-warehouse")
RUN_EVENTS = ("run", "tap-sendgrid-events", "target-segment-warehouse")

FUNNEL = """
WITH funnel AS (
    SELECT
        count(DISTINCT sg_message_id) FILTER (event = 'processed') AS processed,
        count(DISTINCT sg_message_id) FILTER (event = 'delivered') AS delivered,
        count(DISTINCT sg_message_id) FILTER (event = 'open') AS opened,
        count(DISTINCT sg_message_id) FILTER (event = 'click') AS clicked
    FROM sendgrid.activity
)
UNPIVOT funnel ON processed, delivered, opened, clicked INTO NAME step VALUE messages
"""


def say(text: str) -> None:
    print(f"\n\033[1m{text}\033[0m" if sys.stdout.isatty() else f"\n{text}", flush=True)


def against_simulator() -> None:
    """Simulator and receiver as they would be in the world, then Meltano."""
    folder = Path(tempfile.mkdtemp(prefix="sendgrid-demo-"))
    options = SimulatorOptions(
        contacts=1000, lists=4, segments=3, campaigns=6, messages=2000, seed=7
    )
    with Simulator(options) as simulator:
        pipeline = Pipeline(folder, simulator, f"duckdb:///{WAREHOUSE}")
        try:
            say(f"1. A SendGrid on localhost: {simulator.url}, {options.contacts:,} contacts")
            say("2. The receiver: every delivery is on disk before it is answered")
            pipeline.start_receiver()
            (report,) = simulator.deliver(retry=RetryPolicy())
            print(
                f"   {report.deliveries:,} signed deliveries with {report.events:,} events sent,"
                f" {report.acknowledged:,} acknowledged"
            )
            for number, arguments in enumerate((RUN, RUN_EVENTS), 3):
                say(f"{number}. meltano {' '.join(arguments)}")
                run(arguments, pipeline.environment())
        finally:
            pipeline.stop()
            shutil.rmtree(folder, ignore_errors=True)


def run(arguments: tuple[str, ...], environment: dict[str, str]) -> None:
    """Run Meltano; its log goes to the screen only when the run fails."""
    start = time.monotonic()
    result = subprocess.run(
        [str(BIN / "meltano"), *arguments],
        cwd=ROOT,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    if result.returncode:
        sys.exit(f"{result.stdout}\nmeltano {' '.join(arguments)} failed; its log is above.")
    print(f"   done in {time.monotonic() - start:.1f} s")


def show() -> None:
    """Print each collection with its rows, and a funnel read from activity."""
    with duckdb.connect(str(WAREHOUSE), read_only=True) as warehouse:
        collections = [
            name
            for (name,) in warehouse.execute(
                "SELECT table_name FROM information_schema.tables"
                " WHERE table_schema = 'sendgrid' AND table_name <> 'sync_reports'"
                " AND (NOT starts_with(table_name, '_') OR table_name = '_open')"
                " ORDER BY table_name <> 'activity', table_name"
            ).fetchall()
        ]
        say(f"Collections in {WAREHOUSE.relative_to(ROOT)}, schema sendgrid")
        for name in collections:
            ((rows,),) = warehouse.execute(f'SELECT count(*) FROM sendgrid."{name}"').fetchall()
            print(f"   {name:24} {rows:>9,}")
        say("A funnel from activity (messages)")
        steps = warehouse.execute(FUNNEL).fetchall()
    most = max((messages for _, messages in steps), default=0) or 1
    for step, messages in steps:
        bar = "█" * round(30 * messages / most)
        print(f"   {step:10} {messages:>9,}  {messages / most:>4.0%} {bar}")
    say("Look around")
    print(
        f"   .venv/bin/python -c \"import duckdb; duckdb.connect('{WAREHOUSE.relative_to(ROOT)}')"
        ".sql('FROM sendgrid.activity LIMIT 5').show()\""
    )


def main() -> None:
    """Run the demo."""
    WAREHOUSE.parent.mkdir(exist_ok=True)
    if os.environ.get("TAP_SENDGRID_API_KEY"):
        say("TAP_SENDGRID_API_KEY is set: the real SendGrid")
        environment = dict(os.environ)
        for arguments in (RUN, RUN_EVENTS):
            say(f"meltano {' '.join(arguments)}")
            run(arguments, environment)
    else:
        WAREHOUSE.unlink(missing_ok=True)
        against_simulator()
    show()


if __name__ == "__main__":
    main()
