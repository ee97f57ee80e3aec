"""Looks at a batch of raw JSON records: which properties there are, and what kinds of values.

All in DuckDB, one pass per level of nesting and question; no record becomes a Python object.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence, Set
from dataclasses import dataclass
from itertools import chain

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

    def may_have_fractions(self) -> bool:
        """Whether some value is a float, or may have one in it, as an array that becomes text."""
        return any(
            kinds["DOUBLE"] or kinds["ARRAY"] or (kinds["OBJECT"] and len(path) >= MAX_DEPTH)
            for path, kinds in self.kinds.items()
        )

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

    def arrays(self) -> set[Path]:
        """Properties that are arrays in some record."""
        return {path for path, kinds in self.kinds.items() if kinds["ARRAY"]}


def profile(
    workbench: Workbench, relation: str, rows: int, expected: Iterable[Path] = ()
) -> Profile:
    """Look at the JSON texts in column ``record`` of a relation.

    Args:
        workbench: Has the relation.
        relation: Its name.
        rows: How many there are.
        expected: Properties that are likely to be objects: looked into at once, which saves a pass
            for each level of nesting. That they are not there, or are not objects, does no harm.
    """
    found = _look(workbench, relation, rows, expected, set())
    arrays = found.arrays()
    if any(_holders(path, arrays) for path in found.kinds):
        found = _look(workbench, relation, rows, expected, arrays)
    return found


def _look(
    workbench: Workbench, relation: str, rows: int, expected: Iterable[Path], arrays: Set[Path]
) -> Profile:
    """Look at records of which it is known already what may be an array."""
    found: dict[Path, Counter[str]] = {}
    repeated = False
    objects = list(dict.fromkeys([(), *expected])) if rows else []
    done: set[Path] = set()
    while objects:
        keys = _keys(workbench, relation, objects, arrays)
        if keys is None:
            return Profile(rows, {}, repeated_keys=False, are_objects=False)
        paths = sorted({(*parent, key) for parent, listed in keys for key in listed})
        repeated = repeated or any(len(set(listed)) < len(listed) for _, listed in keys)
        kinds = _kinds(workbench, relation, paths, arrays)
        found |= kinds
        done.update(objects)
        objects = [
            path
            for path in paths
            if kinds[path]["OBJECT"] > 0 and len(path) < MAX_DEPTH and path not in done
        ]
    return Profile(rows, dict(sorted(found.items())), repeated)


def _keys(
    workbench: Workbench, relation: str, objects: Sequence[Path], arrays: Set[Path]
) -> list[tuple[Path, list[str]]] | None:
    """The lists of keys that these objects have in some record; None if a record is no object.

    Records of a stream have few different lists, so this is little however many there are.
    """
    lists = workbench.query(
        f"SELECT DISTINCT {look_up('json_keys', objects, arrays)} FROM {relation}"  # noqa: S608
    )
    found = [
        (path, keys) for (listed,) in lists for path, keys in zip(objects, listed, strict=True)
    ]
    if any(keys is None for path, keys in found if path == ()):
        return None
    return [(path, keys) for path, keys in found if keys is not None]


def _kinds(
    workbench: Workbench, relation: str, paths: Sequence[Path], arrays: Set[Path]
) -> dict[Path, Counter[str]]:
    """How often each property has which type of value."""
    counts: dict[Path, Counter[str]] = {path: Counter() for path in paths}
    if paths:
        for place, kind, count in workbench.query(
            f"""SELECT place, kind, count(*) FROM (
                SELECT unnest(kinds) AS kind, generate_subscripts(kinds, 1) AS place
                FROM (SELECT {look_up("json_type", paths, arrays)} AS kinds FROM {relation})
            ) WHERE kind IS NOT NULL GROUP BY ALL"""  # noqa: S608
        ):
            counts[paths[place - 1]][kind] = count
    return counts


def look_up(function: str, paths: Sequence[Path], arrays: Set[Path]) -> str:
    """SQL for what a JSON function finds in ``record`` at each path, as a list.

    A number in a JSON pointer also names an element of an array. That is no property: nothing is
    found there.

    Args:
        function: Takes JSON and a list of pointers.
        paths: Properties.
        arrays: Properties that are arrays in some record.
    """
    found = f"{function}(record, {pointers(paths)})"
    holders = [_holders(path, arrays) for path in paths]
    places = {path: place for place, path in enumerate(dict.fromkeys(chain(*holders)), 1)}
    if not places:
        return found
    values = [
        f"CASE WHEN 'ARRAY' IN ({', '.join(f'__r.kinds[{places[path]}]' for path in held)}) "
        f"THEN NULL ELSE __r.found[{place}] END"
        if held
        else f"__r.found[{place}]"
        for place, held in enumerate(holders, 1)
    ]
    # A list of one, so that each record is taken apart once and not for each value.
    kinds = f"json_type(record, {pointers(places)})"
    one = f"[{{'found': {found}, 'kinds': {kinds}}}]"
    checked = f"list_transform({one}, lambda __r: [{', '.join(values)}])[1]"
    # Few records have one: a language without types writes an empty object as an array.
    return f"CASE WHEN list_contains({kinds}, 'ARRAY') THEN {checked} ELSE {found} END"


def _holders(path: Path, arrays: Set[Path]) -> list[Path]:
    """Which arrays have an element, or something in one, that the path's pointer names too."""
    return [
        path[:length]
        for length in range(1, len(path))
        if path[length].isdigit() and path[:length] in arrays
    ]
