"""Loads records into their table: typed, one row per id, merged as their collection wants it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from target_segment_warehouse.activity import Activity
from target_segment_warehouse.catalog import META, OVERFLOW, Table
from target_segment_warehouse.cells import CELLS, Cell, stamp, take_apart
from target_segment_warehouse.discards import Discard
from target_segment_warehouse.keys import MAX_ID_BYTES, id_of, require_keys
from target_segment_warehouse.layout import Column, Layout, Planner
from target_segment_warehouse.naming import Path
from target_segment_warehouse.overflow import OVERFLOWING, gather, make_room, narrow
from target_segment_warehouse.profile import Profile
from target_segment_warehouse.reports import Entry
from target_segment_warehouse.sqltext import literal, quote
from target_segment_warehouse.staging import Staged
from target_segment_warehouse.streams import Collection, Stream
from target_segment_warehouse.types import Type
from target_segment_warehouse.versions import DELETED_AT, VERSION
from target_segment_warehouse.warehouses.base import Assignment, Warehouse
from target_segment_warehouse.workbench import Workbench

_TYPED = "__typed"
_ROWS = "__rows"
_RECEIVED_AT = ("received_at",)
_DELETED_AT = (DELETED_AT,)
_ID = ("id",)


@dataclass(frozen=True, slots=True)
class Stamps:
    """The times and numbers that rows are marked with.

    Attributes:
        now: ISO 8601; ``uuid_ts``, and ``received_at`` where nothing better is known. Rises from
            segment to segment.
        run_started: Milliseconds since 1970.
        version: The version of the records, if they have one.
    """

    now: str
    run_started: int
    version: int | None


@dataclass(frozen=True, slots=True)
class Options:
    """What the user's settings say on rows.

    Attributes:
        metadata: Whether rows get the SDK's ``_sdc_*`` columns.
        hard_delete: Whether rows marked as deleted are deleted.
        max_columns: The most columns of a table.
    """

    metadata: bool
    hard_delete: bool
    max_columns: int


class RowLoader:
    """Loads the records of one stream, staged on the workbench.

    Args:
        warehouse: Inside a transaction.
        activity: Told of new events.
        options: The user's settings.
    """

    def __init__(self, warehouse: Warehouse, activity: Activity, options: Options) -> None:
        self._warehouse = warehouse
        self._workbench = warehouse.workbench
        self._activity = activity
        self._options = options
        self.discards: list[Discard] = []

    def load(self, stream: Stream, table: Table, staged: Staged, stamps: Stamps) -> Entry:
        """Load staged records.

        Args:
            stream: What they are records of.
            table: The stream's table.
            staged: The records.
            stamps: What their rows are marked with.

        Returns:
            What became of them.

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
        require_keys(self._workbench, stream, cells, staged.place)
        computed = self._computed(table, cells, found, stamps)
        layout = self._lay_out(stream, table, cells, found, computed, names, columns)
        if overflowing:
            self._overflow(table, staged, layout, [(path, names[path]) for path in overflowing])
        _type_rows(self._workbench, stream, cells, layout, stamps)
        self._discard(staged, table, layout)
        assignments = _one_row_per_id(self._workbench, stream, layout)
        assignments = self._narrow(table, layout, assignments)
        table.make(self._warehouse)
        inserted, updated = self._merge(table, assignments)
        deleted = self._delete(table, computed) if updated + inserted else 0
        return Entry(
            table.collection,
            received=found.rows,
            inserted=inserted,
            updated=updated,
            deleted=deleted,
            new_columns=tuple(layout.added),
            widened=tuple(layout.widened),
            discarded=sum(map(len, staged.replaced.values())),
            notices=tuple(layout.notices),
            is_new=table.is_new,
        )

    def _computed(
        self, table: Table, cells: Mapping[Path, Cell], found: Profile, stamps: Stamps
    ) -> dict[str, tuple[Type, str]]:
        """Columns that do not come from a property: type, and SQL over ``__cells``."""
        flush = f"TIMESTAMPTZ {literal(stamps.now)}"
        version = "NULL" if stamps.version is None else str(stamps.version)
        columns: dict[str, tuple[Type, str]] = {}
        if self._options.metadata:
            columns = {
                "_sdc_extracted_at": (Type.TIMESTAMP, stamp("extracted")),
                "_sdc_received_at": (Type.TIMESTAMP, flush),
                "_sdc_batched_at": (Type.TIMESTAMP, flush),
                "_sdc_sequence": (Type.INTEGER, f"epoch_ms({flush})"),
                "_sdc_sync_started_at": (Type.INTEGER, f"CAST({stamps.run_started} AS BIGINT)"),
            }
        if self._options.metadata or VERSION in table.columns:
            columns[VERSION] = (Type.INTEGER, f"CAST({version} AS BIGINT)")
        if (
            self._options.metadata or _DELETED_AT in found.kinds or DELETED_AT in table.columns
        ) and _are_stamps(self._workbench, cells[_DELETED_AT]):
            # A record that says nothing of it is there again.
            columns[DELETED_AT] = (Type.TIMESTAMP, stamp(cells[_DELETED_AT].text))
        return columns

    def _lay_out(
        self,
        stream: Stream,
        table: Table,
        cells: Mapping[Path, Cell],
        found: Profile,
        computed: Mapping[str, tuple[Type, str]],
        names: Mapping[Path, str],
        columns: Sequence[Path],
    ) -> Layout:
        """Name and type the columns; change the table to take them."""
        properties = {path: cells[path] for path in columns if path[0] not in computed}
        if _are_stamps(self._workbench, cells[_RECEIVED_AT]):
            properties.pop(_RECEIVED_AT, None)
        planner = Planner(self._warehouse, table, found, properties, stream.columns, names)
        layout = planner.plan()
        always = Cell("NULL", None, "true", always=True, nulls=True)
        types = {name: type_ for name, (type_, _) in computed.items()}
        layout.added |= table.add_columns(self._warehouse, types)
        layout.columns += [Column(name, t, sql, always) for name, (t, sql) in computed.items()]
        return layout

    def _overflow(
        self, table: Table, staged: Staged, layout: Layout, names: list[tuple[Path, str]]
    ) -> None:
        """Put the properties for which there is no room into one column."""
        gather(self._workbench, staged.relation, staged.profile, names)
        layout.added |= table.add_columns(self._warehouse, {OVERFLOW: Type.TEXT})
        cell = Cell("NULL", None, "true", always=False, nulls=False)
        members = f"(SELECT members FROM {OVERFLOWING} AS o WHERE o.line = {CELLS}.line)"  # noqa: S608
        layout.columns.append(Column(OVERFLOW, Type.TEXT, members, cell))
        layout.notices.append(f"the table is full: {len(names)} properties are in {OVERFLOW}")

    def _narrow(
        self, table: Table, layout: Layout, assignments: list[Assignment]
    ) -> list[Assignment]:
        """Make rows fit that are too wide for the engine; how an update sets each column then."""
        most = self._warehouse.dialect.row_bytes
        columns = {**META, **{column.name: column.type for column in layout.columns}}
        if most is None or not narrow(self._workbench, _ROWS, columns, most):
            return assignments
        layout.added |= table.add_columns(self._warehouse, {OVERFLOW: Type.TEXT})
        layout.notices.append(f"rows too wide for the warehouse have some values in {OVERFLOW}")
        others = [assignment for assignment in assignments if assignment.column != OVERFLOW]
        return [*others, Assignment(OVERFLOW, merge_json=True)]

    def _discard(self, staged: Staged, table: Table, layout: Layout) -> None:
        """Note the values of which only a replacement is loaded."""
        if not staged.replaced:
            return
        lines = ", ".join(map(str, staged.replaced))
        ids = dict(
            self._workbench.query(f"SELECT __line, id FROM {_TYPED} WHERE __line IN ({lines})")  # noqa: S608
        )
        for line, values in staged.replaced.items():
            for replaced in values:
                path = replaced.path
                while path and path not in layout.names:
                    path = path[:-1]
                column = layout.names[path] if path else "id"
                self.discards.append(
                    Discard(table.name, str(ids[line]), column, replaced.value, replaced.reason)
                )

    def _merge(self, table: Table, assignments: Sequence[Assignment]) -> tuple[int, int]:
        """Insert what is new; update objects that are there, leave events that are.

        Returns:
            How many rows were inserted, and how many updated.
        """
        names = ["id", *(assignment.column for assignment in assignments)]
        columns = ", ".join(map(quote, names))
        rows = self._count(_ROWS)
        existing = 0
        if rows and not (table.is_new and self._warehouse.is_empty(table.name)):
            self._warehouse.find_existing(table.name, _ROWS)
            existing = self._count("__existing")
        if existing < rows:
            new = f"{_ROWS} ANTI JOIN __existing USING (id)" if existing else _ROWS
            if table.collection is Collection.EVENT:
                self._activity.add(table, names, new)
            self._warehouse.insert(table.name, names, f"SELECT {columns} FROM {new}")  # noqa: S608
        if not existing or table.collection is Collection.EVENT:
            return rows - existing, 0
        flags = [quote(a.flag) for a in assignments if a.flag is not None]
        self._warehouse.update(
            table.name,
            assignments,
            f"SELECT {', '.join([columns, *flags])} "  # noqa: S608
            f"FROM {_ROWS} SEMI JOIN __existing USING (id)",
        )
        return rows - existing, existing

    def _delete(self, table: Table, computed: Mapping[str, tuple[Type, str]]) -> int:
        """Delete objects that the tap marks as deleted, if that is wished for."""
        if (
            not self._options.hard_delete
            or DELETED_AT not in computed
            or table.collection is Collection.EVENT
        ):
            return 0
        select = f"SELECT id FROM {_ROWS} WHERE {DELETED_AT} IS NOT NULL"  # noqa: S608
        count = self._count(f"({select})")
        if count:
            self._warehouse.delete(table.name, select)
        return count

    def _has_long_ids(self, staged: Staged) -> bool:
        if staged.longest <= MAX_ID_BYTES:
            return False
        long = f"strlen(json_extract_string(record, '/id')) > {MAX_ID_BYTES}"
        return self._count(f"{staged.relation} WHERE {long}") > 0

    def _count(self, relation: str) -> int:
        return int(self._workbench.value(f"SELECT count(*) FROM {relation}"))  # noqa: S608


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


