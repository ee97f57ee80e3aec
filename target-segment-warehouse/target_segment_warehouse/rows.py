"""Loads records into their table: typed, one row per id, merged as their collection wants it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from singer_sdk.exceptions import MissingKeyPropertiesError

from target_segment_warehouse.catalog import Table
from target_segment_warehouse.cells import CELLS, Cell, stamp, take_apart
from target_segment_warehouse.layout import Column, Layout, lay_out
from target_segment_warehouse.naming import Path, column_name
from target_segment_warehouse.profile import Profile
from target_segment_warehouse.sqltext import literal, quote
from target_segment_warehouse.streams import Collection, Stream
from target_segment_warehouse.types import Type
from target_segment_warehouse.warehouses.base import Assignment, Warehouse
from target_segment_warehouse.workbench import Workbench

_TYPED = "__typed"
_ROWS = "__rows"
_RECEIVED_AT = ("received_at",)
_ID = ("id",)


@dataclass(frozen=True, slots=True)
class Loaded:
    """What became of some records.

    Attributes:
        received: How many there were.
        inserted: Rows that are new.
        updated: Rows that were there and were updated.
        layout: The columns, and what was changed in the table.
    """

    received: int
    inserted: int
    updated: int
    layout: Layout


def load_rows(
    warehouse: Warehouse, stream: Stream, table: Table, relation: str, found: Profile, now: datetime
) -> Loaded:
    """Load the records of a relation of the workbench.

    Args:
        warehouse: Inside a transaction.
        stream: What they are records of.
        table: The stream's table.
        relation: Columns ``line``, ``record``, ``extracted``, ``version``.
        found: The relation's profile.
        now: The time of the flush: ``uuid_ts``, and ``received_at`` where nothing better is known.

    Raises:
        MissingKeyPropertiesError: If a record has no value for a key property.
    """
    paths = _paths(stream, table, found)
    cells = take_apart(
        warehouse.workbench, relation, found, paths, ["line", "extracted", "version"]
    )
    _require_keys(warehouse.workbench, stream, cells)
    properties = {path: cell for path, cell in cells.items() if not _is_meta(path, stream, table, found)}
    received_at = cells.get(_RECEIVED_AT)
    if received_at is not None and _are_stamps(warehouse.workbench, received_at):
        properties.pop(_RECEIVED_AT, None)
    layout = lay_out(warehouse, table, found, properties, stream.columns)
    _type_rows(warehouse.workbench, stream, cells, layout.columns, now)
    flags = _one_row_per_id(warehouse.workbench, stream, layout.columns)
    return _merge(warehouse, table, layout, flags, found.rows)


def _paths(stream: Stream, table: Table, found: Profile) -> list[Path]:
    """Properties of the batch, declared ones, keys, and columns that the records clear."""
    paths = dict.fromkeys(found.leaves())
    paths |= dict.fromkeys(stream.columns)
    paths |= dict.fromkeys((key,) for key in stream.key)
    paths |= dict.fromkeys([_RECEIVED_AT])
    return list(paths)


def _is_meta(path: Path, stream: Stream, table: Table, found: Profile) -> bool:
    """Whether a property is in the row's ``id`` already, as what it is."""
    if path == _ID and stream.key == ("id",):
        declared = stream.columns.get(_ID)
        return (
            column_name(_ID) not in table.columns
            and found.value_kinds(_ID) <= {"VARCHAR"}
            and declared in {None, Type.TEXT}
        )
    return False


def _are_stamps(workbench: Workbench, cell: Cell) -> bool:
    return bool(
        workbench.value(f"SELECT count({cell.text}) = count({stamp(cell.text)}) FROM {CELLS}")  # noqa: S608
    )


def _require_keys(
    workbench: Workbench, stream: Stream, cells: dict[Path, Cell]
) -> None:
    for key in stream.key:
        line = workbench.value(
            f"SELECT min(line) FROM {CELLS} WHERE {cells[key,].text} IS NULL"  # noqa: S608
        )
        if line is not None:
            raise MissingKeyPropertiesError(
                f"A record of stream '{stream.name}' has no value for its key property '{key}' "
                f"(line {line} of the input). Nothing of this flush was loaded."
            )


def _id(stream: Stream, cells: dict[Path, Cell]) -> str:
    """SQL for the row's id: the key's text; several joined so that no two keys look alike."""
    if not stream.key:
        return "CAST(uuidv7() AS VARCHAR)"
    texts = [cells[key,].text for key in stream.key]
    if len(texts) == 1:
        return texts[0]
    escaped = [rf"replace(replace({text}, '\', '\\'), '_', '\_')" for text in texts]
    return " || '_' || ".join(escaped)


