"""What types the values of a batch have, beyond their JSON kinds."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from target_segment_warehouse.cells import CELLS, Cell, exact_float, stamp
from target_segment_warehouse.naming import Path
from target_segment_warehouse.profile import INTEGERS, Profile
from target_segment_warehouse.types import Type
from target_segment_warehouse.workbench import Workbench


class Observations:
    """The types of the values in ``__cells``.

    Args:
        workbench: Has ``__cells``.
        found: The profile of the records.
        cells: The properties' columns.
        lenient: Properties whose strings are timestamps even where they name no zone.
        likely: The type that each property will have if its values fit; None if it is to be found.
            All these questions are asked in one query, others when they come up.
    """

    def __init__(
        self,
        workbench: Workbench,
        found: Profile,
        cells: Mapping[Path, Cell],
        lenient: set[Path],
        likely: Mapping[Path, Type | None],
    ) -> None:
        self._workbench = workbench
        self._cells = cells
        self._lenient = lenient
        self._kinds = {path: found.value_kinds(path) for path in cells}
        self._fits: dict[tuple[Path, Type], bool] = {}
        self._ask(
            (path, type_)
            for path in cells
            for type_ in ([likely[path]] if likely[path] else _ORDER)
            if type_ is not None
        )

    def _ask(self, questions: Iterable[tuple[Path, Type]]) -> None:
        asked = [question for question in questions if self._needs_a_look(*question)]
        if asked:
            tests = ", ".join(self._test(path, type_) for path, type_ in asked)
            (answers,) = self._workbench.query(f"SELECT {tests} FROM {CELLS}")  # noqa: S608
            self._fits |= dict(zip(asked, map(bool, answers), strict=True))

    def _needs_a_look(self, path: Path, type_: Type) -> bool:
        """Whether the kinds of the values leave it open if the type fits."""
        kinds = self._kinds[path]
        if type_ is Type.INTEGER:
            return "UBIGINT" in kinds and kinds <= INTEGERS
        return bool(kinds) and (
            (type_ is Type.FLOAT and kinds <= {*INTEGERS, "DOUBLE"})
            or (type_ is Type.TIMESTAMP and kinds == {"VARCHAR"})
        )

    def _test(self, path: Path, type_: Type) -> str:
        text = self._cells[path].text
        if type_ is Type.TIMESTAMP:
            converted = stamp(text, strict=path not in self._lenient)
        elif type_ is Type.INTEGER:
            converted = f"TRY_CAST({text} AS BIGINT)"
        else:
            converted = exact_float(text)
        return f"count({converted}) = count({text})"

    def fits(self, path: Path, type_: Type) -> bool:
        """Whether the type holds every value exactly."""
        kinds = self._kinds[path]
        if type_ is Type.TEXT or not kinds:
            return True
        if type_ is Type.BOOLEAN:
            return kinds == {"BOOLEAN"}
        if not self._needs_a_look(path, type_):
            return type_ is Type.INTEGER and kinds <= INTEGERS
        if (path, type_) not in self._fits:
            self._ask([(path, type_)])
        return self._fits[path, type_]

    def narrowest(self, path: Path) -> Type | None:
        """The narrowest type that holds every value exactly; None if there are none."""
        if not self._kinds[path]:
            return None
        return next((type_ for type_ in _ORDER if self.fits(path, type_)), Type.TEXT)


_ORDER = (Type.BOOLEAN, Type.INTEGER, Type.FLOAT, Type.TIMESTAMP)
