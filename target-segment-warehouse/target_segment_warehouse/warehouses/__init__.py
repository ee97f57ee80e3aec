"""The engines that data can be loaded into."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import unquote, urlsplit

from target_segment_warehouse.warehouses.base import Warehouse, WarehouseError
from target_segment_warehouse.warehouses.duckdb import DuckDB
from target_segment_warehouse.workbench import Workbench


def open_warehouse(
    url: str, schema: str, workbench: Workbench, lock_timeout_seconds: float
) -> Warehouse:
    """The warehouse that a URL names.

    Args:
        url: ``duckdb:///relative/path``, ``duckdb:////absolute/path`` or ``postgresql://...``.
        schema: The schema in it.
        workbench: The in-memory DuckDB in which rows are prepared.
        lock_timeout_seconds: How long to wait while others write.

    Raises:
        WarehouseError: If the URL names no engine that is known.
    """
    scheme, _, rest = url.partition("://")
    if scheme == "duckdb":
        path = unquote(urlsplit(url).path if not rest.startswith("/") else rest[1:])
        if not path:
            raise WarehouseError(
                "The setting 'warehouse_url' names no file: duckdb:///path/to/file.duckdb."
            )
        return DuckDB(workbench, schema, Path(path), lock_timeout_seconds)
    if scheme in {"postgresql", "postgres"}:
        from target_segment_warehouse.warehouses.postgres import Postgres

        return Postgres(workbench, schema, url)
    raise WarehouseError(
        f"The setting 'warehouse_url' begins with '{scheme}:'; known are duckdb and postgresql."
    )
