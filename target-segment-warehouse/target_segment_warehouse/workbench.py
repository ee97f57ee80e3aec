"""The workbench: an in-memory DuckDB in which rows are prepared, whatever the warehouse."""

from __future__ import annotations

import tempfile
from collections.abc import Iterable
from functools import cached_property
from typing import Any

import duckdb
import pyarrow as pa

from target_segment_warehouse.sqltext import quote
from target_segment_warehouse.types import Type

PHYSICAL = {
    Type.TEXT: "VARCHAR",
    Type.INTEGER: "BIGINT",
    Type.FLOAT: "DOUBLE",
    Type.BOOLEAN: "BOOLEAN",
    Type.TIMESTAMP: "TIMESTAMPTZ",
}
"""Types on the workbench."""

# What DuckDB may hold, in bytes, unless a batch needs more: it keeps what it has read of a
# warehouse file for as long as it has room.
MEMORY_BYTES = 100 << 20
THREADS = 1
"""Of DuckDB's: the other core reads what comes next."""

# What a column takes, in bytes, even of a single row: a vector or two in each step of a query.
_COLUMN_BYTES = 400_000
_FEW_COLUMNS = 100
# How much text one statement works on where it takes several times as much memory.
_TEXT_BYTES = 8 << 20
# The same of JSON: DuckDB parses that of 2,048 rows before it writes any of it.
_JSON_BYTES = 2 << 20
_VECTOR_ROWS = 2048  # of DuckDB's
_USUAL_ROW_BYTES = 4096
_MOST_BYTES = 2 << 30
_UNITS = {"bytes": 1, "KiB": 1 << 10, "MiB": 1 << 20, "GiB": 1 << 30, "TiB": 1 << 40}
# Rows that a reader hands over at a time.
READER_ROWS = 10_000


class _Lent:
    """An Arrow table that can be taken back, and another lent in its place, of any columns.

    DuckDB asks for columns and rows with each statement. It keeps what was registered until the
    transaction ends in which it was forgotten, and takes milliseconds to register something.
    """

    table: pa.Table | None = None

    def __arrow_c_stream__(self, requested_schema: object = None) -> object:
        """The Arrow PyCapsule interface, by which DuckDB reads it."""
        if self.table is None:
            raise LookupError("the table was taken back")
        return self.table.__arrow_c_stream__(requested_schema)


