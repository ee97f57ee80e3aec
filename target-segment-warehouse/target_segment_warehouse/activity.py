"""``activity``: the union of all event collections, for funnels (R31).

As a view it is what the tables are, at every moment. As a table it is filled in the transaction
that fills the tables.
"""

from __future__ import annotations

from collections.abc import Mapping

from target_segment_warehouse.catalog import META, Catalog
from target_segment_warehouse.sqltext import quote
from target_segment_warehouse.types import Type, join
from target_segment_warehouse.warehouses.base import Warehouse

ACTIVITY = "activity"


def union_types(tables: Mapping[str, Mapping[str, Type | None]]) -> dict[str, Type]:
    """The columns of the union: those of every table first, then by name."""
    types: dict[str, Type] = dict(META)
    for columns in tables.values():
        for column, type_ in columns.items():
            joined = join(types.get(column), type_ or Type.TEXT)
            types[column] = joined or Type.TEXT
    return {**META, **{name: types[name] for name in sorted(set(types) - set(META))}}


def union_select(
    warehouse: Warehouse,
    tables: Mapping[str, Mapping[str, Type | None]],
    types: Mapping[str, Type],
) -> str:
    """SQL for the union of the event tables, over the union of their columns."""
    parts = []
    for table, columns in tables.items():
        selected = ", ".join(
            f"{_as(warehouse, name, columns[name], type_)} AS {quote(name)}"
            if name in columns
            else f"CAST(NULL AS {warehouse.physical(type_)}) AS {quote(name)}"
            for name, type_ in types.items()
        )
        parts.append(f"SELECT {selected} FROM {warehouse.name(table)}")  # noqa: S608
    return " UNION ALL ".join(parts)


def _as(warehouse: Warehouse, column: str, old: Type | None, new: Type) -> str:
    return quote(column) if old is new else warehouse.widening(column, old, new)


def refresh_view(warehouse: Warehouse, catalog: Catalog) -> None:
    """Bring the view up to date with the event tables, if it is not."""
    tables = catalog.event_tables()
    if not tables:
        return
    types = union_types(tables)
    before = catalog.views.get(ACTIVITY, [])
    ordered = {name: types[name] for name in before if name in types} | types
    warehouse.replace_view(ACTIVITY, union_select(warehouse, tables, ordered), list(ordered))
