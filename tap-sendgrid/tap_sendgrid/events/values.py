r"""Values of events: converted where nothing is lost, refused otherwise. Ids and instants.

The id of an event without ``sg_event_id`` is the lower-case hex SHA-256 of its canonical JSON:
the event as parsed (``parse.py``), keys sorted by Unicode code point at every level, no white
space, everything outside ASCII as lower-case ``\uXXXX``, integers as digits, other numbers as the
shortest text that reads back as the same double.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Callable
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any, Final

import msgspec

from tap_sendgrid.events.fields import Field, Kind

MAX_SECONDS: Final = 100_000_000_000  # the year 5138; what is larger is not in seconds

_MAX_INT: Final = 2**63 - 1
_MIN_INT: Final = -(2**63)
_MAX_DEPTH: Final = 32
_ENCODER = msgspec.json.Encoder()


class Misfit(Exception):
    """A value that cannot become its field's kind without a loss."""


def hashed_id(event: dict[str, Any]) -> str:
    """The id of an event that came without one: the hash of its canonical JSON."""
    canonical = json.dumps(event, sort_keys=True, separators=(",", ":"), ensure_ascii=True)
    return hashlib.sha256(canonical.encode("ascii")).hexdigest()


def iso(moment: datetime) -> str:
    """UTC, ISO 8601, always with microseconds and ``Z``: sorts as text."""
    return moment.astimezone(UTC).replace(tzinfo=None).isoformat(timespec="microseconds") + "Z"


def instant(value: Any) -> tuple[int, str]:
    """Epoch seconds and date-time of what SendGrid sent as timestamp.

    Seconds are the rule; a Single Send sample of the docs has milliseconds (13 digits), and the
    docs' table says string. What is longer than seconds can be is read as milli-, micro- or
    nanoseconds; the date-time keeps the fraction.
    """
    if type(value) is str:
        value = _digits(value)
    if type(value) is int:
        for unit in (1, 1_000, 1_000_000, 1_000_000_000):
            if 0 <= value // unit <= MAX_SECONDS:
                seconds, rest = divmod(value, unit)
                return seconds, occurred_at(seconds, rest * 1_000_000 // unit)
    elif type(value) is float and 0 <= value <= MAX_SECONDS:
        seconds = math.floor(value)
        return seconds, occurred_at(seconds, int((value - seconds) * 1_000_000))
    raise Misfit


def occurred_at(seconds: int, microseconds: int = 0) -> str:
    """Epoch seconds as :func:`iso` writes them."""
    if microseconds:
        return f"{_minute(seconds // 60)}{seconds % 60:02}.{microseconds:06}Z"
    return _minute(seconds // 60) + _SECONDS[seconds % 60]


@lru_cache(maxsize=10_000)
def _minute(minutes: int) -> str:
    return f"{datetime.fromtimestamp(minutes * 60, UTC):%Y-%m-%dT%H:%M:}"


_SECONDS: Final = [f"{second:02}.000000Z" for second in range(60)]


def _digits(text: str) -> int:
    """The integer that a text of digits writes, if it writes it in the one normal way."""
    if text.isascii() and len(text) <= 20 and text.removeprefix("-").isdigit():
        value = int(text)
        if str(value) == text:
            return value
    raise Misfit


def coerce_field(value: Any, field: Field) -> Any:
    """The value as the field's kind, nothing lost; ``Misfit`` if that cannot be."""
    if value is None:
        return None
    if field.kind != "object":
        return _COERCE[field.kind](value)
    if type(value) is not dict:
        raise Misfit
    return {
        key: _COERCE[field.parts[key]](item)
        if key in field.parts and item is not None
        else plain(item)
        for key, item in value.items()
    }


def _coerce_text(value: Any) -> str:
    return value if type(value) is str else json_text(value)


def _coerce_integer(value: Any) -> int:
    if type(value) is str:
        value = _digits(value)
    elif type(value) is float and value.is_integer():
        value = int(value)
    if isinstance(value, int) and fits_64_bits(value):
        return int(value)  # true and false are 1 and 0: docs and wire differ over `tls`
    raise Misfit


def _coerce_boolean(value: Any) -> bool:
    if type(value) is bool:
        return value
    if type(value) is int and value in (0, 1):
        return bool(value)
    if type(value) is str and value in ("true", "false"):
        return value == "true"
    raise Misfit


_COERCE: Final[dict[Kind, Callable[[Any], Any]]] = {
    "string": _coerce_text,
    "category": _coerce_text,
    "integer": _coerce_integer,
    "boolean": _coerce_boolean,
}


def json_text(value: Any) -> str:
    """Compact JSON."""
    return _ENCODER.encode(value).decode()


def fits_64_bits(value: int) -> bool:
    """Whether a signed 64-bit integer, the widest of most warehouses, holds the value."""
    return _MIN_INT <= value <= _MAX_INT


def plain(value: Any, depth: int = 0) -> Any:
    """The value as any JSON reader can hold it: no integer beyond 64 bits, no deep nesting."""
    if type(value) is int and not fits_64_bits(value):
        return json_text(value)
    if isinstance(value, list | dict):
        if depth >= _MAX_DEPTH:
            return json_text(value)
        if isinstance(value, list):
            return [plain(item, depth + 1) for item in value]
        return {key: plain(item, depth + 1) for key, item in value.items()}
    return value