class Workbench:
    """A connection whose every statement is over when the call returns.

    Times are in UTC. One thread at a time.
    """

    def __init__(self) -> None:
        # Arrow's own allocator keeps what was freed; the system's gives it back when asked.
        pa.set_memory_pool(pa.system_memory_pool())
        self._connection = duckdb.connect(
            config={
                "threads": THREADS,
                "memory_limit": f"{MEMORY_BYTES}B",
                "preserve_insertion_order": False,
                # A commit that ends in a checkpoint writes no log first.
                "checkpoint_threshold": "1MB",
                "temp_directory": tempfile.gettempdir(),
                # No look at the network for extensions that the file formats in use do not need.
                "autoinstall_known_extensions": False,
            }
        )
        self._allowed, self._more = MEMORY_BYTES, 0
        self._lent: dict[str, _Lent] = {}
        self.execute("SET TimeZone = 'UTC'")
        # How many rows Arrow has DuckDB cannot tell, and would hash them all, with every column, in
        # place of the few that they are joined with: those stand on the right-hand side.
        self.execute("SET disabled_optimizers = 'build_side_probe_side'")

    def allow(self, size: int) -> None:
        """Let this many bytes be held, if that is more than is allowed already."""
        if size > self._allowed:
            self._allowed = size
            self._limit()

    def allow_more(self, size: int) -> None:
        """Let so many bytes be held besides, until ``allow_no_more``, as far as there is memory."""
        self._more += size
        self._limit()

    def allow_no_more(self) -> None:
        """End that; what is held must be free again."""
        if self.allows_more:
            self._more = 0
            self._limit()

    @property
    def allows_more(self) -> bool:
        """Whether more bytes than usual may be held for now."""
        return self._more > 0

    @property
    def memory_bytes(self) -> int:
        """How many bytes may be held now."""
        if not self._more:
            return self._allowed
        return max(self._allowed, min(self._allowed + self._more, self._most))

    @cached_property
    def _most(self) -> int:
        """Half of what the machine, or the container, has, in bytes."""
        # DuckDB's own choice is four fifths of it.
        self.execute("RESET memory_limit")
        number, unit = self.value("SELECT current_setting('memory_limit')").split()
        return int(float(number) * _UNITS[unit]) * 5 // 8

    def _limit(self) -> None:
        self.execute(f"SET memory_limit = '{self.memory_bytes}B'")

    def allow_columns(self, count: int) -> None:
        """Let rows with this many columns be worked on, however few rows they are."""
        if count > _FEW_COLUMNS:
            self.allow(MEMORY_BYTES + count * _COLUMN_BYTES)

    def text_bytes(self, relation: str) -> int:
        """How many bytes of text rows have, in all of their columns."""
        sums = [
            f"sum(strlen({quote(str(name))}))"
            for (name,) in self.query(
                f"SELECT column_name FROM (DESCRIBE FROM {relation}) "  # noqa: S608
                "WHERE column_type IN ('VARCHAR', 'JSON')"
            )
        ]
        found = self.query(f"SELECT {', '.join(sums)} FROM {relation}")[0] if sums else ()  # noqa: S608
        return sum(map(int, filter(None, found)))

    @staticmethod
    def parts(size: int, by: str, *, json: bool) -> list[str]:
        """Cut rows so that none of the parts has more than some megabytes.

        Args:
            size: How many bytes all of them have.
            by: A column; rows that have the same there are in one part.
            json: Whether the statement takes JSON apart, or merges it.

        Returns:
            SQL conditions on that column: for each row one is true.
        """
        count = size // (_JSON_BYTES if json else _TEXT_BYTES) + 1
        return [f"hash({by}) % {count} = {n}" for n in range(count)] if count > 1 else ["true"]

    def allow_width(self, size: int) -> None:
        """Let rows that have so many bytes, on an average, be worked on and stored."""
        # A vector of them at a time, in an allocation of the next power of two, and another copy.
        if size > _USUAL_ROW_BYTES:
            self.allow(min(MEMORY_BYTES + 3 * _VECTOR_ROWS * size, _MOST_BYTES))

    def execute(self, sql: str) -> None:
        """Run one statement."""
        self._connection.execute(sql).fetchall()

    def collect(self, name: str, selects: Iterable[str]) -> None:
        """Make a temporary table of what queries return, one after the other."""
        into = f"CREATE OR REPLACE TEMP TABLE {name} AS"
        for select in selects:
            self.execute(f"{into} {select}")
            into = f"INSERT INTO {name} BY NAME"

    def query(self, sql: str) -> list[tuple[Any, ...]]:
        """Run one query and return its rows."""
        return self._connection.execute(sql).fetchall()

    def value(self, sql: str) -> Any:
        """Run a query that returns one value."""
        return self.query(sql)[0][0]

    def reader(self, sql: str) -> pa.RecordBatchReader:
        """Run a query and stream its rows; to be read to the end before the next statement."""
        return self._connection.sql(sql).to_arrow_reader(READER_ROWS)

    def register(self, name: str, table: pa.Table) -> None:
        """Make an Arrow table, uncopied, known by a name, in place of the one before."""
        if name not in self._lent:
            self._lent[name] = _Lent()
            self._lent[name].table = table
            self._connection.register(name, self._lent[name])
        self._lent[name].table = table

    def unregister(self, name: str) -> None:
        """Let go of an Arrow table."""
        if name in self._lent:
            self._lent[name].table = None

    def close(self) -> None:
        """Give everything back."""
        self._connection.close()
