"""The shape of a stream's records so far, by which the next ones are read straight into columns.

Records that look like those before them need no examination. Arrow's JSON reader takes them apart
and types them in one pass, and refuses whatever it was not told of: another property, a value of
another kind, a number or a timestamp that the column cannot hold, a repeated key, text that is no
JSON. What it refuses is loaded the careful way (``rows``), from which the shape is learned.
"""

from __future__ import annotations

from collections.abc import Container, Iterable, Mapping
from dataclasses import dataclass, field
from enum import Enum

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.json

from target_segment_warehouse.batch import Records
from target_segment_warehouse.catalog import OVERFLOW, Table
from target_segment_warehouse.keys import MAX_ID_BYTES
from target_segment_warehouse.naming import Path
from target_segment_warehouse.normalise import LONG_NUMBER
from target_segment_warehouse.parquet import Columns, are_in_years, take_columns
from target_segment_warehouse.profile import INTEGERS, Profile
from target_segment_warehouse.streams import Collection, Stream
from target_segment_warehouse.types import MAX_DEPTH, Type
from target_segment_warehouse.versions import DELETED_AT

RECEIVED_AT = "received_at"
_STAMPS = {(RECEIVED_AT,), (DELETED_AT,)}
_LIST = pa.list_(pa.string())
_ARROW = {
    Type.TEXT: pa.string(),
    Type.INTEGER: pa.int64(),
    Type.FLOAT: pa.float64(),
    Type.BOOLEAN: pa.bool_(),
    Type.TIMESTAMP: pa.timestamp("us", tz="UTC"),
}
_BLOCK_BYTES = 1 << 20
_MOST_BYTES = 1 << 30
_EXACT = 2**53

Kinds = dict[Path, set[str]]
"""For each property at any depth, the JSON types that its values had (see ``Profile.kinds``)."""


@dataclass(frozen=True, slots=True)
class Leaf:
    """A property with values of its own.

    Attributes:
        path: The property.
        column: Its column in the table; None if it has none.
        type: The column's type; None without a column.
        arrow: What its values are read as.
    """

    path: Path
    column: str | None
    type: Type | None
    arrow: pa.DataType

    def expression(self, name: str) -> str:
        """SQL for the value as its column has it.

        Args:
            name: The column of the records read.
        """
        if self.arrow == _LIST:
            return f"CAST(to_json({name}) AS VARCHAR)"
        if self.type is Type.TEXT and self.arrow != pa.string():
            return f"CAST({name} AS VARCHAR)"
        return name

    def text(self, name: str) -> str:
        """SQL for the value of a key property as text."""
        return name if self.arrow == pa.string() else f"CAST({name} AS VARCHAR)"


Tree = dict[str, "Leaf | Tree"]


class Nulls(Enum):
    """What a missing value means."""

    ABSENT = "the record does not carry the property, or that makes no difference"
    CARRIED = "the record carries it as null, as it carries all that were asked for"
    UNCLEAR = "the record's JSON has to be looked at"


@dataclass(frozen=True, slots=True)
class Read:
    """Records that were read by their shape.

    Attributes:
        columns: ``c<n>``, a column for each leaf.
        asked: Properties that were asked for: no record carries any other.
        nulls: What it means that one has no value.
    """

    columns: pa.Table
    asked: frozenset[Path]
    nulls: Nulls


