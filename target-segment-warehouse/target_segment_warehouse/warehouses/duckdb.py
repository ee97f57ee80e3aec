"""DuckDB: a database file, held only while flushes write to it."""

# ruff: noqa: D102 (the base class documents its methods)

from __future__ import annotations

import contextlib
import json
import logging
import os
import random
import re
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import duckdb

from target_segment_warehouse.cells import pack, stamp_text
from target_segment_warehouse.sqltext import literal, quote
from target_segment_warehouse.types import Type
from target_segment_warehouse.warehouses.base import (
    Assignment,
    Dialect,
    Warehouse,
    WarehouseError,
    no_schema,
)
from target_segment_warehouse.warehouses.duckdb_file import POLL_SECONDS, attach
from target_segment_warehouse.workbench import PHYSICAL, THREADS, Workbench

logger = logging.getLogger(__name__)

_CATALOG = "__warehouse"
_VACUUM_TASKS = 1
"""How often a checkpoint that merges small row groups does so in each table: with DuckDB's 100, a
flush of a few rows after a large load would write all tables again."""

_MERGES_ONE_IN = 8
"""Of so many flushes one merges, by chance: most are processes of their own and know nothing of
each other. Even one merge takes seconds where a large load left its row groups half full."""

_HELD_SECONDS, _PAUSE_SECONDS = 10.0, 1.5 * POLL_SECONDS
"""Flushes that follow one another let go of the file, once they have held it for so long, for a
pause in which a run that waits for it finds it free."""

_UPDATED_BYTES = 16 << 20
"""How much text of a transaction goes into UPDATE."""

_ADDED_BYTES = 16
_TEXT_BYTES = 32
"""How much a row takes of a column that is added or gets another type, and of one that becomes
text, until a checkpoint: of each row group DuckDB keeps the first values, up to 256 KiB, in memory.
"""

_REWRITTEN = "__rewritten"

_TABLE = re.compile(rf'{_CATALOG}\.((?:"(?:[^"]|"")*"\.?)+)')

_SCAN_THREADS = min(4, os.cpu_count() or 1)

_LOGICAL = {
    "VARCHAR": Type.TEXT,
    "BIGINT": Type.INTEGER,
    "DOUBLE": Type.FLOAT,
    "BOOLEAN": Type.BOOLEAN,
    "TIMESTAMP WITH TIME ZONE": Type.TIMESTAMP,
}


