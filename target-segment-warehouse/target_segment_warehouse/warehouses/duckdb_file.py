"""Opens a DuckDB file, which one process has at a time."""

from __future__ import annotations

import logging
import os
import time
from pathlib import Path

import duckdb

from target_segment_warehouse.sqltext import literal
from target_segment_warehouse.warehouses.base import WarehouseError
from target_segment_warehouse.workbench import Workbench

logger = logging.getLogger(__name__)

_ROW_GROUP_ROWS = 20_480
"""A sixth of DuckDB's default. What fills a row group goes to the file at once, compressed; what
does not is in memory until the commit, or goes to a temporary file and back. Queries over a million
rows take as long as with larger ones; the file is a tenth larger."""

POLL_SECONDS = 0.1
"""How often a file that another process has open is tried, at least."""


def attach(workbench: Workbench, path: Path, name: str, mode: str, timeout: float) -> None:
    """Open a file, or wait for the process that has it open.

    Args:
        workbench: What it is attached to.
        path: The file; its folder is made if need be.
        name: What it is called there.
        mode: ``READ_WRITE`` or ``READ_ONLY``.
        timeout: How many seconds to wait.

    Raises:
        WarehouseError: If it cannot be opened.
    """
    deadline = time.monotonic() + timeout
    pause, told = 0.05, False
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise WarehouseError(
            f"The folder of the DuckDB file {path} cannot be made: {error.strerror}. "
            "Check the setting 'warehouse_url'."
        ) from error
    while True:
        try:
            workbench.execute(
                f"ATTACH {literal(os.fspath(path))} AS {name} "
                f"({mode}, ROW_GROUP_SIZE {_ROW_GROUP_ROWS})"
            )
        except (duckdb.IOException, duckdb.ResourceInUseException) as error:
            reason = str(error).partition("\n")[0]
            if "lock" not in reason and not isinstance(error, duckdb.ResourceInUseException):
                raise WarehouseError(
                    f"The DuckDB file {path} cannot be opened: {reason} "
                    "Check the setting 'warehouse_url'."
                ) from error
            if time.monotonic() > deadline:
                raise WarehouseError(
                    f"The DuckDB file {path} was held by another process for "
                    f"{timeout:.0f} s: {reason} Close that process, or wait longer with "
                    "the setting 'lock_timeout_seconds'."
                ) from error
            if not told:
                logger.info("Waiting for %s, which another process has open ...", path)
                told = True
            time.sleep(pause)
            pause = min(pause * 1.5, POLL_SECONDS)
        else:
            return
