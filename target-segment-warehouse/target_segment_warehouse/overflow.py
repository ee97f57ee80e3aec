"""When a table can have no more columns: further properties share one column of JSON, by name."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from target_segment_warehouse.catalog import OVERFLOW, Table
from target_segment_warehouse.cells import pack
from target_segment_warehouse.naming import Path
from target_segment_warehouse.profile import Profile, look_up
from target_segment_warehouse.sqltext import literal, quote
from target_segment_warehouse.types import MAX_DEPTH, Type
from target_segment_warehouse.workbench import Workbench

OVERFLOWING = "__overflow"

# What a value takes of the page that its row is on, at most: of a text too long for it there is a
# pointer, and what is not text may have to be aligned.
_TEXT_BYTES = 24
_OTHER_BYTES = 15


def make_room(
    table: Table,
    names: Mapping[Path, str],
    found: Profile,
    declared: Mapping[Path, Type | None],
    max_columns: int,
) -> tuple[list[Path], list[Path]]:
    """Tell properties that have, or can be given, a column from those that cannot.

    Args:
        table: The table as it is.
        names: The column that each property has or would have.
        found: The profile of the records.
        declared: Properties that the SCHEMA declares: they go first.
        max_columns: The most columns that the table may have.

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
    if len(wanting) <= room:
        return having + wanting, []
    room = max(room - (OVERFLOW not in table.columns), 0)
    order = {path: place for place, path in enumerate(declared)}
    wanting.sort(key=lambda path: (path not in order, len(path), order.get(path, 0), names[path]))
    return having + wanting[:room], wanting[room:]


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
    paths, arrays = [path for path, _ in present], found.arrays()
    listed = ", ".join(f"({place}, {literal(name)})" for place, (_, name) in enumerate(present, 1))
    # Content of an object that has columns, or members here, of its own is not a value.
    deep = [str(place) for place, path in enumerate(paths, 1) if len(path) >= MAX_DEPTH]
    own = f"kind <> 'OBJECT' OR place IN ({', '.join(deep)})" if deep else "kind <> 'OBJECT'"
    workbench.execute(
        f"""CREATE OR REPLACE TEMP TABLE {OVERFLOWING} AS
        SELECT line, '{{' || string_agg(to_json(name) || ':' || value, ',' ORDER BY place) || '}}'
            AS members
        FROM (
            SELECT line, unnest({look_up("json_extract", paths, arrays)}) AS value,
                unnest({look_up("json_type", paths, arrays)}) AS kind,
                unnest(range(1, {len(paths) + 1})) AS place
            FROM {relation}
        ) JOIN (VALUES {listed or "(0, '')"}) AS n(place, name) USING (place)
        WHERE kind IS NOT NULL AND ({own})
        GROUP BY line"""  # noqa: S608
    )


def narrow(
    workbench: Workbench, rows: str, narrowed: str, columns: Mapping[str, Type], row_bytes: int
) -> bool:
    """Make rows fit that have values in more columns than one row has room for.

    In such a row, what is beyond the first columns goes to the JSON column; other rows are left as
    they are.

    Args:
        workbench: Has the rows.
        rows: A relation with these columns.
        narrowed: The table to make of them, which has the JSON column.
        columns: In the order in which they keep their place.
        row_bytes: What a row can have in one place.

    Returns:
        Whether there were such rows; if not, no table is made.
    """
    most = {name: _TEXT_BYTES if t is Type.TEXT else _OTHER_BYTES for name, t in columns.items()}
    if sum(most.values()) <= row_bytes:
        return False
    sizes = [
        f"coalesce(least(strlen({quote(name)}) + 1, {_TEXT_BYTES}), 0)"
        if columns[name] is Type.TEXT
        else f"CASE WHEN {quote(name)} IS NULL THEN 0 ELSE {_OTHER_BYTES} END"
        for name in columns
    ]
    too_wide = f"list_sum([{', '.join(sizes)}]) > {row_bytes}"
    if not workbench.value(f"SELECT count(*) FROM {rows} WHERE {too_wide}"):  # noqa: S608
        return False
    tail, used = [], _TEXT_BYTES
    for name, size in most.items():
        used += size
        if used > row_bytes and name != OVERFLOW:
            tail.append(name)
    own = OVERFLOW if OVERFLOW in columns else None
    kept = ", ".join(map(quote, [*tail, OVERFLOW] if own else tail))
    cut = [f"CASE WHEN __wide THEN NULL ELSE {quote(name)} END AS {quote(name)}" for name in tail]
    workbench.execute(
        f"""CREATE OR REPLACE TEMP TABLE {narrowed} AS
        SELECT * EXCLUDE (__wide, {kept}), {", ".join(cut)},
            CASE WHEN __wide THEN {pack(tail, own)} ELSE {own or "NULL"} END AS {OVERFLOW}
        FROM (SELECT *, {too_wide} AS __wide FROM {rows})"""  # noqa: S608
    )
    return True
