"""Postgres: rows go in by binary COPY straight from Arrow (ADBC)."""

# ruff: noqa: D102 (the base class documents its methods)

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from target_segment_warehouse.sqltext import literal, quote
from target_segment_warehouse.types import Type
from target_segment_warehouse.warehouses.base import (
    Assignment,
    Dialect,
    Warehouse,
    WarehouseError,
    no_schema,
)
from target_segment_warehouse.warehouses.session import Session
from target_segment_warehouse.workbench import Workbench

logger = logging.getLogger(__name__)

_LOGICAL = {
    "text": Type.TEXT,
    "bigint": Type.INTEGER,
    "double precision": Type.FLOAT,
    "boolean": Type.BOOLEAN,
    "timestamp with time zone": Type.TIMESTAMP,
}
_STAGED = "__segment_staged"
# What Postgres answers when something depends on what is to be changed: ALTER TYPE on a view's
# column, DROP, and CREATE OR REPLACE VIEW with columns that differ from the ones that are there.
_DEPENDED_UPON = (
    "feature_not_supported",
    "dependent_objects_still_exist",
    "invalid_table_definition",
    "undefined_function",  # the condition of an index or a CHECK, say `x > 0`, for text
    "datatype_mismatch",  # a foreign key, a default
)
# What it answers when a row has no room on a page, and when an index has no room for a value.
_TOO_LARGE = ("program_limit_exceeded",)


