"""What the target needs of a warehouse: a dialect, a transaction, and three ways to move rows.

Rows are prepared in an in-memory DuckDB (the workbench) whatever the engine. An engine takes them
from there by its bulk path.
"""

from __future__ import annotations

import abc
import contextlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from target_segment_warehouse.sqltext import literal, quote
from target_segment_warehouse.types import Type
from target_segment_warehouse.workbench import Workbench


class WarehouseError(Exception):
    """The warehouse refuses; the text says what happened and which setting or permission helps."""


def no_schema(schema: str) -> str:
    """What to say where a schema is looked for and not there."""
    return (
        f"The warehouse has no schema {schema}: nothing has been loaded into it yet, or the "
        "setting 'default_target_schema' names another."
    )


@dataclass(frozen=True, slots=True)
class Dialect:
    """What engines differ in.

    Attributes:
        name: The engine, as people call it.
        types: Physical type of each logical type.
        max_name_bytes: The longest identifier.
        max_columns: The most columns that a table is given; further properties share one.
        row_bytes: How much of a row has to fit where it is stored, if that is limited.
        keeps_nul: Whether text can hold NUL characters.
        enforces_keys: Whether tables have a primary key.
        wider: Physical types of other loaders that are made ours: all their values fit.
    """

    name: str
    types: Mapping[Type, str]
    max_name_bytes: int
    max_columns: int
    row_bytes: int | None
    keeps_nul: bool
    enforces_keys: bool
    wider: Mapping[str, Type]


@dataclass(frozen=True, slots=True)
class Assignment:
    """How an update sets one column.

    Attributes:
        column: The column's name, in the table and in the rows.
        flag: Name of a boolean column of the rows that says whether the record carries the
            property; None if a null in the rows means that it does not.
        place: Where many flags are digits of one text, 0 or 1: which of them it is, from 1 on.
        always: Whether every record carries it; then neither matters.
        merge_json: Whether it is a JSON object, whose members replace those of the table.
        replaced_by: Of a JSON object: columns that have what the table may have a member for.
    """

    column: str
    flag: str | None = None
    place: int | None = None
    always: bool = False
    merge_json: bool = False
    replaced_by: Sequence[Assignment] = ()

    def expression(self) -> str:
        """The new value, of a row ``n`` and the table's row ``t``, unless JSON is merged."""
        name = quote(self.column)
        if self.always:
            return f"n.{name}"
        if self.flag is None:
            return f"coalesce(n.{name}, t.{name})"
        return f"CASE WHEN {self.carried()} THEN n.{name} ELSE t.{name} END"

    def carried(self) -> str:
        """SQL for whether the row ``n`` says what the column is to be."""
        if self.always:
            return "true"
        if self.flag is None:
            return f"n.{quote(self.column)} IS NOT NULL"
        flag = f"n.{quote(self.flag)}"
        return flag if self.place is None else f"substr({flag}, {self.place}, 1) = '1'"


