"""When a table can have no more columns: further properties share one column of JSON, by name."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from target_segment_warehouse.catalog import OVERFLOW, Table
from target_segment_warehouse.naming import Path
from target_segment_warehouse.profile import Profile, look_up
from target_segment_warehouse.sqltext import literal
from target_segment_warehouse.types import MAX_DEPTH, Type
from target_segment_warehouse.workbench import Workbench

OVERFLOWING = "__overflow"


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
    size = workbench.text_bytes(f"(SELECT record FROM {relation})")  # noqa: S608
    workbench.collect(
        OVERFLOWING,
        (
            f"""SELECT line,
                '{{' || string_agg(to_json(name) || ':' || value, ',' ORDER BY place) || '}}'
                AS members
            FROM (
                SELECT line, unnest({look_up("json_extract", paths, arrays)}) AS value,
                    unnest({look_up("json_type", paths, arrays)}) AS kind,
                    unnest(range(1, {len(paths) + 1})) AS place
                FROM {relation} WHERE {part}
            ) JOIN (VALUES {listed or "(0, '')"}) AS n(place, name) USING (place)
            WHERE kind IS NOT NULL AND ({own})
            GROUP BY line"""  # noqa: S608
            for part in workbench.parts(size, "line", json=True)
        ),
    )
