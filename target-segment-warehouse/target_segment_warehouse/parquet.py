"""Records of Parquet files: columns already, JSON only where somebody asks for that."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import IO, TYPE_CHECKING

import duckdb
import pyarrow as pa
import pyarrow.compute as pc

from target_segment_warehouse.batch import Records
from target_segment_warehouse.naming import Path

if TYPE_CHECKING:
    from target_segment_warehouse.shape import Tree

_ROWS = 5_000
"""How many rows are read at a time."""

_UNNAMED = "unnamed-9e107d9d372bb682"
"""Stands for an empty name, which to DuckDB makes of an object's fields a list without names."""

_YEAR_1 = -62_135_596_800_000_000
"""Its first microsecond: of times before it no JSON of DuckDB's says the year."""

_YEARS = (-62_167_219_200_000_000, 253_402_300_799_999_999)
"""The first and the last microsecond of the years 0 to 9999, which are all that ISO 8601 has."""


class Columns:
    """Records of one stream, as columns.

    Args:
        table: A column for each property.
        first_line: What counts as the number of the first record's line.
    """

    def __init__(self, table: pa.Table, first_line: int) -> None:
        self.table = table
        self._first_line = first_line

    def __len__(self) -> int:
        return int(self.table.num_rows)

    @property
    def size(self) -> int:
        """Bytes in memory."""
        return int(self.table.nbytes)

    def plus(self, table: pa.Table) -> Columns:
        """These records and then those of another table with the same columns."""
        return Columns(pa.concat_tables([self.table, table]), self._first_line)

    def split(self, count: int) -> tuple[Columns, Columns]:
        """The first of the records, and the others."""
        first = Columns(self.table.slice(0, count), self._first_line)
        return first, Columns(self.table.slice(count), self._first_line + count)

    def line_numbers(self) -> pa.Array:
        """Where the records came, as an Arrow column."""
        ones = pa.repeat(pa.scalar(1, pa.int64()), len(self))
        return pc.cumulative_sum(ones, start=self._first_line - 1)

    def extracted(self) -> pa.Array:
        """When the tap got them: not known, as an Arrow column of text."""
        return pa.nulls(len(self), pa.string())

    def as_json(self) -> Records:
        """The same records as lines of JSON; a column without a value is a null in them."""
        records = Records(is_checked=False)
        line = self._first_line
        # To DuckDB names that differ in case alone are one, and none may be empty.
        names = [f"c{place}" for place in range(self.table.num_columns)]
        table = pa.table([_with_names(column) for column in self.table.columns], names=names)
        members = ", ".join(f"?, {column}" for column in table.column_names)
        query = f"SELECT CAST(json_object({members}) AS VARCHAR) FROM __rows"  # noqa: S608
        names = _each_once(self.table.column_names)
        with duckdb.connect(config={"threads": 1}) as connection:
            connection.execute("SET TimeZone = 'UTC'")
            for rows in table.to_batches(_ROWS):
                connection.register("__rows", pa.Table.from_batches([rows]))
                found = connection.execute(query, names)
                texts = [
                    text.replace(f'"{_UNNAMED}":', '"":').encode() for (text,) in found.fetchall()
                ]
                records.append(texts, range(line, line + len(texts)))
                line += len(texts)
        return records


def _with_names(column: pa.ChunkedArray) -> pa.ChunkedArray:
    """The same values, uncopied, without an empty name at any depth."""
    type_ = _with_names_in(column.type)
    if type_ == column.type:
        return column
    return pa.chunked_array([chunk.view(type_) for chunk in column.chunks], type_)


def _with_names_in(type_: pa.DataType) -> pa.DataType:
    return _retyped(type_, lambda inner: inner, lambda name: name or _UNNAMED)


def _retyped(
    type_: pa.DataType,
    leaf: Callable[[pa.DataType], pa.DataType],
    name: Callable[[str], str] = str,
) -> pa.DataType:
    """A type with others in it, or in place of it.

    Args:
        type_: The type.
        leaf: What to make of each that has none in it.
        name: What to call a member of an object.
    """

    def within(field: pa.Field) -> pa.Field:
        return field.with_type(_retyped(field.type, leaf, name))

    if pa.types.is_struct(type_):
        return pa.struct([within(field).with_name(name(field.name)) for field in type_])
    if pa.types.is_map(type_):
        return pa.map_(within(type_.key_field), within(type_.item_field))
    if pa.types.is_list(type_):
        return pa.list_(within(type_.value_field))
    if pa.types.is_large_list(type_):
        return pa.large_list(within(type_.value_field))
    if pa.types.is_fixed_size_list(type_):
        return pa.list_(within(type_.value_field), type_.list_size)
    return leaf(type_)


def _each_once(names: Iterable[str]) -> list[str]:
    """Names as they are, but those that were there before: members of one name would be one."""
    found: dict[str, None] = {}
    for name in names:
        while name in found:
            name += "_1"
        found[name] = None
    return list(found)


