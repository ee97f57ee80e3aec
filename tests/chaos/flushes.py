"""Flushes, over and over: ``tap | target`` with a state file, and ``meltano run``."""

from __future__ import annotations

import functools
import json
import random
import subprocess
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipeline import BIN

from chaos.processes import Processes

MELTANO = ("run", "--force", "tap-sendgrid-events", "target-segment-warehouse")
SCHEMA = "sendgrid"


@dataclass
class Counts:
    """What became of flushes: how many began, how many did not end well, STATEs kept and lost."""

    runs: int = 0
    failed: int = 0
    states: int = 0
    lost_states: int = 0

    def ended(self, well: bool) -> bool:
        """Count a run."""
        self.runs += 1
        self.failed += not well
        return well


class DirectFlush:
    """``tap-sendgrid | target-segment-warehouse``, its state kept in a file as Meltano keeps it.

    Every STATE that the target emits replaces the file. A lost keeper (``lose_keeper``) stores no
    more of them for that run, as when Meltano or the machine dies after a commit.

    Args:
        processes: Starts the two.
        event_log_url: What the tap reads.
        warehouse_url: Where the target writes.
    """

    consumer = "chaos-direct"

    def __init__(self, processes: Processes, event_log_url: str, warehouse_url: str) -> None:
        self._processes = processes
        self._folder = processes.folder
        self.state_file = self._folder / "state.json"
        self.counts = Counts()
        self._keeper_lost = threading.Event()
        self._following: subprocess.Popen[bytes] | None = None
        tap = {"event_log_url": event_log_url, "event_log_consumer": self.consumer}
        self._tap = [str(BIN / "tap-sendgrid"), "--catalog", self._catalog()]
        self._config = {
            follow: self._write(f"tap-{follow}.json", tap | {"follow": follow})
            for follow in (True, False)
        }
        target = {"warehouse_url": warehouse_url, "default_target_schema": SCHEMA}
        self._target = {
            age: self._write(
                f"target-{age}.json",
                target | {"max_batch_age_seconds": age, "max_batch_rows": rows},
            )
            for age, rows in ((1, 1000), (60, 20_000))
        }

    @property
    def state(self) -> dict[str, Any]:
        """The state as it is kept."""
        return json.loads(self.state_file.read_text()) if self.state_file.exists() else {}

    def lose_keeper(self) -> None:
        """Store no state that the present run emits from now on."""
        self._keeper_lost.set()

    def end_following(self) -> None:
        """Stop a following run as a service manager does; its target loads what it has."""
        following = self._following
        if following is not None:
            following.terminate()

    def run(self, follow_seconds: float = 0.0) -> bool:
        """One flush, or a following one for so many seconds; whether both ended well."""
        follow = follow_seconds > 0
        self._keeper_lost.clear()
        state = ["--state", str(self.state_file)] if self.state_file.exists() else []
        tap = self._processes.start(
            [*self._tap, "--config", self._config[follow], *state],
            "tap.log",
            stdout=subprocess.PIPE,
        )
        assert tap.stdout is not None
        target = self._processes.start(
            [
                str(BIN / "target-segment-warehouse"),
                "--config",
                self._target[1 if follow else 60],
            ],
            "target.log",
            stdin=tap.stdout.fileno(),
            stdout=subprocess.PIPE,
        )
        tap.stdout.close()
        self._following = tap if follow else None
        timer = threading.Timer(follow_seconds or 600, tap.terminate)
        timer.daemon = True
        timer.start()
        assert target.stdout is not None
        for line in target.stdout:
            self._keep(line)
        target.stdout.close()
        codes = target.wait(), tap.wait()
        timer.cancel()
        return self.counts.ended(well=codes == (0, 0))

    def _keep(self, line: bytes) -> None:
        json.loads(line)  # a torn line is no state, and must never come
        if self._keeper_lost.is_set():
            self.counts.lost_states += 1
            return
        new = self.state_file.with_suffix(".new")
        new.write_bytes(line)
        new.replace(self.state_file)
        self.counts.states += 1

    def _catalog(self) -> str:
        """A catalog with the event streams alone."""
        found = subprocess.run(
            [str(BIN / "tap-sendgrid"), "--config", self._write("empty.json", {}), "--discover"],
            env=self._processes.environment | {"TAP_SENDGRID_API_KEY": ""},
            capture_output=True,
            check=True,
        )
        catalog = json.loads(found.stdout)
        catalog["streams"] = [
            stream | {"selected": True}
            for stream in catalog["streams"]
            if stream.get("replication_key") == "log_offset"
        ]
        return self._write("catalog.json", catalog)

    def _write(self, name: str, content: dict[str, Any]) -> str:
        path = self._folder / name
        path.write_text(json.dumps(content))
        return str(path)


class MeltanoFlush:
    """``meltano run tap-sendgrid-events target-segment-warehouse``, with a consumer of its own.

    Args:
        processes: Starts it.
        project: The Meltano project.
    """

    consumer = "chaos-meltano"

    def __init__(self, processes: Processes, project: Path) -> None:
        self._processes = processes
        self._project = project
        self.counts = Counts()

    def run(self) -> bool:
        """One flush; whether it ended well."""
        running = self._processes.start(
            [str(BIN / "meltano"), "--cwd", str(self._project), *MELTANO],
            "meltano.log",
            TAP_SENDGRID_EVENT_LOG_CONSUMER=self.consumer,
            TARGET_SEGMENT_WAREHOUSE_MAX_BATCH_ROWS="8000",
        )
        return self.counts.ended(well=running.wait() == 0)


class Flushing:
    """Both kinds of flush, side by side, each from a thread, until stopped.

    Args:
        direct: Run again as soon as it ended, now and then following.
        meltano: Run a while after the last.
        pause: That while in seconds; None never runs Meltano.
        seed: What the kinds follow from.
    """

    def __init__(
        self, direct: DirectFlush, meltano: MeltanoFlush, pause: float | None, seed: int
    ) -> None:
        self._direct = direct
        self._meltano = meltano
        self._rng = random.Random(seed + 2)
        self._stop = threading.Event()
        self.problems: list[BaseException] = []
        self._threads = [
            threading.Thread(target=self._guard, args=(self._flush_directly,), daemon=True)
        ]
        if pause is not None:
            work = functools.partial(self._flush_by_meltano, pause)
            self._threads.append(threading.Thread(target=self._guard, args=(work,), daemon=True))

    def start(self) -> None:
        """Begin."""
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        """Let the present runs end, and begin no further."""
        self._stop.set()
        self._direct.end_following()
        for thread in self._threads:
            thread.join()

    def _guard(self, work: Callable[[], None]) -> None:
        try:
            work()
        except BaseException as problem:
            self.problems.append(problem)

    def _flush_directly(self) -> None:
        while not self._stop.is_set():
            follow = self._rng.choice((0.0, self._rng.uniform(8, 25)))
            if not self._direct.run(follow):
                self._stop.wait(0.3)

    def _flush_by_meltano(self, pause: float) -> None:
        while not self._stop.wait(pause):
            self._meltano.run()


def settle(flush: DirectFlush | MeltanoFlush, end: Callable[[], int], seconds: float) -> bool:
    """Flush until a run went well with the log at its final end; False when the time is over."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        before = end()
        if flush.run() and end() == before:
            return True
        time.sleep(0.5)
    return False
