"""Types records the careful way: looks at all of them, and makes the table take what they have."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from target_segment_warehouse.catalog import OVERFLOW, Table
from target_segment_warehouse.cells import CELLS, Cell, stamp, take_apart
from target_segment_warehouse.keys import MAX_ID_BYTES, require_keys
from target_segment_warehouse.layout import Column, Layout, Planner
from target_segment_warehouse.merge import TYPED, Typed, select_typed
from target_segment_warehouse.metadata import (
    Options,
    Stamps,
    computed_columns,
    replaced,
    tells_of_deletions,
)
from target_segment_warehouse.naming import Path
from target_segment_warehouse.overflow import OVERFLOWING, gather, make_room
from target_segment_warehouse.profile import Profile
from target_segment_warehouse.staging import Staged
from target_segment_warehouse.streams import Collection, Stream
from target_segment_warehouse.types import Type
from target_segment_warehouse.versions import DELETED_AT
from target_segment_warehouse.warehouses.base import Warehouse
from target_segment_warehouse.workbench import Workbench

_RECEIVED_AT = ("received_at",)
_DELETED_AT = (DELETED_AT,)
_ID = ("id",)


class CarefulTyper:
    """Makes ``__typed`` of the records of one stream, staged on the workbench.

    Args:
        warehouse: Inside a transaction.
        options: The user's settings.
    """

    def __init__(self, warehouse: Warehouse, options: Options) -> None:
        self._warehouse = warehouse
        self._workbench = warehouse.workbench
        self._options = options

    def type_rows(self, stream: Stream, table: Table, staged: Staged, stamps: Stamps) -> Typed:
        """Make ``__typed``, and the table's columns for it.

        Args:
            stream: What they are records of.
            table: The stream's table.
            staged: The records.
            stamps: What their rows are marked with.

        Raises:
            MissingKeyPropertiesError: If a record has no value for a key property.
        """
        found = staged.profile
        paths = _paths(stream, table, found)
        if _is_the_id(stream, table, found) and not self._has_long_ids(staged):
            paths.remove(_ID)
        names = table.namer.columns(paths)
        columns, overflowing = make_room(
            table,
            names,
            found,
            stream.columns,
            min(self._options.max_columns, self._warehouse.dialect.max_columns),
        )
        needed = dict.fromkeys(
            [*columns, *((key,) for key in stream.key), _RECEIVED_AT, _DELETED_AT]
        )
        # Declared columns take room too, with values or without.
        self._workbench.allow_columns(max(len(needed) + len(overflowing), len(table.columns)))
        cells = take_apart(
            self._workbench, staged.relation, found, list(needed), ["line", "extracted"]
        )
        require_keys(self._workbench, stream, cells, staged)
        deleted_at = None
        if tells_of_deletions(table, self._options, found.kinds):
            cell = cells[_DELETED_AT]
            deleted_at = stamp(cell.text) if _are_stamps(self._workbench, cell) else None
        computed = computed_columns(table, self._options, stamps, deleted_at)
        layout = self._lay_out(stream, table, cells, found, computed, names, columns)
        if overflowing:
            self._overflow(table, staged, layout, [(path, names[path]) for path in overflowing])
        key = [cells[name,].text for name in stream.key]
        received = f"coalesce({stamp(cells[_RECEIVED_AT].text)}, {stamp('extracted')})"
        selected = select_typed(stream, key, received, layout, stamps)
        self._workbench.execute(
            f"CREATE OR REPLACE TEMP TABLE {TYPED} AS SELECT {selected} FROM {CELLS}"  # noqa: S608
        )
        self._workbench.execute(f"DROP TABLE {CELLS}")
        return Typed(TYPED, TYPED, found.rows, layout)

    def _lay_out(
        self,
        stream: Stream,
        table: Table,
        cells: Mapping[Path, Cell],
        found: Profile,
        computed: Sequence[Column],
        names: Mapping[Path, str],
        columns: Sequence[Path],
    ) -> Layout:
        """Name and type the columns; change the table to take them."""
        aside = replaced(computed)
        properties = {path: cells[path] for path in columns if path[0] not in aside}
        if _are_stamps(self._workbench, cells[_RECEIVED_AT]):
            properties.pop(_RECEIVED_AT, None)
        planner = Planner(self._warehouse, table, found, properties, stream.columns, names)
        layout = planner.plan()
        layout.append(table, self._warehouse, computed)
        return layout

    def _overflow(
        self, table: Table, staged: Staged, layout: Layout, names: list[tuple[Path, str]]
    ) -> None:
        """Put the properties for which there is no room into one column."""
        gather(self._workbench, staged.relation, staged.profile, names)
        table.members.update(name for _, name in names)
        layout.added |= table.add_columns(self._warehouse, {OVERFLOW: Type.TEXT})
        cell = Cell("NULL", None, "true", always=False, nulls=False)
        members = f"(SELECT members FROM {OVERFLOWING} AS o WHERE o.line = {CELLS}.line)"  # noqa: S608
        layout.columns.append(Column(OVERFLOW, Type.TEXT, members, cell))
        layout.notices.append(f"the table is full: {len(names)} properties are in {OVERFLOW}")

    def _has_long_ids(self, staged: Staged) -> bool:
        if staged.longest <= MAX_ID_BYTES:
            return False
        long = f"strlen(json_extract_string(record, '/id')) > {MAX_ID_BYTES}"
        return bool(self._workbench.value(f"SELECT count(*) FROM {staged.relation} WHERE {long}"))  # noqa: S608


def _paths(stream: Stream, table: Table, found: Profile) -> list[Path]:
    """Properties of the batch, declared ones, keys, and those of objects that are now replaced."""
    paths = dict.fromkeys(found.leaves())
    paths |= dict.fromkeys(stream.columns)
    paths |= dict.fromkeys((key,) for key in stream.key)
    if table.collection is Collection.OBJECT:
        for path in table.columns_of:
            prefixes = (path[:length] for length in range(1, len(path)))
            if path in found.kinds or any(
                set(found.kinds.get(p, ())) - {"OBJECT"} for p in prefixes
            ):
                paths[path] = None
    return list(paths)


def _is_the_id(stream: Stream, table: Table, found: Profile) -> bool:
    """Whether the property ``id`` is all in the row's ``id``, and needs no ``_id`` beside it."""
    return (
        stream.key == ("id",)
        and not table.columns_of.get(_ID)
        and found.value_kinds(_ID) <= {"VARCHAR"}
        and stream.columns.get(_ID) in {None, Type.TEXT}
    )


def _are_stamps(workbench: Workbench, cell: Cell) -> bool:
    return bool(
        workbench.value(f"SELECT count({cell.text}) = count({stamp(cell.text)}) FROM {CELLS}")  # noqa: S608
    )