def _type_rows(
    workbench: Workbench,
    stream: Stream,
    cells: dict[Path, Cell],
    columns: Sequence[Column],
    now: datetime,
) -> None:
    """Make ``__typed``: one row per record, columns as the table has them, ``__line`` for order."""
    flush = f"TIMESTAMPTZ {literal(now.isoformat())}"
    received = stamp(cells[_RECEIVED_AT].text)
    selected = [
        "line AS __line",
        f"{_id(stream, cells)} AS id",
        f"coalesce({received}, {stamp('extracted')}, {flush}) AS received_at",
        f"{flush} AS uuid_ts",
    ]
    for number, column in enumerate(columns):
        selected.append(f"{column.value} AS {quote(column.name)}")
        if _needs_flag(stream, column):
            selected.append(f"{column.cell.present} AS __p{number}")
    workbench.execute(
        f"CREATE OR REPLACE TEMP TABLE {_TYPED} AS SELECT {', '.join(selected)} FROM {CELLS}"  # noqa: S608
    )


def _needs_flag(stream: Stream, column: Column) -> bool:
    return (
        stream.collection is Collection.OBJECT and column.cell.nulls and not column.cell.always
    )


def _one_row_per_id(
    workbench: Workbench, stream: Stream, columns: Sequence[Column]
) -> list[Assignment]:
    """Make ``__rows``, of ``__typed``, with each id once.

    Of an event the first record counts; of an object the last value of each property that its
    records carry (W31).

    Returns:
        How an update sets each column.
    """
    assignments = [Assignment("received_at", always=True), Assignment("uuid_ts", always=True)]
    merged = ["id", "arg_max(received_at, __line) AS received_at", "max(uuid_ts) AS uuid_ts"]
    for number, column in enumerate(columns):
        name, flag = quote(column.name), f"__p{number}"
        if column.cell.always:
            assignments.append(Assignment(column.name, always=True))
            merged.append(f"arg_max_null({name}, __line) AS {name}")
        elif _needs_flag(stream, column):
            assignments.append(Assignment(column.name, flag))
            merged.append(f"arg_max_null({name}, __line) FILTER (WHERE {flag}) AS {name}")
            merged.append(f"bool_or({flag}) AS {flag}")
        else:
            assignments.append(Assignment(column.name))
            merged.append(f"arg_max({name}, __line) AS {name}")
    if workbench.value(f"SELECT count(*) = count(DISTINCT id) FROM {_TYPED}"):  # noqa: S608
        select = f"SELECT * FROM {_TYPED}"  # noqa: S608
    elif stream.collection is Collection.EVENT:
        select = f"""SELECT * FROM {_TYPED}
            QUALIFY row_number() OVER (PARTITION BY id ORDER BY __line) = 1"""  # noqa: S608
    else:
        repeated = f"SELECT id FROM {_TYPED} GROUP BY id HAVING count(*) > 1"  # noqa: S608
        select = f"""SELECT * EXCLUDE (__line) FROM {_TYPED} WHERE id NOT IN ({repeated})
            UNION ALL BY NAME
            SELECT {", ".join(merged)} FROM {_TYPED} WHERE id IN ({repeated}) GROUP BY id"""  # noqa: S608
    workbench.execute(f"CREATE OR REPLACE TEMP TABLE {_ROWS} AS {select}")
    return assignments


def _merge(
    warehouse: Warehouse,
    table: Table,
    layout: Layout,
    assignments: Sequence[Assignment],
    received: int,
) -> Loaded:
    """Insert what is new; update objects that are there, leave events that are."""
    names = ["id", *(assignment.column for assignment in assignments)]
    columns = ", ".join(map(quote, names))
    rows = _count(warehouse, _ROWS)
    existing = 0
    if rows and not warehouse.is_empty(table.name):
        warehouse.find_existing(table.name, _ROWS)
        existing = _count(warehouse, "__existing")
    select = f"SELECT {columns} FROM {_ROWS}"  # noqa: S608
    if existing < rows:
        anti = " ANTI JOIN __existing USING (id)" if existing else ""
        warehouse.insert(table.name, names, select + anti)
    if existing and table.collection is Collection.OBJECT:
        flags = [quote(a.flag) for a in assignments if a.flag is not None]
        warehouse.update(
            table.name,
            assignments,
            f"SELECT {', '.join([columns, *flags])} "  # noqa: S608
            f"FROM {_ROWS} SEMI JOIN __existing USING (id)",
        )
        return Loaded(received, rows - existing, existing, layout)
    return Loaded(received, rows - existing, 0, layout)


def _count(warehouse: Warehouse, relation: str) -> int:
    return int(warehouse.workbench.value(f"SELECT count(*) FROM {relation}"))  # noqa: S608
