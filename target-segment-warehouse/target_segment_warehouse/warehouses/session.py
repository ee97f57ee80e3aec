"""A session of Postgres: its settings, its statements, and how it waits for others."""

from __future__ import annotations

import contextlib
import logging
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import adbc_driver_manager
import adbc_driver_postgresql.dbapi

from target_segment_warehouse.sqltext import literal
from target_segment_warehouse.warehouses.advice import (
    END_IT,
    LOCK_NOT_FREE,
    NO_RIGHT,
    WITHOUT_A_LOOK,
    right_to_read,
    right_to_write,
    writes_to,
)
from target_segment_warehouse.warehouses.base import WarehouseError

logger = logging.getLogger(__name__)

_ENCODINGS = {"UTF8", "SQL_ASCII"}  # the latter keeps bytes as they come

_NAME = "target-segment-warehouse"  # for other sessions that this one keeps waiting

_SETTINGS = {
    "statement_timeout": "0",
    "transaction_timeout": "0",
    "idle_in_transaction_session_timeout": "0",
    "idle_session_timeout": "0",
    "tcp_keepalives_idle": "60",
    "tcp_keepalives_interval": "10",
    "tcp_keepalives_count": "6",
}
"""What the database and the role have for people does not suit a flush: it is a long transaction,
which is idle while the tap is. Whether this side still lives the server finds out by asking (in
seconds): a session whose machine is gone would keep its locks for hours."""

_FIRST_TRY, _LONGEST_TRY, _PAUSE = 0.5, 5.0, 1.0
"""Seconds. Whoever comes after a statement that waits for a table waits behind it, readers too. So
it gives up soon, lets them pass, and tries again for longer: until readers that overlap leave it a
gap, and long enough that Postgres ends an autovacuum for it (deadlock_timeout, 1 s)."""


