"""From typed rows on the workbench into their table: one row per id, merged as they should be."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from target_segment_warehouse.activity import Activity
from target_segment_warehouse.catalog import META, OVERFLOW, Table
from target_segment_warehouse.keys import id_of
from target_segment_warehouse.known import KnownIds
from target_segment_warehouse.layout import Column, Layout
from target_segment_warehouse.metadata import Stamps
from target_segment_warehouse.sqltext import quote
from target_segment_warehouse.streams import Collection, Stream
from target_segment_warehouse.trust import Trust
from target_segment_warehouse.types import Type
from target_segment_warehouse.versions import DELETED_AT
from target_segment_warehouse.warehouses.base import Assignment, Warehouse
from target_segment_warehouse.wide import (
    WIDE,
    may_be_too_wide,
    narrow,
    narrow_merged,
    narrow_stored,
)
from target_segment_warehouse.workbench import Workbench

TYPED = "__typed"
_SUPERSEDED = "__superseded"
_MERGED = "__merged"
_NARROWED = "__narrowed"
_FITTED = "__fitted"
_EXISTING = "__existing"
_GONE = "__gone"
_FLAGS = "__flags"


@dataclass(frozen=True, slots=True)
class Typed:
    """Rows on the workbench, one for each record.

    Attributes:
        rows: The relation, as it stands after FROM: columns as ``select_typed`` makes them.
        ids: A relation with their ``id`` and ``__line`` alone, which is less to plan.
        count: How many there are.
        layout: Their columns.
        tail: Columns whose values are in the JSON column in rows too wide for the engine.
    """

    rows: str
    ids: str
    count: int
    layout: Layout
    tail: Sequence[str] = ()


@dataclass(frozen=True, slots=True)
class Merged:
    """How many rows of a table were inserted, updated and deleted."""

    inserted: int
    updated: int
    deleted: int


def select_typed(
    stream: Stream, key: Sequence[str], received: str, layout: Layout, stamps: Stamps
) -> str:
    """The columns of typed rows as what follows SELECT: the table's, and ``__line`` for order.

    Args:
        stream: What the rows are of.
        key: SQL for the texts of its key properties.
        received: SQL for ``received_at``; NULL where it is not known.
        layout: The other columns.
        stamps: What the rows are marked with.
    """
    flush = stamps.time()
    selected = [
        "line AS __line",
        f"{id_of(key)} AS id",
        f"coalesce({received}, {flush}) AS received_at",
        f"{flush} AS uuid_ts",
    ]
    for number, column in enumerate(layout.columns):
        selected.append(f"{column.value} AS {quote(column.name)}")
        if _needs_flag(stream.collection, column):
            selected.append(f"{column.cell.present} AS __p{number}")
    return ", ".join(selected)


def _needs_flag(collection: Collection, column: Column) -> bool:
    return collection is Collection.OBJECT and column.cell.nulls and not column.cell.always


def _merge_several(typed: Typed, merged: Mapping[str, str], part: str) -> str:
    """SQL for one row of each id that several rows have: the last one's, but for some columns.

    Args:
        typed: The rows; of each id all but the last are in ``__superseded``.
        merged: SQL for each such column over an id's rows.
        part: A condition on ids.
    """
    others = ", ".join(merged)
    aggregates = ", ".join(f"{expression} AS {name}" for name, expression in merged.items())
    return f"""WITH repeated AS MATERIALIZED (
            SELECT DISTINCT id FROM {typed.ids} SEMI JOIN {_SUPERSEDED} USING (__line)
            WHERE {part}
        ), several AS MATERIALIZED (
            SELECT * FROM {typed.rows} SEMI JOIN repeated USING (id)
        )
        SELECT several.* EXCLUDE ({others}), merged.* EXCLUDE (__line)
        FROM several
        JOIN (SELECT max(__line) AS __line, {aggregates} FROM several GROUP BY id) AS merged
        USING (__line)"""  # noqa: S608


class Merger:
    """Merges typed rows into tables.

    Args:
        warehouse: Inside a transaction.
        activity: Told of new events.
        known: The ids of tables that this run found empty.
        trust: Events that need no look before they are inserted.
        hard_delete: Whether rows marked as deleted are deleted.
    """

    def __init__(
        self,
        warehouse: Warehouse,
        activity: Activity,
        known: KnownIds,
        trust: Trust,
        *,
        hard_delete: bool,
    ) -> None:
        self._warehouse = warehouse
        self._workbench: Workbench = warehouse.workbench
        self._activity = activity
        self._known = known
        self._trust = trust
        self._hard_delete = hard_delete

    def merge(self, stream: Stream, table: Table, typed: Typed) -> Merged:
        """Insert what is new; update objects that are there, leave events that are.

        Args:
            stream: What the rows are of.
            table: The stream's table; made if it is not there.
            typed: The rows; their layout is told of what happens to them here.
        """
        if not self._known.has_room(typed.count):
            self._known.forget()
        left = self._leave_out_deleted(table, typed) if self._hard_delete else typed
        rows, assignments = self._one_row_per_id(stream, table, left)
        rows, assignments = self._narrow(rows, table, assignments)
        table.make(self._warehouse)
        # An object that comes again is as if it had never been there: so this goes first.
        deleted = self._delete(table) if left is not typed else 0
        inserted, updated = self._write(stream, rows, table, assignments)
        return Merged(inserted, updated, deleted)

    def _one_row_per_id(
        self, stream: Stream, table: Table, typed: Typed
    ) -> tuple[Typed, list[Assignment]]:
        """Make sure that each id is there once, unless that is shown later.

        Of an event the first record counts; of an object the last value of each property that its
        records carry (W31).

        Returns:
            The rows, and how an update sets each column.
        """
        assignments = [Assignment("received_at", always=True), Assignment("uuid_ts", always=True)]
        merged: dict[str, str] = {}
        for number, column in enumerate(typed.layout.columns):
            name, flag = quote(column.name), f"__p{number}"
            if column.name == OVERFLOW:
                assignments.append(Assignment(OVERFLOW, merge_json=True))
                objects = f"list({name} ORDER BY __line) FILTER (WHERE {name} IS NOT NULL)"
                merge = "lambda a, b: CAST(json_merge_patch(a, b) AS VARCHAR)"
                merged[name] = f"list_reduce({objects}, {merge})"
            elif column.cell.always:
                assignments.append(Assignment(column.name, always=True))
            elif _needs_flag(stream.collection, column):
                assignments.append(Assignment(column.name, flag))
                merged[name] = f"arg_max_null({name}, __line) FILTER (WHERE {flag})"
                merged[flag] = f"bool_or({flag})"
            else:
                assignments.append(Assignment(column.name))
                merged[name] = f"arg_max({name}, __line)"
        is_trusted = self._may_trust(stream) and self._trust.has(table)
        if is_trusted or not stream.key or not (superseded := self._supersede(stream, typed)):
            return typed, assignments
        rows = f"(SELECT * FROM {typed.rows} ANTI JOIN {_SUPERSEDED} USING (__line))"  # noqa: S608
        ids = f"(SELECT * FROM {typed.ids} ANTI JOIN {_SUPERSEDED} USING (__line))"  # noqa: S608
        if merged and stream.collection is Collection.OBJECT:
            parts = ["true"]
            if quote(OVERFLOW) in merged:
                size = self._workbench.text_bytes(f"(SELECT {OVERFLOW} FROM {typed.rows})")  # noqa: S608
                parts = self._workbench.parts(size, "id", json=True)
            selects = (_merge_several(typed, merged, part) for part in parts)
            self._workbench.collect(_MERGED, selects)
            rows = (
                f"(SELECT * FROM {typed.rows} ANTI JOIN {_MERGED} USING (id) "  # noqa: S608
                f"UNION ALL BY NAME SELECT * FROM {_MERGED})"
            )
        return replace(typed, rows=rows, ids=ids, count=typed.count - superseded), assignments

    def _supersede(self, stream: Stream, typed: Typed) -> int:
        """Make ``__superseded``: rows for whose id another row counts. Returns how many."""
        choose = "max" if stream.collection is Collection.OBJECT else "min"
        count = self._workbench.value(
            f"""CREATE OR REPLACE TEMP TABLE {_SUPERSEDED} AS
            SELECT __line FROM {typed.ids} JOIN (
                SELECT id, {choose}(__line) AS __kept FROM {typed.ids}
                GROUP BY id HAVING count(*) > 1
            ) USING (id) WHERE __line <> __kept"""  # noqa: S608
        )
        return int(count)

    def _narrow(
        self, typed: Typed, table: Table, assignments: list[Assignment]
    ) -> tuple[Typed, list[Assignment]]:
        """Make rows fit that are too wide for the engine; how an update sets each column then."""
        most = self._warehouse.dialect.row_bytes
        if most is None:
            return typed, assignments
        columns = {**META, **{column.name: column.type for column in typed.layout.columns}}
        tail = narrow(self._workbench, typed.rows, _NARROWED, columns, most)
        if not tail:
            return typed, assignments
        self._add_overflow(table, typed.layout)
        others = [assignment for assignment in assignments if assignment.column != OVERFLOW]
        narrowed = replace(typed, rows=_NARROWED, ids=_NARROWED, tail=tail)
        return narrowed, [*others, Assignment(OVERFLOW, merge_json=True)]

    def _add_overflow(self, table: Table, layout: Layout) -> None:
        layout.added |= table.add_columns(self._warehouse, {OVERFLOW: Type.TEXT})
        notice = f"rows too wide for the warehouse have some values in {OVERFLOW}"
        if notice not in layout.notices:
            layout.notices.append(notice)

    def _write(
        self, stream: Stream, typed: Typed, table: Table, assignments: Sequence[Assignment]
    ) -> tuple[int, int]:
        """Returns how many rows were inserted, and how many updated."""
        names = ["id", *(assignment.column for assignment in assignments)]
        columns = ", ".join(map(quote, names))
        rows, count = typed.rows, typed.count
        existing = self._find_existing(stream, typed, table) if stream.key and count else 0
        is_event = table.collection is Collection.EVENT
        if existing < count:
            new = f"{rows} ANTI JOIN {_EXISTING} USING (id)" if existing else rows
            if is_event:
                self._activity.add(table, names, new)
            self._warehouse.insert(table.name, names, f"SELECT {columns} FROM {new}")  # noqa: S608
        if not existing or is_event:
            return count - existing, 0
        self._update(typed, table, assignments)
        return count - existing, existing

    def _update(self, typed: Typed, table: Table, assignments: Sequence[Assignment]) -> None:
        """Merge those of the rows that the table has into it."""
        warehouse, most = self._warehouse, self._warehouse.dialect.row_bytes
        rows = f"{typed.rows} SEMI JOIN {_EXISTING} USING (id)"
        if typed.tail:
            wide = f"{WIDE} SEMI JOIN {_EXISTING} USING (id)"
            narrow_stored(warehouse, table.name, typed.tail, wide)
        if most is None or not may_be_too_wide(table.columns, most):
            warehouse.update(table.name, *self._changes(table, assignments, rows))
        elif not warehouse.update_if_it_fits(table.name, *self._changes(table, assignments, rows)):
            self._add_overflow(table, typed.layout)
            given = ["id", *(assignment.column for assignment in assignments)]
            rows = narrow_merged(warehouse, table.name, table.columns, most, rows, _FITTED, given)
            if rows == _FITTED and OVERFLOW not in given:
                assignments = [*assignments, Assignment(OVERFLOW, merge_json=True)]
            warehouse.update(table.name, *self._changes(table, assignments, rows))

    def _changes(
        self, table: Table, assignments: Sequence[Assignment], rows: str
    ) -> tuple[Sequence[Assignment], str]:
        """What an update of the table takes: how to set each column, and the query for the rows.

        What the table has in the JSON column may have a column in the rows now.
        """
        selected = ["id", *(quote(assignment.column) for assignment in assignments)]
        flags = [quote(a.flag) for a in assignments if a.flag is not None]
        if not flags or len(selected) + len(flags) <= self._warehouse.dialect.max_columns:
            selected += flags
        else:
            # What is staged is a table, too, and takes no more columns than others do.
            digits = (f"CASE WHEN {flag} THEN '1' ELSE '0' END" for flag in flags)
            selected.append(f"concat({', '.join(digits)}) AS {_FLAGS}")
            places = {flag: place for place, flag in enumerate(flags, 1)}
            assignments = [
                a if a.flag is None else replace(a, flag=_FLAGS, place=places[quote(a.flag)])
                for a in assignments
            ]
        if OVERFLOW in table.columns:
            others = [a for a in assignments if a.column != OVERFLOW]
            if len(others) == len(assignments):
                selected.append(f"CAST(NULL AS VARCHAR) AS {OVERFLOW}")
            # Without a limit to rows, only columns that were made later can have members.
            order = list(table.columns)
            first = order.index(OVERFLOW) if self._warehouse.dialect.row_bytes is None else 0
            later = {*order[first:]}
            columns = [a for a in others if a.column in later and a.column not in META]
            assignments = [*others, Assignment(OVERFLOW, merge_json=True, replaced_by=columns)]
        return assignments, f"SELECT {', '.join(selected)} FROM {rows}"  # noqa: S608

    def _find_existing(self, stream: Stream, typed: Typed, table: Table) -> int:
        """Make ``__existing``: ids that the table has. Returns how many."""
        name, count = table.name, typed.count
        if self._may_trust(stream):
            if self._known.have(name):  # it was one of objects before: it gets others now
                self._known.forget()
            if self._trust.begin(table):
                return 0
            existing = self._warehouse.find_existing(name, typed.ids)
            self._trust.tell(name, existing, count)
            return existing
        if table.is_new and not self._known.have(name) and self._warehouse.is_empty(name):
            self._known.begin(name)
        suspects = self._known.suspects(name, typed.ids, count)
        return self._warehouse.find_existing(name, suspects) if suspects else 0

    def _may_trust(self, stream: Stream) -> bool:
        """Whether nothing forbids that an id is in the table twice for a while."""
        return (
            stream.collection is Collection.EVENT
            and bool(stream.key)
            and not self._warehouse.dialect.enforces_keys
            and not self._activity.is_table
        )

    def _leave_out_deleted(self, table: Table, typed: Typed) -> Typed:
        """Make ``__gone``: ids of objects that the tap marks as deleted, if there are any.

        Returns:
            The rows that come after the last such mark of their object.
        """
        columns = ((column.name, column.type) for column in typed.layout.columns)
        if table.collection is Collection.EVENT or (DELETED_AT, Type.TIMESTAMP) not in columns:
            return typed
        if not self._workbench.value(
            f"""CREATE OR REPLACE TEMP TABLE {_GONE} AS
            SELECT id, max(__line) AS __last FROM {typed.rows}
            WHERE {DELETED_AT} IS NOT NULL GROUP BY id"""  # noqa: S608
        ):
            return typed
        before = f"(SELECT __line FROM {typed.ids} JOIN {_GONE} USING (id) WHERE __line <= __last)"  # noqa: S608
        count = self._workbench.value(f"SELECT count(*) FROM {before}")  # noqa: S608
        return replace(
            typed,
            rows=f"(SELECT * FROM {typed.rows} ANTI JOIN {before} USING (__line))",  # noqa: S608
            ids=f"(SELECT * FROM {typed.ids} ANTI JOIN {before} USING (__line))",  # noqa: S608
            count=typed.count - int(count),
        )

    def _delete(self, table: Table) -> int:
        """Delete the objects in ``__gone``. Returns how many the table had."""
        count = self._warehouse.find_existing(table.name, _GONE)
        if count:
            self._warehouse.delete(table.name, f"SELECT id FROM {_EXISTING}")  # noqa: S608
        return count