@dataclass(frozen=True, slots=True)
class Shape:
    """How the records of a stream look.

    Attributes:
        leaves: Properties, in the order of the columns that records are read into.
        tree: The same, nested as in the records.
        required: Places of the key properties: each record has a value.
        short: Places of those that have no column beside the row's ``id``.
        met: Properties that records had; a SCHEMA declares many that never come.
        heeds_null: Whether a property that is null is unlike one that is absent.
    """

    leaves: tuple[Leaf, ...]
    tree: Tree
    required: tuple[int, ...]
    short: tuple[int, ...]
    met: set[Path]
    heeds_null: bool

    def fits(self, table: Table) -> bool:
        """Whether the table has the columns that it had when the shape was made."""
        return all(
            leaf.column is None or table.columns.get(leaf.column) is leaf.type
            for leaf in self.leaves
        )

    def read(self, records: Records | Columns) -> Read | None:
        """Read records into columns.

        Returns:
            None if some record has another shape, or a value that its column cannot hold exactly.
        """
        return self._take(records) if isinstance(records, Columns) else self._parse(records)

    def _parse(self, records: Records) -> Read | None:
        block_size = max(_BLOCK_BYTES, 2 * (records.longest() + 1))
        if block_size > _MOST_BYTES or records.has_nul() or not records.is_utf8():
            return None
        # A column that is asked for costs Arrow as much as one that is there.
        asked = frozenset(self.met)  # another thread may add to them
        flat = self._read_flat(records, block_size, asked)
        if flat is None and len(asked) < len(self.leaves):
            already, asked = asked, frozenset(self._paths())
            flat = self._read_flat(records, block_size, asked)
            if flat is not None:
                self._meet(flat, already)
        if flat is None or len(flat) != len(records):
            return None
        paths = (path for path in self._paths() if path in asked)
        columns = self._complete(dict(zip(paths, flat.columns, strict=True)), len(records))
        read = Read(columns, asked, self._nulls(records, asked))
        return read if self._has_keys(read) and self._is_exact(read, records) else None

    def _take(self, records: Columns) -> Read | None:
        found = take_columns(self.tree, records.table, heeds_null=self.heeds_null)
        if not found:
            return None
        nulls = Nulls.CARRIED if self.heeds_null else Nulls.ABSENT
        read = Read(self._complete(found, len(records)), frozenset(found), nulls)
        return read if self._has_keys(read) else None

    def _nulls(self, records: Records, asked: frozenset[Path]) -> Nulls:
        if not self.heeds_null or not records.has_null():
            return Nulls.ABSENT
        # Arrow took no key that was not asked for, and none twice in an object.
        most = len(records) * _count(_fields(self.tree, asked))
        return Nulls.CARRIED if records.keys() == most else Nulls.UNCLEAR

    def _paths(self) -> dict[Path, None]:
        return dict.fromkeys(leaf.path for leaf in self.leaves)

    def _read_flat(
        self, records: Records, block_size: int, wanted: Container[Path]
    ) -> pa.Table | None:
        """The columns of the leaves that are wanted, named by their path."""
        try:
            read = pa.json.read_json(
                pa.BufferReader(records.text),
                pa.json.ReadOptions(block_size=block_size, use_threads=False),
                pa.json.ParseOptions(
                    explicit_schema=pa.schema(_fields(self.tree, wanted)),
                    unexpected_field_behavior="error",
                ),
            )
        except pa.ArrowException:
            return None
        while any(pa.types.is_struct(field.type) for field in read.schema):
            read = read.flatten()
        return read

    def _meet(self, flat: pa.Table, already: Container[Path]) -> None:
        """Note which leaves have values, of the columns of all of them.

        Args:
            flat: The columns.
            already: The leaves with which alone the records could not be read.
        """
        pairs = zip(self._paths(), flat.columns, strict=True)
        having = {path for path, column in pairs if column.null_count < len(column)}
        # Else what is new is null everywhere: any of the others.
        is_told = any(path not in already for path in having)
        self.met.update(having if is_told else self._paths())

    def _complete(self, found: Mapping[Path, pa.ChunkedArray], rows: int) -> pa.Table:
        """A column for each leaf, of the columns of those that were found."""
        columns = [found.get(path) for path in self._paths()]
        # Of a property without a value nothing is kept: its column would take memory.
        kept = [
            pa.nulls(rows) if column is None or column.null_count == rows else column
            for column in columns
        ]
        return pa.table(kept, names=[f"c{place}" for place in range(len(kept))])

    def _has_keys(self, read: Read) -> bool:
        """Whether each record has a key, and one for which the row's ``id`` is enough."""
        if any(read.columns.column(place).null_count for place in self.required):
            return False
        keys = [read.columns.column(place) for place in self.short]
        texts = [key for key in keys if key.type == pa.string()]
        longest = [pc.max(pc.binary_length(text)).as_py() or 0 for text in texts]
        return max(longest, default=0) <= MAX_ID_BYTES

    def _is_exact(self, read: Read, records: Records) -> bool:
        """Whether every number and every time is the one that the JSON has, if that is one."""
        stamps = (column for column in read.columns.columns if pa.types.is_timestamp(column.type))
        if not all(map(are_in_years, stamps)):
            return False
        floats = [column for column in read.columns.columns if pa.types.is_floating(column.type)]
        floats = [column for column in floats if column.null_count < len(column)]
        if not floats:
            return True
        # From there on it may have been an integer that no float is equal to; NaN is not less.
        limit = pa.scalar(float(_EXACT))
        if not all(pc.all(pc.less(pc.abs(column), limit)).as_py() for column in floats):
            return False
        return not pc.any(pc.match_substring_regex(records.texts(), LONG_NUMBER)).as_py()


@dataclass(slots=True)
class Seen:
    """What is known of a stream's records from those before.

    Attributes:
        stream: The stream as its SCHEMA was then.
        kinds: The JSON types of their values.
        shape: How they can be read; None if only the careful way will do.
        is_new: Whether no record was loaded the careful way since the SCHEMA came.
    """

    stream: Stream
    kinds: Kinds = field(default_factory=dict)
    shape: Shape | None = None
    is_new: bool = True

    def add(self, found: Profile) -> None:
        """Remember what was found."""
        for path, kinds in found.kinds.items():
            self.kinds.setdefault(path, set()).update(kinds)

    def objects(self) -> list[Path]:
        """Properties whose content became properties of their own."""
        return [path for path, kinds in self.kinds.items() if "OBJECT" in kinds]


