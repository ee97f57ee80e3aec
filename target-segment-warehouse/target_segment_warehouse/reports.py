"""``sync_reports``: what each run did to each collection (W40, W43), queryable beside the data."""

from __future__ import annotations

import json
import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime

from target_segment_warehouse.catalog import Catalog
from target_segment_warehouse.sqltext import literal
from target_segment_warehouse.streams import Collection
from target_segment_warehouse.types import Type
from target_segment_warehouse.warehouses.base import Warehouse

REPORTS = "sync_reports"
RUNNING, SUCCESS, PARTIAL, FAILURE = "Running", "Success", "Partial", "Failure"
COLUMNS = {
    "run_id": Type.TEXT,
    "type": Type.TEXT,
    "table_name": Type.TEXT,
    "status": Type.TEXT,
    "start_time": Type.TIMESTAMP,
    "finish_time": Type.TIMESTAMP,
    "duration_seconds": Type.FLOAT,
    "row_count": Type.INTEGER,
    "rows_inserted": Type.INTEGER,
    "rows_updated": Type.INTEGER,
    "rows_deleted": Type.INTEGER,
    "new_columns": Type.TEXT,
    "widened_columns": Type.TEXT,
    "discarded_values": Type.INTEGER,
    "notices": Type.TEXT,
    "is_new": Type.BOOLEAN,
    "error": Type.TEXT,
}


@dataclass(frozen=True, slots=True)
class Entry:
    """What a run did to one collection so far.

    Attributes:
        collection: Object or event.
        received: Records received.
        inserted: Rows that are new.
        updated: Rows that were there and were updated.
        deleted: Rows that were deleted, or marked as such.
        new_columns: Columns that the table did not have.
        widened: Columns that got another type.
        discarded: Values that the warehouse cannot hold.
        notices: What people should know: names resolved, values in a sibling column.
        is_new: Whether the run made the table.
    """

    collection: Collection
    received: int = 0
    inserted: int = 0
    updated: int = 0
    deleted: int = 0
    new_columns: tuple[str, ...] = ()
    widened: tuple[str, ...] = ()
    discarded: int = 0
    notices: tuple[str, ...] = ()
    is_new: bool = False

    def plus(self, other: Entry) -> Entry:
        """Both together."""
        return Entry(
            other.collection,
            self.received + other.received,
            self.inserted + other.inserted,
            self.updated + other.updated,
            self.deleted + other.deleted,
            (*self.new_columns, *other.new_columns),
            (*self.widened, *other.widened),
            self.discarded + other.discarded,
            tuple(dict.fromkeys((*self.notices, *other.notices))),
            self.is_new or other.is_new,
        )


@dataclass(slots=True)
class Report:
    """The report of one run, as far as it is committed.

    Attributes:
        run_id: Sorts by time.
        started: When the run began.
        entries: By table.
    """

    run_id: str = field(
        default_factory=lambda: f"{datetime.now(UTC):%Y%m%dT%H%M%S.%f}-{uuid.uuid4().hex[:8]}"
    )
    started: datetime = field(default_factory=lambda: datetime.now(UTC))
    entries: dict[str, Entry] = field(default_factory=dict)

    def with_entries(self, more: Mapping[str, Entry]) -> Report:
        """The report as it will be if what goes on is committed."""
        entries = dict(self.entries)
        for table, entry in more.items():
            entries[table] = entries[table].plus(entry) if table in entries else entry
        return replace(self, entries=entries)

    def others(self, warehouse: Warehouse, catalog: Catalog) -> tuple[object, ...] | None:
        """What other runs' reports add up to: something else once another run committed a flush.

        Each flush adds rows, or replaces them by ones with a longer duration.
        """
        if catalog.columns(REPORTS) is None:
            return None
        return warehouse.query(
            f"SELECT count(*), sum(duration_seconds) FROM {warehouse.name(REPORTS)} "  # noqa: S608
            f"WHERE run_id <> {literal(self.run_id)}"
        )[0]

    def write(
        self, warehouse: Warehouse, catalog: Catalog, status: str, problem: str | None = None
    ) -> None:
        """Put the run's rows in place of those that it wrote before.

        Args:
            warehouse: Inside a transaction.
            catalog: The schema.
            status: ``Running``, ``Success``, or ``Failure``, which is ``Partial`` where rows were
                loaded (W40).
            problem: Why the run failed.
        """
        catalog.keep(REPORTS, COLUMNS)
        name = warehouse.name(REPORTS)
        warehouse.execute(f"DELETE FROM {name} WHERE run_id = {literal(self.run_id)}")  # noqa: S608
        now = datetime.now(UTC)
        rows = [
            self._row(warehouse, table, entry, status, now, problem)
            for table, entry in self.entries.items()
        ]
        if rows:
            columns = ", ".join(COLUMNS)
            warehouse.execute(f"INSERT INTO {name} ({columns}) VALUES {', '.join(rows)}")  # noqa: S608

    def _row(
        self,
        warehouse: Warehouse,
        table: str,
        entry: Entry,
        status: str,
        now: datetime,
        problem: str | None,
    ) -> str:
        if status == FAILURE and entry.inserted + entry.updated:
            status = PARTIAL
        values = (
            self.run_id,
            entry.collection.value,
            table,
            status,
            self.started.isoformat(),
            now.isoformat(),
            (now - self.started).total_seconds(),
            entry.received,
            entry.inserted,
            entry.updated,
            entry.deleted,
            json.dumps(entry.new_columns),
            json.dumps(entry.widened),
            entry.discarded,
            json.dumps(entry.notices),
            entry.is_new,
            problem,
        )
        types = COLUMNS.values()
        texts = (_sql(warehouse, v, t) for v, t in zip(values, types, strict=True))
        return f"({', '.join(texts)})"


def _sql(warehouse: Warehouse, value: object, type_: Type) -> str:
    text = "NULL" if value is None else literal(str(value).replace("\0", ""))
    return f"CAST({text} AS {warehouse.physical(type_)})"
