"""Columns that come from the run, not from a property: the SDK's ``_sdc_*`` columns."""

from __future__ import annotations

from collections.abc import Container, Iterable
from dataclasses import dataclass

from target_segment_warehouse.catalog import Table
from target_segment_warehouse.cells import Cell, stamp
from target_segment_warehouse.layout import Column
from target_segment_warehouse.sqltext import literal
from target_segment_warehouse.types import Type
from target_segment_warehouse.versions import DELETED_AT, VERSION

ALWAYS = Cell("NULL", None, "true", always=True, nulls=True)
"""What every row carries."""


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

    def time(self) -> str:
        """SQL for ``now``."""
        return f"TIMESTAMPTZ {literal(self.now)}"


def computed_columns(
    table: Table, options: Options, stamps: Stamps, deleted_at: str | None
) -> list[Column]:
    """The columns, with SQL for their values.

    Args:
        table: Where they go: a table that has had versions, or deletions, goes on having them.
        options: The user's settings.
        stamps: What rows are marked with.
        deleted_at: SQL for when the tap saw that the object was deleted, NULL for one that is
            there; None if records say nothing of it that is a time.
    """
    columns: list[Column] = []
    if options.metadata:
        now = stamps.time()
        columns = [
            _column("_sdc_extracted_at", Type.TIMESTAMP, stamp("extracted")),
            _column("_sdc_received_at", Type.TIMESTAMP, now),
            _column("_sdc_batched_at", Type.TIMESTAMP, now),
            _column("_sdc_sequence", Type.INTEGER, f"epoch_ms({now})"),
            _column("_sdc_sync_started_at", Type.INTEGER, f"CAST({stamps.run_started} AS BIGINT)"),
        ]
    if options.metadata or VERSION in table.columns:
        version = "NULL" if stamps.version is None else str(stamps.version)
        columns.append(_column(VERSION, Type.INTEGER, f"CAST({version} AS BIGINT)"))
    if deleted_at is not None:
        # A record that says nothing of it is there again.
        columns.append(_column(DELETED_AT, Type.TIMESTAMP, deleted_at))
    return columns


def tells_of_deletions(table: Table, options: Options, seen: Container[tuple[str, ...]]) -> bool:
    """Whether rows are to say when their object was deleted.

    Args:
        table: Where they go.
        options: The user's settings.
        seen: Properties that records have.
    """
    return (DELETED_AT,) in seen or DELETED_AT in table.columns or options.metadata


def computed_names(table: Table, options: Options, seen: Container[tuple[str, ...]]) -> set[str]:
    """The properties that are left aside for such columns, as ``replaced`` gives them.

    Args:
        table: Where they go.
        options: The user's settings.
        seen: Properties that records have.
    """
    stamps = Stamps("", 0, None)
    deleted_at = "NULL" if tells_of_deletions(table, options, seen) else None
    return replaced(computed_columns(table, options, stamps, deleted_at))


def replaced(columns: Iterable[Column]) -> set[str]:
    """The names of properties in records that are left aside for computed columns.

    A property called like that of the version is none of them: its column has another name.
    """
    return {column.name for column in columns} - {VERSION}


def _column(name: str, type_: Type, value: str) -> Column:
    return Column(name, type_, value, ALWAYS)
