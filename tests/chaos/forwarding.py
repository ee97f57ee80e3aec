"""Forwarding in a run: the endpoint that is started again and again, and what has to be there."""

from __future__ import annotations

import random
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

from tap_sendgrid.event_log import EventLogError, open_event_log
from tap_sendgrid.webhook.forward import consumer_name

from chaos.load import Ledger
from chaos.processes import Processes
from chaos.verify import Verdict

TESTS = Path(__file__).parents[1]


class Forwarding:
    """The endpoint (``chaos.endpoint``) on one port.

    Args:
        processes: Starts it.
        port: Where it listens.
        seed: What its illnesses and its absences follow from.
    """

    def __init__(self, processes: Processes, port: int, seed: int) -> None:
        self.url = f"http://127.0.0.1:{port}/hook"
        self.starts = 0
        self.copies: Counter[bytes] = Counter()
        self._processes = processes
        self._taken = processes.folder / "endpoint.taken"
        self._calm = processes.folder / "endpoint.calm"
        self._command = [
            *(sys.executable, "-m", "chaos.endpoint", f"--port={port}", f"--seed={seed}"),
            *(f"--taken={self._taken}", f"--calm={self._calm}"),
        ]
        self._rng = random.Random(seed + 4)
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._keep, name="endpoint", daemon=True)

    def start(self, public_key: str) -> None:
        """Start it, and go on without waiting: it may come later than the first delivery."""
        self._command.append(f"--public-key={public_key}")
        self._thread.start()

    def settle(self, log_url: str, end: Callable[[], int], seconds: float) -> bool:
        """Let the endpoint be well, and wait until all was forwarded; False when time is over."""
        self._calm.touch()
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            try:
                with closing(open_event_log(log_url, create=False)) as log:
                    positions = {known.consumer: known.offset for known in log.positions()}
                if positions.get(consumer_name(self.url)) == end():
                    return True
            except EventLogError:
                pass
            time.sleep(0.3)
        return False

    def stop(self) -> None:
        """Stop it for good."""
        self._stop.set()
        self._thread.join(30)

    def judge(self, ledger: Ledger, verdict: Verdict) -> None:
        """Hold what the endpoint took against what was acknowledged."""
        lines = self._taken.read_bytes().splitlines() if self._taken.exists() else []
        taken = [line.split(b" ") for line in lines]
        self.copies = Counter(digest for word, digest in taken if word == b"whole")
        verdict.forwarded_lost = sorted(ledger.bodies - set(self.copies))
        verdict.forwarded_spoiled = [digest for word, digest in taken if word != b"whole"]

    def _keep(self) -> None:
        while not self._stop.is_set():
            running = self._processes.start(self._command, "endpoint.log", PYTHONPATH=str(TESTS))
            self.starts += 1
            while running.poll() is None and not self._stop.wait(0.1):
                pass
            if running.poll() is None:
                running.kill()
            running.wait(30)
            self._stop.wait(self._rng.uniform(0.3, 3))
