"""What types the values of a batch have, beyond their JSON kinds."""

from __future__ import annotations

from collections.abc import Mapping

from target_segment_warehouse.cells import CELLS, Cell, exact_float, stamp
from target_segment_warehouse.naming import Path
from target_segment_warehouse.profile import INTEGERS, Profile
from target_segment_warehouse.types import Type
from target_segment_warehouse.workbench import Workbench


class Observations:
    """The types of the values in ``__cells``, found in one query.

    Args:
        workbench: The workbench, with ``__cells``.
        found: The profile of the records.
        cells: The properties' columns.
        lenient: Properties whose strings are timestamps even where they name no zone.
    """

    def __init__(
        self,
        workbench: Workbench,
        found: Profile,
        cells: Mapping[Path, Cell],
        lenient: set[Path],
    ) -> None:
        self._kinds = {path: found.value_kinds(path) for path in cells}
        checks: list[tuple[Path, Type]] = []
        tests: list[str] = []
        for path, cell in cells.items():
            for type_, converted in self._candidates(path, cell, path not in lenient):
                checks.append((path, type_))
                tests.append(f"count({converted}) = count({cell.text})")
        self._fits: set[tuple[Path, Type]] = set()
        if tests:
            (results,) = workbench.query(f"SELECT {', '.join(tests)} FROM {CELLS}")  # noqa: S608
            self._fits = {check for check, fits in zip(checks, results, strict=True) if fits}

    def _candidates(self, path: Path, cell: Cell, strict: bool) -> list[tuple[Type, str]]:
        kinds = self._kinds[path]
        if not kinds:
            return []
        if kinds == {"VARCHAR"}:
            return [(Type.TIMESTAMP, stamp(cell.text, strict=strict))]
        if kinds <= INTEGERS:
            integer = f"TRY_CAST({cell.text} AS BIGINT)"
            return [(Type.INTEGER, integer), (Type.FLOAT, exact_float(cell.text))]
        if kinds <= {*INTEGERS, "DOUBLE"}:
            return [(Type.FLOAT, exact_float(cell.text))]
        return []

    def has_values(self, path: Path) -> bool:
        """Whether any record has a value."""
        return bool(self._kinds[path])

    def fits(self, path: Path, type_: Type) -> bool:
        """Whether the type holds every value exactly."""
        if type_ is Type.TEXT or not self._kinds[path]:
            return True
        if type_ is Type.BOOLEAN:
            return self._kinds[path] == {"BOOLEAN"}
        return (path, type_) in self._fits

    def narrowest(self, path: Path) -> Type | None:
        """The narrowest type that holds every value exactly; None if there are none."""
        if not self._kinds[path]:
            return None
        order = (Type.BOOLEAN, Type.INTEGER, Type.FLOAT, Type.TIMESTAMP)
        return next((type_ for type_ in order if self.fits(path, type_)), Type.TEXT)