class Session:
    """One connection at a time. Everything but ``connect`` and ``close`` is in a transaction.

    Args:
        url: A libpq connection URI.
        schema: The schema that is worked on.
        lock_timeout_seconds: How long to wait for what another session holds.
    """

    def __init__(self, url: str, schema: str, lock_timeout_seconds: float) -> None:
        self._url = url
        self._schema = schema
        self._timeout = lock_timeout_seconds
        self._connection: adbc_driver_postgresql.dbapi.Connection | None = None
        self._user = self._database = ""
        self._only_reads = False

    @property
    def is_open(self) -> bool:
        """Whether there is a connection; the server may have ended it."""
        return self._connection is not None

    def connect(self, *, only_reads: bool = False) -> None:
        """Connect, and see to settings that a load depends on.

        Args:
            only_reads: Whether the session is to write nothing.
        """
        self._only_reads = only_reads
        try:
            self._connection = adbc_driver_postgresql.dbapi.connect(self._url)
        except adbc_driver_manager.Error as error:
            raise WarehouseError(
                f"Postgres cannot be reached: {_reason(error)} Check the setting "
                "'warehouse_url', and that the server runs and accepts this user."
            ) from None
        # The driver writes UTF-8, and reads it, whatever the session's encoding is.
        self.execute("SET client_encoding TO 'UTF8'")
        settings = ", ".join(f"({literal(n)}, {literal(v)})" for n, v in _SETTINGS.items())
        # Each statement has to see what was committed while the transaction waited for its turn:
        # read committed. What the URL sets (options=-c ...) is meant for this session, and stays.
        ((encoding, self._user, self._database, *_),) = self.query(
            f"""SELECT getdatabaseencoding()::text, current_user::text, current_database()::text,
              set_config('default_transaction_isolation', 'read committed', false),
              set_config('TimeZone', 'UTC', false),
              set_config('application_name', coalesce(
                nullif(current_setting('application_name'), ''), '{_NAME}'), false),
              set_config('lock_timeout', '{self._milliseconds(self._timeout)}', false),
              (SELECT count(set_config(name, value, false)) FROM pg_settings
                JOIN (VALUES {settings}) AS ours (name, value) USING (name)
                WHERE source <> 'client')"""  # noqa: S608
        )
        if encoding not in _ENCODINGS:
            self.close()
            raise WarehouseError(
                f"The database {self._database} is encoded in {encoding}, which has not every "
                "character: make one for the warehouse with ENCODING 'UTF8' TEMPLATE template0."
            )
        self.commit()

    def commit(self) -> None:
        """Make what was done durable."""
        with self._readable():
            self._open.commit()

    def close(self) -> None:
        """Let go of the connection, and of what is not committed."""
        if self._connection is not None:
            with contextlib.suppress(adbc_driver_manager.Error):
                self._connection.close()
            self._connection = None

    def rollback(self) -> None:
        """Undo everything since the last commit, and close; never raises."""
        if self._connection is not None:
            with contextlib.suppress(adbc_driver_manager.Error):
                self._connection.rollback()
            self.close()

    @property
    def _open(self) -> adbc_driver_postgresql.dbapi.Connection:
        if self._connection is None:
            raise WarehouseError("There is no connection to Postgres outside a transaction.")
        return self._connection

    @contextlib.contextmanager
    def cursor(self) -> Iterator[adbc_driver_postgresql.dbapi.Cursor]:
        """A cursor of the driver, whose errors become ours."""
        with self._readable(), self._open.cursor() as cursor:
            yield cursor

    def execute(self, sql: str) -> None:
        """Run one statement."""
        with self.cursor() as cursor:
            cursor.execute(sql)

    def query(self, sql: str) -> list[tuple[Any, ...]]:
        """Run one query and return its rows."""
        with self.cursor() as cursor:
            cursor.execute(sql)
            return [tuple(row) for row in cursor.fetchall()]

    def attempt(self, *statements: str, unless: Sequence[str]) -> bool:
        """Run statements all or none; False if they meet with one of these conditions.

        They run on the server, since the driver lets nothing pass in a transaction with a failure,
        not even the rollback to a savepoint.
        """
        return self._outcome(statements, unless) == "yes"

    def change(self, relations: Sequence[str], *statements: str, unless: Sequence[str]) -> bool:
        """The same of statements that want tables or views for themselves.

        Args:
            relations: What they want, with its schema, quoted.
            statements: What to run; while they wait they hold nothing of it.
            unless: The conditions.

        Raises:
            WarehouseError: If other sessions hold some of it for too long.
        """
        listed = ", ".join(f"to_regclass({literal(each)})" for each in relations)
        outcome = self._wait(
            relations[0].replace('"', ""),
            f"l.relation IN ({listed})",
            lambda seconds: self._outcome(statements, unless, seconds),
            readers_wait=True,
        )
        return outcome == "yes"

    def try_lock(self) -> bool:
        """Be, until commit, the one run that writes to the schema; False if another is."""
        return bool(self.query(f"SELECT pg_try_advisory_xact_lock({self._key})")[0][0])

    def lock(self) -> None:
        """The same, as soon as the others are done; readers never wait.

        Raises:
            WarehouseError: If that takes too long.
        """
        statement = f"SELECT pg_advisory_xact_lock({self._key})"
        # How Postgres shows the key.
        holders = (
            "l.locktype = 'advisory' AND l.objsubid = 1 AND "
            f"(l.classid::bigint << 32) | l.objid::bigint = {self._key}"
        )
        # Nobody but other runs waits behind it, and its place in the line is lost with each try.
        self._wait(
            f"the schema {self._schema}",
            holders,
            lambda seconds: self._outcome([statement], (), seconds),
            readers_wait=False,
        )

    @property
    def _key(self) -> str:
        return f"hashtext({literal('segment:' + self._schema)})::bigint"

    def _outcome(
        self, statements: Sequence[str], unless: Sequence[str], seconds: float | None = None
    ) -> str:
        """Run statements all or none: ``yes``, ``no``, or ``busy`` if a lock is not free in time.

        Without a time it is that of every statement, and its end a failure.
        """
        run = [f"EXECUTE {literal(statement)}" for statement in statements]
        conditions = [f"WHEN {' OR '.join(unless)} THEN {_done('no')}"] if unless else []
        if seconds is not None:
            most = self._milliseconds(self._timeout)
            run.insert(0, f"SET LOCAL lock_timeout = {self._milliseconds(seconds)}")
            run.append(f"SET LOCAL lock_timeout = {most}")
            conditions.append(f"WHEN lock_not_available THEN {_done('busy')}")
        body = f"BEGIN {'; '.join(run)}; {_done('yes')} EXCEPTION {' '.join(conditions)} END"
        self.execute(f"DO {literal(body)}")
        return str(self.query("SELECT current_setting('segment.done')")[0][0])

    def _wait(
        self, what: str, holders: str, try_: Callable[[float], str], *, readers_wait: bool
    ) -> str:
        """Try, for longer each time, until the outcome is another than ``busy``."""
        deadline = time.monotonic() + self._timeout
        seconds, told = min(_FIRST_TRY, self._timeout), False
        while (outcome := try_(seconds)) == "busy":
            held_by = self._sessions(holders)
            left = deadline - time.monotonic()
            if left <= 0:
                raise WarehouseError(
                    f"Waited {self._timeout:g} s for {what}, which {held_by} held. {END_IT}"
                )
            if not told:
                logger.info("Waiting for %s, which %s holds ...", what, held_by)
                told = True
            if readers_wait:
                time.sleep(min(_PAUSE, left))
                left = max(0.0, deadline - time.monotonic())
            seconds = min(seconds * 2, _LONGEST_TRY, left) if readers_wait else left
        return outcome

    def _sessions(self, which: str) -> str:
        """Sessions that hold certain locks, those that began first before others."""
        found = self.query(
            f"""SELECT l.pid,
              concat_ws(', ', nullif(a.application_name, ''), a.usename, a.state) AS description
            FROM pg_locks l LEFT JOIN pg_stat_activity a USING (pid)
            WHERE l.granted AND l.pid <> pg_backend_pid() AND {which} AND l.database =
              (SELECT oid FROM pg_database WHERE datname = current_database())
            GROUP BY l.pid, description, a.xact_start ORDER BY a.xact_start, l.pid LIMIT 5"""  # noqa: S608
        )
        sessions = (f"session {pid} ({description})" for pid, description in found)
        return ", ".join(sessions) or "another session"

    @staticmethod
    def _milliseconds(seconds: float) -> int:
        # To Postgres 0 is for ever, and what 32 bits do not hold is nothing.
        return min(max(1, int(seconds * 1000)), 2**31 - 1)

    @contextlib.contextmanager
    def _readable(self) -> Iterator[None]:
        """Turn the driver's errors into ours, with what to do about them."""
        try:
            yield
        except adbc_driver_manager.Error as error:
            advice = self._advice(error.sqlstate or "")
            raise WarehouseError(f"{_reason(error)} {advice}".rstrip()) from None

    def _advice(self, code: str) -> str:
        """What to do about a failure, which has to be looked for where it happened."""
        if code in WITHOUT_A_LOOK:
            return WITHOUT_A_LOOK[code]
        if code not in {LOCK_NOT_FREE, NO_RIGHT}:
            return ""
        with contextlib.suppress(adbc_driver_manager.Error, WarehouseError):
            # What failed is lost anyway, and a transaction with a failure answers nothing.
            self._open.rollback()
            if code == LOCK_NOT_FREE:
                held_by = self._sessions(writes_to(self._schema))
                return f"Waited {self._timeout:g} s for {held_by}. {END_IT}"
            if self._only_reads:
                return right_to_read(self._schema, self._user)
            return right_to_write(self.query, self._schema, self._user, self._database)
        return ""


def _done(outcome: str) -> str:
    return f"PERFORM set_config('segment.done', '{outcome}', true);"


def _reason(error: adbc_driver_manager.Error) -> str:
    """What Postgres says, without the driver's own words before it, and without values.

    Its details of an error are for instance the row at fault.
    """
    text = str(error)
    for mark in ("ERROR:", "FATAL:"):
        text = text.partition(mark)[2] or text
    for mark in ("\nLINE ", "Query was:", "DETAIL:", "CONTEXT:"):
        text = text.partition(mark)[0]
    text = " ".join(text.replace("SQLSTATE:", "code").split()).rstrip(". ")
    return f"{text}."
