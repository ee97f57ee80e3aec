"""Decides the columns of a batch: names, types, and what has to change in the table for them.

A column comes to be when its property is declared in the SCHEMA, else with its first value that is
not null (W11). Its type is the narrowest that holds the declared type, what the table has, and
every value of the batch exactly. Where the engine refuses to widen a column because something of
the user's depends on it, the values that do not fit go to a sibling column.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from target_segment_warehouse.catalog import Table
from target_segment_warehouse.cells import CELLS, Cell, exact_float, stamp, value
from target_segment_warehouse.naming import Path
from target_segment_warehouse.profile import INTEGERS, Profile
from target_segment_warehouse.types import Type, join
from target_segment_warehouse.warehouses.base import Warehouse
from target_segment_warehouse.workbench import Workbench


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
        diverted: Columns that the engine would not widen, with their siblings.
    """

    columns: list[Column] = field(default_factory=list)
    added: dict[str, Type] = field(default_factory=dict)
    widened: list[str] = field(default_factory=list)
    diverted: dict[str, str] = field(default_factory=dict)


class Observations:
    """The types of the values in ``__cells``, found in one query.

    Args:
        workbench: The workbench, with ``__cells``.
        found: The profile of the records.
        cells: The properties' columns.
        undeclared: Properties whose strings are timestamps only if they name their zone.
    """

    def __init__(
        self,
        workbench: Workbench,
        found: Profile,
        cells: Mapping[Path, Cell],
        undeclared: set[Path],
    ) -> None:
        self._kinds = {path: found.value_kinds(path) for path in cells}
        checks: list[tuple[Path, Type]] = []
        tests: list[str] = []
        for path, cell in cells.items():
            for type_, converted in self._candidates(path, cell, path in undeclared):
                checks.append((path, type_))
                tests.append(f"count({converted}) = count({cell.text})")
        self._fits: set[tuple[Path, Type]] = set()
        if tests:
            (results,) = workbench.query(f"SELECT {', '.join(tests)} FROM {CELLS}")  # noqa: S608
            self._fits = {check for check, fits in zip(checks, results, strict=True) if fits}

    def _candidates(self, path: Path, cell: Cell, strict: bool) -> list[tuple[Type, str]]:
        kinds = self._kinds[path]
        if not kinds:
            return []
        if kinds == {"VARCHAR"}:
            return [(Type.TIMESTAMP, stamp(cell.text, strict=strict))]
        if kinds <= INTEGERS:
            integer = f"TRY_CAST({cell.text} AS BIGINT)"
            return [(Type.INTEGER, integer), (Type.FLOAT, exact_float(cell.text))]
        if kinds <= {*INTEGERS, "DOUBLE"}:
            return [(Type.FLOAT, exact_float(cell.text))]
        return []

    def has_values(self, path: Path) -> bool:
        """Whether any record has a value."""
        return bool(self._kinds[path])

    def fits(self, path: Path, type_: Type) -> bool:
        """Whether the type holds every value exactly."""
        if type_ is Type.TEXT or not self._kinds[path]:
            return True
        if type_ is Type.BOOLEAN:
            return self._kinds[path] == {"BOOLEAN"}
        return (path, type_) in self._fits

    def narrowest(self, path: Path) -> Type | None:
        """The narrowest type that holds every value exactly; None if there are none."""
        if not self._kinds[path]:
            return None
        order = (Type.BOOLEAN, Type.INTEGER, Type.FLOAT, Type.TIMESTAMP)
        return next((type_ for type_ in order if self.fits(path, type_)), Type.TEXT)


def lay_out(
    warehouse: Warehouse,
    table: Table,
    found: Profile,
    cells: Mapping[Path, Cell],
    declared: Mapping[Path, Type | None],
) -> Layout:
    """Name and type the columns, and change the table to take them.

    Args:
        warehouse: Inside a transaction.
        table: The table; its ``columns`` are brought up to date.
        found: The profile of the records.
        cells: The properties to load, in ``__cells``.
        declared: The types that the SCHEMA declares.
    """
    layout = Layout()
    names = table.namer.columns(cells)
    undeclared = {
        path
        for path, name in names.items()
        if declared.get(path) is None and table.columns.get(name) is not Type.TIMESTAMP
    }
    seen = Observations(warehouse.workbench, found, cells, undeclared)
    for path in sorted(cells, key=lambda path: names[path]):
        name = names[path]
        cell = cells[path]
        if name in table.columns:
            _existing(warehouse, table, layout, seen, path, name, cell, found)
            continue
        type_ = _new_type(seen, path, declared)
        if type_ is None:
            continue
        layout.added[name] = type_
        layout.columns.append(
            Column(name, type_, value(cell, found.value_kinds(path), type_), cell)
        )
    if layout.added:
        warehouse.add_columns(table.name, layout.added)
        table.columns |= layout.added
    return layout


def _new_type(
    seen: Observations, path: Path, declared: Mapping[Path, Type | None]
) -> Type | None:
    """The type of a column that is not there yet; None if there is no call for it."""
    values = seen.narrowest(path)
    wanted = declared.get(path)
    if wanted is None:
        # Declared without a type, and no value to tell it by: text holds whatever comes.
        return values or (Type.TEXT if path in declared else None)
    if seen.fits(path, wanted):
        return wanted
    joined = join(wanted, values)
    if joined is not None and seen.fits(path, joined):
        return joined
    # Numbers that all are integers, too long for a float.
    return values if {wanted, values} == {Type.FLOAT, Type.INTEGER} else Type.TEXT


def _existing(
    warehouse: Warehouse,
    table: Table,
    layout: Layout,
    seen: Observations,
    path: Path,
    name: str,
    cell: Cell,
    found: Profile,
) -> None:
    """A column that the table has: widen it if it must be, divert what does not fit if it can't."""
    kinds = found.value_kinds(path)
    old = table.columns[name]
    new = _widened(warehouse, table, seen, path, name, old)
    if new is old:
        layout.columns.append(Column(name, new, value(cell, kinds, new), cell))
        return
    if warehouse.change_type(table.name, name, old, new):
        table.columns[name] = new
        layout.widened.append(f"{name}: {old or 'other'} to {new}")
        layout.columns.append(Column(name, new, value(cell, kinds, new), cell))
        return
    sibling = table.namer.variant(path, new.value)
    if sibling not in table.columns:
        layout.added[sibling] = new
    layout.diverted[name] = sibling
    rest = value(cell, kinds, new)
    if old is not None:
        fitting = value(cell, kinds, old)
        layout.columns.append(Column(name, old, fitting, cell))
        rest = f"CASE WHEN ({fitting}) IS NULL THEN {rest} END"
    layout.columns.append(Column(sibling, new, rest, cell))


def _widened(
    warehouse: Warehouse, table: Table, seen: Observations, path: Path, name: str, old: Type | None
) -> Type:
    """The type that an existing column has to have for the values of the batch."""
    if old is not None and seen.fits(path, old):
        return old
    joined = join(old, seen.narrowest(path)) if old is not None else Type.TEXT
    if joined is Type.FLOAT and seen.fits(path, Type.FLOAT):
        if old is Type.FLOAT or warehouse.are_exact_floats(table.name, name):
            return Type.FLOAT
        return Type.TEXT
    return Type.TEXT
