"""The event log in a SQLite file, and how it fails."""

from __future__ import annotations

import random
import shutil
import sqlite3
import time
from contextlib import closing

from tap_sendgrid.event_log import open_event_log

from chaos.cluster import NATSLog
from chaos.disks import Disk, limit_for_a_while
from chaos.processes import Processes
from chaos.receivers import Frozen
from chaos.warehouses import Fault


class SQLiteLog:
    """A file, on a small disk of its own where one can be mounted.

    Args:
        processes: Of the run.
        frozen: Makes a block during which no receiver is started.
    """

    def __init__(self, processes: Processes, frozen: Frozen) -> None:
        self._processes = processes
        self._frozen = frozen
        self._disk = Disk(processes.folder / "disk.img", processes.folder / "disk")
        self._path = self._disk.folder / "log" / "events.db"
        self._path.parent.mkdir(mode=0o700)
        self.url = f"sqlite:///{self._path}"
        self.description = "SQLite" + (", on a disk of its own" if self._disk.mounted else "")
        self.faults: dict[str, Fault] = {
            "log locked": self.lock,
            "log moved away": self.move,
            "log disk full": self._disk.fill_for_a_while if self._disk.mounted else self.limit,
        }

    def end(self) -> int:
        """The log's present end."""
        with closing(open_event_log(self.url, create=False)) as log:
            return log.end()

    def lock(self, rng: random.Random) -> str:
        """Another process holds the write lock: below the receivers' patience, or beyond it."""
        seconds = rng.choice((1.0, 3.0, 7.0))
        with closing(sqlite3.connect(self._path, timeout=10, isolation_level=None)) as connection:
            try:
                connection.execute("BEGIN EXCLUSIVE")
            except sqlite3.OperationalError:
                return "the lock could not be had"
            time.sleep(seconds)
            connection.execute("ROLLBACK")
        return f"{seconds:.0f} s"

    def move(self, rng: random.Random) -> str:
        """The folder goes away, as a mount that drops out, and comes back."""
        folder, away = self._path.parent, self._disk.folder / "away"
        seconds = rng.uniform(1, 4)
        with self._frozen():
            folder.rename(away)
            time.sleep(seconds)
            if folder.exists():
                # A process that began meanwhile made an empty log. It must not have taken
                # anything that nobody would find again.
                if self.end():
                    raise AssertionError("deliveries were taken into a log that nobody knows")
                shutil.rmtree(folder)
            away.rename(folder)
        return f"{seconds:.1f} s"

    def limit(self, rng: random.Random) -> str:
        """No file of a receiver may grow, for a while."""
        wal = self._path.with_name(self._path.name + "-wal")
        return limit_for_a_while(self._processes, "receiver", wal, rng)

    def stop(self) -> None:
        """Give the disk back."""
        self._disk.unmount()


LOGS: dict[str, type[SQLiteLog | NATSLog]] = {"sqlite": SQLiteLog, "nats": NATSLog}