def shape_of(stream: Stream, table: Table, kinds: Kinds, ignored: Iterable[str]) -> Shape | None:
    """The shape that records have if they are like those before them.

    Args:
        stream: Whose records.
        table: Their table as it is now.
        kinds: What was seen of the stream's records in this run.
        ignored: Properties that are loaded from elsewhere.

    Returns:
        None if a record's place in the columns takes more than its JSON types to tell.
    """
    keys = [(key,) for key in stream.key]
    paths = {*kinds, *keys, (RECEIVED_AT,)}
    if not kinds or stream.collection is Collection.EVENT:
        # Of an object, null is not like nothing: a property that was not there yet is looked at.
        paths |= {*stream.columns, *table.columns_of}
    if DELETED_AT in table.columns:
        paths.add((DELETED_AT,))
    objects = {path[:length] for path in paths for length in range(1, len(path))}
    objects |= {path for path, seen in kinds.items() if "OBJECT" in seen and len(path) < MAX_DEPTH}
    if OVERFLOW in table.columns or any(
        path in table.columns_of or kinds.get(path, set()) - {"OBJECT", "NULL"} for path in objects
    ):
        return None
    names = table.namer.columns({*paths, *stream.columns} - objects)
    declared = stream.columns.keys() - objects - _STAMPS - set(keys)
    if any(names[path] not in table.columns for path in declared):
        return None  # The careful way makes the columns that a SCHEMA declares.
    tree: Tree = {}
    for path in sorted(paths):
        branch = tree
        for key in path[:-1]:
            branch = branch.setdefault(key, {})  # type: ignore[assignment]
        if path in objects:
            branch.setdefault(path[-1], {})
        else:
            leaf = _leaf(
                path,
                names[path],
                table,
                kinds.get(path, set()) - {"NULL"},
                is_key=path in keys,
                is_ignored=path[0] in ignored,
            )
            if leaf is None:
                return None
            branch[path[-1]] = leaf
    leaves = tuple(_depth_first(tree))
    places = {leaf.path: place for place, leaf in enumerate(leaves)}
    if any(key not in places for key in keys):
        return None
    required = tuple(places[key] for key in keys)
    short = tuple(place for place in required if leaves[place].column is None)
    met = {leaf.path for leaf in leaves if kinds.get(leaf.path)} | set(keys)
    heeds_null = stream.collection is Collection.OBJECT
    return Shape(leaves, tree, required, short, met, heeds_null)


def _leaf(
    path: Path,
    name: str,
    table: Table,
    seen: set[str],
    *,
    is_key: bool,
    is_ignored: bool,
) -> Leaf | None:
    """How a property is read; None if that cannot be told beforehand."""
    if len(table.columns_of.get(path, ())) > 1:
        return None
    if name not in table.columns:
        if path in _STAMPS:
            return Leaf(path, None, None, _ARROW[Type.TIMESTAMP])
        if is_key:
            return Leaf(path, None, None, _ARROW[Type.TEXT]) if seen <= {"VARCHAR"} else None
        return None if seen else Leaf(path, None, None, pa.null())
    type_ = table.columns[name]
    if type_ is None or (path in _STAMPS and type_ is not Type.TIMESTAMP):
        return None
    arrow = _arrow(type_, seen)
    if arrow is None or (is_key and arrow not in {_ARROW[Type.TEXT], _ARROW[Type.INTEGER]}):
        return None
    return Leaf(path, None if is_ignored else name, None if is_ignored else type_, arrow)


def _arrow(type_: Type, seen: set[str]) -> pa.DataType | None:
    """What to read a column's values as, given the JSON types that they had."""
    if type_ is not Type.TEXT or seen <= {"VARCHAR"}:
        return _ARROW[type_]
    if seen == {"ARRAY"}:
        return _LIST
    if seen == {"BOOLEAN"}:
        return _ARROW[Type.BOOLEAN]
    return _ARROW[Type.INTEGER] if seen <= INTEGERS else None


def _depth_first(tree: Tree) -> Iterable[Leaf]:
    for item in tree.values():
        if isinstance(item, Leaf):
            yield item
        else:
            yield from _depth_first(item)


def _fields(tree: Tree, wanted: Container[Path]) -> list[pa.Field]:
    """Leaves as nested Arrow types.

    Args:
        tree: All leaves.
        wanted: Those that are wanted.
    """
    fields = []
    for key, item in tree.items():
        if not isinstance(item, Leaf):
            inner = _fields(item, wanted)
            if inner or not item:
                fields.append(pa.field(key, pa.struct(inner)))
        elif item.path in wanted:
            fields.append(pa.field(key, item.arrow))
    return fields


def _count(fields: Iterable[pa.Field]) -> int:
    """How many fields there are at any depth."""
    return sum(
        1 + (_count(field.type) if pa.types.is_struct(field.type) else 0) for field in fields
    )
