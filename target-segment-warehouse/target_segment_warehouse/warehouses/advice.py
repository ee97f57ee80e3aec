"""What to do when Postgres refuses, by its codes (SQLSTATE)."""

from __future__ import annotations

from target_segment_warehouse.sqltext import literal

LOCK_NOT_FREE = "55P03"

END_IT = (
    "End it, as an administrator with SELECT pg_terminate_backend(its number), or wait longer "
    "with the setting 'lock_timeout_seconds'."
)


def writes_to(schema: str) -> str:
    """SQL for whether a lock ``l`` is of a session that does more than read in a schema."""
    tables = f"SELECT oid FROM pg_class WHERE relnamespace = {_oid(schema)}"  # noqa: S608
    return f"l.mode <> 'AccessShareLock' AND l.relation IN ({tables})"


def _oid(schema: str) -> str:
    return f"(SELECT oid FROM pg_namespace WHERE nspname = {literal(schema)})"  # noqa: S608
