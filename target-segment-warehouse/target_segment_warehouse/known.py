"""The ids of tables that this run found empty, so that the warehouse need not be asked for them.

Valid while flushes follow one another and no other run has its turn in between. Others than runs
cannot write in the meantime on DuckDB, whose file is held; Postgres has its primary key.
"""

from __future__ import annotations

from target_segment_warehouse.workbench import Workbench

_HASHES = "__hashes"
_MET = "__met"
_SUSPECTS = "__suspects"

MOST = 2_000_000
"""How many ids are remembered, as 8 bytes each, in all tables together."""


class KnownIds:
    """Hashes of ids, on the workbench.

    Args:
        workbench: Where they are.
    """

    def __init__(self, workbench: Workbench) -> None:
        self._workbench = workbench
        self._tables: dict[str, str] = {}
        self._count = 0

    def begin(self, table: str) -> None:
        """Remember the ids of a table, which has none yet and is not known."""
        name = f"__known{len(self._tables)}"
        self._tables[table] = name
        self._workbench.execute(f"CREATE OR REPLACE TEMP TABLE {name} (h UBIGINT)")

    @property
    def any(self) -> bool:
        """Whether any table's ids are known."""
        return bool(self._tables)

    def have(self, table: str) -> bool:
        """Whether the table's ids are known."""
        return table in self._tables

    def has_room(self, count: int) -> bool:
        """Whether so many more can be remembered."""
        return self._count + count <= MOST

    def suspects(self, table: str, ids: str, count: int) -> str | None:
        """Those of some ids that the table may have; if its ids are known, these are remembered.

        Args:
            table: The table.
            ids: A relation on the workbench with a column ``id``, each once.
            count: How many there are.

        Returns:
            A relation like ``ids``; None if there are no such ids.
        """
        name = self._tables.get(table)
        if name is None:
            return ids if count else None
        self._workbench.execute(
            f"CREATE OR REPLACE TEMP TABLE {_HASHES} AS SELECT hash(id) AS h FROM {ids}"  # noqa: S608
        )
        # What is joined is made a hash table of: these few, not the many that are known.
        found = self._workbench.value(
            f"CREATE OR REPLACE TEMP TABLE {_MET} AS FROM {name} SEMI JOIN {_HASHES} USING (h)"
        )
        self._workbench.execute(f"INSERT INTO {name} FROM {_HASHES}")
        self._count += count
        if not found:
            return None
        self._workbench.execute(
            f"CREATE OR REPLACE TEMP TABLE {_SUSPECTS} AS SELECT id FROM {ids} "  # noqa: S608
            f"WHERE hash(id) IN (FROM {_MET})"
        )
        return _SUSPECTS

    def forget(self) -> None:
        """Forget all ids: others may write to the tables now."""
        for name in self._tables.values():
            self._workbench.execute(f"DROP TABLE {name}")
        self._tables.clear()
        self._count = 0
