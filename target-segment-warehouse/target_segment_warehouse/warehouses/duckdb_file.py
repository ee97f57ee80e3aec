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

POLL_SECONDS = 0.1
"""How often a file that another process has open is tried, at least."""


def attach(workbench: Workbench, path: Path, as_: str, timeout: float) -> None:
    """Open a file, or wait for the process that has it open.

    Args:
        workbench: What it is attached to.
        path: The file; its folder is made if need be.
        as_: SQL for its name there, and for how to open it.
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
            workbench.execute(f"ATTACH {literal(os.fspath(path))} AS {as_}")
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
