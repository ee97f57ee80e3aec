"""ACTIVATE_VERSION: rows that came before a version's first row are to go.

When a row came is in its ``uuid_ts``, and when a version began in ``_collections``, so that no
version column is needed and a run that is resumed deletes nothing of its own.
"""

from __future__ import annotations

from target_segment_warehouse.catalog import Catalog, Table
from target_segment_warehouse.reports import Entry
from target_segment_warehouse.sqltext import literal
from target_segment_warehouse.types import Type
from target_segment_warehouse.warehouses.base import Warehouse

_DELETED_AT = "_sdc_deleted_at"


def remove_older(
    warehouse: Warehouse, table: Table, before: str, now: str, *, hard: bool
) -> Entry:
    """Delete the rows that were last written before a time, or mark them as deleted.

    Args:
        warehouse: Inside a transaction.
        table: The table.
        before: ISO 8601.
        now: What they are marked with.
        hard: Whether to delete.
    """
    name = warehouse.name(table.name)
    older = f"(uuid_ts IS NULL OR uuid_ts < {_time(warehouse, before)})"
    added: tuple[str, ...] = ()
    if not hard:
        if _DELETED_AT not in table.columns:
            warehouse.add_columns(table.name, {_DELETED_AT: Type.TIMESTAMP})
            table.columns[_DELETED_AT] = Type.TIMESTAMP
            added = (_DELETED_AT,)
        older += f" AND {_DELETED_AT} IS NULL"
    count = int(str(warehouse.query(f"SELECT count(*) FROM {name} WHERE {older}")[0][0]))  # noqa: S608
    if count and hard:
        warehouse.execute(f"DELETE FROM {name} WHERE {older}")  # noqa: S608
    elif count:
        warehouse.execute(
            f"UPDATE {name} SET {_DELETED_AT} = {_time(warehouse, now)} WHERE {older}"  # noqa: S608
        )
    return Entry(table.collection, deleted=count, new_columns=added)


def activate(
    warehouse: Warehouse, catalog: Catalog, table: Table, version: int, now: str, *, hard: bool
) -> Entry | None:
    """Remove the rows that are older than a version.

    Returns:
        What was done; None if no row of the version has come yet, so that it is too early.
    """
    began = catalog.version_began(table.name, version)
    if began is None:
        return None
    return remove_older(warehouse, table, began, now, hard=hard)


def _time(warehouse: Warehouse, text: str) -> str:
    return f"CAST({literal(text)} AS {warehouse.physical(Type.TIMESTAMP)})"
