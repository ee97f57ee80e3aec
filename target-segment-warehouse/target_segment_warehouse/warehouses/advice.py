"""What to do when Postgres refuses, by its codes (SQLSTATE)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from target_segment_warehouse.sqltext import literal, quote

NO_RIGHT, LOCK_NOT_FREE = "42501", "55P03"

WITHOUT_A_LOOK = {
    "25006": "This server is a replica, or its sessions are read-only "
    "(default_transaction_read_only): 'warehouse_url' has to name the primary.",
    "40P01": "A transaction that reads several tables met with changes of theirs: nothing of this "
    "flush is kept, and the next run loads it.",
}

END_IT = (
    "End it, as an administrator with SELECT pg_terminate_backend(its number), or wait longer "
    "with the setting 'lock_timeout_seconds'."
)


def writes_to(schema: str) -> str:
    """SQL for whether a lock ``l`` is of a session that does more than read in a schema."""
    tables = f"SELECT oid FROM pg_class WHERE relnamespace = {_oid(schema)}"  # noqa: S608
    return f"l.mode <> 'AccessShareLock' AND l.relation IN ({tables})"


def right_to_read(schema: str, user: str) -> str:
    """Which right a user needs who only reads the run reports."""
    granted = f"ON SCHEMA {quote(schema)} TO {quote(user)}"
    return (
        f"As an administrator: GRANT USAGE {granted}; "
        f"GRANT SELECT ON {quote(schema)}.sync_reports TO {quote(user)};"
    )


def right_to_write(
    query: Callable[[str], list[tuple[Any, ...]]], schema: str, user: str, database: str
) -> str:
    """Which right a user lacks who is to load into a schema.

    Args:
        query: Runs a query.
        schema: The schema.
        user: The session's user.
        database: The session's database.
    """
    # A role owns what belongs to a role that it is a member of.
    found = query(
        f"""SELECT owner::text, kind, name, pg_has_role(owner, 'USAGE') FROM (
          SELECT pg_get_userbyid(nspowner) AS owner, 'SCHEMA' AS kind, NULL AS name
          FROM pg_namespace WHERE oid = {_oid(schema)}
          UNION ALL
          SELECT pg_get_userbyid(relowner), CASE relkind WHEN 'v' THEN 'VIEW' ELSE 'TABLE' END,
            relname::text
          FROM pg_class WHERE relnamespace = {_oid(schema)} AND relkind IN ('r', 'p', 'v')
        ) AS owned ORDER BY kind, name"""  # noqa: S608
    )
    if not found:
        granted = f"GRANT CREATE ON DATABASE {quote(database)} TO {quote(user)};"
        return f"For {user} to make the schema {schema}, as an administrator: {granted}"
    others = [(owner, kind, name) for owner, kind, name, is_ours in found if not is_ours]
    if not others:
        return f"The user {user} has to be allowed to write to the schema {schema}."
    owner, kind, name = others[0]
    relation = quote(schema) if name is None else f"{quote(schema)}.{quote(name)}"
    more = f", and {len(others) - 1} more are somebody else's" if len(others) > 1 else ""
    return (
        f"New properties become columns, so all in the schema has to belong to {user}; this belongs"
        f" to {owner}{more}. As an administrator: ALTER {kind} {relation} OWNER TO {quote(user)};"
    )


def _oid(schema: str) -> str:
    return f"(SELECT oid FROM pg_namespace WHERE nspname = {literal(schema)})"  # noqa: S608
