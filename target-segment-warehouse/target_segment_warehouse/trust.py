"""Events that are inserted on trust: that each is there once is seen to at the end of the batch.

To ask a table which of some ids it has is to read all that it has, for every piece again. Where
nothing forbids that an id is there twice, and the events before were new, the next are inserted
unasked. At the end all of a batch's are compared with those before at once.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from itertools import count

from target_segment_warehouse.catalog import Table
from target_segment_warehouse.sqltext import quote
from target_segment_warehouse.warehouses.base import Warehouse

_NEW = "__new_hashes"
_ROWID = "rowid"
"""What DuckDB calls the number of a row; it cannot be asked for where a column is called so."""

_FEW = 8
"""A table is trusted while no more than one in so many of its events were there already."""


class Trust:
    """Which events of one transaction are taken on trust. DuckDB's tables alone.

    Args:
        warehouse: Inside a transaction.
        trusted: The tables that are trusted; outlives the transaction.
    """

    def __init__(self, warehouse: Warehouse, trusted: set[str]) -> None:
        self._warehouse = warehouse
        self._workbench = warehouse.workbench
        self._trusted = trusted
        self._first: dict[str, int] = {}
        self._unproven: dict[str, Table] = {}

    def has(self, table: Table) -> bool:
        """Whether the table's next events are taken on trust. Nothing was there in a new one."""
        return (table.is_new or table.name in self._trusted) and _ROWID not in table.columns

    def begin(self, table: Table) -> bool:
        """Take note, before events are inserted, of where the transaction's rows begin.

        DuckDB numbers rows as they are inserted, and those of a transaction after all others.

        Returns:
            Whether they are taken on trust.
        """
        if _ROWID not in table.columns and table.name not in self._first:
            self._first[table.name] = 0 if table.is_new else self._next(table)
        if not self.has(table):
            return False
        self._trusted.add(table.name)
        self._unproven[table.name] = table
        return True

    def _next(self, table: Table) -> int:
        """The number of the row that is inserted next."""
        name = self._warehouse.name(table.name)
        return int(self._workbench.value(f"SELECT coalesce(max(rowid) + 1, 0) FROM {name}"))  # noqa: S608

    def tell(self, table: str, repeated: int, count: int) -> None:
        """Trust a table, or cease to.

        Args:
            table: The table.
            repeated: How many events came last that were there already.
            count: Of how many.
        """
        if repeated * _FEW > count:
            self._trusted.discard(table)
        elif table not in self._trusted and not self._warehouse.forbids_repeats(table):
            self._trusted.add(table)

    def remove_repeats(self) -> Mapping[str, int]:
        """Remove events taken on trust whose id was there already, or came before.

        Returns:
            How many they are, of each table with any.
        """
        tables = sorted(self._unproven.items())
        return {name: count for name, table in tables if (count := self.end(table))}

    def end(self, table: Table) -> int:
        """The same of one table, of which no more events come. Returns how many were removed."""
        if self._unproven.pop(table.name, None) is None:
            return 0
        with self._numbered(table):
            return self._remove_repeats(table.name)

    @contextlib.contextmanager
    def _numbered(self, table: Table) -> Iterator[None]:
        """Have a column that hides the numbers of rows, and came after some, step aside."""
        if _ROWID not in table.columns:
            yield
            return
        aside = next(name for n in count() if (name := f"rowid_{n}") not in table.columns)
        alter = f"ALTER TABLE {self._warehouse.name(table.name)} RENAME COLUMN"
        self._warehouse.execute(f"{alter} {_ROWID} TO {quote(aside)}")
        yield
        self._warehouse.execute(f"{alter} {quote(aside)} TO {_ROWID}")

    def _remove_repeats(self, table: str) -> int:
        name, first = self._warehouse.name(table), self._first[table]
        # Hashes take less room than ids; two ids with the same one only cost a second look.
        new = self._workbench.value(
            f"CREATE OR REPLACE TEMP TABLE {_NEW} AS "  # noqa: S608
            f"SELECT hash(id) AS h FROM {name} WHERE rowid >= {first}"
        )
        twice = f"SELECT h FROM {_NEW} GROUP BY h HAVING count(*) > 1"  # noqa: S608
        old = f"FROM (SELECT hash(id) AS h FROM {name} WHERE rowid < {first})"  # noqa: S608
        met = f"{old} SEMI JOIN {_NEW} USING (h)"
        removed = 0
        # Counting them is less work than finding those that are there twice.
        if self._workbench.value(
            f"SELECT count(*) <> count(DISTINCT h) OR EXISTS ({met}) FROM {_NEW}"  # noqa: S608
        ):
            removed = self._workbench.value(
                f"""DELETE FROM {name} WHERE rowid IN (
                    SELECT rowid FROM (
                        SELECT rowid, row_number() OVER (PARTITION BY id ORDER BY rowid) AS place
                        FROM {name} WHERE hash(id) IN ({twice} UNION ALL {met})
                    ) WHERE place > 1 AND rowid >= {first}
                )"""  # noqa: S608
            )
        self.tell(table, int(removed), int(new))
        return int(removed)
