"""Loads the records of a stream into its table: the quick way where they look like those before."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from target_segment_warehouse.activity import Activity
from target_segment_warehouse.batch import Records
from target_segment_warehouse.careful import CarefulTyper
from target_segment_warehouse.catalog import Table
from target_segment_warehouse.discards import Discard
from target_segment_warehouse.known import KnownIds
from target_segment_warehouse.layout import Layout
from target_segment_warehouse.merge import TYPED, Merger, Typed
from target_segment_warehouse.metadata import Options, Stamps, computed_names
from target_segment_warehouse.parquet import Columns
from target_segment_warehouse.pieces import HEAD, Piece
from target_segment_warehouse.quick import QuickTyper
from target_segment_warehouse.reports import Entry
from target_segment_warehouse.shape import Read, Seen, Shape, shape_of
from target_segment_warehouse.staging import Staged, stage, unstage
from target_segment_warehouse.streams import Stream
from target_segment_warehouse.trust import Trust
from target_segment_warehouse.warehouses.base import Warehouse

_HEAD_GROWTH = 8
"""How many times as many records are loaded the careful way, each time the quick way fails."""


class RowLoader:
    """Loads records inside one transaction.

    Args:
        warehouse: Inside a transaction.
        activity: Told of new events.
        options: The user's settings.
        seen: What is known of each stream, by name; outlives the transaction.
        known: The ids of tables that this run found empty; outlives it too.
        trust: Events that need no look before they are inserted.

    Attributes:
        discards: Values of which only a replacement was loaded.
    """

    def __init__(
        self,
        warehouse: Warehouse,
        activity: Activity,
        options: Options,
        seen: dict[str, Seen],
        known: KnownIds,
        trust: Trust,
    ) -> None:
        self._warehouse = warehouse
        self._workbench = warehouse.workbench
        self._options = options
        self._seen = seen
        self._careful = CarefulTyper(warehouse, options)
        self._quick = QuickTyper(warehouse, options)
        self._merger = Merger(warehouse, activity, known, trust, hard_delete=options.hard_delete)
        self.discards: list[Discard] = []

    def load(self, piece: Piece, table: Table, stamps: Stamps) -> Entry:
        """Load records, in order.

        Args:
            piece: The records.
            table: Their table.
            stamps: What their rows are marked with.

        Returns:
            What became of them.

        Raises:
            MissingKeyPropertiesError: If a record has no value for a key property.
            InvalidRecordError: If a record is no JSON object.
        """
        self._workbench.allow_width(piece.records.size // max(len(piece.records), 1))
        seen = self._know(piece.stream, table)
        entry = Entry(table.collection, is_new=table.is_new)
        rest, head = piece.records, HEAD
        while True:
            if seen.shape is not None and seen.shape.fits(table):
                if not rest:
                    return entry  # and the table has every column that the SCHEMA declares
                ahead = rest is piece.records and piece.shape is seen.shape
                read = piece.read if ahead else seen.shape.read(rest)
                if read is not None:
                    return entry.plus(
                        self._load_quickly(piece, table, seen.shape, read, rest, stamps)
                    )
            elif not seen.is_new:
                head = len(rest)
            records, rest = rest.split(head)
            entry = entry.plus(self._load_carefully(piece, table, seen, records.as_json(), stamps))
            if not rest:
                return entry
            head *= _HEAD_GROWTH

    def _know(self, stream: Stream, table: Table) -> Seen:
        seen = self._seen.get(stream.name)
        if seen is None or seen.stream != stream:
            seen = Seen(stream, seen.kinds if seen else {})
            self._seen[stream.name] = seen
            if not table.is_new:
                self._shape(seen, table)
        return seen

    def _shape(self, seen: Seen, table: Table) -> None:
        ignored = computed_names(table, self._options, seen.kinds)
        seen.shape = shape_of(seen.stream, table, seen.kinds, ignored)

    def _load_quickly(
        self,
        piece: Piece,
        table: Table,
        shape: Shape,
        read: Read,
        records: Records | Columns,
        stamps: Stamps,
    ) -> Entry:
        typed = self._quick.type_rows(piece.stream, table, shape, read, records, stamps)
        entry = self._merge(piece.stream, table, typed)
        self._quick.forget()
        return entry

    def _load_carefully(
        self, piece: Piece, table: Table, seen: Seen, records: Records, stamps: Stamps
    ) -> Entry:
        staged = stage(
            self._workbench,
            records,
            piece.place,
            keep_nul=self._warehouse.dialect.keeps_nul,
            keys=piece.stream.key,
            expected=seen.objects() or piece.stream.objects(),
        )
        typed = self._careful.type_rows(piece.stream, table, staged, stamps)
        self._discard(staged, table, typed.layout)
        entry = self._merge(piece.stream, table, typed)
        unstage(self._workbench)
        seen.add(staged.profile)
        seen.is_new = seen.is_new and not records
        self._shape(seen, table)
        return replace(entry, discarded=sum(map(len, staged.replaced.values())))

    def _merge(self, stream: Stream, table: Table, typed: Typed) -> Entry:
        merged = self._merger.merge(stream, table, typed)
        if typed.rows == TYPED:
            self._workbench.execute(f"DROP TABLE {TYPED}")
        return Entry(
            table.collection,
            received=typed.count,
            inserted=merged.inserted,
            updated=merged.updated,
            deleted=merged.deleted,
            new_columns=tuple(typed.layout.added),
            widened=tuple(typed.layout.widened),
            notices=(*table.notices, *typed.layout.notices),
        )

    def _discard(self, staged: Staged, table: Table, layout: Layout) -> None:
        """Note the values of which only a replacement is loaded."""
        if not staged.replaced:
            return
        lines = ", ".join(map(str, staged.replaced))
        ids: Mapping[int, str] = dict(
            self._workbench.query(f"SELECT __line, id FROM {TYPED} WHERE __line IN ({lines})")  # noqa: S608
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
