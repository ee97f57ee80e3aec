"""Prints the latest runs: ``target-segment-warehouse --config ... --report 5``."""

from __future__ import annotations

import json
from collections.abc import Iterator

from target_segment_warehouse.reports import COLUMNS, REPORTS
from target_segment_warehouse.types import Type
from target_segment_warehouse.warehouses.base import Warehouse

_HEADERS = (
    "collection",
    "status",
    "rows",
    "new",
    "updated",
    "deleted",
    "discards",
    "seconds",
    "new columns",
    "widened",
)
_WIDEST = 40


def read_history(warehouse: Warehouse, runs: int) -> list[dict[str, object]]:
    """The rows of ``sync_reports`` for the latest runs, the latest last.

    Args:
        warehouse: Outside a transaction.
        runs: How many runs.

    Raises:
        WarehouseError: If the warehouse is not there, cannot be read, or has no such schema.
    """
    try:
        warehouse.look()
        if REPORTS not in warehouse.tables():
            return []
        name = warehouse.name(REPORTS)
        # Times as text, which is the same whatever the engine's driver makes of them.
        selected = ", ".join(
            warehouse.stamp_text(column) if type_ is Type.TIMESTAMP else column
            for column, type_ in COLUMNS.items()
        )
        rows = warehouse.query(
            f"SELECT {selected} FROM {name} WHERE run_id IN ("  # noqa: S608
            f"SELECT run_id FROM {name} GROUP BY run_id ORDER BY run_id DESC LIMIT {runs}) "
            "ORDER BY run_id, table_name"
        )
        return [dict(zip(COLUMNS, row, strict=True)) for row in rows]
    finally:
        warehouse.rollback()


def format_history(rows: list[dict[str, object]]) -> Iterator[str]:
    """The rows as text: a heading for each run, and a table of its collections."""
    if not rows:
        yield "No run has been reported yet."
    run: object = None
    for row in rows:
        if row["run_id"] != run:
            run = row["run_id"]
            part = [r for r in rows if r["run_id"] == run]
            yield f"\nRun {run}, from {row['start_time']} to {row['finish_time']}"
            yield from _table([_HEADERS, *map(_cells, part)])
            for told in part:
                for notice in (*json.loads(str(told["notices"] or "[]")), told["error"]):
                    if notice:
                        yield f"  {told['table_name']}: {notice}"


def _cells(row: dict[str, object]) -> tuple[str, ...]:
    seconds = row["duration_seconds"]
    return (
        str(row["table_name"]),
        str(row["status"]),
        str(row["row_count"]),
        str(row["rows_inserted"]),
        str(row["rows_updated"]),
        str(row["rows_deleted"]),
        str(row["discarded_values"]),
        f"{seconds:.1f}" if isinstance(seconds, float) else "",
        _listed(row["new_columns"]),
        _listed(row["widened_columns"]),
    )


def _listed(value: object) -> str:
    text = ", ".join(json.loads(str(value or "[]")))
    return text if len(text) <= _WIDEST else f"{text[: _WIDEST - 4]} ..."


def _table(rows: list[tuple[str, ...]]) -> Iterator[str]:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        yield "  " + "  ".join(f"{c:<{w}}" for c, w in zip(row, widths, strict=True)).rstrip()
