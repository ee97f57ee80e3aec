"""A target killed in the middle of a load, and the same run again: as if nothing had happened."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from contextlib import suppress
from pathlib import Path

from pipeline import BIN, Pipeline
from sendgrid_simulator import RetryPolicy, generate_events

FLUSH = ("run", "--force", "tap-sendgrid-events", "target-segment-warehouse")


def target_of(pipeline: Pipeline) -> int | None:
    """Process id of the target that a running `meltano` has started for this pipeline."""
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        try:
            command = (entry / "cmdline").read_bytes()
            environment = (entry / "environ").read_bytes()
        except OSError:
            continue
        mine = str(pipeline.folder).encode() in environment
        if mine and b"bin/target-segment-warehouse" in command:
            return int(entry.name)
    return None


def kill_target(pipeline: Pipeline, after_flush: bool) -> bool:
    """Start a flush, kill the target with SIGKILL once it is at work; whether it was killed."""
    environment = pipeline.environment(TARGET_SEGMENT_WAREHOUSE_MAX_BATCH_ROWS="2000")
    run = subprocess.Popen(
        [str(BIN / "meltano"), *FLUSH],
        cwd=pipeline.project,
        env=environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    killed = False
    while run.poll() is None and not killed:
        process = target_of(pipeline)
        if process and (not after_flush or rows(pipeline) > 0):
            with suppress(ProcessLookupError):  # it came to its end meanwhile
                os.kill(process, signal.SIGKILL)
                killed = True
        time.sleep(0.05)
    run.wait(120)
    return killed


def rows(pipeline: Pipeline) -> int:
    """Rows of activity that a reader sees now; 0 while there is none or the file is held."""
    try:
        return pipeline.count("activity")
    except Exception:
        return 0


def test_killed_target(pipeline: Pipeline) -> None:
    pipeline.start_receiver()
    events = list(generate_events(5000, seed=3))
    pipeline.simulator.deliver(events, batch_size=200, retry=RetryPolicy(first=0.1))
    # Before the first commit, and between two of them.
    kills = [kill_target(pipeline, after_flush=False), kill_target(pipeline, after_flush=True)]
    assert kills[0]
    pipeline.meltano(*FLUSH)
    expected = {e["sg_event_id"] for e in events if "sg_event_id" in e}
    found = [i for (i,) in pipeline.query("SELECT id FROM sendgrid.activity")]
    assert len(found) == len(set(found)) == len(events)
    assert expected <= set(found)
