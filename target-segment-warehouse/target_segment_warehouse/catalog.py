"""What is in the schema: tables, their columns, and which stream and property each stands for.

Names are the warehouse's own memory (``_collections`` and ``_columns``, beside the data, in the
same transaction), so that a property keeps its column over runs, whatever else arrives later.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterable

from target_segment_warehouse.naming import ColumnNamer, Owner, TableNamer
from target_segment_warehouse.sqltext import literal
from target_segment_warehouse.streams import Collection, Stream
from target_segment_warehouse.types import Type
from target_segment_warehouse.warehouses.base import Warehouse

COLLECTIONS = "_collections"
COLUMNS = "_columns"
META = {"id": Type.TEXT, "received_at": Type.TIMESTAMP, "uuid_ts": Type.TIMESTAMP}

_TABLES = {
    COLLECTIONS: ("table_name", "stream", "collection", "key_properties"),
    COLUMNS: ("table_name", "column_name", "path", "variant"),
}


class Table:
    """One collection's table.

    Attributes:
        name: Its name in the schema.
        collection: Whether its rows are objects or events.
        columns: Logical types; None for a column of a type that is none of ours.
        namer: Names its columns.
        is_new: Whether this run made it.
    """

    def __init__(
        self,
        name: str,
        collection: Collection,
        columns: dict[str, Type | None],
        namer: ColumnNamer,
        *,
        is_new: bool,
    ) -> None:
        self.name = name
        self.collection = collection
        self.columns = columns
        self.namer = namer
        self.is_new = is_new


class Catalog:
    """The schema as it is inside one transaction.

    Args:
        warehouse: Inside a transaction.
    """

    def __init__(self, warehouse: Warehouse) -> None:
        self._warehouse = warehouse
        self._physical = warehouse.tables()
        for table, columns in _TABLES.items():
            if table not in self._physical:
                warehouse.create_table(table, dict.fromkeys(columns, Type.TEXT), key=None)
        self._owners: dict[str, dict[str, Owner]] = defaultdict(dict)
        for table, column, path, variant in self._read(COLUMNS):
            self._owners[table][column] = Owner.from_text(path, variant)
        self._collections: dict[str, tuple[str, Collection, str]] = {
            table: (stream, Collection(collection), key)
            for table, stream, collection, key in self._read(COLLECTIONS)
        }
        taken: dict[str, Owner | None] = dict.fromkeys(self._physical)
        taken |= {t: Owner((stream,)) for t, (stream, _, _) in self._collections.items()}
        self.views = warehouse.views()
        self._namer = TableNamer(warehouse.dialect.max_name_bytes, taken, self.views)
        self._tables: dict[str, Table] = {}

    def table(self, stream: Stream) -> Table:
        """The stream's table, made if it is not there."""
        name = self._namer.table(stream.name)
        table = self._tables.get(name)
        if table is None:
            table = self._open(name, stream)
        return table

    def event_tables(self) -> dict[str, dict[str, Type | None]]:
        """The event collections with their columns, in order of name."""
        return {
            name: self._columns(name)
            for name, (_, collection, _) in sorted(self._collections.items())
            if collection is Collection.EVENT and name in self._physical
        }

    def columns(self, table: str) -> dict[str, Type | None] | None:
        """The columns of any table of the schema; None if there is no such table."""
        return self._columns(table) if table in self._physical else None

    def save(self) -> None:
        """Store the names that were given."""
        rows = [
            (table.name, naming.name, naming.owner.to_text(), naming.owner.variant)
            for table in self._tables.values()
            for naming in table.namer.new
        ]
        self._write(COLUMNS, rows)
        for table in self._tables.values():
            table.namer.new.clear()

    def _open(self, name: str, stream: Stream) -> Table:
        is_new = name not in self._physical
        if is_new:
            self._warehouse.create_table(name, META)
            self._physical[name] = {}
        columns: dict[str, Type | None] = dict(META) if is_new else self._columns(name)
        key = json.dumps(stream.key)
        if self._collections.get(name) != (stream.name, stream.collection, key):
            self._warehouse.execute(
                f"DELETE FROM {self._warehouse.name(COLLECTIONS)} "  # noqa: S608
                f"WHERE table_name = {literal(name)}"
            )
            self._write(COLLECTIONS, [(name, stream.name, stream.collection.value, key)])
            self._collections[name] = (stream.name, stream.collection, key)
        owners = self._owners[name]
        existing: dict[str, Owner | None] = {**dict.fromkeys(columns), **owners}
        # The three columns of every table are nobody's.
        existing |= {column: Owner((column,), "meta") for column in META}
        namer = ColumnNamer(self._warehouse.dialect.max_name_bytes, existing, stream.hoist)
        table = Table(name, stream.collection, columns, namer, is_new=is_new)
        self._tables[name] = table
        return table

    def _columns(self, name: str) -> dict[str, Type | None]:
        if name in self._tables:
            return self._tables[name].columns
        return {
            column: self._warehouse.logical(physical)
            for column, physical in self._physical[name].items()
        }

    def _read(self, table: str) -> list[tuple[str, str, str, str]]:
        names = ", ".join(_TABLES[table])
        return self._warehouse.query(  # type: ignore[return-value]
            f"SELECT {names} FROM {self._warehouse.name(table)}"  # noqa: S608
        )

    def _write(self, table: str, rows: Iterable[tuple[str, ...]]) -> None:
        values = ", ".join(f"({', '.join(map(literal, row))})" for row in rows)
        if values:
            self._warehouse.execute(f"INSERT INTO {self._warehouse.name(table)} VALUES {values}")  # noqa: S608
