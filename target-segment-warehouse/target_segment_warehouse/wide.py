"""Rows with values in more columns than one row has room for: the last ones go to the JSON column.

A value is in its column or in the JSON column, never in both.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

from target_segment_warehouse.catalog import META, OVERFLOW
from target_segment_warehouse.cells import pack
from target_segment_warehouse.naming import SDC_COLUMNS
from target_segment_warehouse.sqltext import literal, quote
from target_segment_warehouse.types import Type
from target_segment_warehouse.versions import VERSION
from target_segment_warehouse.warehouses.base import Warehouse
from target_segment_warehouse.workbench import Workbench

WIDE = "__wide"
"""A relation on the workbench: the ids of the rows that were made narrow last."""

# What a value takes of the page that its row is on, at most: of a text too long for it there is a
# pointer, and what is not text may have to be aligned. What is of no type of ours may be a text.
_TEXT_BYTES = 24
_OTHER_BYTES = 15

_FEW = 50

Columns = Mapping[str, Type | None]
"""Columns with their types, in the order in which they keep their place."""


def may_be_too_wide(columns: Columns, row_bytes: int) -> bool:
    """Whether a row with a value in each column has no room in so many bytes."""
    return sum(map(_most, columns.values())) > row_bytes


def tail_of(columns: Columns, row_bytes: int) -> list[str]:
    """Those of the columns, to be filled one after the other, for which there is no room.

    Columns that the target itself reads, and those that are not its own, have room in any case.
    """
    columns = {**columns, OVERFLOW: Type.TEXT}
    fixed = {OVERFLOW, VERSION, *META, *SDC_COLUMNS}
    fixed |= {name for name, type_ in columns.items() if type_ is None}
    used = sum(_most(type_) for name, type_ in columns.items() if name in fixed)
    tail = []
    for name, type_ in columns.items():
        if name not in fixed:
            used += _most(type_)
            if used > row_bytes:
                tail.append(name)
    return tail


def narrow(
    workbench: Workbench, rows: str, narrowed: str, columns: Columns, row_bytes: int
) -> list[str]:
    """Make rows fit that are too wide.

    In such a row, what is beyond the first columns goes to the JSON column; other rows are left as
    they are.

    Args:
        workbench: Has the rows.
        rows: A relation with these columns, one row for each id.
        narrowed: The table to make of them, which has the JSON column.
        columns: Of the rows.
        row_bytes: What a row can have in one place.

    Returns:
        The columns whose values went; none if there were no such rows: then no table is made.
    """
    if not may_be_too_wide(columns, row_bytes):
        return []
    width = _sum([_size(quote(name), type_, "strlen") for name, type_ in columns.items()])
    if not workbench.value(
        f"CREATE OR REPLACE TEMP TABLE {WIDE} AS SELECT id FROM {rows} WHERE {width} > {row_bytes}"  # noqa: S608
    ):
        return []
    tail = tail_of(columns, row_bytes)
    _move(workbench, rows, narrowed, tail, has_own=OVERFLOW in columns)
    return tail


def narrow_merged(
    warehouse: Warehouse,
    table: str,
    columns: Columns,
    row_bytes: int,
    rows: str,
    narrowed: str,
    given: Collection[str],
) -> str:
    """Make rows fit that would be too wide once they are merged into those of the table.

    What is beyond the table's first columns goes to the JSON column in both.

    Args:
        warehouse: Inside a transaction.
        table: A table with the JSON column.
        columns: Of the table.
        row_bytes: What a row can have in one place.
        rows: A relation on the workbench, one row for each id, all of which the table has.
        narrowed: The table to make of them, if need be, which has the JSON column.
        given: Columns of the rows.

    Returns:
        The relation that the rows are in then: the same, if they have nothing to move.
    """
    sizes = [
        f"greatest({_size(f't.{quote(name)}', type_)}, {_size(f'n.{quote(name)}', type_)})"
        if name in given
        else _size(f"t.{quote(name)}", type_)
        for name, type_ in columns.items()
    ]
    with warehouse.staged(f"SELECT {', '.join(map(quote, given))} FROM {rows}") as staged:  # noqa: S608
        ids = warehouse.query(
            f"SELECT t.id FROM {warehouse.name(table)} AS t JOIN {staged} AS n ON t.id = n.id "  # noqa: S608
            f"WHERE {_sum(sizes)} > {row_bytes}"
        )
    if not ids:
        return rows
    values = ", ".join(f"({literal(str(row_id))})" for (row_id,) in ids)
    warehouse.workbench.execute(
        f"CREATE OR REPLACE TEMP TABLE {WIDE} AS SELECT * FROM (VALUES {values}) AS v(id)"  # noqa: S608
    )
    tail = tail_of(columns, row_bytes)
    narrow_stored(warehouse, table, tail, WIDE)
    own = [name for name in tail if name in given]
    if not own:
        return rows
    _move(warehouse.workbench, rows, narrowed, own, has_own=OVERFLOW in given)
    return narrowed


def narrow_stored(warehouse: Warehouse, table: str, tail: Sequence[str], wide: str) -> None:
    """Have rows of the table keep values where those that were made narrow have them.

    Args:
        warehouse: Inside a transaction.
        table: A table with the JSON column.
        tail: Columns whose values are there.
        wide: A relation on the workbench with the ids of the rows, as what follows FROM.
    """
    cut = "".join(f"{quote(name)} = NULL, " for name in tail)
    with warehouse.staged(f"SELECT id FROM {wide}") as staged:  # noqa: S608
        warehouse.execute(
            f"UPDATE {warehouse.name(table)} AS t SET {cut}"  # noqa: S608
            f"{OVERFLOW} = {warehouse.pack(tail, OVERFLOW)} FROM {staged} AS n WHERE t.id = n.id"
        )


def _move(
    workbench: Workbench, rows: str, narrowed: str, tail: Sequence[str], *, has_own: bool
) -> None:
    """Make a table of rows: those of which the ids are in ``__wide`` have no values in the tail."""
    own = OVERFLOW if has_own else None
    kept = ", ".join(map(quote, [*tail, OVERFLOW] if own else tail))
    is_wide = f"id IN (SELECT id FROM {WIDE})"  # noqa: S608
    cut = [f"CASE WHEN __cut THEN NULL ELSE {quote(name)} END AS {quote(name)}" for name in tail]
    workbench.execute(
        f"""CREATE OR REPLACE TEMP TABLE {narrowed} AS
        SELECT * EXCLUDE (__cut, {kept}), {", ".join(cut)},
            CASE WHEN __cut THEN {pack(tail, own)} ELSE {own or "NULL"} END AS {OVERFLOW}
        FROM (SELECT *, {is_wide} AS __cut FROM {rows})"""  # noqa: S608
    )


def _most(type_: Type | None) -> int:
    return _TEXT_BYTES if type_ in {Type.TEXT, None} else _OTHER_BYTES


def _size(value: str, type_: Type | None, length: str = "octet_length") -> str:
    """SQL for the most that a value takes.

    Args:
        value: SQL for it.
        type_: Its type.
        length: The engine's function for the bytes of a text.
    """
    if type_ is Type.TEXT:
        return f"coalesce(least({length}({value}) + 1, {_TEXT_BYTES}), 0)"
    return f"CASE WHEN {value} IS NULL THEN 0 ELSE {_most(type_)} END"


def _sum(terms: Sequence[str]) -> str:
    """SQL for a sum, nested no deeper than an engine's parser likes."""
    parts = (terms[at : at + _FEW] for at in range(0, len(terms), _FEW))
    return " + ".join(f"({' + '.join(part)})" for part in parts)
