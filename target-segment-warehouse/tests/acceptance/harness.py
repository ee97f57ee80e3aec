"""What the acceptance tests stand on: real target processes, and a reader of either warehouse."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import IO, Any

import duckdb
import psycopg

SCHEMA = "wh"
Message = dict[str, Any]
Line = Message | str | bytes

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


# -- messages ------------------------------------------------------------------------------------
def schema(
    stream: str,
    properties: dict[str, Any] | None = None,
    keys: Sequence[str] = ("id",),
    **top_level: Any,
) -> Message:
    """A SCHEMA message; a property given as a string is of that type, or null."""
    given = {"id": "string"} if properties is None else properties
    expanded = {
        name: {"type": [kind, "null"]} if isinstance(kind, str) else kind
        for name, kind in given.items()
    }
    return {
        "type": "SCHEMA",
        "stream": stream,
        "key_properties": list(keys),
        "schema": {"type": "object", "properties": expanded, **top_level},
    }


def events(stream: str, properties: dict[str, Any] | None = None, *, hoist: bool = True) -> Message:
    """The SCHEMA of an event collection as tap-sendgrid annotates it."""
    annotation: Message = {"collection": "event"}
    if hoist:
        annotation["hoist"] = ["custom_args"]
    return schema(stream, properties, **{"x-segment": annotation})


def record(stream: str, values: Message | None = None, **more: Any) -> Message:
    """A RECORD message."""
    return {"type": "RECORD", "stream": stream, "record": {**(values or {}), **more}}


def state(value: Any) -> Message:
    """A STATE message."""
    return {"type": "STATE", "value": value}


def encode(lines: Iterable[Line]) -> bytes:
    """Messages as the bytes of a Singer pipe; text and bytes go in as they are."""
    parts = []
    for line in lines:
        if isinstance(line, dict):
            try:
                raw = json.dumps(line, ensure_ascii=False).encode()
            except UnicodeEncodeError:  # a lone surrogate has to be escaped
                raw = json.dumps(line).encode()
        else:
            raw = line.encode() if isinstance(line, str) else line
        parts.append(raw if raw.endswith(b"\n") else raw + b"\n")
    return b"".join(parts)


# -- processes -----------------------------------------------------------------------------------
@dataclass
class Result:
    """What one run of the target left behind."""

    returncode: int
    stdout: str
    stderr: str

    @property
    def states(self) -> list[Any]:
        """The values of the STATE lines, in order."""
        return [json.loads(line) for line in self.stdout.splitlines()]

    def ok(self) -> Result:
        """The same, if the run succeeded."""
        assert self.returncode == 0, self.stderr[-6000:]
        return self

    def failed(self, *texts: str) -> Result:
        """The same, if the run failed with an explanation that holds the texts and no traceback."""
        assert self.returncode > 0, (self.returncode, self.stdout, self.stderr[-3000:])
        for text in texts:
            assert text.lower() in self.stderr.lower(), (text, self.stderr[-3000:])
        return self


class Zygote:
    """The process that forks targets; see zygote.py."""

    def __init__(self) -> None:
        environment = {k: v for k, v in os.environ.items() if not k.startswith("TARGET_")}
        self._process = subprocess.Popen(
            [sys.executable, str(Path(__file__).with_name("zygote.py"))],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=environment,
            text=True,
        )
        self.processes: list[Process] = []
        self._answers = threading.Condition()
        self._pids: list[int] = []
        self._codes: dict[int, int] = {}
        assert self._process.stdout is not None
        assert self._process.stdout.readline() == "ready\n", "the target cannot be imported"
        self._reader = threading.Thread(target=self._listen, daemon=True)
        self._reader.start()

    def _listen(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            kind, *numbers = line.split()
            with self._answers:
                if kind == "pid":
                    self._pids.append(int(numbers[0]))
                else:
                    self._codes[int(numbers[0])] = int(numbers[1])
                self._answers.notify_all()

    def start(self, request: Message) -> int:
        """Fork a target and return its process id."""
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(request) + "\n")
        self._process.stdin.flush()
        with self._answers:
            assert self._answers.wait_for(lambda: self._pids, timeout=30)
            return self._pids.pop()

    def wait(self, pid: int, timeout: float) -> int | None:
        """The exit code of a target, None if it still runs after ``timeout`` seconds."""
        with self._answers:
            self._answers.wait_for(lambda: pid in self._codes, timeout=timeout)
            return self._codes.get(pid)

    def close(self) -> None:
        """End the process."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait(timeout=30)
        self._reader.join(timeout=30)
        assert self._process.stdout is not None
        self._process.stdout.close()


@dataclass
class Process:
    """A target that runs."""

    zygote: Zygote
    pid: int
    stdout: Path
    stderr: Path
    stdin: IO[bytes] | None = None

    def send(self, *lines: Line) -> None:
        """Write messages to its standard input (only of a streaming run)."""
        assert self.stdin is not None
        self.stdin.write(encode(lines))
        self.stdin.flush()

    def states(self) -> list[Any]:
        """The states written so far."""
        text = self.stdout.read_text() if self.stdout.exists() else ""
        return [json.loads(line) for line in text.splitlines(keepends=True) if line.endswith("\n")]

    def until_states(self, count: int, timeout: float = 30) -> list[Any]:
        """Wait until it wrote ``count`` states."""
        deadline = time.monotonic() + timeout
        while len(states := self.states()) < count:
            assert time.monotonic() < deadline, (states, self.stderr.read_text()[-3000:])
            time.sleep(0.01)
        return states

    def signal(self, number: signal.Signals) -> None:
        """Send a signal."""
        os.kill(self.pid, number)

    def abandon(self) -> None:
        """End it, whatever it does: for tests that failed before they could."""
        if self.zygote.wait(self.pid, 0) is None:
            os.kill(self.pid, signal.SIGKILL)
            self.zygote.wait(self.pid, 10)
        if self.stdin is not None:
            with contextlib.suppress(BrokenPipeError):
                self.stdin.close()

    def finish(self, timeout: float = 120) -> Result:
        """Close its input, wait for its end and return what it left."""
        if self.stdin is not None and not self.stdin.closed:
            with contextlib.suppress(BrokenPipeError):
                self.stdin.close()
        code = self.zygote.wait(self.pid, timeout)
        if code is None:
            os.kill(self.pid, signal.SIGKILL)
            self.zygote.wait(self.pid, 10)
            raise AssertionError(
                f"still running after {timeout} s\n{self.stderr.read_text()[-3000:]}"
            )
        return Result(code, self.stdout.read_text(), self.stderr.read_text(errors="replace"))


# -- warehouses ----------------------------------------------------------------------------------
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