def read_tables(file: IO[bytes]) -> Iterator[pa.Table]:
    """A Parquet file's rows, some at a time.

    Raises:
        pyarrow.ArrowException: If it is none.
    """
    import pyarrow.parquet as pq

    for rows in pq.ParquetFile(file).iter_batches(_ROWS):
        table = pa.Table.from_batches([rows])
        yield pa.table([_known(column) for column in table.columns], names=table.column_names)


def _known(column: pa.ChunkedArray) -> pa.ChunkedArray:
    """The same values, as types that DuckDB has."""
    shorter = _retyped(column.type, lambda type_: _known_type(type_, 38))
    if shorter == column.type:
        return column
    try:
        return column.cast(shorter)
    except pa.ArrowInvalid:  # decimals with more digits
        return column.cast(_retyped(column.type, lambda type_: _known_type(type_, 0)))


def _known_type(type_: pa.DataType, digits: int) -> pa.DataType:
    if pa.types.is_float16(type_):
        return pa.float32()
    if pa.types.is_decimal256(type_):
        return pa.decimal128(digits, type_.scale) if type_.scale < digits else pa.string()
    return type_


def take_columns(
    tree: Tree, table: pa.Table, *, heeds_null: bool
) -> dict[Path, pa.ChunkedArray] | None:
    """A table's columns, at any depth, as the leaves of a shape want them.

    Args:
        tree: The leaves.
        table: The table.
        heeds_null: Whether a property that is null is unlike one that is absent. If not, a column
            without a value is as good as none: files declare what others of their rows have.

    Returns:
        For each leaf that is there its column; None if another column is there, or one that is not
        what its JSON would be read as.
    """
    columns = dict(zip(table.column_names, table.columns, strict=True))
    if len(columns) < table.num_columns:  # one name twice
        return None
    try:
        return dict(_take(tree, (), columns, heeds_null=heeds_null))
    except (_Unlike, pa.ArrowException):
        return None


class _Unlike(Exception):
    """A column is not as the shape says."""


def _take(
    tree: Tree, path: Path, columns: Mapping[str, pa.ChunkedArray], *, heeds_null: bool
) -> Iterator[tuple[Path, pa.ChunkedArray]]:
    for name, column in columns.items():
        item, type_ = tree.get(name), column.type
        if not heeds_null and column.null_count == len(column):
            continue
        if item is None:
            raise _Unlike
        if not isinstance(item, dict):
            yield (*path, name), _convert(column, item.arrow)
        elif pa.types.is_struct(type_):
            names = [field.name for field in type_]
            children = dict(zip(names, column.flatten(), strict=True))
            if len(children) < len(names):
                raise _Unlike
            yield from _take(item, (*path, name), children, heeds_null=heeds_null)
        else:
            raise _Unlike


def _convert(column: pa.ChunkedArray, wanted: pa.DataType) -> pa.ChunkedArray:
    """A column as a leaf's type, where that is the same value for value.

    Raises:
        _Unlike: If it is not.
        pyarrow.ArrowException: If it is for some values only.
    """
    if column.null_count == len(column):
        return pa.chunked_array([pa.nulls(len(column))])
    given = column.type
    if pa.types.is_large_string(given) or pa.types.is_dictionary(given):
        column, given = column.cast(pa.string()), pa.string()
    if pa.types.is_string(given):
        _require_text(column)
    like = (
        given.equals(wanted)
        or (pa.types.is_integer(given) and wanted in {pa.int64(), pa.float64()})
        or (pa.types.is_string(given) and pa.types.is_timestamp(wanted))
        # Finer ones would lose their end.
        or (pa.types.is_timestamp(given) and pa.types.is_timestamp(wanted) and given.unit != "ns")
    )
    if not like:
        raise _Unlike
    converted = pc.cast(column, wanted)
    if pa.types.is_timestamp(wanted):
        least = _YEAR_1 if pa.types.is_timestamp(given) else _YEARS[0]
        if not are_in_years(converted, least):
            raise _Unlike
    return converted


def are_in_years(stamps: pa.ChunkedArray, least: int = _YEARS[0]) -> bool:
    """Whether all times, in microseconds, are of the years that text of them can have.

    Args:
        stamps: The times; an offset takes some out of the year of their text.
        least: The first microsecond that may be.
    """
    range_ = pc.min_max(stamps.cast(pa.int64())).as_py()
    return range_["min"] is None or (least <= range_["min"] and range_["max"] <= _YEARS[1])


def _require_text(column: pa.ChunkedArray) -> None:
    """Raise unless it is UTF-8 without NUL characters, which not every warehouse can hold."""
    for chunk in column.chunks:
        chunk.validate(full=True)
        data = chunk.buffers()[2]
        if data is not None and b"\0" in memoryview(data).tobytes():
            raise _Unlike
