"""``activity``: the union of all event collections, for funnels (R31).

As a view it is what the tables are, at every moment. As a table it is filled in the transaction
that fills the tables. A comment on it tells whether it is up to date, so that nothing is done to it
when nothing has changed, and a table that was not kept for a while is filled anew.
"""

from __future__ import annotations

import functools
import hashlib
import logging
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field

from target_segment_warehouse.catalog import META, OVERFLOW, Catalog, Table
from target_segment_warehouse.cells import pack, stamp_text
from target_segment_warehouse.sqltext import quote
from target_segment_warehouse.types import Type, join
from target_segment_warehouse.warehouses.base import Warehouse
from target_segment_warehouse.workbench import PHYSICAL

logger = logging.getLogger(__name__)

ACTIVITY = "activity"
ALIASES = {"spamreport": "spam_report"}
"""Names of Segment's real tables that differ from its documentation, as views on request."""

OWN_VIEWS = frozenset({ACTIVITY, *ALIASES})
_KEPT = "The union of all event collections, kept by target-segment-warehouse"
"""How the comment on everything of ours begins; what is without it is somebody else's."""

_STALE = f"{_KEPT}, not up to date"

Columns = Mapping[str, Type | None]


@dataclass(slots=True)
class Union:
    """How the event tables become one.

    Attributes:
        types: The union's columns: those of every table first, then by name.
        sources: For each table: column of the union to column of the table.
        packed: For each table: columns for which the union has no room.
    """

    types: dict[str, Type] = field(default_factory=dict)
    sources: dict[str, dict[str, str]] = field(default_factory=dict)
    packed: dict[str, list[str]] = field(default_factory=dict)

    def limit(self, most: int, keep: Collection[str]) -> None:
        """Leave out columns until there are no more than ``most``: those in fewest tables go first.

        Args:
            most: What the engine allows.
            keep: Columns that stay before others.
        """
        if len(self.types) <= most:
            return
        tables = Counter(name for sources in self.sources.values() for name in sources)
        order = sorted(
            self.types.keys() - META.keys() - {OVERFLOW},
            key=lambda name: (name not in keep, -tables[name], name),
        )
        gone = set(order[most - len(META) - 1 :])
        for table, sources in self.sources.items():
            self.packed[table] = [sources.pop(name) for name in sorted(gone & sources.keys())]
        self.types = {name: t for name, t in self.types.items() if name not in gone}
        self.types.setdefault(OVERFLOW, Type.TEXT)


def unite(tables: Mapping[str, Columns], fixed: Mapping[str, Type] | None = None) -> Union:
    """Lay the event tables over one another.

    Args:
        tables: The event tables with their columns.
        fixed: Columns of the union that must keep their type; a table's column that does not fit
            goes to a column of the union beside it.
    """
    fixed = fixed or {}
    union = Union()
    types: dict[str, Type] = dict(META)
    for table, columns in tables.items():
        sources = union.sources.setdefault(table, {})
        for column, type_ in columns.items():
            logical = type_ or Type.TEXT
            name = column
            if column in fixed and join(fixed[column], logical) is not fixed[column]:
                name = f"{column}_{logical}"
                while name in columns or name in sources:
                    name += "_"
            sources[name] = column
            types[name] = join(types.get(name), logical) or Type.TEXT
    union.types = {**META, **{name: types[name] for name in sorted(types.keys() - META.keys())}}
    return union


@functools.cache
def _warn(text: str) -> None:
    """Once for each run: every flush meets the same."""
    logger.warning("%s", text)