def _type_rows(
    workbench: Workbench,
    stream: Stream,
    cells: Mapping[Path, Cell],
    layout: Layout,
    stamps: Stamps,
) -> None:
    """Make ``__typed``: one row per record, columns as the table has them, ``__line`` for order."""
    flush = f"TIMESTAMPTZ {literal(stamps.now)}"
    received = stamp(cells[_RECEIVED_AT].text)
    selected = [
        "line AS __line",
        f"{id_of(stream, cells)} AS id",
        f"coalesce({received}, {stamp('extracted')}, {flush}) AS received_at",
        f"{flush} AS uuid_ts",
    ]
    for number, column in enumerate(layout.columns):
        selected.append(f"{column.value} AS {quote(column.name)}")
        if _needs_flag(stream, column):
            selected.append(f"{column.cell.present} AS __p{number}")
    workbench.execute(
        f"CREATE OR REPLACE TEMP TABLE {_TYPED} AS SELECT {', '.join(selected)} FROM {CELLS}"  # noqa: S608
    )
    workbench.execute(f"DROP TABLE {CELLS}")


def _needs_flag(stream: Stream, column: Column) -> bool:
    return stream.collection is Collection.OBJECT and column.cell.nulls and not column.cell.always


def _one_row_per_id(workbench: Workbench, stream: Stream, layout: Layout) -> list[Assignment]:
    """Make ``__rows``, of ``__typed``, with each id once.

    Of an event the first record counts; of an object the last value of each property that its
    records carry (W31).

    Returns:
        How an update sets each column.
    """
    assignments = [Assignment("received_at", always=True), Assignment("uuid_ts", always=True)]
    merged = ["id", "arg_max(received_at, __line) AS received_at", "max(uuid_ts) AS uuid_ts"]
    for number, column in enumerate(layout.columns):
        name, flag = quote(column.name), f"__p{number}"
        if column.name == OVERFLOW:
            assignments.append(Assignment(OVERFLOW, merge_json=True))
            objects = f"list({name} ORDER BY __line) FILTER (WHERE {name} IS NOT NULL)"
            merge = "lambda a, b: CAST(json_merge_patch(a, b) AS VARCHAR)"
            merged.append(f"list_reduce({objects}, {merge}) AS {name}")
        elif column.cell.always:
            assignments.append(Assignment(column.name, always=True))
            merged.append(f"arg_max_null({name}, __line) AS {name}")
        elif _needs_flag(stream, column):
            assignments.append(Assignment(column.name, flag))
            merged.append(f"arg_max_null({name}, __line) FILTER (WHERE {flag}) AS {name}")
            merged.append(f"bool_or({flag}) AS {flag}")
        else:
            assignments.append(Assignment(column.name))
            merged.append(f"arg_max({name}, __line) AS {name}")
    workbench.execute(f"DROP TABLE IF EXISTS {_ROWS}")
    if workbench.value(f"SELECT count(*) = count(DISTINCT id) FROM {_TYPED}"):  # noqa: S608
        workbench.execute(f"ALTER TABLE {_TYPED} RENAME TO {_ROWS}")
        return assignments
    if stream.collection is Collection.EVENT:
        select = f"""SELECT * FROM {_TYPED}
            QUALIFY row_number() OVER (PARTITION BY id ORDER BY __line) = 1"""  # noqa: S608
    else:
        repeated = f"SELECT id FROM {_TYPED} GROUP BY id HAVING count(*) > 1"  # noqa: S608
        select = f"""SELECT * EXCLUDE (__line) FROM {_TYPED} WHERE id NOT IN ({repeated})
            UNION ALL BY NAME
            SELECT {", ".join(merged)} FROM {_TYPED} WHERE id IN ({repeated}) GROUP BY id"""  # noqa: S608
    workbench.execute(f"CREATE TEMP TABLE {_ROWS} AS {select}")
    workbench.execute(f"DROP TABLE {_TYPED}")
    return assignments
