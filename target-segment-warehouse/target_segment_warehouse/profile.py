"""Looks at a batch of raw JSON records: which properties there are, and what kinds of values.

All in DuckDB, one pass per level of nesting and question; no record becomes a Python object.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from target_segment_warehouse.naming import Path
from target_segment_warehouse.sqltext import pointers
from target_segment_warehouse.types import MAX_DEPTH
from target_segment_warehouse.workbench import Workbench

INTEGERS = frozenset({"BIGINT", "UBIGINT"})


@dataclass(frozen=True, slots=True)
class Profile:
    """The shape of a batch.

    Attributes:
        rows: Number of records.
        kinds: For every property at any depth, how often its value was of which JSON type, in
            DuckDB's words: NULL BOOLEAN BIGINT UBIGINT DOUBLE VARCHAR ARRAY OBJECT. Absent values
            are not counted.
        repeated_keys: Whether some object has a key twice.
        are_objects: Whether every record is an object.
    """

    rows: int
    kinds: Mapping[Path, Counter[str]]
    repeated_keys: bool
    are_objects: bool = True

    def is_object_somewhere(self, path: Path) -> bool:
        """Whether the property's content, in some record, became properties of their own."""
        return len(path) < MAX_DEPTH and self.kinds[path]["OBJECT"] > 0

    def objects(self) -> list[Path]:
        """Properties whose content became properties of their own."""
        return [path for path in self.kinds if self.is_object_somewhere(path)]

    def leaves(self) -> list[Path]:
        """Properties with values of their own, or none at all but nulls."""
        return [
            path
            for path, kinds in self.kinds.items()
            if not (self.is_object_somewhere(path) and set(kinds) <= {"OBJECT", "NULL"})
        ]

    def value_kinds(self, path: Path) -> set[str]:
        """Kinds of the property's own values: not null, not content that has its own columns."""
        without = {"NULL", "OBJECT"} if len(path) < MAX_DEPTH else {"NULL"}
        return set(self.kinds.get(path, ())) - without


def profile(workbench: Workbench, relation: str, expected: Iterable[Path] = ()) -> Profile:
    """Look at the JSON texts in column ``record`` of a relation.

    Args:
        workbench: Has the relation.
        relation: Its name.
        expected: Properties that are likely to be objects: looked into at once, which saves a pass
            for each level of nesting. That they are not there, or are not objects, does no harm.

    Raises:
        duckdb.InvalidInputException: If a text is not JSON as DuckDB reads it.
    """
    rows = workbench.value(f"SELECT count(*) FROM {relation}")  # noqa: S608
    found: dict[Path, Counter[str]] = {}
    repeated = False
    objects = list(dict.fromkeys([(), *expected])) if rows else []
    done: set[Path] = set()
    while objects:
        keys, repeats = _keys(workbench, relation, objects)
        repeated |= repeats
        if () in objects and workbench.value(
            "SELECT count(*) > 0 FROM __keys WHERE keys IS NULL AND place = 1"
        ):
            return Profile(rows, {}, repeated_keys=False, are_objects=False)
        paths = [(*parent, key) for parent, key in keys]
        kinds = _kinds(workbench, relation, paths)
        found |= kinds
        done.update(objects)
        objects = [
            path
            for path in paths
            if kinds[path]["OBJECT"] > 0 and len(path) < MAX_DEPTH and path not in done
        ]
    return Profile(rows, dict(sorted(found.items())), repeated)


def _keys(
    workbench: Workbench, relation: str, objects: Sequence[Path]
) -> tuple[list[tuple[Path, str]], bool]:
    """The keys of these objects over all records, and whether one has a key twice."""
    workbench.execute(
        f"""CREATE OR REPLACE TEMP TABLE __keys AS
        SELECT DISTINCT unnest(keys) AS keys, generate_subscripts(keys, 1) AS place
        FROM (SELECT DISTINCT json_keys(record, {pointers(objects)}) AS keys FROM {relation})"""  # noqa: S608
    )
    found = workbench.query("SELECT DISTINCT place, unnest(keys) AS key FROM __keys ORDER BY ALL")
    repeated = workbench.value(
        "SELECT count(*) > 0 FROM __keys WHERE len(list_distinct(keys)) < len(keys)"
    )
    return [(objects[place - 1], key) for place, key in found], repeated


def _kinds(workbench: Workbench, relation: str, paths: Sequence[Path]) -> dict[Path, Counter[str]]:
    """How often each property has which type of value."""
    counts: dict[Path, Counter[str]] = {path: Counter() for path in paths}
    if paths:
        for place, kind, count in workbench.query(
            f"""SELECT place, kind, count(*) FROM (
                SELECT unnest(kinds) AS kind, generate_subscripts(kinds, 1) AS place
                FROM (SELECT json_type(record, {pointers(paths)}) AS kinds FROM {relation})
            ) WHERE kind IS NOT NULL GROUP BY ALL"""  # noqa: S608
        ):
            counts[paths[place - 1]][kind] = count
    return counts
