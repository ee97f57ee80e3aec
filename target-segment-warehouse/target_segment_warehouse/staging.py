"""Puts raw records on the workbench, as JSON that DuckDB reads exactly."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from operator import itemgetter

import pyarrow as pa

from target_segment_warehouse.batch import Records
from target_segment_warehouse.naming import Path
from target_segment_warehouse.normalise import LONG_OR_SCALED_NUMBER, Normaliser, Replaced
from target_segment_warehouse.profile import Profile, profile
from target_segment_warehouse.workbench import Workbench

_RAW = "__raw"
_EXACT = "__exact"
# How often the bytes of a batch are on the workbench at the same time.
_COPIES = 6


class InvalidRecordError(ValueError):
    """A record that is no JSON object."""


@dataclass(frozen=True, slots=True)
class Place:
    """What to call a line in messages.

    Attributes:
        names: The first of some lines, and what to call these, with ``{}`` for a line's number
            counted from there; by the number of that line.
        origins: What stands for ``{}`` instead, for each line from 0 on, if they were counted anew.
    """

    names: Sequence[tuple[int, str]]
    origins: Sequence[int] | None = None

    def find(self, line: int) -> tuple[str, int]:
        """What to call this line, and the number for ``{}`` in it."""
        first, text = self.names[bisect_right(self.names, line, key=itemgetter(0)) - 1]
        return text, line - first + 1 if self.origins is None else self.origins[line]

    def of(self, line: int) -> str:
        """The same in one."""
        text, number = self.find(line)
        return text.replace("{}", str(number), 1)


@dataclass(slots=True)
class Staged:
    """Records on the workbench.

    Attributes:
        relation: Columns ``line``, ``record`` and ``extracted``.
        profile: Their shape.
        longest: Size of the largest record, in bytes.
        replaced: By line: values of which only a replacement could be kept.
        place: What to call a line in messages.
    """

    relation: str
    profile: Profile
    place: Place
    longest: int = 0
    replaced: dict[int, list[Replaced]] = field(default_factory=dict)


def stage(
    workbench: Workbench,
    records: Records,
    place: Place,
    *,
    keep_nul: bool,
    keys: Sequence[str] = (),
    expected: Iterable[Path] = (),
) -> Staged:
    """Put records on the workbench, where they stay until the next ones come.

    Args:
        workbench: Where to.
        records: The records.
        place: What to call a line in messages.
        keep_nul: Whether the warehouse's text can hold NUL characters.
        keys: The key properties.
        expected: Properties that are likely to be objects.

    Raises:
        InvalidRecordError: If a record is no JSON object.
    """
    longest = records.longest()
    workbench.allow(_COPIES * (records.size + longest))
    workbench.register(_RAW, records.to_arrow())
    staged = Staged(_RAW, Profile(0, {}, False), place, longest)
    exact = _Exact(workbench, staged, keep_nul, keys)
    # An unpaired surrogate is all that makes JSON, as the reader of messages lets it in, invalid.
    exact.rewrite(
        r"contains(record, '\u') AND (contains(record, '\u0000') OR NOT json_valid(record))"
    )
    if not records.is_checked:
        _require_json(workbench, staged)
    staged.profile = profile(workbench, staged.relation, len(records), expected)
    if not staged.profile.are_objects:
        line = workbench.value(
            f"SELECT min(line) FROM {staged.relation} WHERE json_type(record) <> 'OBJECT'"  # noqa: S608
        )
        raise InvalidRecordError(f"The record on {place.of(line)} is not a JSON object.")
    rewritten = False
    if staged.profile.repeated_keys:
        rewritten = exact.rewrite("true")
    elif staged.profile.may_have_fractions():
        rewritten = exact.rewrite(f"regexp_matches(record, '{LONG_OR_SCALED_NUMBER}')")
    if rewritten:
        staged.profile = profile(workbench, staged.relation, len(records), expected)
    return staged


def unstage(workbench: Workbench) -> None:
    """Take the records off the workbench."""
    workbench.unregister(_RAW)
    workbench.execute(f"DROP TABLE IF EXISTS {_EXACT}")


def _require_json(workbench: Workbench, staged: Staged) -> None:
    line = workbench.value(f"SELECT min(line) FROM {staged.relation} WHERE NOT json_valid(record)")  # noqa: S608
    if line is not None:
        place = staged.place.of(line)
        raise InvalidRecordError(f"{place[:1].upper()}{place[1:]} is not valid JSON.")


class _Exact:
    """Rewrites the records that need it, in Python."""

    def __init__(
        self, workbench: Workbench, staged: Staged, keep_nul: bool, keys: Sequence[str]
    ) -> None:
        self._workbench = workbench
        self._staged = staged
        self._keep_nul = keep_nul
        self._keys = keys

    def rewrite(self, condition: str) -> bool:
        """Rewrite the records for which a condition holds; whether there were any."""
        source = self._staged.relation
        rows = self._workbench.query(f"SELECT line, record FROM {source} WHERE {condition}")  # noqa: S608
        if not rows:
            return False
        self._workbench.register("__rewritten", self._normalised(rows))
        self._workbench.execute(
            f"CREATE OR REPLACE TEMP TABLE {_EXACT}_new AS "  # noqa: S608
            "SELECT line, coalesce(n.record, r.record) AS record, extracted "
            f"FROM {source} AS r LEFT JOIN __rewritten AS n USING (line)"
        )
        self._workbench.execute(f"DROP TABLE IF EXISTS {_EXACT}")
        self._workbench.execute(f"ALTER TABLE {_EXACT}_new RENAME TO {_EXACT}")
        self._workbench.unregister("__rewritten")
        self._staged.relation = _EXACT
        return True

    def _normalised(self, rows: Iterable[tuple[int, str]]) -> pa.Table:
        lines, records = [], []
        for line, record in rows:
            normaliser = Normaliser(self._keep_nul, self._keys)
            lines.append(line)
            records.append(normaliser(record))
            if normaliser.replaced:
                self._staged.replaced.setdefault(line, []).extend(normaliser.replaced)
        return pa.table({"line": lines, "record": records})
