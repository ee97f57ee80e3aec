r"""From the raw body of a delivery to its events: quickly when they are clean, carefully when not.

SendGrid writes compact JSON. An event that says the same when written again was read without a
loss, and two C calls have shown it. Any other is read the careful way, which keeps what a parser
would lose:

- bytes that are not UTF-8 become the text ``\xff``, lone surrogates the text ``\ud800``;
- ``NaN`` and ``Infinity`` become text, and so does a number that a double cannot hold as written,
  with all its digits;
- of a key that stands twice in one object the last value counts, as with every JSON parser, and
  the earlier ones are kept in a list under ``_repeated``.

What is no event at all is rejected with a reason; the delivery stays in the log.
"""

from __future__ import annotations

import codecs
import json
import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from decimal import Decimal, InvalidOperation
from typing import Any, Final

import msgspec

Event = dict[str, Any]

REPEATED: Final = "_repeated"

_AS_TEXT: Final = "tap_sendgrid.as_text"


@dataclass(slots=True)
class Parsed:
    """The events of one delivery, in order, and why parts of it (or all) are none."""

    events: list[Event]
    rejected: list[str] = field(default_factory=list)


def parse_body(body: bytes) -> Parsed:
    """Read a delivery: a JSON array of objects (a single object counts as an array of one)."""
    parsed = Parsed([])
    parsed.events.extend(event for event, _ in events_of(body, parsed.rejected))
    return parsed


def events_of(body: bytes, rejected: list[str]) -> Iterator[tuple[Event, bytes]]:
    """The events of a delivery one by one: what was made of one is gone when the next is read.

    Args:
        body: As :func:`parse_body` takes it.
        rejected: Takes the reasons for what is no event.

    Yields:
        An event, and the bytes that it was read from if they are exactly what it is written as;
        no bytes if it had to be read the careful way.
    """
    try:
        raws = _SPLIT(body)
    except (msgspec.MsgspecError, ValueError, RecursionError):
        for event in _whole_body(body, rejected):  # the careful way finds out what it is
            yield event, b""
        return
    for index, raw in enumerate(raws):
        content = bytes(raw)
        try:
            event = _READ(content)
            if _WRITE(event) == content:
                yield event, content
                continue
        except (msgspec.MsgspecError, ValueError, RecursionError):
            pass
        try:
            value = read_carefully(content)
        except (RecursionError, ValueError) as error:
            rejected.append(f"element {index} of {len(raws)} is {_problem(error)}")
            continue
        if isinstance(value, dict):
            yield value, b""
        else:
            rejected.append(_no_object(index, len(raws), value))


def _number(text: str) -> float | str:
    """A double if it holds this number as written, else the number's text with all its digits."""
    value = float(text)
    try:
        exact = math.isfinite(value) and Decimal(repr(value)) == Decimal(text)
    except InvalidOperation:  # an exponent that even Decimal does not take
        return text
    return value if exact else text


_SPLIT = msgspec.json.Decoder(list[msgspec.Raw]).decode
_READ = msgspec.json.Decoder(dict[str, Any], float_hook=_number).decode
_WRITE = msgspec.json.Encoder().encode


def _whole_body(body: bytes, rejected: list[str]) -> Iterator[Event]:
    """The events of a body that cannot be taken apart."""
    if not body.strip():
        rejected.append("the body is empty")
        return
    try:
        value = read_carefully(body.removeprefix(codecs.BOM_UTF8))
    except (RecursionError, ValueError) as error:
        rejected.append(_problem(error))
        return
    if isinstance(value, dict):
        value = [value]
    if not isinstance(value, list):
        rejected.append(f"the body is a JSON {_json_type(value)}, not an array of events")
        return
    for index, element in enumerate(value):
        if isinstance(element, dict):
            yield element
        else:
            rejected.append(_no_object(index, len(value), element))


def read_carefully(content: bytes) -> Any:
    """Any JSON value, with all that is in it.

    Raises:
        ValueError: It is no JSON.
        RecursionError: It is nested too deep.
    """
    value = json.loads(
        content.decode("utf-8", errors=_AS_TEXT),
        strict=False,  # control characters in texts: against the standard, but clear
        parse_float=_number,
        parse_int=_integer,
        parse_constant=str,
        object_pairs_hook=_object,
    )
    return _without_surrogates(value)


def _problem(error: Exception) -> str:
    return "nested too deep to read" if isinstance(error, RecursionError) else f"not JSON: {error}"


def _no_object(index: int, count: int, element: Any) -> str:
    return f"element {index} of {count} is a JSON {_json_type(element)}, not an object"


def _escape_bytes(error: UnicodeError) -> tuple[str, int]:
    r"""Decode bytes that are not UTF-8 to ``\xff`` (the backslash escaped, as JSON wants it)."""
    if not isinstance(error, UnicodeDecodeError):
        raise error
    broken = error.object[error.start : error.end]
    return "".join(f"\\\\x{byte:02x}" for byte in broken), error.end


codecs.register_error(_AS_TEXT, _escape_bytes)


def _integer(text: str) -> int | str:
    try:
        return int(text)
    except ValueError:  # longer than Python's limit on digits
        return text


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    result = dict(pairs)
    if len(result) == len(pairs):
        return result
    repeated: dict[str, list[Any]] = {}
    seen: dict[str, Any] = {}
    for key, value in pairs:
        if key in seen:
            repeated.setdefault(key, []).append(seen[key])
        seen[key] = value
    name = REPEATED
    while name in result:
        name = f"_{name}"
    return {**result, name: repeated}


def _without_surrogates(value: Any) -> Any:
    if isinstance(value, str):
        return value.encode("utf-8", errors="backslashreplace").decode("utf-8")
    if isinstance(value, list):
        return [_without_surrogates(item) for item in value]
    if isinstance(value, dict):
        return {_without_surrogates(key): _without_surrogates(item) for key, item in value.items()}
    return value


def _json_type(value: Any) -> str:
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "boolean"
    if isinstance(value, str):
        return "string"
    if isinstance(value, list):
        return "array"
    return "number"
