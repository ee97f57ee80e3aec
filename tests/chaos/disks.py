"""Small disks that can be full, and files that cannot grow."""

from __future__ import annotations

import os
import random
import shutil
import subprocess
import time
from contextlib import suppress
from pathlib import Path

from chaos.processes import Processes, limit_files, unlimit_files

DISK_MEGABYTES = 4096


class Disk:
    """A file system of its own at a folder, where that is permitted (root, on Linux).

    Args:
        image: File that holds it; sparse, so that it takes what is written.
        folder: Where it is mounted; must not exist.

    Attributes:
        mounted: Whether it is one: without the permission it is a folder like any other.
    """

    def __init__(self, image: Path, folder: Path) -> None:
        self.folder = folder
        folder.mkdir()
        self.mounted = self._mount(image)

    def fill_for_a_while(self, rng: random.Random) -> str:
        """Leave not one byte, for some seconds."""
        filler = self.folder / "filler"
        seconds = rng.uniform(1, 6)
        with filler.open("wb") as file:
            for size in (64 << 20, 1 << 20, 4096):
                with suppress(OSError):
                    while True:
                        os.posix_fallocate(file.fileno(), os.fstat(file.fileno()).st_size, size)
        time.sleep(seconds)
        filler.unlink()
        return f"{seconds:.1f} s"

    def unmount(self) -> None:
        """Give it back."""
        if self.mounted:
            subprocess.run(["umount", "--lazy", str(self.folder)], check=False)

    def _mount(self, image: Path) -> bool:
        if os.geteuid() != 0 or not shutil.which("mkfs.ext4"):
            return False
        with image.open("wb") as file:
            file.truncate(DISK_MEGABYTES << 20)
        for command in (
            ["mkfs.ext4", "-q", "-m", "0", str(image)],
            ["mount", "-o", "loop", str(image), str(self.folder)],
        ):
            if subprocess.run(command, capture_output=True, check=False).returncode:
                image.unlink()
                return False
        return True


def limit_for_a_while(processes: Processes, program: str, file: Path, rng: random.Random) -> str:
    """Let a program write little or nothing beyond the present size of a file, for a while."""
    limited: set[int] = set()
    end = time.monotonic() + rng.uniform(1, 4)
    more = rng.choice((0, 10_000, 300_000))
    while time.monotonic() < end:
        size = file.stat().st_size if file.exists() else 0
        for process in set(processes.find(program)) - limited:
            if limit_files(process, size + more):
                limited.add(process)
        time.sleep(0.1)
    for process in limited:
        unlimit_files(process)
    return f"{len(limited)} x {program}"
