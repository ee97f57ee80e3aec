"""The event logs of a run, and how they fail."""

from __future__ import annotations

import os
import random
import shutil
import sqlite3
import subprocess
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, closing, suppress
from pathlib import Path

from tap_sendgrid.event_log import open_event_log

from chaos.processes import Processes
from chaos.warehouses import Fault, limit_for_a_while

DISK_MEGABYTES = 4096

Frozen = Callable[[], AbstractContextManager[None]]


class SQLiteLog:
    """A file, on a small disk of its own where one can be mounted.

    Args:
        processes: Of the run.
        frozen: Makes a block during which no receiver is started.
    """

    def __init__(self, processes: Processes, frozen: Frozen) -> None:
        self._processes = processes
        self._frozen = frozen
        disk = processes.folder / "disk"
        disk.mkdir()
        self._mounted = mount_small_disk(processes.folder / "disk.img", disk)
        self._disk = disk
        self._path = disk / "log" / "events.db"
        self._path.parent.mkdir(mode=0o700)
        self.url = f"sqlite:///{self._path}"
        self.faults: dict[str, Fault] = {
            "log locked": self.lock,
            "log moved away": self.move,
            "log disk full": self.fill if self._mounted else self.limit,
        }

    @property
    def description(self) -> str:
        """What it is, for the report."""
        return "SQLite" + (", on a disk of its own" if self._mounted else "")

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
        folder, away = self._path.parent, self._disk / "away"
        seconds = rng.uniform(1, 4)
        with self._frozen():
            folder.rename(away)
            time.sleep(seconds)
            if folder.exists():
                # A process that began meanwhile made an empty log: nobody was told that it keeps
                # anything, but look before it goes.
                if self.end():
                    raise AssertionError("deliveries were taken into a log that nobody knows")
                shutil.rmtree(folder)
            away.rename(folder)
        return f"{seconds:.1f} s"

    def fill(self, rng: random.Random) -> str:
        """Not one byte is left on the disk, for a while."""
        filler = self._disk / "filler"
        seconds = rng.uniform(1, 6)
        with filler.open("wb") as file:
            for size in (64 << 20, 1 << 20, 4096):
                with suppress(OSError):
                    while True:
                        os.posix_fallocate(file.fileno(), os.fstat(file.fileno()).st_size, size)
        time.sleep(seconds)
        filler.unlink()
        return f"{seconds:.1f} s"

    def limit(self, rng: random.Random) -> str:
        """No file of a receiver may grow, for a while."""
        wal = self._path.with_name(self._path.name + "-wal")
        return limit_for_a_while(self._processes, "receiver", wal, rng)

    def stop(self) -> None:
        """Give the disk back."""
        if self._mounted:
            subprocess.run(["umount", "--lazy", str(self._disk)], check=False)


def mount_small_disk(image: Path, folder: Path) -> bool:
    """A file system of its own at a folder, so that it can be full; whether that was permitted."""
    if os.geteuid() != 0 or not shutil.which("mkfs.ext4"):
        return False
    with image.open("wb") as file:
        file.truncate(DISK_MEGABYTES << 20)  # sparse: takes what is written
    for command in (
        ["mkfs.ext4", "-q", "-m", "0", str(image)],
        ["mount", "-o", "loop", str(image), str(folder)],
    ):
        if subprocess.run(command, capture_output=True, check=False).returncode:
            image.unlink()
            return False
    return True


Log = SQLiteLog
LOGS: dict[str, Callable[[Processes, Frozen], Log]] = {"sqlite": SQLiteLog}
