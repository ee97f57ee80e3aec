"""Real target processes: started, fed, signalled, waited for."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from .messages import Line, Message, encode

COMMAND = Path(sys.executable).with_name("target-segment-warehouse")


def command(*arguments: str, env: dict[str, str] | None = None, given: bytes = b"") -> Any:
    """Run the console command to its end; returns what ``subprocess.run`` does, with bytes."""
    environment = {k: v for k, v in os.environ.items() if not k.startswith("TARGET_")}
    return subprocess.run(
        [COMMAND, *arguments],
        input=given,
        capture_output=True,
        timeout=60,
        check=False,
        env=environment | (env or {}),
    )


@dataclass
class Result:
    """What one run of the target left behind."""

    returncode: int
    stdout: str
    stderr: str

    @property
    def states(self) -> list[Any]:
        """The values of the STATE lines, in order."""
        return [json.loads(line) for line in self.stdout.splitlines()]

    def ok(self) -> Result:
        """The same, if the run succeeded."""
        assert self.returncode == 0, self.stderr[-6000:]
        return self

    def failed(self, *texts: str) -> Result:
        """The same, if the run failed with an explanation that holds the texts and no traceback."""
        assert self.returncode > 0, (self.returncode, self.stdout, self.stderr[-3000:])
        for text in texts:
            assert text.lower() in self.stderr.lower(), (text, self.stderr[-3000:])
        return self


class Zygote:
    """The process that forks targets; see zygote.py."""

    def __init__(self) -> None:
        environment = {k: v for k, v in os.environ.items() if not k.startswith("TARGET_")}
        self._process = subprocess.Popen(
            [sys.executable, str(Path(__file__).with_name("zygote.py"))],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=environment,
            text=True,
        )
        self.processes: list[Process] = []
        self._answers = threading.Condition()
        self._pids: list[int] = []
        self._codes: dict[int, int] = {}
        assert self._process.stdout is not None
        assert self._process.stdout.readline() == "ready\n", "the target cannot be imported"
        self._reader = threading.Thread(target=self._listen, daemon=True)
        self._reader.start()

    def _listen(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            kind, *numbers = line.split()
            with self._answers:
                if kind == "pid":
                    # Another process, of long ago, may have had the same id.
                    self._codes.pop(int(numbers[0]), None)
                    self._pids.append(int(numbers[0]))
                else:
                    self._codes[int(numbers[0])] = int(numbers[1])
                self._answers.notify_all()

    def start(self, request: Message) -> int:
        """Fork a target and return its process id."""
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(request) + "\n")
        self._process.stdin.flush()
        with self._answers:
            assert self._answers.wait_for(lambda: self._pids, timeout=30)
            return self._pids.pop()

    def wait(self, pid: int, timeout: float) -> int | None:
        """The exit code of a target, None if it still runs after ``timeout`` seconds."""
        with self._answers:
            self._answers.wait_for(lambda: pid in self._codes, timeout=timeout)
            return self._codes.get(pid)

    def close(self) -> None:
        """End the process."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait(timeout=30)
        self._reader.join(timeout=30)
        assert self._process.stdout is not None
        self._process.stdout.close()


def _text(path: Path) -> str:
    """What was written; nothing by a process that was killed before it opened its files."""
    return path.read_text(errors="replace") if path.exists() else ""


@dataclass
class Process:
    """A target that runs."""

    zygote: Zygote
    pid: int
    stdout: Path
    stderr: Path
    stdin: IO[bytes] | None = None

    def send(self, *lines: Line) -> None:
        """Write messages to its standard input (only of a streaming run)."""
        assert self.stdin is not None
        self.stdin.write(encode(lines))
        self.stdin.flush()

    def states(self) -> list[Any]:
        """The states written so far."""
        text = _text(self.stdout)
        return [json.loads(line) for line in text.splitlines(keepends=True) if line.endswith("\n")]

    def until_states(self, count: int, timeout: float = 30) -> list[Any]:
        """Wait until it wrote ``count`` states."""
        deadline = time.monotonic() + timeout
        while len(states := self.states()) < count:
            assert time.monotonic() < deadline, (states, self.stderr.read_text()[-3000:])
            time.sleep(0.01)
        return states

    def signal(self, number: signal.Signals) -> None:
        """Send a signal."""
        os.kill(self.pid, number)

    def abandon(self) -> None:
        """End it, whatever it does: for tests that failed before they could."""
        if self.zygote.wait(self.pid, 0) is None:
            os.kill(self.pid, signal.SIGKILL)
            self.zygote.wait(self.pid, 10)
        if self.stdin is not None:
            with contextlib.suppress(BrokenPipeError):
                self.stdin.close()

    def finish(self, timeout: float = 120) -> Result:
        """Close its input, wait for its end and return what it left."""
        if self.stdin is not None and not self.stdin.closed:
            with contextlib.suppress(BrokenPipeError):
                self.stdin.close()
        code = self.zygote.wait(self.pid, timeout)
        if code is None:
            os.kill(self.pid, signal.SIGKILL)
            self.zygote.wait(self.pid, 10)
            raise AssertionError(
                f"still running after {timeout} s\n{self.stderr.read_text()[-3000:]}"
            )
        return Result(code, _text(self.stdout), _text(self.stderr))
