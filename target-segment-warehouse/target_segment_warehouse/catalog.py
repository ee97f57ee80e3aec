"""What is in the schema: tables, their columns, and which stream and property each stands for.

Names are the warehouse's own memory (``_collections`` and ``_columns``, beside the data, in the
same transaction), so that a property keeps its column over runs, whatever else arrives later.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

from target_segment_warehouse.messages import without_surrogates
from target_segment_warehouse.naming import ColumnNamer, Owner, Path, TableNamer
from target_segment_warehouse.sqltext import literal
from target_segment_warehouse.streams import Collection, Stream
from target_segment_warehouse.types import Type
from target_segment_warehouse.warehouses.base import Warehouse, WarehouseError

COLLECTIONS = "_collections"
COLUMNS = "_columns"
OVERFLOW = "_overflow"
META = {"id": Type.TEXT, "received_at": Type.TIMESTAMP, "uuid_ts": Type.TIMESTAMP}

_SDC_TIMES = {"_sdc_batched_at", "_sdc_deleted_at", "_sdc_extracted_at", "_sdc_received_at"}
_TIMES_WITHOUT_ZONE = {"timestamp", "timestamp without time zone", "date"}
"""What other loaders have for them: UTC."""

_TABLES = {
    COLLECTIONS: ("table_name", "stream", "collection", "key_properties", "version"),
    COLUMNS: ("table_name", "column_name", "path", "variant"),
}


@dataclass(frozen=True, slots=True)
class _Collection:
    """A row of ``_collections``.

    Attributes:
        stream: The stream that the table is of.
        collection: Object or event.
        key: The key properties, as JSON.
        version: Version of the latest rows, with the time when the first of them came.
    """

    stream: str
    collection: Collection
    key: str
    version: dict[str, str]


class Table:
    """One collection's table.

    Attributes:
        name: Its name in the schema.
        collection: Whether its rows are objects or events.
        columns: Logical types; None for a column of a type that is none of ours.
        namer: Names its columns.
        is_new: Whether it is made in this flush, once its columns are known.
        columns_of: The columns that the table has for a property: its own, and siblings.
        members: Names, given in this flush, of properties that have no column but are in
            ``_overflow``.
        notices: What people should know of.
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
        self.columns_of: dict[Path, list[str]] = defaultdict(list)
        self.members: set[str] = set()
        self.notices: list[str] = []
        self._is_made = not is_new

    def add_columns(self, warehouse: Warehouse, columns: Mapping[str, Type]) -> dict[str, Type]:
        """Give the table those of the columns that it has not; returns them."""
        missing = {name: type_ for name, type_ in columns.items() if name not in self.columns}
        if missing and self._is_made:
            warehouse.add_columns(self.name, missing)
        self.columns |= missing
        return missing

    def room_for(self, warehouse: Warehouse, name: str, type_: Type) -> tuple[str, Type]:
        """The column, and its type, that takes the values of a computed column.

        A column of that name may be another loader's, or of values that a tap sent: it is made text
        if it can be, which holds both; else the values go to a sibling.
        """
        old = self.columns.get(name, type_)
        if old in {type_, Type.TEXT} or (old is Type.FLOAT and type_ is Type.INTEGER):
            return name, old or Type.TEXT
        if not self._is_made or warehouse.change_type(self.name, name, old, Type.TEXT):
            self.columns[name] = Type.TEXT
            return name, Type.TEXT
        return self.namer.variant((name,), type_.value), type_

    def make(self, warehouse: Warehouse) -> None:
        """Make the table if it is not there: with all its columns, which is cheaper than adding."""
        if not self._is_made:
            columns = {name: type_ or Type.TEXT for name, type_ in self.columns.items()}
            warehouse.create_table(self.name, columns)
            self._is_made = True