class Postgres(Warehouse):
    """A schema of a Postgres database.

    Tables have their primary key on ``id``, as Segment's have. New rows are copied straight into
    the table: which ids are there already is asked beforehand, under a lock that keeps other runs
    into the same schema out until commit.

    Args:
        workbench: The in-memory DuckDB.
        schema: The schema.
        url: A libpq connection URI.
        lock_timeout_seconds: How long to wait for what another session holds.
    """

    dialect = Dialect(
        name="Postgres",
        types={
            Type.TEXT: "text",
            Type.INTEGER: "bigint",
            Type.FLOAT: "double precision",
            Type.BOOLEAN: "boolean",
            Type.TIMESTAMP: "timestamptz",
        },
        max_name_bytes=63,
        # Of 1,600 one is for what has no room in a row, one for flags beside rows that are staged.
        max_columns=1598,
        # A page of 8 KiB, less its header, the row's, and a bit for each of 1,600 columns.
        row_bytes=7900,
        keeps_nul=False,
        enforces_keys=True,
        wider={"smallint": Type.INTEGER, "integer": Type.INTEGER, "real": Type.FLOAT},
    )

    def __init__(
        self, workbench: Workbench, schema: str, url: str, lock_timeout_seconds: float
    ) -> None:
        super().__init__(workbench, schema)
        self._session = Session(url, schema, lock_timeout_seconds)
        self._grants: dict[str, list[str]] = {}  # of views that were dropped on the way

    def begin(self) -> None:
        self._grants.clear()
        is_ours = False
        if self._session.is_open:
            # Servers, pools and firewalls end connections that were quiet between two flushes.
            try:
                is_ours = self._session.try_lock()
            except WarehouseError:
                logger.info("The connection to Postgres was closed: connecting again.")
                self.close()
        if not self._session.is_open:
            self._session.connect()
            is_ours = self._session.try_lock()
        if not is_ours:
            self._session.lock()
        if not self._has_schema():
            # Another program may make it at this moment: then it is there.
            self._session.change(
                ["pg_catalog.pg_namespace"],
                f"CREATE SCHEMA IF NOT EXISTS {quote(self.schema)}",
                unless=("duplicate_schema", "unique_violation"),
            )

    def look(self) -> None:
        self._session.connect(only_reads=True)
        self.execute("SET TRANSACTION READ ONLY")
        if not self._has_schema():
            raise WarehouseError(no_schema(self.schema))

    def _has_schema(self) -> bool:
        where = f"nspname = {literal(self.schema)}"
        return bool(self.query(f"SELECT 1 FROM pg_namespace WHERE {where}"))  # noqa: S608

    def commit(self) -> None:
        self._session.commit()

    def release(self) -> None:
        """The lock went with the transaction; the connection is kept."""

    def rollback(self) -> None:
        self._session.rollback()

    def close(self) -> None:
        self._session.close()

    def execute(self, sql: str) -> None:
        self._session.execute(sql)

    def query(self, sql: str) -> list[tuple[Any, ...]]:
        return self._session.query(sql)

    def tables(self) -> dict[str, dict[str, str]]:
        return self._columns("c.relkind IN ('r', 'p')")

    def views(self) -> dict[str, dict[str, str]]:
        found = self._columns("c.relkind NOT IN ('r', 'p')")
        # A table brings a type of its name, which must be free too.
        types = self.query(
            "SELECT t.typname::text FROM pg_type t JOIN pg_namespace n ON n.oid = t.typnamespace "  # noqa: S608
            f"WHERE n.nspname = {literal(self.schema)} AND t.typrelid = 0 AND t.typelem = 0"
        )
        return found | {name: {} for (name,) in types if name not in found}

    def _columns(self, which: str) -> dict[str, dict[str, str]]:
        found: dict[str, dict[str, str]] = {}
        for relation, column, type_ in self.query(
            f"""SELECT c.relname::text, a.attname::text, format_type(a.atttypid, a.atttypmod)
            FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
            LEFT JOIN pg_attribute a
              ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
            WHERE n.nspname = {literal(self.schema)} AND {which}
            ORDER BY c.relname, a.attnum"""  # noqa: S608
        ):
            columns = found.setdefault(relation, {})
            if column is not None:
                columns[column] = type_
        return found

    def computed(self, table: str) -> set[str]:
        found = self.query(
            "SELECT attname::text FROM pg_attribute "  # noqa: S608
            f"WHERE attrelid = to_regclass({literal(self.name(table))}) AND attnum > 0 "
            "AND (attgenerated <> '' OR attidentity = 'a')"
        )
        return {column for (column,) in found}

    def logical(self, physical: str) -> Type | None:
        return _LOGICAL.get(physical)

    def key_clause(self, table: str) -> str:
        return " PRIMARY KEY"

    def add_columns(self, table: str, columns: Mapping[str, Type]) -> None:
        # A query of a view holds the view, and then one table after the other. Whoever has a table
        # and waits for a second one, or for the view, would stop it and be stopped by it: so the
        # views come first. This changes nothing of them, and has them to itself until commit; who
        # reads another table does not wait.
        views = self._views_on(table)
        first = [f"ALTER VIEW {view} ALTER COLUMN id DROP DEFAULT" for view in views]
        alter = f"ALTER TABLE {self.name(table)} {', '.join(self.add_clauses(columns))}"
        self._session.change([self.name(table), *views], *first, alter, unless=())

    def change_type(self, table: str, column: str, old: Type | None, new: Type) -> bool:
        # Our own views depend on every column; they are made again before the commit.
        views = self._views_on(table)
        grants = {name: self._grants_on(view) for view, name in views.items()}
        done = self._session.change(
            [self.name(table), *views],
            *(f"DROP VIEW {view}" for view in views),
            f"ALTER TABLE {self.name(table)} ALTER COLUMN {quote(column)} "
            f"TYPE {self.physical(new)} USING {self.widening(column, old, new)}",
            unless=_DEPENDED_UPON,
        )
        if done:
            self.own_views.difference_update(views.values())
            self._grants |= grants
        return done

    def _views_on(self, table: str) -> dict[str, str]:
        """Views of ours that read a table: with the schema, quoted, and as they are called."""
        if not self.own_views:
            return {}
        found = self.query(
            f"""SELECT DISTINCT v.relname::text FROM pg_depend d
            JOIN pg_rewrite r ON d.classid = 'pg_rewrite'::regclass AND d.objid = r.oid
            JOIN pg_class v ON v.oid = r.ev_class
            WHERE d.refclassid = 'pg_class'::regclass
              AND d.refobjid = to_regclass({literal(self.name(table))})
              AND v.relnamespace = (SELECT oid FROM pg_namespace
                WHERE nspname = {literal(self.schema)})"""  # noqa: S608
        )
        views = sorted(self.own_views & {view for (view,) in found})
        return {self.name(view): view for view in views}

    def update_if_it_fits(self, table: str, assignments: Sequence[Assignment], select: str) -> bool:
        with self.staged(select) as rows:
            update = self._update_statement(table, assignments, rows)
            return self._session.attempt(update, unless=_TOO_LARGE)

    def stamp_text(self, expression: str) -> str:
        utc = f"{expression} AT TIME ZONE 'UTC'"
        rest = f"""replace(to_char({utc}, '-MM-DD"T"HH24:MI:SS.US"Z"'), '.000000Z', 'Z')"""
        # What ISO 8601 calls the year 0 is 1 BC, which to_char writes like the year 1.
        year = f"extract(year from {utc})"
        since = f"{year} + CASE WHEN {year} < 0 THEN 1 ELSE 0 END"
        return f"(to_char({since}, 'FM9999990000') || {rest})"

    def merge_json(self, old: str, new: str, gone: Mapping[str, str]) -> str:
        old = f"CAST({old} AS jsonb)"
        if gone:
            names = (f"CASE WHEN {test} THEN {literal(name)} END" for name, test in gone.items())
            old = f"({old} - ARRAY[{', '.join(names)}])"
        merged = f"{old} || coalesce(CAST({new} AS jsonb), '{{}}')"
        return f"CAST(nullif({merged}, '{{}}') AS text)"

    def pack(self, columns: Sequence[str], old: str | None) -> str:
        # A function takes a hundred arguments.
        objects = [
            f"jsonb_build_object({', '.join(f'{literal(c)}, {quote(c)}' for c in part)})"
            for part in (columns[at : at + 50] for at in range(0, len(columns), 50))
        ]
        packed = f"jsonb_strip_nulls({' || '.join(objects)})"
        if old:
            packed = f"coalesce(CAST({quote(old)} AS jsonb), '{{}}') || {packed}"
        return f"CAST(nullif({packed}, '{{}}') AS text)"

    def find_existing(self, table: str, rows: str) -> int:
        ids = f"SELECT id FROM {rows}"  # noqa: S608
        with self.staged(ids) as staged, self._session.cursor() as cursor:
            cursor.execute(f"SELECT id FROM {staged} JOIN {self.name(table)} USING (id)")  # noqa: S608
            found = cursor.fetch_arrow_table()
        self.workbench.register("__found", found)
        self.workbench.execute("CREATE OR REPLACE TEMP TABLE __existing AS FROM __found")
        self.workbench.unregister("__found")
        return len(found)

    def insert(self, table: str, columns: Sequence[str], select: str) -> None:
        with self._session.cursor() as cursor:
            cursor.adbc_ingest(
                table, self.workbench.reader(select), mode="append", db_schema_name=self.schema
            )

    @contextlib.contextmanager
    def staged(self, select: str) -> Iterator[str]:
        with self._session.cursor() as cursor:
            cursor.adbc_ingest(
                _STAGED, self.workbench.reader(select), mode="create", temporary=True
            )
        # One look into the index for each row, however large the table is.
        self.execute("SET LOCAL enable_hashjoin = off")
        self.execute("SET LOCAL enable_mergejoin = off")
        yield f"pg_temp.{_STAGED}"
        self.execute("SET LOCAL enable_hashjoin = on")
        self.execute("SET LOCAL enable_mergejoin = on")
        self.execute(f"DROP TABLE pg_temp.{_STAGED}")

    def replace_view(self, name: str, select: str) -> bool:
        view = self.name(name)
        grants = self._grants.pop(name, [])
        replace = [f"CREATE OR REPLACE VIEW {view} AS {select}", *grants]
        if self._session.change([view], *replace, unless=_DEPENDED_UPON):
            return True
        grants = self._grants_on(view)
        anew = [f"DROP VIEW {view}", f"CREATE VIEW {view} AS {select}", *grants]
        return self._session.change([view], *anew, unless=_DEPENDED_UPON)

    def _grants_on(self, view: str) -> list[str]:
        """What gives other roles the rights that they have on a view, once it is made again."""
        found = self.query(
            f"""SELECT format('GRANT %s ON %s TO %s%s', a.privilege_type, {literal(view)},
              CASE a.grantee WHEN 0 THEN 'PUBLIC' ELSE quote_ident(pg_get_userbyid(a.grantee)) END,
              CASE WHEN a.is_grantable THEN ' WITH GRANT OPTION' ELSE '' END)
            FROM pg_class c, aclexplode(c.relacl) a
            WHERE c.oid = to_regclass({literal(view)}) AND a.grantee <> c.relowner"""  # noqa: S608
        )
        return [statement for (statement,) in found]

    def drop(self, relation: str) -> bool:
        name = relation.partition(" ")[2]
        return self._session.change([name], f"DROP {relation}", unless=_DEPENDED_UPON)

    def comment_of(self, name: str) -> str | None:
        relation = literal(self.name(name))
        ((comment,),) = self.query(f"SELECT obj_description(to_regclass({relation}), 'pg_class')")
        return None if comment is None else str(comment)
