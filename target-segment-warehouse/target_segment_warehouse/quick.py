"""Types records the quick way: they are read into columns already, as their shape says."""

from __future__ import annotations

from target_segment_warehouse.batch import Records
from target_segment_warehouse.catalog import Table
from target_segment_warehouse.cells import Cell, stamp
from target_segment_warehouse.keys import id_of
from target_segment_warehouse.layout import Column, Layout
from target_segment_warehouse.merge import TYPED, Typed, select_typed
from target_segment_warehouse.metadata import (
    Options,
    Stamps,
    computed_columns,
    tells_of_deletions,
)
from target_segment_warehouse.naming import Path
from target_segment_warehouse.parquet import Columns
from target_segment_warehouse.shape import RECEIVED_AT, Leaf, Nulls, Read, Shape
from target_segment_warehouse.sqltext import pointers
from target_segment_warehouse.streams import Stream
from target_segment_warehouse.versions import DELETED_AT
from target_segment_warehouse.warehouses.base import Warehouse
from target_segment_warehouse.workbench import PHYSICAL

_READ = "__read"
_KEYS = "__keys"


class QuickTyper:
    """Types records that were read by their shape.

    Args:
        warehouse: Inside a transaction.
        options: The user's settings.
    """

    def __init__(self, warehouse: Warehouse, options: Options) -> None:
        self._warehouse = warehouse
        self._workbench = warehouse.workbench
        self._options = options

    def type_rows(
        self,
        stream: Stream,
        table: Table,
        shape: Shape,
        read: Read,
        records: Records | Columns,
        stamps: Stamps,
    ) -> Typed:
        """Type records; what was read is not copied.

        Args:
            stream: What they are records of.
            table: The stream's table.
            shape: Their shape, which fits the table.
            read: The records as they were read.
            records: The records.
            stamps: What their rows are marked with.
        """
        places = {leaf.path: f"c{place}" for place, leaf in enumerate(shape.leaves)}
        received = places[RECEIVED_AT,]
        deleted_at = None
        if tells_of_deletions(table, self._options, places):
            deleted_at = f"CAST({places.get((DELETED_AT,), 'NULL')} AS TIMESTAMPTZ)"
        computed = computed_columns(table, self._options, stamps, deleted_at)
        layout, unclear = self._lay_out(stream, shape, read, records)
        layout.append(table, self._warehouse, computed)
        source = _READ
        given = read.columns.append_column("line", records.line_numbers())
        if given[received].null_count or self._options.metadata:
            given = given.append_column("extracted", records.extracted())
            received = f"coalesce({received}, {stamp('extracted')})"
        if unclear:
            given = given.append_column("record", records.as_json().texts())
            source = f"(SELECT *, json_type(record, {pointers(unclear)}) AS k FROM {_READ})"  # noqa: S608
        self._workbench.register(_READ, given)
        self._workbench.allow_columns(len(given.columns))
        key = [shape.leaves[place].text(f"c{place}") for place in shape.required]
        selected = select_typed(stream, key, received, layout, stamps)
        if not key:
            # Ids that are made here must stay the same.
            self._workbench.execute(
                f"CREATE OR REPLACE TEMP TABLE {TYPED} AS SELECT {selected} FROM {source}"  # noqa: S608
            )
            return Typed(TYPED, TYPED, len(records), layout)
        keys = read.columns.select(shape.required)
        self._workbench.register(_KEYS, keys.append_column("line", records.line_numbers()))
        ids = f"(SELECT {id_of(key)} AS id, line AS __line FROM {_KEYS})"  # noqa: S608
        rows = f"(SELECT {selected} FROM {source})"  # noqa: S608
        return Typed(rows, ids, len(records), layout)

    def _lay_out(
        self, stream: Stream, shape: Shape, read: Read, records: Records | Columns
    ) -> tuple[Layout, list[Path]]:
        """The columns; and the paths, as in ``k``, that tell null from absent where it matters."""
        layout = Layout()
        unclear: list[Path] = []
        for place, leaf in enumerate(shape.leaves):
            if leaf.column is None or leaf.type is None:
                continue
            without = read.columns.column(place).null_count
            if without == len(records) and (
                read.nulls is Nulls.ABSENT or leaf.path not in read.asked
            ):
                continue
            present = "true"
            if without and read.nulls is Nulls.UNCLEAR:
                present = _carries(leaf, unclear)
            always = not without or read.nulls is Nulls.CARRIED
            nulls = bool(without) and read.nulls is not Nulls.ABSENT
            cell = Cell("NULL", None, present, always=always, nulls=nulls)
            value = leaf.expression(f"c{place}")
            if without == len(records):
                value = f"CAST(NULL AS {PHYSICAL[leaf.type]})"
            layout.columns.append(Column(leaf.column, leaf.type, value, cell))
        return layout, unclear

    def forget(self) -> None:
        """Let go of the records."""
        self._workbench.unregister(_READ)
        self._workbench.unregister(_KEYS)


def _carries(leaf: Leaf, unclear: list[Path]) -> str:
    """SQL for whether a record carries a property, or null in the place of what it is in.

    Args:
        leaf: The property.
        unclear: The paths of ``k``; those that are needed are added.
    """
    conditions = []
    for length in range(1, len(leaf.path) + 1):
        path = leaf.path[:length]
        if path not in unclear:
            unclear.append(path)
        kind = f"k[{unclear.index(path) + 1}]"
        test = (
            f"{kind} IS NOT NULL" if path == leaf.path else f"coalesce({kind} <> 'OBJECT', false)"
        )
        conditions.append(test)
    return f"({' OR '.join(conditions)})"
