"""Processes of one run: every one carries the run's mark, is found by it, and is ended by it."""

from __future__ import annotations

import os
import resource
import signal
import subprocess
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

MARK = "CHAOS_RUN"
PROGRAMS = {
    "receiver": b"bin/sendgrid-webhook",
    "tap": b"bin/tap-sendgrid",
    "target": b"bin/target-segment-warehouse",
    "meltano": b"bin/meltano",
    "endpoint": b"chaos.endpoint",
}


class Processes:
    """Starts processes in one environment and finds them, and their children, again.

    Args:
        folder: Working folder and place of the logs.
        environment: What every process sees; carries the mark.
    """

    def __init__(self, folder: Path, environment: dict[str, str]) -> None:
        self.folder = folder
        self.environment = environment
        self._over = False
        self._mark = f"{MARK}={environment[MARK]}".encode()

    def start(
        self,
        command: Sequence[str],
        log: str,
        *,
        stdin: int | None = subprocess.DEVNULL,
        stdout: int | None = None,
        **environment: str,
    ) -> subprocess.Popen[bytes]:
        """Start a program whose messages go to ``folder/log``."""
        if self._over:
            raise RuntimeError("the run is over")
        with (self.folder / log).open("ab") as messages:
            return subprocess.Popen(
                command,
                cwd=self.folder,
                env=self.environment | environment,
                stdin=stdin,
                stdout=messages if stdout is None else stdout,
                stderr=messages,
            )

    def find(self, program: str | None = None) -> list[int]:
        """Process ids of a program (of all marked processes when None) that run now."""
        found = []
        for entry in Path("/proc").iterdir():
            if not entry.name.isdigit() or int(entry.name) == os.getpid():
                continue
            try:
                command = (entry / "cmdline").read_bytes()
                if program is not None and PROGRAMS[program] not in command:
                    continue
                if self._mark in (entry / "environ").read_bytes().split(b"\0"):
                    found.append(int(entry.name))
            except OSError:
                continue
        return found

    def end_all(self) -> None:
        """Kill whatever of this run is left, and start nothing more."""
        self._over = True
        for _ in range(20):
            left = self.find()
            if not left:
                return
            for process in left:
                send(process, signal.SIGKILL)
            time.sleep(0.1)

    def wait_for_none(self, program: str, seconds: float) -> bool:
        """Wait until no process of a program is left; False when the time is over."""
        deadline = time.monotonic() + seconds
        while self.find(program):
            if time.monotonic() > deadline:
                return False
            time.sleep(0.2)
        return True


def send(process: int, number: signal.Signals) -> bool:
    """Signal a process; whether it was still there."""
    try:
        os.kill(process, number)
    except ProcessLookupError:
        return False
    return True


def limit_files(process: int, size: int) -> bool:
    """Let a running process write no file beyond a size, as a full disk would; whether it could.

    A write beyond it fails with EFBIG (Python ignores the signal that comes with it).
    """
    with suppress(ProcessLookupError, PermissionError):
        _, hard = resource.prlimit(process, resource.RLIMIT_FSIZE)
        limit = size if hard == resource.RLIM_INFINITY else min(size, hard)
        resource.prlimit(process, resource.RLIMIT_FSIZE, (limit, hard))
        return True
    return False


def unlimit_files(process: int) -> None:
    """Lift :func:`limit_files`."""
    with suppress(ProcessLookupError, PermissionError):
        _, hard = resource.prlimit(process, resource.RLIMIT_FSIZE)
        resource.prlimit(process, resource.RLIMIT_FSIZE, (hard, hard))
