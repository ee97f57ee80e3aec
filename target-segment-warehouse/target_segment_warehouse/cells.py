"""Takes a batch of raw JSON records apart into columns of text, one pass over the JSON.

``__cells`` has one row per record and, for each property asked for, ``c<n>``: a string as it is, a
number, boolean, array (or object too deep to flatten) as its JSON text, NULL for null and absent.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from target_segment_warehouse.naming import Path
from target_segment_warehouse.profile import INTEGERS, Profile, look_up
from target_segment_warehouse.sqltext import literal, quote
from target_segment_warehouse.types import MAX_DEPTH, Type
from target_segment_warehouse.workbench import PHYSICAL, Workbench

CELLS = "__cells"

# Hours and minutes that there are: DuckDB takes others too.
_OFFSET = r"[+-]([01]\d|2[0-3])(:?[0-5]\d)?"
_LAX_STAMP = rf"\d{{4}}-\d\d-\d\d([Tt ]\d\d:\d\d(:\d\d(\.\d{{1,6}}0*)?)?\s?([Zz]|{_OFFSET})?)?"
_STRICT_STAMP = rf"\d{{4}}-\d\d-\d\d([T ]\d\d:\d\d:\d\d(\.\d{{1,6}}0*)?(Z|{_OFFSET}))?"
_FIRST, _LAST = "0000-01-01 00:00:00Z", "9999-12-31 23:59:59.999999Z"


@dataclass(frozen=True, slots=True)
class Cell:
    """One property's column in ``__cells``.

    Attributes:
        text: SQL for its value as text.
        kind: SQL for the JSON type of its value; None if all its values are of one kind.
        present: SQL for whether the record carries the property.
        always: Whether every record does.
        nulls: Whether some record carries it without a value: null, or content of another shape.
    """

    text: str
    kind: str | None
    present: str
    always: bool
    nulls: bool


def take_apart(
    workbench: Workbench,
    relation: str,
    found: Profile,
    paths: Sequence[Path],
    keep: Sequence[str],
) -> dict[Path, Cell]:
    """Make ``__cells``.

    Args:
        workbench: The workbench.
        relation: Has the JSON text in column ``record``.
        found: The relation's profile.
        paths: Properties to take.
        keep: Columns of the relation to keep.

    Returns:
        How to read each property's column.
    """
    seen = {path: place for place, path in enumerate(found.kinds, 1)}
    valued = [path for path in paths if path in seen]
    reader = _Reader(found, seen, {path: place for place, path in enumerate(valued, 1)})
    cells: dict[Path, Cell] = {}
    selected = [*keep]
    for number, path in enumerate(paths):
        text, kind, present = f"c{number}", None, "true"
        selected.append(f"{reader.text(path)} AS {text}")
        if len(found.value_kinds(path)) > 1:
            kind = f"k{number}"
            selected.append(f"k[{seen[path]}] AS {kind}")
        always, nulls = reader.presence(path)
        if nulls and not always:
            present = f"p{number}"
            selected.append(f"{reader.carries(path)} AS {present}")
        cells[path] = Cell(text, kind, present, always, nulls)
    arrays = found.arrays()
    values = f"{look_up('json_extract_string', valued, arrays)} AS v"
    kinds = ""
    if any("k[" in expression for expression in selected):
        kinds = f", {look_up('json_type', list(found.kinds), arrays)} AS k"
    workbench.execute(
        f"CREATE OR REPLACE TEMP TABLE {CELLS} AS SELECT {', '.join(selected)} "  # noqa: S608
        f"FROM (SELECT {', '.join(keep)}, {values}{kinds} FROM {relation})"
    )
    return cells


class _Reader:
    """SQL over the lists of values ``v`` and kinds ``k`` of one record.

    Args:
        found: The profile.
        seen: Each property's place in ``k``, from 1.
        valued: Each wanted property's place in ``v``, from 1.
    """

    def __init__(
        self, found: Profile, seen: Mapping[Path, int], valued: Mapping[Path, int]
    ) -> None:
        self._found = found
        self._seen = seen
        self._valued = valued

    def text(self, path: Path) -> str:
        """The value as text, unless it is content that has its own columns."""
        place = self._seen.get(path)
        if place is None:
            return "CAST(NULL AS VARCHAR)"
        value = f"v[{self._valued[path]}]"
        if self._found.is_object_somewhere(path):
            return f"CASE WHEN k[{place}] = 'OBJECT' THEN NULL ELSE {value} END"
        return value

    def presence(self, path: Path) -> tuple[bool, bool]:
        """Whether every record carries the property, and whether some do without a value."""
        own = self._found.kinds.get(path, Counter())
        valueless = own["NULL"]
        if len(path) < MAX_DEPTH:
            valueless += own["OBJECT"]
        replaced = sum(
            count
            for prefix in _prefixes(path)
            for kind, count in self._found.kinds.get(prefix, Counter()).items()
            if kind != "OBJECT"
        )
        carried = sum(own.values()) + replaced
        return carried >= self._found.rows, valueless + replaced > 0

    def carries(self, path: Path) -> str:
        """Whether a record carries the property, or something else in the place of its parent."""
        place = self._seen.get(path)
        conditions = [] if place is None else [f"k[{place}] IS NOT NULL"]
        conditions += [
            f"coalesce(k[{self._seen[prefix]}] <> 'OBJECT', false)"
            for prefix in _prefixes(path)
            if prefix in self._seen
        ]
        return f"({' OR '.join(conditions)})" if conditions else "false"


def _prefixes(path: Path) -> list[Path]:
    return [path[:length] for length in range(1, len(path))]


def stamp(text: str, *, strict: bool = False) -> str:
    """SQL for a text as a timestamp, NULL unless it is one exactly.

    Args:
        text: SQL for the text.
        strict: Whether a time of day needs its zone; else none means UTC.
    """
    pattern = _STRICT_STAMP if strict else _LAX_STAMP
    cast = f"TRY_CAST({text} AS TIMESTAMPTZ)"
    # Its offset can put an instant into the year before, or after, that of its text. (Not with AND:
    # DuckDB takes five times as long to plan that for some hundred columns.)
    within = f"{cast} BETWEEN TIMESTAMPTZ '{_FIRST}' AND TIMESTAMPTZ '{_LAST}'"
    return (
        f"CASE WHEN regexp_full_match({text}, '{pattern}') "
        f"THEN CASE WHEN {within} THEN {cast} END END"
    )


def stamp_text(expression: str) -> str:
    """SQL for a timestamp as ISO 8601 text in UTC."""
    return (
        f"replace(strftime({expression} AT TIME ZONE 'UTC', '%Y-%m-%dT%H:%M:%S.%fZ'), "
        "'.000000Z', 'Z')"
    )


def exact_float(text: str) -> str:
    """SQL for the text of a JSON number as a float, NULL unless it is that number exactly."""
    return (
        f"CASE WHEN regexp_matches({text}, '[.eE]') "
        f"THEN CASE WHEN isfinite(TRY_CAST({text} AS DOUBLE)) THEN TRY_CAST({text} AS DOUBLE) END "
        f"WHEN {text} IN ('NaN', 'Infinity', '-Infinity') THEN TRY_CAST({text} AS DOUBLE) "
        f"WHEN abs(TRY_CAST({text} AS HUGEINT)) <= {2**53} THEN TRY_CAST({text} AS DOUBLE) END"
    )


def value(cell: Cell, kinds: set[str], type_: Type) -> str:
    """SQL for the property's value as a type; NULL where that type cannot hold it exactly.

    Args:
        cell: The property's column.
        kinds: The JSON types of its values.
        type_: What is wanted.
    """
    if type_ is Type.TEXT:
        return cell.text
    if type_ is Type.TIMESTAMP:
        wanted, converted = {"VARCHAR"}, stamp(cell.text)
    elif type_ is Type.INTEGER:
        wanted, converted = set(INTEGERS), f"TRY_CAST({cell.text} AS BIGINT)"
    elif type_ is Type.FLOAT:
        wanted, converted = {*INTEGERS, "DOUBLE"}, exact_float(cell.text)
    else:
        wanted, converted = {"BOOLEAN"}, f"CAST({cell.text} AS BOOLEAN)"
    if kinds <= wanted:
        return converted
    if not kinds & wanted or cell.kind is None:
        return f"CAST(NULL AS {PHYSICAL[type_]})"
    if type_ is Type.BOOLEAN:
        converted = f"TRY_CAST({cell.text} AS BOOLEAN)"
    listed = ", ".join(f"'{kind}'" for kind in sorted(wanted))
    return f"CASE WHEN {cell.kind} IN ({listed}) THEN {converted} END"


def pack(columns: Sequence[str], old: str | None) -> str:
    """SQL for columns as the members of one JSON object, nulls left out; NULL if there are none.

    Args:
        columns: Names of columns.
        old: The name of a column with such an object already, whose members stay.
    """
    members = ", ".join(f"{literal(name)}: {quote(name)}" for name in columns)
    present = f"coalesce({quote(old)}, '{{}}')" if old else "'{}'"
    # A merge patch drops members that are null.
    return f"nullif(CAST(json_merge_patch({present}, to_json({{{members}}})) AS VARCHAR), '{{}}')"
