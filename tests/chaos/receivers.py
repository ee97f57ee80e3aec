"""Receivers on one port, restarted when they end, as a service manager does it."""

from __future__ import annotations

import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager

import requests
from pipeline import BIN

from chaos.processes import Processes

RETENTION_DAYS = "0.0003"
"""26 seconds: what every consumer has is dropped while the run goes on."""


Frozen = Callable[[], AbstractContextManager[None]]
"""Makes a block during which no receiver is started."""


def free_ports(count: int) -> list[int]:
    """Ports that nobody listens on now."""
    with ExitStack() as stack:
        found = [stack.enter_context(socket.socket()) for _ in range(count)]
        for each in found:
            each.bind(("127.0.0.1", 0))
        return [int(each.getsockname()[1]) for each in found]


class Receivers:
    """``sendgrid-webhook serve``, one or several times.

    Args:
        processes: Starts them.
        count: How many, sharing the port.
        port: Where they listen.
        more: Further options of the command.
    """

    def __init__(
        self, processes: Processes, count: int, port: int, more: Sequence[str] = ()
    ) -> None:
        self.url = f"http://127.0.0.1:{port}"
        self.starts = 0
        self.stopped_clean = 0
        self._processes = processes
        self._command = [
            str(BIN / "sendgrid-webhook"),
            "serve",
            "--host=127.0.0.1",
            f"--port={port}",
            "--reuse-port",
            f"--retention-days={RETENTION_DAYS}",
            *more,
        ]
        self._stop = threading.Event()
        self._hold = threading.Lock()
        self._threads = [
            threading.Thread(target=self._keep, name=f"receiver-{n}", daemon=True)
            for n in range(count)
        ]

    def start(self) -> None:
        """Start all; return when one takes deliveries."""
        for thread in self._threads:
            thread.start()
        self.wait_ready(60)

    def wait_ready(self, seconds: float) -> None:
        """Return when the port answers that the log can be written."""
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            try:
                if requests.get(f"{self.url}/readyz", timeout=2).ok:
                    return
            except requests.RequestException:
                pass
            time.sleep(0.1)
        raise TimeoutError(f"no receiver was ready within {seconds:.0f} s: see receiver.log")

    @contextmanager
    def no_restarts(self) -> Iterator[None]:
        """Start no receiver while the block runs."""
        with self._hold:
            yield

    def stop(self) -> None:
        """Stop all with SIGTERM, for good."""
        self._stop.set()
        for thread in self._threads:
            thread.join(60)

    def _keep(self) -> None:
        running: subprocess.Popen[bytes] | None = None
        while not self._stop.is_set():
            with self._hold:
                running = self._processes.start(self._command, "receiver.log")
                self.starts += 1
            while running.poll() is None and not self._stop.wait(0.1):
                pass
            self.stopped_clean += running.returncode == 0
            self._stop.wait(0.3)
        if running is not None and running.poll() is None:
            running.terminate()
            running.wait(45)