class Activity:
    """Keeps the union, and the aliases, inside one transaction.

    Args:
        warehouse: Inside a transaction.
        catalog: The schema.
        mode: ``view``, ``table`` or ``off``.
        aliases: Whether to keep ``ALIASES`` too.
    """

    def __init__(self, warehouse: Warehouse, catalog: Catalog, mode: str, aliases: bool) -> None:
        self._warehouse = warehouse
        self._catalog = catalog
        self._aliases = aliases
        views = set(OWN_VIEWS & catalog.views.keys())
        present = views if catalog.columns(ACTIVITY) is None else views | {ACTIVITY}
        self._marks = {name: warehouse.comment_of(name) or "" for name in sorted(present)}
        self._others = {name for name, mark in self._marks.items() if not mark.startswith(_KEPT)}
        warehouse.own_views = views - self._others
        self._mode = self._settle(mode)
        self._views = frozenset(warehouse.own_views)

    def _settle(self, mode: str) -> str:
        """Make way for the mode that is asked for; keep the other if something depends on it."""
        if ACTIVITY in self._others:
            if mode != "off":
                _warn(
                    f"{self._warehouse.schema}.activity is not this target's and stays as it is, "
                    "so that no union of the events is kept: rename it, or set 'activity' to off."
                )
            return "off"
        columns = self._catalog.columns(ACTIVITY)
        if columns is not None and mode != "table":
            if self._warehouse.drop(f"TABLE {self._warehouse.name(ACTIVITY)}"):
                self._catalog.forget(ACTIVITY)
            elif mode == "view":
                _warn("activity stays a table: something in the warehouse depends on it.")
                return "table"
            else:
                self._warehouse.comment("TABLE", ACTIVITY, _STALE)
        elif ACTIVITY in self._warehouse.own_views and mode == "table":
            if not self._warehouse.drop(f"VIEW {self._warehouse.name(ACTIVITY)}"):
                _warn("activity stays a view: something in the warehouse depends on it.")
                return "view"
            self._warehouse.own_views.discard(ACTIVITY)
        return mode

    @property
    def is_table(self) -> bool:
        """Whether it is kept as a table."""
        return self._mode == "table"

    def add(self, table: Table, columns: Sequence[str], rows: str) -> None:
        """Tell of new rows of an event table, before they are inserted there.

        Args:
            table: The event table.
            columns: Columns of the rows.
            rows: The relation on the workbench, with what follows FROM.
        """
        if not self.is_table:
            return
        union = self._prepare_table()
        names, selected = [], []
        if packed := [name for name in union.packed.get(table.name, ()) if name in columns]:
            union.sources[table.name].pop(OVERFLOW, None)
            names.append(OVERFLOW)
            own = OVERFLOW if OVERFLOW in columns else None
            selected.append(f"{pack(packed, own)} AS {OVERFLOW}")
        for name, source in union.sources[table.name].items():
            if source in columns:
                old, new = table.columns[source] or Type.TEXT, union.types[name]
                names.append(name)
                selected.append(f"{_convert(source, old, new)} AS {quote(name)}")
        self._warehouse.insert(ACTIVITY, names, f"SELECT {', '.join(selected)} FROM {rows}")  # noqa: S608

    def finish(self) -> None:
        """Bring everything up to date with the event tables."""
        # Views of ours that had to go for a column's new type: also those that are kept no longer.
        gone = self._views - self._warehouse.own_views
        tables = self._catalog.event_tables()
        # It stays, empty, when the last event collection becomes one of objects.
        is_there = ACTIVITY in self._views or self._catalog.columns(ACTIVITY) is not None
        if not tables and not is_there:
            pass
        elif self._mode == "view" or ACTIVITY in gone:
            self._keep_view(ACTIVITY, tables)
        elif self._mode == "table":
            self._prepare_table()
        for alias, name in ALIASES.items():
            columns = self._catalog.columns(name)
            if columns is None or self._catalog.columns(alias) is not None:
                continue
            if alias in gone or (self._aliases and alias not in self._others):
                self._keep_view(alias, {name: columns})
            elif self._aliases:
                _warn(
                    f"{self._warehouse.schema}.{alias} is not this target's and stays as it is: "
                    "rename it, or set 'segment_aliases' to false."
                )

    def _keep_view(self, name: str, tables: Mapping[str, Columns]) -> None:
        warehouse = self._warehouse
        present = self._catalog.views.get(name, {}) if name in self._views else {}
        union = self._unite(tables, keep=present)
        mark = _mark(union, tables)
        if name in warehouse.own_views and self._marks.get(name) == mark:
            return
        ordered = {column: union.types[column] for column in present if column in union.types}
        select = self._select(union, tables, ordered | union.types)
        if not warehouse.replace_view(name, select):
            # Views of the user's depend on it: what is there must stay as it is.
            fixed = {c: warehouse.logical(physical) or Type.TEXT for c, physical in present.items()}
            union = self._unite(tables, fixed, keep=present)
            warehouse.replace_view(name, self._select(union, tables, fixed | union.types | fixed))
        warehouse.comment("VIEW", name, mark)
        warehouse.own_views.add(name)

    def _prepare_table(self) -> Union:
        """Give the table every column that the event tables have; fill it if it is new or stale."""
        warehouse, catalog = self._warehouse, self._catalog
        tables = catalog.event_tables()
        union = self._unite(tables)
        columns = catalog.columns(ACTIVITY)
        if columns is None or self._marks.get(ACTIVITY) != _KEPT or catalog.rows_changed:
            catalog.rows_changed = False
            if columns is None:
                warehouse.create_table(ACTIVITY, union.types, key=None)
                columns = catalog.created(ACTIVITY, union.types)
            else:
                warehouse.execute(f"DELETE FROM {warehouse.name(ACTIVITY)}")  # noqa: S608
            warehouse.comment("TABLE", ACTIVITY, _KEPT)
            self._marks[ACTIVITY] = _KEPT
            union = self._fit_table(columns, tables)
            names = ", ".join(map(quote, union.types))
            warehouse.execute(
                f"INSERT INTO {warehouse.name(ACTIVITY)} ({names}) "
                f"{self._select(union, tables, union.types)}"
            )
            return union
        return self._fit_table(columns, tables)

    def _fit_table(self, columns: dict[str, Type | None], tables: Mapping[str, Columns]) -> Union:
        union = self._unite(tables, keep=columns)
        fixed: dict[str, Type] = {}
        for name, type_ in union.types.items():
            old = columns.get(name, type_)
            if old is type_ or old is Type.TEXT or (old is Type.FLOAT and type_ is Type.INTEGER):
                if old is not None and old is not type_:
                    union.types[name] = old
            elif self._warehouse.change_type(ACTIVITY, name, old, type_):
                columns[name] = type_
            else:
                fixed[name] = old or Type.TEXT
        if fixed:
            union = self._unite(tables, fixed, keep=columns)
            union.types |= {name: columns.get(name) or type_ for name, type_ in union.types.items()}
        missing = {name: t for name, t in union.types.items() if name not in columns}
        if missing:
            self._warehouse.add_columns(ACTIVITY, missing)
            columns |= missing
        return union

    def _unite(
        self,
        tables: Mapping[str, Columns],
        fixed: Mapping[str, Type] | None = None,
        keep: Collection[str] = (),
    ) -> Union:
        union = unite(tables, fixed)
        union.limit(self._warehouse.dialect.max_columns, keep)
        self._warehouse.workbench.allow_columns(len(union.types))
        return union

    def _select(
        self, union: Union, tables: Mapping[str, Columns], types: Mapping[str, Type]
    ) -> str:
        """SQL for the union of the event tables, with these columns in this order."""
        parts = []
        for table, columns in tables.items():
            sources = union.sources[table]
            selected = []
            for name, type_ in types.items():
                if name == OVERFLOW and union.packed.get(table):
                    own = OVERFLOW if OVERFLOW in sources else None
                    expression = self._warehouse.pack(union.packed[table], own)
                elif name in sources:
                    expression = self._as(sources[name], columns[sources[name]], type_)
                else:
                    expression = self._nothing(type_)
                selected.append(f"{expression} AS {quote(name)}")
            parts.append(f"SELECT {', '.join(selected)} FROM {self._warehouse.name(table)}")  # noqa: S608
        if not parts:
            none = (f"{self._nothing(type_)} AS {quote(name)}" for name, type_ in types.items())
            parts.append(f"SELECT {', '.join(none)} WHERE false")
        return " UNION ALL ".join(parts)

    def _nothing(self, type_: Type) -> str:
        return f"CAST(NULL AS {self._warehouse.physical(type_)})"

    def _as(self, column: str, old: Type | None, new: Type) -> str:
        return quote(column) if old is new else self._warehouse.widening(column, old, new)


def _convert(column: str, old: Type, new: Type) -> str:
    """The same on the workbench."""
    if old is new:
        return quote(column)
    if old is Type.TIMESTAMP:
        return stamp_text(quote(column))
    return f"CAST({quote(column)} AS {PHYSICAL[new]})"


def _mark(union: Union, tables: Mapping[str, Columns]) -> str:
    """A comment that tells this union from others.

    The types of the tables' columns are in it too: a conversion that suits one type fails on
    another, though the union's own type is the same.
    """
    columns = {name: sorted(types.items()) for name, types in tables.items()}
    shape = repr(
        (union.types, sorted(union.sources.items()), sorted(union.packed.items()), columns)
    )
    return f"{_KEPT} ({hashlib.sha256(shape.encode()).hexdigest()[:16]})"