class DuckDB(Warehouse):
    """A schema of a DuckDB file.

    Tables have no primary key: DuckDB's index for one costs more than it saves (loading is twice
    as slow, and memory grows with the table), and forbids changing columns. ``id`` is unique
    because each flush has the file to itself and looks for the ids that are there.

    Args:
        workbench: The in-memory DuckDB that the file is attached to.
        schema: The schema.
        path: The file; its folder is made if need be.
        lock_timeout_seconds: How long to wait while another process holds the file.
    """

    dialect = Dialect(
        name="DuckDB",
        types=PHYSICAL,
        max_name_bytes=255,
        max_columns=1598,  # as on Postgres
        row_bytes=None,
        keeps_nul=True,
        enforces_keys=False,
        wider={
            "TINYINT": Type.INTEGER,
            "SMALLINT": Type.INTEGER,
            "INTEGER": Type.INTEGER,
            "UINTEGER": Type.INTEGER,
            "FLOAT": Type.FLOAT,
        },
    )

    def __init__(
        self,
        workbench: Workbench,
        schema: str,
        path: Path,
        lock_timeout_seconds: float,
    ) -> None:
        super().__init__(workbench, schema)
        self._path = path
        self._timeout = lock_timeout_seconds
        self._is_held, self._held_since = False, 0.0
        self._is_first = True
        self._updated = 0

    def name(self, relation: str) -> str:
        return f"{_CATALOG}.{super().name(relation)}"

    def begin(self) -> None:
        # Each transaction leaves a small row group, and a checkpoint can merge some. Of those that
        # follow one another only the first may: else the same rows are written ever again.
        merges = self._is_first and random.randrange(_MERGES_ONE_IN) == 0  # noqa: S311
        self._is_first = False
        self.execute(f"SET max_vacuum_tasks = {_VACUUM_TASKS if merges else 0}")
        if self.workbench.allows_more:
            # What is held for changed columns is so until they are in the file itself.
            if self._is_held:
                self.execute(f"CHECKPOINT {_CATALOG}")
            self.workbench.allow_no_more()
        if not self._is_held:
            self._attach()
        self._updated = 0
        self.execute("BEGIN")
        self.execute(f"CREATE SCHEMA IF NOT EXISTS {_CATALOG}.{quote(self.schema)}")

    def look(self) -> None:
        if not self._path.exists():
            raise WarehouseError(
                f"There is no DuckDB file {self._path}: nothing has been loaded into it yet, or "
                "the setting 'warehouse_url' names another."
            )
        self._attach("READ_ONLY")
        self.execute("BEGIN")
        if not self.query(f"SELECT 1 FROM duckdb_schemas() WHERE {self._is_here()}"):  # noqa: S608
            raise WarehouseError(no_schema(self.schema))

    def _attach(self, mode: str = "READ_WRITE") -> None:
        attach(self.workbench, self._path, _CATALOG, mode, self._timeout)
        self._is_held, self._held_since = True, time.monotonic()

    def commit(self) -> None:
        self.execute("COMMIT")

    def release(self) -> None:
        self._is_first = True
        self._detach()

    def make_way(self) -> bool:
        if time.monotonic() - self._held_since < _HELD_SECONDS:
            return False
        self._detach()
        time.sleep(_PAUSE_SECONDS)
        return True

    def _detach(self) -> None:
        if self._is_held:
            self.execute(f"DETACH {_CATALOG}")
            self._is_held = False

    def rollback(self) -> None:
        for statement in ("ROLLBACK", f"DETACH DATABASE IF EXISTS {_CATALOG}"):
            try:
                self.execute(statement)
            except duckdb.Error as error:
                logger.debug("%s: %s", statement, error)
        self._is_held = False

    def close(self) -> None:
        self.release()

    def execute(self, sql: str) -> None:
        try:
            self.workbench.execute(sql)
        except duckdb.ConstraintException as error:
            reason = str(error).partition("\n")[0].removeprefix("Constraint Error: ")
            reason = reason.partition(": duplicate key")[0]  # which may be anything
            raise WarehouseError(
                f"{self._table_in(sql)} has a constraint of somebody's, which "
                f"refuses a row: {reason}. Drop the constraint, or do not select the stream."
            ) from None
        except duckdb.OutOfMemoryException:
            size = self.workbench.memory_bytes >> 20
            raise WarehouseError(
                f"{self._table_in(sql)} is too large for what a statement does to it in the {size} "
                "MiB of memory that DuckDB had: for new and wider columns, up to half of what the "
                "machine or container has. Nothing of this flush is kept. Load it where there is "
                "more memory; if it is no such column, with a smaller 'max_batch_rows'."
            ) from None

    def _table_in(self, sql: str) -> str:
        """The table that a statement is about."""
        table = _TABLE.search(sql)
        return table[1] if table else self.schema

    def query(self, sql: str) -> list[tuple[Any, ...]]:
        return self.workbench.query(sql)

    def tables(self) -> dict[str, dict[str, str]]:
        return self._columns("duckdb_tables", "table_name")

    def views(self) -> dict[str, dict[str, str]]:
        return self._columns("duckdb_views", "view_name")

    def _columns(
        self, relations: str, name: str, only: str | None = None
    ) -> dict[str, dict[str, str]]:
        which = self._is_here("r.") if only is None else self._is_table(only, name, "r.")
        found: dict[str, dict[str, str]] = {}
        for relation, column, type_ in self.query(
            f"""SELECT r.{name}, c.column_name, c.data_type
            FROM {relations}() r LEFT JOIN duckdb_columns() c
              ON c.database_name = r.database_name AND c.schema_name = r.schema_name
             AND c.table_name = r.{name}
            WHERE {which}
            ORDER BY r.{name}, c.column_index"""  # noqa: S608
        ):
            columns = found.setdefault(self.folded(str(relation)), {})
            if column is not None:
                columns[self.folded(str(column))] = str(type_)
        return found

    def _is_here(self, relation: str = "") -> str:
        """SQL for whether something in DuckDB's catalog is in this schema."""
        return (
            f"{relation}database_name = '{_CATALOG}' "
            f"AND lower({relation}schema_name) = lower({literal(self.schema)})"
        )

    def _is_table(self, table: str, column: str = "table_name", relation: str = "") -> str:
        """The same for what a column says is of a table."""
        return f"{self._is_here(relation)} AND lower({relation}{column}) = lower({literal(table)})"

    def folded(self, name: str) -> str:
        # Of ASCII alone, as DuckDB does.
        return name.encode().lower().decode()

    def logical(self, physical: str) -> Type | None:
        return _LOGICAL.get(physical)

    def key_clause(self, table: str) -> str:
        return " NOT NULL"

    def forbids_repeats(self, table: str) -> bool:
        # Not in a table of ours; in one that somebody made before.
        where = self._is_table(table)
        found = self.query(
            f"SELECT 1 FROM duckdb_constraints() WHERE {where} "  # noqa: S608
            "AND constraint_type IN ('PRIMARY KEY', 'UNIQUE') "
            f"UNION ALL SELECT 1 FROM duckdb_indexes() WHERE {where} AND is_unique"
        )
        return bool(found)

    def change_type(self, table: str, column: str, old: Type | None, new: Type) -> bool:
        # To be asked beforehand: an attempt that fails takes the transaction with it.
        if self._is_depended_upon(table, column):
            return False
        self._allow_change(table, _TEXT_BYTES if new is Type.TEXT else _ADDED_BYTES)
        self.execute(
            f"ALTER TABLE {self.name(table)} ALTER COLUMN {quote(column)} "
            f"SET DATA TYPE {self.physical(new)} USING {self.widening(column, old, new)}"
        )
        return True

    def add_columns(self, table: str, columns: Mapping[str, Type]) -> None:
        self._allow_change(table, len(columns) * _ADDED_BYTES)
        super().add_columns(table, columns)

    def _allow_change(self, table: str, row_bytes: int) -> None:
        """Let DuckDB hold so many bytes of each row of a table until all is committed."""
        # The one counts rows that were deleted too, the other those of this transaction.
        rows = self.workbench.value(
            f"SELECT greatest((SELECT max(estimated_size) FROM duckdb_tables() "  # noqa: S608
            f"WHERE {self._is_table(table)}), (SELECT count(*) FROM {self.name(table)}))"
        )
        self.workbench.allow_more(rows * row_bytes)

    def _is_depended_upon(self, table: str, column: str | None = None) -> bool:
        """Whether something that somebody made keeps DuckDB from changing a column, or rows."""
        this, that = self._is_table(table), self._is_table(table, "referenced_table")
        has_column = "true"
        if column is not None:
            has_column = f"list_contains(constraint_column_names, {literal(column)})"
        found = self.query(
            f"SELECT 1 FROM duckdb_indexes() WHERE {this} "  # noqa: S608
            f"UNION ALL SELECT 1 FROM duckdb_columns() WHERE {this} AND is_generated "
            f"UNION ALL SELECT 1 FROM duckdb_constraints() WHERE {this} AND {has_column} "
            "AND constraint_type <> 'NOT NULL' "
            f"UNION ALL SELECT 1 FROM duckdb_constraints() WHERE {that} LIMIT 1"
        )
        return bool(found)

    def computed(self, table: str) -> set[str]:
        where = self._is_table(table)
        return {
            self.folded(str(column))
            for (column,) in self.query(
                f"SELECT column_name FROM duckdb_columns() WHERE {where} AND is_generated"  # noqa: S608
            )
        }

    def stamp_text(self, expression: str) -> str:
        return stamp_text(expression)

    def merge_json(self, old: str, new: str, gone: Mapping[str, str]) -> str:
        if not gone:
            return f"CAST(json_merge_patch({old}, {new}) AS VARCHAR)"
        # A merge patch takes out what is null in it.
        nulls = ", ".join(
            f"CASE WHEN {test} THEN {literal(f'{json.dumps(name)}:null')} END"
            for name, test in gone.items()
        )
        members = f"nullif(substr({new}, 2, length({new}) - 2), '')"
        patch = f"'{{' || concat_ws(',', {nulls}, {members}) || '}}'"
        # A list of one, so that JSON is merged once.
        merged = f"[CAST(json_merge_patch({old}, {patch}) AS VARCHAR)]"
        return f"list_transform({merged}, lambda __m: nullif(__m, '{{}}'))[1]"

    def pack(self, columns: Sequence[str], old: str | None) -> str:
        return pack(columns, old)

    def find_existing(self, table: str, rows: str) -> int:
        # A column of the whole table is read, which is most of what a small flush does.
        self.execute(f"SET threads = {_SCAN_THREADS}")
        count = self.workbench.value(
            "CREATE OR REPLACE TEMP TABLE __existing AS "  # noqa: S608
            f"SELECT id FROM {self.name(table)} SEMI JOIN {rows} USING (id)"
        )
        self.execute(f"SET threads = {THREADS}")
        return int(count)

    def insert(self, table: str, columns: Sequence[str], select: str) -> None:
        names = ", ".join(map(quote, columns))
        self.execute(f"INSERT INTO {self.name(table)} ({names}) {select}")

    def update(self, table: str, assignments: Sequence[Assignment], select: str) -> None:
        size = self.workbench.text_bytes(f"({select})")
        merged = [each.column for each in assignments if each.merge_json]
        for column in merged:
            stored = f"{self.name(table)} SEMI JOIN ({select}) USING (id)"
            size += self.workbench.text_bytes(f"(SELECT {quote(column)} FROM {stored})")  # noqa: S608
        self._updated += size
        # What updates take out and put in is in memory until the commit, in many times its size.
        rewrites = self._updated > _UPDATED_BYTES and not self._is_depended_upon(table)
        for part in self.workbench.parts(size, "id", json=bool(merged)):
            rows = f"SELECT * FROM ({select}) WHERE {part}"  # noqa: S608
            if rewrites:
                self._rewrite(table, assignments, rows)
            else:
                super().update(table, assignments, rows)

    def _rewrite(self, table: str, assignments: Sequence[Assignment], select: str) -> None:
        """The same as an update: rows as they are to be go in, in place of those that are there."""
        values = {a.column: self.assigned(a) for a in assignments}
        columns = self._columns("duckdb_tables", "table_name", table)[table]
        selected = ", ".join(
            f"{values.get(name, f't.{quote(name)}')} AS {quote(name)}" for name in columns
        )
        self.execute(
            f"CREATE OR REPLACE TEMP TABLE {_REWRITTEN} AS SELECT {selected} "  # noqa: S608
            f"FROM {self.name(table)} AS t JOIN ({select}) AS n ON t.id = n.id"
        )
        self.execute(
            f"DELETE FROM {self.name(table)} WHERE id IN (SELECT id FROM {_REWRITTEN})"  # noqa: S608
        )
        self.insert(table, [*columns], f"FROM {_REWRITTEN}")
        self.execute(f"DROP TABLE {_REWRITTEN}")

    @contextlib.contextmanager
    def staged(self, select: str) -> Iterator[str]:
        yield f"({select})"

    def replace_view(self, name: str, select: str) -> bool:
        self.execute(f"CREATE OR REPLACE VIEW {self.name(name)} AS {select}")
        return True

    def drop(self, relation: str) -> bool:
        self.execute(f"DROP {relation}")
        return True

    def comment_of(self, name: str) -> str | None:
        found = self.query(
            f"""SELECT comment FROM (
                SELECT database_name, schema_name, view_name AS name, comment FROM duckdb_views()
                UNION ALL
                SELECT database_name, schema_name, table_name, comment FROM duckdb_tables()
            ) WHERE {self._is_here()} AND lower(name) = lower({literal(name)})"""  # noqa: S608
        )
        return str(found[0][0]) if found and found[0][0] is not None else None
