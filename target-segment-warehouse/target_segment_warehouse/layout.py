"""Decides the columns of a batch: names, types, and what has to change in the table for them.

A column comes to be when its property is declared in the SCHEMA, else with its first value that is
not null (W11). Its type is the narrowest that holds the declared type, what the table has, and
every value of the batch exactly. Where the engine refuses to widen a column because something of
the user's depends on it, the values that do not fit go to a sibling column. When the table can have
no more columns, further properties go to one column of JSON.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from target_segment_warehouse.catalog import Table
from target_segment_warehouse.cells import Cell, stamp_text, value
from target_segment_warehouse.naming import Path
from target_segment_warehouse.observations import Observations
from target_segment_warehouse.profile import Profile
from target_segment_warehouse.types import Type, join
from target_segment_warehouse.warehouses.base import Warehouse
from target_segment_warehouse.workbench import PHYSICAL


@dataclass(frozen=True, slots=True)
class Column:
    """One column of the rows to load.

    Attributes:
        name: In the table.
        type: Its logical type.
        value: SQL for its value, over ``__cells``.
        cell: The property that it comes from.
    """

    name: str
    type: Type
    value: str
    cell: Cell


@dataclass(slots=True)
class Layout:
    """The columns of a batch, and what was changed in the table to take them.

    Attributes:
        columns: Of the rows, without the three of every table.
        added: New columns of the table.
        widened: Columns with a new type: ``column: old to new``.
        notices: What people should know of.
        names: The column of each property.
    """

    columns: list[Column] = field(default_factory=list)
    added: dict[str, Type] = field(default_factory=dict)
    widened: list[str] = field(default_factory=list)
    notices: list[str] = field(default_factory=list)
    names: Mapping[Path, str] = field(default_factory=dict)

    def widen(self, name: str, old: Type | None, new: Type) -> None:
        """Note that a column has a new type."""
        self.widened.append(f"{name}: {old or 'other'} to {new}")

    def divert(self, name: str, old: Type | None, sibling: str) -> None:
        """Note that a column cannot have one, so that values go elsewhere."""
        self.notices.append(
            f"column {name} is in use by something else in the warehouse and stays "
            f"{old or 'other'}: values that do not fit are in {sibling}"
        )

    def append(self, table: Table, warehouse: Warehouse, columns: Sequence[Column]) -> None:
        """Have further columns; the table gets those that it has not.

        Args:
            table: The table; a column of it that has another type makes room for the values.
            warehouse: Inside a transaction.
            columns: Columns that no property fills.
        """
        types: dict[str, Type] = {}
        for column in columns:
            old = table.columns.get(column.name, column.type)
            name, type_ = table.room_for(warehouse, column.name, column.type)
            if name != column.name:
                self.divert(column.name, old, name)
            elif type_ is not column.type and type_ is not old:
                self.widen(name, old, type_)
            types[name] = type_
            # The type stays the one of what it stands for: so the mark of a deletion is known.
            self.columns.append(replace(column, name=name, value=_as(column, type_)))
        self.added |= table.add_columns(warehouse, types)


def _as(column: Column, type_: Type) -> str:
    if type_ is column.type:
        return column.value
    if column.type is Type.TIMESTAMP:
        return stamp_text(f"({column.value})")
    return f"CAST({column.value} AS {PHYSICAL[type_]})"


class Planner:
    """Lays out one batch.

    Args:
        warehouse: Inside a transaction.
        table: The table; its ``columns`` are brought up to date.
        found: The profile of the records.
        cells: The properties to load, in ``__cells``.
        declared: The types that the SCHEMA declares.
        names: The column of each property.
    """

    def __init__(
        self,
        warehouse: Warehouse,
        table: Table,
        found: Profile,
        cells: Mapping[Path, Cell],
        declared: Mapping[Path, Type | None],
        names: Mapping[Path, str],
    ) -> None:
        self._warehouse = warehouse
        self._table = table
        self._found = found
        self._cells = cells
        self._declared = declared
        self._layout = Layout(names=names)
        lenient = {
            path
            for path, name in self._layout.names.items()
            if declared.get(path) is not None or table.columns.get(name) is Type.TIMESTAMP
        }
        likely = {path: table.columns.get(names[path]) or declared.get(path) for path in cells}
        self._seen = Observations(warehouse.workbench, found, cells, lenient, likely)

    def plan(self) -> Layout:
        """Name and type the columns, and change the table to take them."""
        layout, table = self._layout, self._table
        new: list[Column] = []
        by_name = sorted(self._cells, key=lambda path: layout.names[path])
        for path in by_name:
            if layout.names[path] in table.columns:
                new += self._existing(path)
            elif (column := self._new(path)) is not None:
                new.append(column)
                table.columns_of[path].append(column.name)
        for naming in table.namer.new:
            if naming.name != naming.wanted and naming.owner.path in self._cells:
                layout.notices.append(f"{'.'.join(naming.owner.path)} is in column {naming.name}")
        layout.columns += new
        types = {column.name: column.type for column in new}
        layout.added |= table.add_columns(self._warehouse, types)
        return layout

    def _new(self, path: Path) -> Column | None:
        """A column that is not there yet; None if there is no call for it."""
        seen, wanted, cell = self._seen, self._declared.get(path), self._cells[path]
        type_: Type | None
        if wanted is None:
            # Declared without a type, and no value to tell it by: text holds whatever comes.
            type_ = seen.narrowest(path) or (Type.TEXT if path in self._declared else None)
        elif seen.fits(path, wanted):
            type_ = wanted
        else:
            values = seen.narrowest(path)
            type_ = join(wanted, values)
            if type_ is not None and not seen.fits(path, type_):
                # Numbers that all are integers, too long for a float.
                numbers = {wanted, values} == {Type.FLOAT, Type.INTEGER}
                type_ = values if numbers else Type.TEXT
        if type_ is None:
            return None
        text = value(cell, self._found.value_kinds(path), type_)
        return Column(self._layout.names[path], type_, text, cell)

    def _existing(self, path: Path) -> list[Column]:
        """A column that the table has: widened if it must be, and what does not fit diverted.

        Returns:
            A sibling that has to be added, if one has.
        """
        layout, table, cell = self._layout, self._table, self._cells[path]
        kinds = self._found.value_kinds(path)
        name = layout.names[path]
        old = table.columns[name]
        type_ = self._widened(path, name, old)
        siblings = {c for c in table.columns_of[path] if c != name and c in table.columns}
        new: list[Column] = []
        if type_ is not old and self._warehouse.change_type(table.name, name, old, type_):
            table.columns[name] = type_
            layout.widen(name, old, type_)
            old = type_
        if (siblings or old is not type_) and not (cell.always or cell.nulls):
            # One of several columns has the value, and it is news to the others as well.
            cell = replace(cell, present=f"({cell.text} IS NOT NULL)", nulls=True)
        if old is not None:
            layout.columns.append(Column(name, old, value(cell, kinds, old), cell))
        if old is not type_:
            sibling = table.namer.variant(path, type_.value)
            siblings.discard(sibling)
            rest = value(cell, kinds, type_)
            if old is not None:
                rest = f"CASE WHEN ({value(cell, kinds, old)}) IS NULL THEN {rest} END"
            column = Column(sibling, type_, rest, cell)
            if sibling in table.columns:
                layout.columns.append(column)
            else:
                new.append(column)
                table.columns_of[path].append(sibling)
            layout.divert(name, old, sibling)
        for sibling in sorted(siblings):
            # What it held is replaced by what is loaded now.
            empty = table.columns[sibling] or Type.TEXT
            null = f"CAST(NULL AS {PHYSICAL[empty]})"
            layout.columns.append(Column(sibling, empty, null, cell))
        return new

    def _widened(self, path: Path, name: str, old: Type | None) -> Type:
        """The type that an existing column has to have for the values of the batch."""
        seen = self._seen
        if old is not None and seen.fits(path, old):
            return old
        joined = join(old, seen.narrowest(path)) if old is not None else Type.TEXT
        if joined is Type.FLOAT and seen.fits(path, Type.FLOAT):
            if old is Type.FLOAT or self._warehouse.are_exact_floats(self._table.name, name):
                return Type.FLOAT
            return Type.TEXT
        return Type.TEXT
