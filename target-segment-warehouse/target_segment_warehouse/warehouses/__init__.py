"""The engines that data can be loaded into."""

from __future__ import annotations

import re
from pathlib import Path
from urllib.parse import unquote, urlsplit

from target_segment_warehouse.warehouses.base import Warehouse, WarehouseError
from target_segment_warehouse.warehouses.duckdb import DuckDB
from target_segment_warehouse.workbench import Workbench

_URL = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*)://(.*)", re.DOTALL)
_HOST = r"(?:\[[0-9A-Fa-f:.%]+\]|[^][:/?,@]*)(?::\d*)?"
_POSTGRES = re.compile(
    rf"(?P<user>[^@/]*@)?{_HOST}(?:,{_HOST})*(?:/(?P<database>[^?]*))?"
    r"(?:\?(?:[^=&]+=[^=&]*(?:&|$))*)?"
)
"""What libpq reads behind ``postgresql://`` (its manual, "Connection URIs")."""

_BAD_PERCENT = re.compile(r"%(?![0-9A-Fa-f]{2})|%00")


def open_warehouse(
    url: str, schema: str, workbench: Workbench, lock_timeout_seconds: float
) -> Warehouse:
    """The warehouse that a URL names.

    Args:
        url: ``duckdb:///relative/path``, ``duckdb:////absolute/path`` or ``postgresql://...``.
        schema: The schema in it.
        workbench: The in-memory DuckDB in which rows are prepared.
        lock_timeout_seconds: How long to wait for what others hold.

    Raises:
        WarehouseError: If the URL names no engine that is known, or cannot be read. The text has
            nothing of it but its scheme: it may hold a password.
    """
    found = _URL.fullmatch(url)
    if found is None:
        raise WarehouseError(
            "The setting 'warehouse_url' is no URL: write duckdb:///path/to/file.duckdb or "
            "postgresql://user:password@host/database."
        )
    scheme, rest = found[1], found[2]
    if scheme == "duckdb":
        path = unquote(urlsplit(url).path if not rest.startswith("/") else rest[1:])
        # What is in memory would be gone with the process, and STATE says that it is stored.
        if not path or path.startswith(":memory:"):
            raise WarehouseError(
                "The setting 'warehouse_url' names no file: write duckdb:///path/to/file.duckdb."
            )
        return DuckDB(workbench, schema, Path(path), lock_timeout_seconds)
    if scheme in {"postgresql", "postgres"}:
        from target_segment_warehouse.warehouses.postgres import Postgres

        _require_readable(rest)
        return Postgres(workbench, schema, url, lock_timeout_seconds)
    raise WarehouseError(
        f"The setting 'warehouse_url' begins with '{scheme}:'; known are duckdb and postgresql."
    )


def _require_readable(address: str) -> None:
    """See to it that libpq can read an address: it repeats what it cannot, password or not."""
    found = _POSTGRES.fullmatch(address)
    if (
        found is None
        or _BAD_PERCENT.search(address)
        or (not found["user"] and "@" in (found["database"] or ""))
    ):
        raise WarehouseError(
            "The setting 'warehouse_url' cannot be read as "
            "postgresql://user:password@host:port/database. In a name or password write "
            "%40 for @, %2F for /, %3A for :, %25 for %."
        )
