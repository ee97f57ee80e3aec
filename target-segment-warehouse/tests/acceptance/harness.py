"""One empty warehouse: runs of the target into it, and what it holds afterwards."""

from __future__ import annotations

import json
import os
import time
import uuid
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import duckdb
import psycopg

from .messages import Line, Message, encode
from .processes import Process, Result, Zygote

SCHEMA = "wh"

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_LOGICAL = {
    "varchar": "text",
    "text": "text",
    "bigint": "integer",
    "integer": "integer",
    "double": "float",
    "double precision": "float",
    "boolean": "boolean",
    "timestamp with time zone": "timestamp",
}


@dataclass
class Warehouse:
    """One empty database, runs of the target into it, and what it holds.

    Attributes:
        engine: ``duckdb`` or ``postgres``.
        url: As the target's setting has it.
        folder: For files of this test.
        config: Settings of every run, over the defaults.
    """

    engine: str
    url: str
    folder: Path
    zygote: Zygote
    config: Message = field(default_factory=dict)

    # running
    def settings(self, **config: Any) -> Message:
        """The target's settings: this warehouse, this schema, and those given."""
        base = {"warehouse_url": self.url, "default_target_schema": SCHEMA}
        return {**base, **self.config, **config}

    def start(self, lines: Iterable[Line] | None, **config: Any) -> Process:
        """Start a target; without lines its input stays open for ``send``."""
        name = uuid.uuid4().hex[:8]
        files = {kind: self.folder / f"{name}.{kind}" for kind in ("json", "in", "out", "err")}
        files["json"].write_text(json.dumps(self.settings(**config)))
        if lines is None:
            os.mkfifo(files["in"])
        else:
            files["in"].write_bytes(lines if isinstance(lines, bytes) else encode(lines))
        pid = self.zygote.start(
            {
                "args": ["--config", str(files["json"])],
                "stdin": str(files["in"]),
                "stdout": str(files["out"]),
                "stderr": str(files["err"]),
                "env": {},
            }
        )
        stdin = files["in"].open("wb") if lines is None else None
        process = Process(self.zygote, pid, files["out"], files["err"], stdin)
        self.zygote.processes.append(process)
        return process

    def run(self, *lines: Line, timeout: float = 120, **config: Any) -> Result:
        """Run the target over the messages to its end."""
        return self.start(lines, **config).finish(timeout)

    def load(self, *lines: Line, **config: Any) -> Result:
        """The same, and it must succeed."""
        return self.run(*lines, **config).ok()

    # reading
    def execute(self, sql: str) -> list[tuple[Any, ...]]:
        """Run SQL, and return its rows if it has any."""
        if self.engine == "postgres":
            with psycopg.connect(self.url, autocommit=True) as connection:
                cursor = connection.execute(sql)  # type: ignore[arg-type]
                return cursor.fetchall() if cursor.description else []
        with self._duckdb(read_only=False) as connection:
            return connection.execute(sql).fetchall()

    def query(self, sql: str) -> list[tuple[Any, ...]]:
        """Read with SQL; on DuckDB without a lock that would stop other readers."""
        if self.engine == "postgres":
            return self.execute(sql)
        with self._duckdb(read_only=True) as connection:
            return connection.execute(sql).fetchall()

    def _duckdb(self, *, read_only: bool) -> duckdb.DuckDBPyConnection:
        path = self.url.removeprefix("duckdb:///")
        deadline = time.monotonic() + 30
        while True:
            try:
                return duckdb.connect(path, read_only=read_only)
            except duckdb.IOException:
                # A target writes at this moment: its lock lasts as long as a flush.
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.01)

    def relations(self, schema_name: str = SCHEMA) -> dict[str, str]:
        """Tables and views of the schema, with ``BASE TABLE`` or ``VIEW``."""
        if self.engine == "duckdb" and not Path(self.url.removeprefix("duckdb:///")).exists():
            return {}
        return dict(
            self.query(
                "SELECT table_name, table_type FROM information_schema.tables "
                f"WHERE table_schema = '{schema_name}'"
            )
        )

    def types(self, table: str, schema_name: str = SCHEMA) -> dict[str, str]:
        """The columns of a table in their order, with their logical types."""
        rows = self.query(
            "SELECT column_name, data_type FROM information_schema.columns "
            f"WHERE table_schema = '{schema_name}' AND table_name = '{table}' "
            "ORDER BY ordinal_position"
        )
        return {name: _LOGICAL.get(kind.lower(), kind.lower()) for name, kind in rows}

    def rows(
        self, table: str, *columns: str, where: str = "", schema_name: str = SCHEMA
    ) -> list[Any]:
        """Rows in the order of the columns' values: dicts, or bare values if one column is asked
        for.

        Instants come as aware datetimes in UTC, or text if Python cannot hold them.
        """
        types = self.types(table, schema_name)
        wanted = columns or tuple(types)
        missing = set(wanted) - set(types)
        assert not missing, f"{table} has no {missing}, only {list(types)}"
        parts = []
        for name in wanted:
            quoted = '"' + name.replace('"', '""') + '"'
            if types[name] == "timestamp":
                quoted = (
                    f"epoch_us({quoted})"
                    if self.engine == "duckdb"
                    else f"(extract(epoch from {quoted}) * 1000000)::bigint"
                )
            parts.append(quoted)
        found = self.query(f'SELECT {", ".join(parts)} FROM "{schema_name}"."{table}" {where}')
        result = [
            {
                name: _EPOCH + timedelta(microseconds=value)
                if types[name] == "timestamp" and value is not None
                else value
                for name, value in zip(wanted, row, strict=True)
            }
            for row in found
        ]
        result.sort(key=lambda row: [(row[name] is None, str(row[name])) for name in wanted])
        return [row[wanted[0]] for row in result] if len(columns) == 1 else result

    def count(self, table: str) -> int:
        """Rows of a table."""
        return int(self.query(f'SELECT count(*) FROM "{SCHEMA}"."{table}"')[0][0])

    def by_id(self, table: str, *columns: str) -> dict[str, Any]:
        """Rows by their id: a dict each, or the bare value if one column is asked for."""
        rows = self.rows(table, "id", *columns) if columns else self.rows(table)
        if len(columns) == 1:
            return {row["id"]: row[columns[0]] for row in rows}
        return {row.pop("id"): row for row in rows}

    def data(self, *, without: Sequence[str] = ("uuid_ts",)) -> dict[str, list[Message]]:
        """Every table's rows except the target's own tables, for comparing whole warehouses."""
        tables = {}
        for table in self.relations():
            if (table.startswith("_") and table != "_open") or table == "sync_reports":
                continue
            names = [name for name in self.types(table) if name not in without]
            tables[table] = self.rows(table, *sorted(names)) if len(names) > 1 else []
        return tables

    def raw_types(self, table: str) -> dict[str, str]:
        """The columns of a table with their types as the engine writes them."""
        return dict(
            self.query(
                "SELECT column_name, data_type FROM information_schema.columns "
                f"WHERE table_schema = '{SCHEMA}' AND table_name = '{table}'"
            )
        )

    def assert_activity_is_the_union(self, tables: Sequence[str]) -> None:
        """Activity has the columns and rows of the event tables, by EXCEPT in both directions."""
        types = self.raw_types("activity")
        has = {table: self.raw_types(table) for table in tables}
        assert set(types) == set().union(*has.values())
        names = sorted(types)

        def select(table: str, columns: dict[str, str]) -> str:
            # Through activity's own type to text: engines compare no NaN, and no two types.
            listed = ", ".join(
                f'CAST(CAST({self._column(name, columns)} AS {types[name]}) AS TEXT) AS "{name}"'
                for name in names
            )
            return f'SELECT {listed} FROM "{SCHEMA}"."{table}"'

        union = " UNION ALL ".join(select(table, has[table]) for table in tables)
        ours = select("activity", types)
        assert self.query(f"({union}) EXCEPT ALL ({ours})") == []
        assert self.query(f"({ours}) EXCEPT ALL ({union})") == []

    @staticmethod
    def _column(name: str, columns: dict[str, str]) -> str:
        return f'"{name}"' if name in columns else "NULL"
