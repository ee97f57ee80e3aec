"""ACTIVATE_VERSION: rows with an older version than the active one are to go.

Rows carry their version in ``_sdc_table_version`` from the first such message on. Before it, when a
row came is in its ``uuid_ts``, and when its version began in ``_collections``. The column may be
another loader's, of text; what is no number there is no version.
"""

from __future__ import annotations

from target_segment_warehouse.catalog import Catalog, Table
from target_segment_warehouse.reports import Entry
from target_segment_warehouse.sqltext import literal
from target_segment_warehouse.streams import Collection
from target_segment_warehouse.types import Type
from target_segment_warehouse.warehouses.base import Warehouse

VERSION = "_sdc_table_version"
DELETED_AT = "_sdc_deleted_at"


def activate(
    warehouse: Warehouse, catalog: Catalog, table: Table, version: int, now: str, *, hard: bool
) -> Entry | None:
    """Remove the rows that are older than a version.

    Args:
        warehouse: Inside a transaction.
        catalog: The schema.
        table: The stream's table.
        version: The version that is active.
        now: ISO 8601; what rows are marked with.
        hard: Whether to delete rows, instead of marking them.

    Returns:
        What was done; None if no row of the version has come yet, so that it is too early.
    """
    table.make(warehouse)
    column, type_ = table.room_for(warehouse, VERSION, Type.INTEGER)
    if table.add_columns(warehouse, {column: type_}):
        began = catalog.version_began(table.name, version)
        if began is not None:
            warehouse.execute(
                f"UPDATE {warehouse.name(table.name)} SET {column} = {version} "  # noqa: S608
                f"WHERE uuid_ts >= {_time(warehouse, began)}"
            )
            _tell(catalog, table)
    name, own = warehouse.name(table.name), _version(column, type_)
    if not warehouse.query(f"SELECT 1 FROM {name} WHERE {own} = {version} LIMIT 1"):  # noqa: S608
        return None
    older = older_than(warehouse, table, version)
    return remove(warehouse, catalog, table, older, now, hard=hard)


def older_than(warehouse: Warehouse, table: Table, version: int) -> str:
    """SQL for whether a row is older than a version; rows without one are."""
    own = _version(*table.room_for(warehouse, VERSION, Type.INTEGER))
    return f"({own} IS NULL OR {own} < {version})"


def _version(column: str, type_: Type) -> str:
    """SQL for a row's version as a number."""
    if type_ is not Type.TEXT:
        return column
    return f"CASE WHEN {column} SIMILAR TO '[0-9]{{1,18}}' THEN CAST({column} AS BIGINT) END"


def written_before(warehouse: Warehouse, time: str) -> str:
    """SQL for whether a row was last written before a time, ISO 8601."""
    return f"(uuid_ts IS NULL OR uuid_ts < {_time(warehouse, time)})"


def remove(
    warehouse: Warehouse, catalog: Catalog, table: Table, which: str, now: str, *, hard: bool
) -> Entry:
    """Delete rows, or mark them as deleted."""
    name = warehouse.name(table.name)
    added: dict[str, Type] = {}
    if not hard:
        mark, type_ = table.room_for(warehouse, DELETED_AT, Type.TIMESTAMP)
        added = table.add_columns(warehouse, {mark: type_})
        time = literal(now) if type_ is Type.TEXT else _time(warehouse, now)
        which += f" AND {mark} IS NULL"
    count = int(str(warehouse.query(f"SELECT count(*) FROM {name} WHERE {which}")[0][0]))  # noqa: S608
    if count and hard:
        warehouse.execute(f"DELETE FROM {name} WHERE {which}")  # noqa: S608
    elif count:
        warehouse.execute(f"UPDATE {name} SET {mark} = {time} WHERE {which}")  # noqa: S608
    if count:
        _tell(catalog, table)
    return Entry(table.collection, deleted=count, new_columns=tuple(added))


def _tell(catalog: Catalog, table: Table) -> None:
    """The union of the events has the rows too."""
    if table.collection is Collection.EVENT:
        catalog.rows_changed = True


def _time(warehouse: Warehouse, text: str) -> str:
    return f"CAST({literal(text)} AS {warehouse.physical(Type.TIMESTAMP)})"
