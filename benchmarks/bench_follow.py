"""How long an event takes from SendGrid's POST to a row that a reader of the DuckDB file sees.

    python benchmarks/bench_follow.py [--seconds 60] [--rate 1000] [--meltano]

Receiver, tap with `follow`, target and load generator share the machine. A reader opens the file
read-only over and over, as a dashboard does, and takes what is new; the latency of an event is the
time from the start of its POST to the end of the query that first returned it.
"""

from __future__ import annotations

import argparse
import itertools
import json
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import duckdb
from measure import HERE, save, table
from sendgrid_simulator import RetryPolicy, Simulator, SimulatorOptions, WebhookSender
from sendgrid_simulator.messages import generate_events
from sendgrid_simulator.sender import Batch
from sendgrid_simulator.signing import encode_event

sys.path.insert(0, str(HERE.parent / "tests"))
from pipeline import BIN, Pipeline, project_in

EVENTS_A_POST = 20
READ_EVERY_SECONDS = 0.5
PATIENCE_SECONDS = 60


class Load:
    """Numbered events at a steady rate; remembers when each was posted."""

    def __init__(self, url: str, key, rate: float) -> None:
        self.posted: list[float] = []
        self._until = 0.0
        self._sender = WebhookSender(
            url, key, connections=8, rate=rate, retry=RetryPolicy(first=0.2)
        )

    def run(self, seconds: float):
        """Send for so long; the sender's report."""
        self._until = time.monotonic() + seconds
        return self._sender.send(self._batches())

    def _batches(self) -> Iterator[Batch]:
        patterns = list(generate_events(3000, seed=5))
        for pattern in itertools.cycle(range(0, len(patterns) - EVENTS_A_POST, EVENTS_A_POST)):
            if time.monotonic() > self._until:
                return
            encoded = []
            for event in patterns[pattern : pattern + EVENTS_A_POST]:
                number = len(self.posted)
                self.posted.append(time.monotonic())
                encoded.append(
                    encode_event(event | {"number": number, "sg_event_id": f"follow-{number}"})
                )
            yield Batch(encoded)


class Reader:
    """Sees rows the way a dashboard does, and notes when it first saw each."""

    def __init__(self, path: Path) -> None:
        self.seen: dict[int, float] = {}
        self.reads = self.refused = 0
        self._path = path
        self._last = "1970-01-01"
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def wait_for(self, count: int) -> None:
        """Return when so many rows were seen, and stop reading."""
        deadline = time.monotonic() + PATIENCE_SECONDS
        while len(self.seen) < count and time.monotonic() < deadline:
            time.sleep(0.1)
        self._stop.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._stop.wait(READ_EVERY_SECONDS):
            try:
                with duckdb.connect(str(self._path), read_only=True) as connection:
                    rows = connection.execute(
                        "SELECT number, uuid_ts::VARCHAR FROM sendgrid.activity"
                        " WHERE uuid_ts > $1::TIMESTAMPTZ",
                        [self._last],
                    ).fetchall()
            except (duckdb.IOException, duckdb.CatalogException, duckdb.BinderException):
                self.refused += 1  # a flush has the file, or the first is not there yet
                continue
            now = time.monotonic()
            self.reads += 1
            for number, loaded_at in rows:
                self.seen.setdefault(number, now)
                self._last = max(self._last, loaded_at)


def start_following(pipeline: Pipeline, meltano: bool) -> list[subprocess.Popen]:
    """Tap and target; the first is the one to stop."""
    settings = {
        "TAP_SENDGRID_FOLLOW": "true",
        "TARGET_SEGMENT_WAREHOUSE_MAX_BATCH_AGE_SECONDS": "1",
    }
    environment = pipeline.environment(**settings)
    log = (pipeline.folder / "follow.log").open("ab")
    if meltano:
        command = [BIN / "meltano", "run", "tap-sendgrid-events", "target-segment-warehouse"]
        return [
            subprocess.Popen(command, cwd=pipeline.project, env=environment, stdout=log, stderr=log)
        ]
    catalog = pipeline.command("tap-sendgrid", "--discover", TAP_SENDGRID_API_KEY="").stdout
    found = json.loads(catalog)
    found["streams"] = [s for s in found["streams"] if s.get("replication_key") == "log_offset"]
    (pipeline.folder / "catalog.json").write_text(json.dumps(found))
    settings = {"warehouse_url": pipeline.warehouse_url, "max_batch_age_seconds": 1}
    (pipeline.folder / "target.json").write_text(json.dumps(settings))
    tap = subprocess.Popen(
        [BIN / "tap-sendgrid", "--config=ENV", f"--catalog={pipeline.folder / 'catalog.json'}"],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=log,
    )
    target = subprocess.Popen(
        [BIN / "target-segment-warehouse", f"--config={pipeline.folder / 'target.json'}"],
        env=environment,
        stdin=tap.stdout,
        stdout=subprocess.DEVNULL,
        stderr=log,
    )
    assert tap.stdout is not None
    tap.stdout.close()
    return [tap, target]


def percentile(ordered: list[float], share: float) -> float:
    return ordered[min(len(ordered) - 1, int(len(ordered) * share))]


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--rate", type=float, default=1000)
    parser.add_argument("--meltano", action="store_true", help="under `meltano run`")
    given = parser.parse_args()
    with (
        tempfile.TemporaryDirectory(prefix="follow-") as name,
        Simulator(SimulatorOptions(contacts=1, messages=1, seed=1)) as simulator,
    ):
        folder = Path(name)
        warehouse = folder / "warehouse.duckdb"
        pipeline = Pipeline(
            folder, simulator, f"duckdb:///{warehouse}", project_in(folder / "project")
        )
        pipeline.start_receiver()
        following = start_following(pipeline, given.meltano)
        try:
            webhook = simulator.account.webhooks[-1]
            load = Load(webhook.url, webhook.private_key, given.rate)
            time.sleep(10 if given.meltano else 5)  # until both are up
            reader = Reader(warehouse)
            print(f"sending {given.rate:,.0f} events/s for {given.seconds:.0f} s ...", flush=True)
            report = load.run(given.seconds)
            reader.wait_for(len(load.posted))
        finally:
            following[0].terminate()
            codes = [process.wait(60) for process in following]
            pipeline.stop()
    if not reader.seen:
        raise SystemExit("no row was ever seen")
    missing = len(load.posted) - len(reader.seen)
    latencies = sorted(seen - load.posted[number] for number, seen in reader.seen.items())
    result = {
        "events": len(load.posted),
        "events_per_second": round(len(load.posted) / report.seconds),
        "missing": missing,
        "retries": report.retried,
        "p50_seconds": round(statistics.median(latencies), 2),
        "p99_seconds": round(percentile(latencies, 0.99), 2),
        "max_seconds": round(latencies[-1], 2),
        "reads": reader.reads,
        "reads_while_a_flush_had_the_file": reader.refused,
        "under_meltano": given.meltano,
    }
    print(table(["", ""], [[key.replace("_", " "), str(value)] for key, value in result.items()]))
    print(f"exit codes after SIGTERM: {codes}")
    save("follow-meltano" if given.meltano else "follow", result)
    return 0 if not missing and result["p99_seconds"] < 10 else 1


if __name__ == "__main__":
    sys.exit(main())
