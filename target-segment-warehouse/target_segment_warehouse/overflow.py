"""When a table can have no more columns: further properties share one column of JSON, by name."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from target_segment_warehouse.catalog import OVERFLOW, Table
from target_segment_warehouse.naming import Path
from target_segment_warehouse.profile import INTEGERS, Profile
from target_segment_warehouse.sqltext import literal, pointers
from target_segment_warehouse.types import MAX_DEPTH, Type
from target_segment_warehouse.workbench import Workbench

OVERFLOWING = "__overflow"

_TEXT_BYTES = 18
_OTHER_BYTES = 8


def make_room(
    table: Table,
    names: Mapping[Path, str],
    found: Profile,
    declared: Mapping[Path, Type | None],
    max_columns: int,
    row_bytes: int | None,
) -> tuple[list[Path], list[Path]]:
    """Tell properties that have, or can be given, a column from those that cannot.

    Args:
        table: The table as it is.
        names: The column that each property has or would have.
        found: The profile of the records.
        declared: Properties that the SCHEMA declares: they go first.
        max_columns: The most columns that the table may have.
        row_bytes: How much of a row has to be stored in one place: 18 bytes for a text, wherever
            its content is, 8 for anything else; None if that does not matter.

    Returns:
        Properties with a column, and properties without. Those that neither are declared nor have
        a value are in neither.
    """
    having = [path for path, name in names.items() if name in table.columns]
    wanting = [
        path
        for path, name in names.items()
        if name not in table.columns and (path in declared or found.value_kinds(path))
    ]
    room = max_columns - len(table.columns)
    bytes_left = float("inf")
    if row_bytes is not None:
        bytes_left = row_bytes - sum(
            _TEXT_BYTES if type_ is Type.TEXT else _OTHER_BYTES for type_ in table.columns.values()
        )

    def size(path: Path) -> int:
        numbers = bool(found.value_kinds(path)) and found.value_kinds(path) <= _NUMBERS
        return _OTHER_BYTES if numbers else _TEXT_BYTES

    if len(wanting) <= room and sum(map(size, wanting)) <= bytes_left:
        return having + wanting, []
    if OVERFLOW not in table.columns:
        room -= 1
        bytes_left -= _TEXT_BYTES
    order = {path: place for place, path in enumerate(declared)}
    wanting.sort(key=lambda path: (order.get(path, len(order)), len(path), names[path]))
    given, left = [], []
    for path in wanting:
        if len(given) < room and size(path) <= bytes_left:
            given.append(path)
            bytes_left -= size(path)
        else:
            left.append(path)
    return having + given, left


_NUMBERS = {*INTEGERS, "DOUBLE", "BOOLEAN"}


def gather(
    workbench: Workbench, relation: str, found: Profile, names: Sequence[tuple[Path, str]]
) -> None:
    """Make ``__overflow`` (``line``, ``members``): a JSON object per record that has any of these.

    Args:
        workbench: Has the relation.
        relation: Columns ``line`` and ``record``.
        found: Its profile.
        names: Properties, with what to call them.
    """
    present = [(path, name) for path, name in names if path in found.kinds]
    paths = [path for path, _ in present]
    listed = ", ".join(f"({place}, {literal(name)})" for place, (_, name) in enumerate(present, 1))
    # Content of an object that has columns, or members here, of its own is not a value.
    deep = [str(place) for place, path in enumerate(paths, 1) if len(path) >= MAX_DEPTH]
    own = f"kind <> 'OBJECT' OR place IN ({', '.join(deep)})" if deep else "kind <> 'OBJECT'"
    workbench.execute(
        f"""CREATE OR REPLACE TEMP TABLE {OVERFLOWING} AS
        SELECT line, '{{' || string_agg(to_json(name) || ':' || value, ',' ORDER BY place) || '}}'
            AS members
        FROM (
            SELECT line, unnest(json_extract(record, {pointers(paths)})) AS value,
                unnest(json_type(record, {pointers(paths)})) AS kind,
                unnest(range(1, {len(paths) + 1})) AS place
            FROM {relation}
        ) JOIN (VALUES {listed or "(0, '')"}) AS n(place, name) USING (place)
        WHERE kind IS NOT NULL AND ({own})
        GROUP BY line"""  # noqa: S608
    )
