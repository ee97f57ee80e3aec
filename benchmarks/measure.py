"""Time and memory of whole processes, and where results are kept."""

from __future__ import annotations

import json
import os
import platform
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
DATA = HERE / "data"
VENVS = HERE / ".venvs"
RESULTS = HERE / "results"
TIMES = 3
"""How often ours runs where loaders are compared."""


@dataclass(frozen=True)
class Run:
    """One process from start to exit: wall seconds, CPU seconds, peak resident memory in MB."""

    seconds: float
    cpu_seconds: float
    peak_mb: float
    stdout: Path

    def figures(self) -> dict[str, float]:
        """What is kept of it."""
        return {
            "seconds": self.seconds,
            "cpu_seconds": self.cpu_seconds,
            "peak_mb": self.peak_mb,
        }


def run(
    command: list[str], stdin: Path | None, log: Path, env: dict[str, str] | None = None
) -> Run:
    """Run a command with a file on standard input; raise with its log's tail when it fails."""
    log.parent.mkdir(parents=True, exist_ok=True)
    stdout = log.with_suffix(".out")
    with (
        Path(stdin or os.devnull).open("rb") as source,
        stdout.open("wb") as out,
        log.open("wb") as err,
    ):
        start = time.perf_counter()
        process = subprocess.Popen(command, stdin=source, stdout=out, stderr=err, env=env)
        _, status, usage = os.wait4(process.pid, 0)
        seconds = time.perf_counter() - start
    code = os.waitstatus_to_exitcode(status)
    process.returncode = code
    if code != 0:
        tail = log.read_bytes()[-2000:].decode(errors="replace")
        raise RuntimeError(f"{command[0]} exited with {code}:\n{tail}")
    return Run(seconds, usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1024, stdout)


def middle(runs: list[Run]) -> Run:
    """The run whose time is in the middle of all."""
    return sorted(runs, key=lambda each: each.seconds)[len(runs) // 2]


def machine() -> dict[str, str]:
    """What the figures were measured on."""
    model = next(
        (
            line.split(":")[1].strip()
            for line in Path("/proc/cpuinfo").read_text().splitlines()
            if line.startswith("model name")
        ),
        platform.processor(),
    )
    return {
        "cpu": model,
        "cores": str(os.cpu_count()),
        "python": platform.python_version(),
        "system": f"{platform.system()} {platform.release()}",
        "date": time.strftime("%Y-%m-%d"),
    }


def save(name: str, result: dict[str, object]) -> Path:
    """Write one benchmark's result to results/NAME.json."""
    RESULTS.mkdir(exist_ok=True)
    path = RESULTS / f"{name}.json"
    path.write_text(json.dumps({"machine": machine(), **result}, indent=2) + "\n")
    return path


def saved(name: str) -> dict[str, Any]:
    """What was last written of a benchmark; empty if nothing was."""
    path = RESULTS / f"{name}.json"
    return json.loads(path.read_text()) if path.exists() else {}


def table(header: list[str], rows: list[list[str]]) -> str:
    """A Markdown table."""
    lines = ["| " + " | ".join(header) + " |", "|" + "---|" * len(header)]
    lines += ["| " + " | ".join(row) + " |" for row in rows]
    return "\n".join(lines)
