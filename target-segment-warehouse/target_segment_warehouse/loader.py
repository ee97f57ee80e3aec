"""Loads batches: everything that a batch holds, part by part, in one transaction."""

from __future__ import annotations

import contextlib
import logging
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

import pyarrow as pa

from target_segment_warehouse.activity import Activity
from target_segment_warehouse.batch import Activation, Batch, Segment
from target_segment_warehouse.catalog import Catalog
from target_segment_warehouse.discards import write_discards
from target_segment_warehouse.known import KnownIds
from target_segment_warehouse.metadata import Options, Stamps
from target_segment_warehouse.pieces import Piece, Pieces
from target_segment_warehouse.reports import FAILURE, RUNNING, SUCCESS, Entry, Report
from target_segment_warehouse.rows import RowLoader
from target_segment_warehouse.shape import Seen
from target_segment_warehouse.streams import Collection, Stream
from target_segment_warehouse.trust import Trust
from target_segment_warehouse.versions import activate, older_than, remove, written_before
from target_segment_warehouse.warehouses.base import Warehouse
from target_segment_warehouse.workbench import Workbench

logger = logging.getLogger(__name__)

OpenWarehouse = Callable[[Workbench], Warehouse]


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
        seen: What is known of each stream's records.
        trusted: Tables of events that are inserted before it is known that they are new.
    """

    streams: dict[str, Stream] = field(default_factory=dict)
    versions: dict[str, int] = field(default_factory=dict)
    seen: dict[str, Seen] = field(default_factory=dict)
    trusted: set[str] = field(default_factory=set)


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
        self._known: KnownIds
        self._report = Report()
        self._run = _Run()
        self._flush: _Flush | None = None
        self._last_stamp = self._report.started
        self._others: tuple[object, ...] | None = None
        self._prepared: deque[Pieces] = deque()
        self._reader = ThreadPoolExecutor(1, thread_name_prefix="read-ahead")

    def prepare(self, part: Sequence[Segment]) -> None:
        """Begin to read a part that is loaded next, while the one before it is loaded."""
        self._prepared.append(Pieces(part, self._run.seen, self._reader))

    def load(self) -> None:
        """Load the part that was prepared first. If this raises, nothing of its batch is left."""
        pieces = self._prepared.popleft()
        with self._undone_by_failure():
            for piece in pieces:
                flush = self._flush or self._begin()
                flush.apply(piece)

    def commit(self, batch: Batch) -> None:
        """Commit all parts of a batch that were loaded, or, if this raises, nothing of them."""
        if self._flush is None and not (batch.last and self._run.streams):
            return
        with self._undone_by_failure():
            flush = self._flush or self._begin()
            report = flush.finish(batch)
            if self._known.any:
                self._others = flush.others()
            flush.warehouse.commit()
        self._flush = None
        self._report = report
        self._tell(flush, batch)
        with self._undone_by_failure():
            if not self._prepared:
                flush.warehouse.release()
                self._known.forget()
            elif flush.warehouse.make_way():
                self._known.forget()
        # Else a batch's memory would stay with the process until one as large comes.
        pa.default_memory_pool().release_unused()

    def _begin(self) -> _Flush:
        if self._warehouse is None:
            workbench = Workbench()
            self._known = KnownIds(workbench)
            self._warehouse = self._open_warehouse(workbench)
        self._warehouse.begin()
        self._flush = _Flush(
            self._warehouse, self._settings, self._report, self._run, self._known, self._stamp
        )
        # On Postgres another run may have its turn between any two transactions.
        if self._known.any and self._flush.others() != self._others:
            self._known.forget()
        return self._flush

    @contextlib.contextmanager
    def _undone_by_failure(self) -> Iterator[None]:
        try:
            yield
        except BaseException:
            self._roll_back()
            raise

    def _roll_back(self) -> None:
        self._flush = None
        if self._warehouse is not None:
            self._warehouse.rollback()

    def close(self, failure: BaseException | None = None) -> None:
        """Let go of the warehouse; after a failure, say in the run report why."""
        self._reader.shutdown(cancel_futures=True)
        if self._warehouse is None:
            return
        if self._flush is not None:
            self._roll_back()
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
        known: KnownIds,
        stamp: Callable[[], str],
    ) -> None:
        self.warehouse = warehouse
        self._settings = settings
        self._report = report
        self._run = run
        self._stamp = stamp
        self._catalog = Catalog(warehouse)
        self._activity = Activity(warehouse, self._catalog, settings.activity, settings.aliases)
        self._trust = Trust(warehouse, run.trusted)
        self._rows = RowLoader(
            warehouse, self._activity, settings.options, run.seen, known, self._trust
        )
        self.entries: dict[str, Entry] = {}

    def apply(self, piece: Piece | Activation) -> None:
        """Let what was received take effect."""
        stream = piece.stream
        self._run.streams[stream.name] = stream
        if isinstance(piece, Activation):
            self._activate(stream, piece.version)
            return
        table = self._catalog.table(stream)
        if table.collection is Collection.OBJECT and (count := self._trust.end(table)):
            # They were events until another SCHEMA came: each must be there once from now on.
            self._note(table.name, Entry(Collection.EVENT, inserted=-count))
        stamp = self._stamp()
        if piece.version is not None and piece.records:
            self._catalog.begin_version(table.name, piece.version, stamp)
        started = int(self._report.started.timestamp() * 1000)
        entry = self._rows.load(piece, table, Stamps(stamp, started, piece.version))
        self._note(table.name, entry)

    def others(self) -> tuple[object, ...] | None:
        """What tells of other runs: the same as before if none has committed anything since."""
        return self._report.others(self.warehouse, self._catalog)

    def finish(self, batch: Batch) -> Report:
        """All that goes with the rows, in the same transaction.

        Returns:
            The run's report as it is if the transaction is committed.
        """
        if batch.last and batch.problem is None:
            self._end_of_input()
        for table, count in self._trust.remove_repeats().items():
            self._note(table, Entry(Collection.EVENT, inserted=-count))
        self._catalog.save()
        self._activity.finish()
        discards = self._rows.discards
        write_discards(self.warehouse, self._catalog, self._report.run_id, discards, self._stamp())
        report = self._report.with_entries(self.entries)
        status = SUCCESS if batch.last else RUNNING
        if batch.problem is not None:
            status = FAILURE
        report.write(self.warehouse, self._catalog, status, batch.problem)
        return report

    def _activate(self, stream: Stream, version: int) -> None:
        if not (self._settings.activate and stream.versioned):
            logger.info("ACTIVATE_VERSION for '%s' is left aside.", stream.name)
            return
        table = self._catalog.table(stream)
        latest = self._catalog.latest_version(table.name)
        if latest is not None and latest > version:
            logger.warning(
                "ACTIVATE_VERSION %s for '%s' is left aside: rows of version %s have come, which "
                "it would remove.",
                version,
                stream.name,
                latest,
            )
            return
        hard = self._settings.options.hard_delete
        entry = activate(self.warehouse, self._catalog, table, version, self._stamp(), hard=hard)
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
            entry = activate(self.warehouse, self._catalog, table, version, now, hard=hard)
            if entry is None:
                older = older_than(self.warehouse, table, version)
                entry = remove(self.warehouse, self._catalog, table, older, now, hard=hard)
            self._note(table.name, entry)
        if self._settings.overwrite:
            started = self._report.started.isoformat()
            for stream in self._run.streams.values():
                table = self._catalog.table(stream)
                gone = written_before(self.warehouse, started)
                entry = remove(self.warehouse, self._catalog, table, gone, started, hard=True)
                self._note(table.name, entry)

    def _note(self, table: str, entry: Entry) -> None:
        self.entries[table] = self.entries[table].plus(entry) if table in self.entries else entry
