"""A session of Postgres: its settings and its statements."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from typing import Any

import adbc_driver_manager
import adbc_driver_postgresql.dbapi

from target_segment_warehouse.sqltext import literal
from target_segment_warehouse.warehouses.base import WarehouseError

_ENCODINGS = {"UTF8", "SQL_ASCII"}  # the latter keeps bytes as they come

_NAME = "target-segment-warehouse"  # for other sessions that this one keeps waiting

_LIMITS = (
    "statement_timeout",
    "transaction_timeout",
    "idle_in_transaction_session_timeout",
    "idle_session_timeout",
)
"""Settings that end what takes long. Databases and roles have them for people; a flush is a long
transaction, which is idle while the tap is."""


class Session:
    """One connection at a time. Everything but ``connect`` and ``close`` is in a transaction.

    Args:
        url: A libpq connection URI.
    """

    def __init__(self, url: str) -> None:
        self._url = url
        self._connection: adbc_driver_postgresql.dbapi.Connection | None = None

    @property
    def is_open(self) -> bool:
        """Whether there is a connection; the server may have ended it."""
        return self._connection is not None

    def connect(self) -> None:
        """Connect, and see to settings that a load depends on."""
        try:
            self._connection = adbc_driver_postgresql.dbapi.connect(self._url)
        except adbc_driver_manager.Error as error:
            raise WarehouseError(
                f"Postgres cannot be reached: {_reason(error)} Check the setting "
                "'warehouse_url', and that the server runs and accepts this user."
            ) from None
        # The driver writes UTF-8, and reads it, whatever the session's encoding is.
        self.execute("SET client_encoding TO 'UTF8'")
        limits = ", ".join(map(literal, _LIMITS))
        # Each statement has to see what was committed while the transaction waited for its turn:
        # read committed. Limits in the URL (options=-c ...) are meant for this session, and stay.
        ((encoding, database, *_),) = self.query(
            f"""SELECT getdatabaseencoding()::text, current_database()::text,
              set_config('default_transaction_isolation', 'read committed', false),
              set_config('TimeZone', 'UTC', false),
              set_config('application_name', coalesce(
                nullif(current_setting('application_name'), ''), '{_NAME}'), false),
              (SELECT count(set_config(name, '0', false)) FROM pg_settings
                WHERE name IN ({limits}) AND source <> 'client')"""  # noqa: S608
        )
        if encoding not in _ENCODINGS:
            self.close()
            raise WarehouseError(
                f"The database {database} is encoded in {encoding}, which has not every "
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
        body = "; ".join(f"EXECUTE {literal(statement)}" for statement in statements)
        refused = " OR ".join(unless)
        block = f"BEGIN {body}; {_done('yes')} EXCEPTION WHEN {refused} THEN {_done('no')} END"
        self.execute(f"DO {literal(block)}")
        return bool(self.query("SELECT current_setting('segment.done') = 'yes'")[0][0])

    @contextlib.contextmanager
    def _readable(self) -> Iterator[None]:
        """Turn the driver's errors into ours."""
        try:
            yield
        except adbc_driver_manager.Error as error:
            raise WarehouseError(_reason(error)) from None


def _done(outcome: str) -> str:
    return f"PERFORM set_config('segment.done', '{outcome}', true);"


def _reason(error: adbc_driver_manager.Error) -> str:
    """What Postgres says, without the driver's own words before it, and without values.

    Its details of an error are for instance the row at fault.
    """
    text = str(error)
    for mark in ("ERROR:", "FATAL:"):
        text = text.partition(mark)[2] or text
    for mark in ("Query was:", "DETAIL:", "CONTEXT:"):
        text = text.partition(mark)[0]
    text = " ".join(text.replace("SQLSTATE:", "code").split()).rstrip(". ")
    return f"{text}."
