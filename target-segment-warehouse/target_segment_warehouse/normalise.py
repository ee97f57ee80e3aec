"""Makes records that the native path cannot represent exactly into ones that it can.

Few records are concerned, so this is plain Python: numbers that a 64-bit float cannot hold become
strings of the same digits (their column becomes text), repeated keys become one (the last wins, as
in Python, JavaScript and Postgres), and characters that an engine cannot store are replaced.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Container
from dataclasses import dataclass, field
from decimal import Decimal, InvalidOperation
from typing import Any

from target_segment_warehouse.messages import REPLACEMENT, without_surrogates
from target_segment_warehouse.naming import Path

_TOKEN = re.compile(r'"[^"\\]*(?:\\.[^"\\]*)*"|-?[0-9][0-9.eE+-]*')

# More than 17 significant digits, or about, or a large exponent, or not written as an integer where
# floats are less dense than these, or near there with a fraction: some that match are exact.
_LONG = (
    r"0\.0*[1-9][0-9]{17,}|[1-9][0-9.]{18,}|[1-9][0-9]{15,}[.eE]|[1-9][0-9]{13,}\.0*[1-9]"
    r"|[0-9][0-9.]*[eE][-+]?[0-9]{3}"
)
# 16 digits or more, and an exponent that makes the number larger.
_SCALED = r"[0-9.]{17,}[eE]\+?[0-9]"

LONG_NUMBER = rf"[:,\[]\s*-?(?:{_LONG})"
"""Regular expression (RE2) for JSON text that may hold a number that floats cannot, unless that is
2^53 or more and has an exponent."""

LONG_OR_SCALED_NUMBER = rf"[:,\[]\s*-?(?:{_LONG}|{_SCALED})"
"""The same for one of any size."""


@dataclass(frozen=True, slots=True)
class Replaced:
    """A value of which only a replacement could be loaded.

    Attributes:
        path: The property.
        value: The value as it was, as JSON text.
        reason: What the engine cannot hold.
    """

    path: Path
    value: str
    reason: str


@dataclass(slots=True)
class Normaliser:
    """Rewrites records.

    Args:
        keep_nul: Whether the engine's text can hold NUL characters.
        keys: The key properties, whose replacements differ where they did.
    """

    keep_nul: bool
    keys: Container[str] = ()
    replaced: list[Replaced] = field(default_factory=list)

    def __call__(self, record: str) -> str:
        """The record as JSON text that means the same, as far as the engine can hold it.

        What had to be replaced is added to ``replaced``.
        """
        try:
            value = json.loads(record, parse_float=_exact_float, parse_int=_exact_int)
            return json.dumps(self._clean(value, ()), ensure_ascii=False, separators=(",", ":"))
        except json.JSONDecodeError:
            return record
        except RecursionError:
            # Thousands of levels deep: flattening keeps such values as text anyway.
            return _TOKEN.sub(self._cleaned_token, record)

    def _cleaned_token(self, match: re.Match[str]) -> str:
        """A string or a number somewhere in a record, as it is to be written."""
        value = json.loads(match[0], parse_float=_exact_float, parse_int=_exact_int)
        return json.dumps(self._clean(value, ()), ensure_ascii=False)

    def _clean(self, value: Any, path: Path) -> Any:
        if isinstance(value, str):
            clean = self._clean_text(value, path, self.keep_nul)
            if clean != value and len(path) == 1 and path[0] in self.keys:
                # Else records with other keys would be one object.
                clean += f"_{hashlib.sha256(json.dumps(value).encode()).hexdigest()[:16]}"
            return clean
        if isinstance(value, dict):
            return {
                self._clean_text(key, path, keep_nul=False): self._clean(item, (*path, key))
                for key, item in value.items()
            }
        if isinstance(value, list):
            return [self._clean(item, path) for item in value]
        return value

    def _clean_text(self, text: str, path: Path, keep_nul: bool) -> str:
        clean = without_surrogates(text)
        reason = "an unpaired surrogate is not valid UTF-8"
        if not keep_nul and "\0" in text:
            clean = clean.replace("\0", REPLACEMENT)
            reason = "the warehouse's text cannot hold a NUL character"
        if clean != text:
            where = tuple(without_surrogates(key).replace("\0", REPLACEMENT) for key in path)
            self.replaced.append(Replaced(where, json.dumps(text), reason))
        return clean


def _exact_float(text: str) -> float | int | str:
    try:
        value, exact = float(text), Decimal(text)
    except InvalidOperation:  # an exponent of some twenty digits
        return text
    # The shortest text that means this float, against the text that was given.
    if Decimal(repr(value)) == exact:
        return value
    # An integer, however it is written, is one like others of its size.
    return int(exact) if -(2**63) <= exact < 2**63 and exact == int(exact) else text


def _exact_int(text: str) -> int | str:
    if len(text) > 20:  # (the longest 64-bit integer, with its sign)
        return text
    value = int(text)
    return value if -(2**63) <= value < 2**63 else text
