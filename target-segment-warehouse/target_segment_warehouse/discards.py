"""``_discards``: values that the warehouse cannot hold, as they were (opportunity O8).

The row itself is loaded, with a replacement in the value's place.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from target_segment_warehouse.catalog import Catalog
from target_segment_warehouse.sqltext import literal
from target_segment_warehouse.types import Type
from target_segment_warehouse.warehouses.base import Warehouse

DISCARDS = "_discards"
_COLUMNS = {
    "run_id": Type.TEXT,
    "table_name": Type.TEXT,
    "row_id": Type.TEXT,
    "column_name": Type.TEXT,
    "value": Type.TEXT,
    "reason": Type.TEXT,
    "discarded_at": Type.TIMESTAMP,
}


@dataclass(frozen=True, slots=True)
class Discard:
    """One value that could not be loaded as it is.

    Attributes:
        table: The table.
        row: The row's id.
        column: The column.
        value: The value as JSON text.
        reason: What the warehouse cannot hold.
    """

    table: str
    row: str
    column: str
    value: str
    reason: str


def write_discards(
    warehouse: Warehouse, catalog: Catalog, run_id: str, discards: Sequence[Discard], now: str
) -> None:
    """Append discards, in the transaction of the rows that they come from."""
    if not discards:
        return
    catalog.keep(DISCARDS, _COLUMNS)
    rows = [
        (run_id, discard.table, discard.row, discard.column, discard.value, discard.reason, now)
        for discard in discards
    ]
    values = ", ".join(f"({', '.join(map(literal, row))})" for row in rows)
    names = ", ".join(f"c{number}" for number in range(len(_COLUMNS)))
    selected = ", ".join(
        f"CAST(c{number} AS {warehouse.physical(type_)})"
        for number, type_ in enumerate(_COLUMNS.values())
    )
    warehouse.execute(
        f"INSERT INTO {warehouse.name(DISCARDS)} ({', '.join(_COLUMNS)}) "  # noqa: S608
        f"SELECT {selected} FROM (VALUES {values}) AS v({names})"
    )