class Warehouse(abc.ABC):
    """One schema of one warehouse. Every method but ``close`` belongs inside a transaction.

    Args:
        workbench: The in-memory DuckDB in which rows are prepared.
        schema: Where everything is put.

    Attributes:
        own_views: Views of ours that are there: an engine may drop them on the way and take them
            out, and they are made again.
    """

    dialect: Dialect

    def __init__(self, workbench: Workbench, schema: str) -> None:
        self.workbench = workbench
        self.schema = schema
        self.own_views: set[str] = set()

    @abc.abstractmethod
    def begin(self) -> None:
        """Start a transaction that no other run's overlaps, waiting for others to end.

        Makes the schema if it is not there.

        Raises:
            WarehouseError: If the warehouse cannot be reached.
        """

    @abc.abstractmethod
    def look(self) -> None:
        """Start a transaction that only reads, and that nobody else waits for; makes nothing.

        Raises:
            WarehouseError: If the warehouse cannot be reached, or has no such schema.
        """

    @abc.abstractmethod
    def commit(self) -> None:
        """Make everything since ``begin`` durable."""

    @abc.abstractmethod
    def release(self) -> None:
        """Let others have the warehouse, for the time until ``begin``."""

    def make_way(self) -> bool:
        """Let others have their turn if it is time for that; ``begin`` follows at once.

        Returns:
            Whether others than runs of this target may have written: those have their reports.
        """
        return False

    @abc.abstractmethod
    def rollback(self) -> None:
        """Undo everything since ``begin``; never raises."""

    @abc.abstractmethod
    def close(self) -> None:
        """Let go of the warehouse."""

    @abc.abstractmethod
    def execute(self, sql: str) -> None:
        """Run one statement."""

    @abc.abstractmethod
    def query(self, sql: str) -> list[tuple[Any, ...]]:
        """Run one query and return its rows."""

    @abc.abstractmethod
    def tables(self) -> dict[str, dict[str, str]]:
        """The schema's tables: for each its columns, in order, with their physical types.

        Names are folded, here and in ``views``.
        """

    @abc.abstractmethod
    def views(self) -> dict[str, dict[str, str]]:
        """The same of its views, and of all else whose name no table can take."""

    @abc.abstractmethod
    def logical(self, physical: str) -> Type | None:
        """The logical type that a physical type is; None for one that is none of ours."""

    @abc.abstractmethod
    def change_type(self, table: str, column: str, old: Type | None, new: Type) -> bool:
        """Give a column a wider type, its values kept.

        Args:
            table: The table.
            column: The column.
            old: Its logical type; None for a physical type that is none of ours.
            new: What it is to be.

        Returns:
            False if the engine refuses because something of the user's depends on the column.
        """

    @abc.abstractmethod
    def stamp_text(self, expression: str) -> str:
        """SQL for a timestamp as ISO 8601 text in UTC."""

    @abc.abstractmethod
    def merge_json(self, old: str, new: str, gone: Mapping[str, str]) -> str:
        """SQL for a JSON object in text with the members of another put in; NULL if none is left.

        Args:
            old: SQL for the one.
            new: SQL for the other; NULL has no members.
            gone: Members that are taken out before, each with SQL for whether it is.
        """

    @abc.abstractmethod
    def pack(self, columns: Sequence[str], old: str | None) -> str:
        """SQL for columns as the members of one JSON object in text, nulls left out.

        Args:
            columns: Names of columns.
            old: The name of a column with such an object already, whose members stay.
        """

    @abc.abstractmethod
    def find_existing(self, table: str, rows: str) -> int:
        """Put those ids of the workbench's ``rows`` that the table has into ``__existing(id)``.

        The cost grows with the rows, or slowly with the table.

        Returns:
            How many they are.
        """

    @abc.abstractmethod
    def insert(self, table: str, columns: Sequence[str], select: str) -> None:
        """Append what a query on the workbench returns; its columns are named as the table's."""

    @abc.abstractmethod
    def staged(self, select: str) -> contextlib.AbstractContextManager[str]:
        """What a query on the workbench returns, as a relation for the warehouse's own SQL."""

    def update(self, table: str, assignments: Sequence[Assignment], select: str) -> None:
        """Set columns of the rows whose ``id`` a query on the workbench returns, one row each."""
        with self.staged(select) as rows:
            self.execute(self._update_statement(table, assignments, rows))

    def update_if_it_fits(self, table: str, assignments: Sequence[Assignment], select: str) -> bool:
        """The same; False, and nothing is done, if a row becomes larger than the engine allows."""
        self.update(table, assignments, select)
        return True

    def _update_statement(self, table: str, assignments: Sequence[Assignment], rows: str) -> str:
        sets = ", ".join(f"{quote(a.column)} = {self.assigned(a)}" for a in assignments)
        return f"UPDATE {self.name(table)} AS t SET {sets} FROM {rows} AS n WHERE t.id = n.id"  # noqa: S608

    def assigned(self, assignment: Assignment) -> str:
        """SQL for the value that a column has after an update: of rows ``t``, from rows ``n``."""
        return self._merged_json(assignment) if assignment.merge_json else assignment.expression()

    def _merged_json(self, assignment: Assignment) -> str:
        name = quote(assignment.column)
        gone = {other.column: other.carried() for other in assignment.replaced_by}
        unchanged = "" if gone else f"WHEN n.{name} IS NULL THEN t.{name} "
        merged = self.merge_json(f"t.{name}", f"n.{name}", gone)
        return f"CASE WHEN t.{name} IS NULL THEN n.{name} {unchanged}ELSE {merged} END"

    def delete(self, table: str, select: str) -> None:
        """Delete the rows whose ``id`` a query on the workbench returns."""
        with self.staged(select) as rows:
            self.execute(f"DELETE FROM {self.name(table)} AS t USING {rows} AS n WHERE t.id = n.id")  # noqa: S608

    @abc.abstractmethod
    def replace_view(self, name: str, select: str) -> bool:
        """Create a view, or change it; False if that would break views of the user's on it."""

    @abc.abstractmethod
    def drop(self, relation: str) -> bool:
        """Drop ``TABLE name`` or ``VIEW name``; False if something of the user's depends on it."""

    @abc.abstractmethod
    def comment_of(self, name: str) -> str | None:
        """The comment on a table or view."""

    def comment(self, kind: str, name: str, text: str) -> None:
        """Put a comment on a ``TABLE`` or ``VIEW``."""
        self.execute(f"COMMENT ON {kind} {self.name(name)} IS {literal(text)}")

    def folded(self, name: str) -> str:
        """A name as the engine compares it: in lower case if it tells no case apart."""
        return name

    def name(self, relation: str) -> str:
        """A table or view with its schema, quoted."""
        return f"{quote(self.schema)}.{quote(relation)}"

    def physical(self, type_: Type) -> str:
        """The engine's name of a logical type."""
        return self.dialect.types[type_]

    def create_table(self, table: str, columns: Mapping[str, Type], key: str | None = "id") -> None:
        """Create a table; the key column, if there is one, comes first and is never null."""
        parts = [f"{quote(name)} {self.physical(type_)}" for name, type_ in columns.items()]
        if key is not None:
            parts[0] += self.key_clause(table)
        self.execute(f"CREATE TABLE {self.name(table)} ({', '.join(parts)})")

    @abc.abstractmethod
    def key_clause(self, table: str) -> str:
        """What follows the type of the key column in CREATE TABLE."""

    def add_columns(self, table: str, columns: Mapping[str, Type]) -> None:
        """Append columns to a table."""
        for clause in self.add_clauses(columns):
            self.execute(f"ALTER TABLE {self.name(table)} {clause}")

    def add_clauses(self, columns: Mapping[str, Type]) -> Iterable[str]:
        """The ALTER TABLE clauses that add columns."""
        return [f"ADD COLUMN {quote(name)} {self.physical(t)}" for name, t in columns.items()]

    def is_empty(self, table: str) -> bool:
        """Whether the table has no rows."""
        return not self.query(f"SELECT 1 FROM {self.name(table)} LIMIT 1")  # noqa: S608

    @abc.abstractmethod
    def computed(self, table: str) -> set[str]:
        """Columns that the engine fills itself, and lets nobody write."""

    def forbids_repeats(self, table: str) -> bool:
        """Whether the engine sees to it that no value of some column is in the table twice."""
        return self.dialect.enforces_keys

    def are_exact_floats(self, table: str, column: str) -> bool:
        """Whether every integer of a column is the same number as a 64-bit float."""
        name = quote(column)
        return not self.query(
            f"SELECT 1 FROM {self.name(table)} "  # noqa: S608
            f"WHERE {name} NOT BETWEEN {-(2**53)} AND {2**53} LIMIT 1"
        )

    def widening(self, column: str, old: Type | None, new: Type) -> str:
        """SQL that turns a column's values into those of a wider type."""
        if old is Type.TIMESTAMP and new is Type.TEXT:
            return self.stamp_text(quote(column))
        return f"CAST({quote(column)} AS {self.physical(new)})"