class Catalog:
    """The schema as it is inside one transaction.

    Args:
        warehouse: Inside a transaction.

    Attributes:
        rows_changed: Whether, in this transaction, events that were there changed or went, or a
            table with rows became one of objects, or of events.
    """

    def __init__(self, warehouse: Warehouse) -> None:
        self._warehouse = warehouse
        self.rows_changed = False
        self._physical = warehouse.tables()
        self.views = warehouse.views()
        self._tables: dict[str, Table] = {}
        self._others: dict[str, dict[str, Type | None]] = {}
        for table, columns in _TABLES.items():
            self.keep(table, dict.fromkeys(columns, Type.TEXT))
        self._owners: dict[str, dict[str, Owner]] = defaultdict(dict)
        for table, column, path, variant in self._read(COLUMNS):
            owners = self._owners[warehouse.folded(table)]
            owners[warehouse.folded(column)] = Owner.from_text(path, variant)
        self._collections: dict[str, _Collection] = {}
        # Names as they are in ``_collections``, where earlier releases did not fold them.
        self._written: dict[str, str] = {}
        for table, stream, collection, key, version in self._read(COLLECTIONS):
            name = warehouse.folded(table)
            self._written[name] = table
            self._collections[name] = _Collection(
                _plain(stream), Collection(collection), key, json.loads(version)
            )
        self._unsaved: dict[str, None] = {}
        taken: dict[str, Owner | None] = dict.fromkeys(self._physical)
        taken |= {table: Owner((entry.stream,)) for table, entry in self._collections.items()}
        self._namer = TableNamer(warehouse.dialect.max_name_bytes, taken, self.views)

    def table(self, stream: Stream) -> Table:
        """The stream's table, as its SCHEMA is now; one that is not there has still to be made."""
        if self._warehouse.dialect.enforces_keys and not self._namer.knows(stream.name):
            # The tables that were made in this transaction have brought indexes with them.
            self._namer.block(self._warehouse.views())
        name = self._namer.table(stream.name)
        table = self._tables.get(name)
        if table is None:
            table = self._open(name, stream)
        self._enter(table, stream)
        return table

    def event_tables(self) -> dict[str, dict[str, Type | None]]:
        """The event collections with their columns, in order of name."""
        return {
            name: self._columns(name)
            for name, entry in sorted(self._collections.items())
            if entry.collection is Collection.EVENT and name in self._physical
        }

    def keep(self, table: str, columns: Mapping[str, Type]) -> None:
        """See to it that a table of the target's own, of no stream, is there with its columns.

        Raises:
            WarehouseError: If somebody else has something of that name.
        """
        present = self.columns(table)
        missing = {n: t for n, t in columns.items() if present is None or n not in present}
        fits = present is None or (
            len(missing) < len(columns) and all(present.get(n, t) is t for n, t in columns.items())
        )
        if not fits or table in self.views:
            raise WarehouseError(
                f"{self._warehouse.schema}.{table} is not this target's, which keeps a table of "
                "that name: rename it, or set 'default_target_schema' to another schema."
            )
        if present is None:
            self._warehouse.create_table(table, columns, key=None)
            self.created(table, columns)
        elif missing:  # made by an earlier release
            self._warehouse.add_columns(table, missing)
            present.update(missing)

    def columns(self, table: str) -> dict[str, Type | None] | None:
        """The columns of any table of the schema; None if there is no such table."""
        return self._columns(table) if table in self._physical else None

    def created(self, table: str, columns: Mapping[str, Type]) -> dict[str, Type | None]:
        """Note a table that is not a collection; returns its columns, to be kept up to date."""
        self._physical[table] = {}
        self._others[table] = dict(columns)
        return self._others[table]

    def forget(self, table: str) -> None:
        """Note that a table was dropped."""
        self._physical.pop(table)
        self._others.pop(table, None)

    def version_began(self, table: str, version: int) -> str | None:
        """When the first row of the version came: an ISO 8601 time, as in ``uuid_ts``.

        None if the latest rows have another version.
        """
        return self._collections[table].version.get(str(version))

    def latest_version(self, table: str) -> int | None:
        """The version that the latest rows have, if they have one."""
        return max(map(int, self._collections[table].version), default=None)

    def begin_version(self, table: str, version: int, stamp: str) -> None:
        """Note that rows of a version come, the first of them at this time."""
        entry = self._collections[table]
        if str(version) not in entry.version:
            self._store(table, replace(entry, version={str(version): stamp}))

    def _store(self, table: str, entry: _Collection) -> None:
        self._collections[table] = entry
        self._unsaved[table] = None

    def save(self) -> None:
        """Store the collections, and the names that were given."""
        if self._unsaved:
            written = ", ".join(literal(self._written.pop(name, name)) for name in self._unsaved)
            self._warehouse.execute(
                f"DELETE FROM {self._warehouse.name(COLLECTIONS)} WHERE table_name IN ({written})"  # noqa: S608
            )
            self._write(COLLECTIONS, [self._row(name) for name in self._unsaved])
            self._unsaved.clear()
        rows = [
            (table.name, naming.name, naming.owner.to_text(), naming.owner.variant)
            for table in self._tables.values()
            for naming in table.namer.new
            if naming.name in table.columns or naming.name in table.members
        ]
        self._write(COLUMNS, rows)
        for table in self._tables.values():
            table.namer.new.clear()

    def _row(self, table: str) -> tuple[str, ...]:
        """A collection's row of ``_collections``."""
        entry = self._collections[table]
        key, version = entry.key, json.dumps(entry.version)
        return table, _storable(entry.stream), entry.collection.value, key, version

    def _open(self, name: str, stream: Stream) -> Table:
        is_new = name not in self._physical
        if is_new:
            self._physical[name] = {}
        columns: dict[str, Type | None] = {**META} if is_new else self._adopted(name)
        owners = self._owners[name]
        existing: dict[str, Owner | None] = {**dict.fromkeys(columns), **owners}
        # The three columns of every table are nobody's.
        existing |= {column: Owner((column,), "meta") for column in META}
        existing[OVERFLOW] = Owner((OVERFLOW,), "meta")
        if None in existing.values():  # columns that somebody made
            computed = self._warehouse.computed(name)
            existing |= {column: Owner((column,), "computed") for column in computed}
        namer = ColumnNamer(self._warehouse.dialect.max_name_bytes, existing, stream.hoist)
        table = Table(name, stream.collection, columns, namer, is_new=is_new)
        for column, owner in owners.items():
            if column in columns:
                table.columns_of[owner.path].append(column)
        self._tables[name] = table
        return table

    def _enter(self, table: Table, stream: Stream) -> None:
        """Note what the rows are that come now."""
        known = self._collections.get(table.name)
        entry = _Collection(
            stream.name, stream.collection, json.dumps(stream.key), known.version if known else {}
        )
        if entry != known:
            self._store(table.name, entry)
            if known and known.key != entry.key and not table.is_new:
                table.notices.append(
                    f"key_properties were {known.key} and are {entry.key} now: rows that are "
                    "there keep their ids, so that the same object may be there twice"
                )
            if known.collection is not entry.collection if known else not table.is_new:
                self.rows_changed = True
        table.collection = stream.collection
        table.namer.hoist = stream.hoist

    def _adopted(self, name: str) -> dict[str, Type | None]:
        """An existing table's columns; types a little narrower than ours are made ours."""
        columns = self._columns(name)
        missing = {column: type_ for column, type_ in META.items() if column not in columns}
        if missing:
            self._warehouse.add_columns(name, missing)
            columns |= missing
        for column, type_ in META.items():
            old = columns[column]
            if old is not type_ and self._warehouse.change_type(name, column, old, type_):
                columns[column] = type_
        for column, physical in self._physical[name].items():
            wider = self._warehouse.dialect.wider.get(physical)
            if column in _SDC_TIMES and physical.lower() in _TIMES_WITHOUT_ZONE:
                wider = Type.TIMESTAMP
            if (
                wider is not None
                and column not in META
                and self._warehouse.change_type(name, column, None, wider)
            ):
                columns[column] = wider
        return columns

    def _columns(self, name: str) -> dict[str, Type | None]:
        if name in self._tables:
            return self._tables[name].columns
        if name not in self._others:
            self._others[name] = {
                column: self._warehouse.logical(physical)
                for column, physical in self._physical[name].items()
            }
        return self._others[name]

    def _read(self, table: str) -> list[tuple[str, ...]]:
        names = ", ".join(f"coalesce({name}, '{{}}') AS {name}" for name in _TABLES[table])
        return self._warehouse.query(
            f"SELECT {names} FROM {self._warehouse.name(table)}"  # noqa: S608
        )

    def _write(self, table: str, rows: Iterable[tuple[str, ...]]) -> None:
        values = ", ".join(f"({', '.join(map(literal, row))})" for row in rows)
        if values:
            names = ", ".join(_TABLES[table])
            self._warehouse.execute(
                f"INSERT INTO {self._warehouse.name(table)} ({names}) VALUES {values}"  # noqa: S608
            )


def _storable(stream: str) -> str:
    """A stream's name as text that every engine can hold: itself, or else as a JSON string."""
    plain = not (stream.startswith('"') or "\0" in stream or without_surrogates(stream) != stream)
    return stream if plain else json.dumps(stream)


def _plain(stored: str) -> str:
    """The inverse of ``_storable``."""
    return str(json.loads(stored)) if stored.startswith('"') else stored
