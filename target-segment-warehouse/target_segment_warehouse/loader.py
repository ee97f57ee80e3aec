"""Loads batches: everything that a batch holds, in one transaction."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

import pyarrow as pa

from target_segment_warehouse.activity import Activity
from target_segment_warehouse.batch import Activation, Batch, Files, Rows, Segment
from target_segment_warehouse.catalog import Catalog
from target_segment_warehouse.discards import write_discards
from target_segment_warehouse.files import read_files
from target_segment_warehouse.naming import Path
from target_segment_warehouse.reports import FAILURE, RUNNING, SUCCESS, Entry, Report
from target_segment_warehouse.rows import Options, RowLoader, Stamps
from target_segment_warehouse.staging import Place, stage
from target_segment_warehouse.streams import Stream
from target_segment_warehouse.versions import activate, older_than, remove, written_before
from target_segment_warehouse.warehouses.base import Warehouse
from target_segment_warehouse.workbench import Workbench

logger = logging.getLogger(__name__)

OpenWarehouse = Callable[[Workbench], Warehouse]
_INPUT = Place("line {} of the input")


@dataclass(frozen=True, slots=True)
class Settings:
    """What the user's settings say on loading.

    Attributes:
        options: On rows.
        activity: ``view``, ``table`` or ``off``.
        aliases: Whether to keep views under Segment's other names.
        activate: Whether to heed ACTIVATE_VERSION messages.
        overwrite: Whether rows that a run does not bring are removed at its end.
    """

    options: Options
    activity: str
    aliases: bool
    activate: bool
    overwrite: bool


@dataclass(slots=True)
class _Run:
    """What a run remembers from one flush to the next.

    Attributes:
        streams: Streams seen in this run, by name.
        versions: Versions that are active but of which no row has come yet, by stream.
        objects: Properties that were objects in the records before, by stream.
    """

    streams: dict[str, Stream] = field(default_factory=dict)
    versions: dict[str, int] = field(default_factory=dict)
    objects: dict[str, list[Path]] = field(default_factory=dict)


class BatchLoader:
    """Loads batches into a warehouse.

    Args:
        open_warehouse: Opens the warehouse on a workbench; called once, when first needed.
        settings: What the user's settings say.
    """

    def __init__(self, open_warehouse: OpenWarehouse, settings: Settings) -> None:
        self._open_warehouse = open_warehouse
        self._settings = settings
        self._warehouse: Warehouse | None = None
        self._report = Report()
        self._run = _Run()
        self._last_stamp = self._report.started

    def load(self, batch: Batch) -> None:
        """Load a batch; when this returns it is committed, when it raises nothing of it is."""
        if not batch.segments and not (batch.last and self._run.streams):
            return
        if self._warehouse is None:
            self._warehouse = self._open_warehouse(Workbench())
        warehouse = self._warehouse
        try:
            warehouse.begin()
            flush = _Flush(warehouse, self._settings, self._report, self._run, self._stamp)
            for segment in batch.segments:
                flush.apply(segment)
            report = flush.finish(batch)
            warehouse.commit()
        except BaseException:
            warehouse.rollback()
            raise
        self._report = report
        self._tell(flush, batch)

    def close(self, failure: BaseException | None = None) -> None:
        """Let go of the warehouse; after a failure, say in the run report why."""
        if self._warehouse is None:
            return
        if failure is not None and self._report.entries:
            try:
                self._warehouse.begin()
                catalog = Catalog(self._warehouse)
                self._report.write(self._warehouse, catalog, FAILURE, str(failure))
                self._warehouse.commit()
            except Exception:  # noqa: BLE001 (the first failure is the one to tell of)
                self._warehouse.rollback()
        self._warehouse.close()

    def _stamp(self) -> str:
        """The time, later than every time given before."""
        self._last_stamp = max(datetime.now(UTC), self._last_stamp + timedelta(microseconds=1))
        return self._last_stamp.isoformat()

    def _tell(self, flush: _Flush, batch: Batch) -> None:
        for table, entry in flush.entries.items():
            for change in (*entry.widened, *entry.notices):
                logger.warning("%s: %s", table, change)
        received = sum(entry.received for entry in flush.entries.values())
        if received:
            logger.info("Flushed %d records into %d tables.", received, len(flush.entries))
        if batch.last:
            for table, entry in sorted(self._report.entries.items()):
                logger.info(
                    "%s: %d records, %d rows new, %d updated, %d deleted.",
                    table,
                    entry.received,
                    entry.inserted,
                    entry.updated,
                    entry.deleted,
                )


class _Flush:
    """One transaction."""

    def __init__(
        self,
        warehouse: Warehouse,
        settings: Settings,
        report: Report,
        run: _Run,
        stamp: Callable[[], str],
    ) -> None:
        self._warehouse = warehouse
        self._settings = settings
        self._report = report
        self._run = run
        self._stamp = stamp
        self._catalog = Catalog(warehouse)
        self._activity = Activity(warehouse, self._catalog, settings.activity, settings.aliases)
        self._rows = RowLoader(warehouse, self._activity, settings.options)
        self.entries: dict[str, Entry] = {}

    def apply(self, segment: Segment) -> None:
        """Let a segment take effect."""
        stream = segment.stream
        self._run.streams[stream.name] = stream
        if isinstance(segment, Activation):
            self._activate(stream, segment.version)
            return
        for records, place in self._read(segment):
            self._load(stream, segment.version, records, place)

    def finish(self, batch: Batch) -> Report:
        """All that goes with the rows, in the same transaction.

        Returns:
            The run's report as it is if the transaction is committed.
        """
        if batch.last and batch.stopped_by is None:
            self._end_of_input()
        self._catalog.save()
        self._activity.finish()
        discards = self._rows.discards
        write_discards(self._warehouse, self._catalog, self._report.run_id, discards, self._stamp())
        report = self._report.with_entries(self.entries)
        status, problem = (SUCCESS if batch.last else RUNNING), None
        if batch.stopped_by is not None:
            status, problem = FAILURE, f"stopped by {batch.stopped_by} before the end of the input"
        report.write(self._warehouse, self._catalog, status, problem)
        return report

    def _read(self, segment: Rows | Files) -> Iterator[tuple[pa.Table, Place]]:
        if isinstance(segment, Rows):
            yield segment.to_arrow(), _INPUT
        else:
            yield from read_files(self._warehouse.workbench, segment)

    def _load(self, stream: Stream, version: int | None, records: pa.Table, place: Place) -> None:
        table = self._catalog.table(stream)
        stamp = self._stamp()
        if version is not None and len(records):
            self._catalog.begin_version(table.name, version, stamp)
        staged = stage(
            self._warehouse.workbench,
            records,
            place,
            keep_nul=self._warehouse.dialect.keeps_nul,
            checked=place is _INPUT,
            expected=self._run.objects.get(stream.name) or stream.objects(),
        )
        self._run.objects[stream.name] = staged.profile.objects()
        started = int(self._report.started.timestamp() * 1000)
        self._note(
            table.name, self._rows.load(stream, table, staged, Stamps(stamp, started, version))
        )

    def _activate(self, stream: Stream, version: int) -> None:
        if not (self._settings.activate and stream.versioned):
            logger.info("ACTIVATE_VERSION for '%s' is left aside.", stream.name)
            return
        table = self._catalog.table(stream)
        hard = self._settings.options.hard_delete
        entry = activate(self._warehouse, self._catalog, table, version, self._stamp(), hard=hard)
        if entry is None:
            # Announced before its rows: what is there stays until they have come.
            self._run.versions[stream.name] = version
        else:
            self._run.versions.pop(stream.name, None)
            self._note(table.name, entry)

    def _end_of_input(self) -> None:
        """Remove what the tap, or the load method, wants removed once all rows have come."""
        hard = self._settings.options.hard_delete
        for name, version in self._run.versions.items():
            table = self._catalog.table(self._run.streams[name])
            now = self._stamp()
            entry = activate(self._warehouse, self._catalog, table, version, now, hard=hard)
            if entry is None:
                entry = remove(self._warehouse, table, older_than(version), now, hard=hard)
            self._note(table.name, entry)
        if self._settings.overwrite:
            started = self._report.started.isoformat()
            for stream in self._run.streams.values():
                table = self._catalog.table(stream)
                gone = written_before(self._warehouse, started)
                entry = remove(self._warehouse, table, gone, started, hard=True)
                self._note(table.name, entry)

    def _note(self, table: str, entry: Entry) -> None:
        self.entries[table] = self.entries[table].plus(entry) if table in self.entries else entry
