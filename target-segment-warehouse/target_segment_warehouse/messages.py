"""Singer messages, decoded no further than routing needs: a record stays raw JSON."""

from __future__ import annotations

import contextlib
import io
import json
import re
from collections.abc import Sequence
from typing import Annotated, Any, cast

import msgspec
from msgspec import Raw

from target_segment_warehouse.text import is_utf8

REPLACEMENT = "\ufffd"
_SURROGATE = re.compile("[\ud800-\udfff]")
_ESCAPED_SURROGATE = re.compile(rb"\\u[dD][89a-fA-F][0-9a-fA-F]{2}")
_TOKEN = re.compile(rb'"[^"\\]*(?:\\.[^"\\]*)*"|[][{}:,]')

_LONG_INTEGER = 4000
"""Digits: Python refuses to read integers of a few more."""


Version = Annotated[int, msgspec.Meta(ge=-(2**63), le=2**63 - 1)]
"""Of a table's rows, for which every engine has a column of 64 bits."""


class Record(msgspec.Struct, tag_field="type", tag="RECORD", gc=False):
    """A RECORD message."""

    stream: str
    record: Raw
    time_extracted: str | None = None
    version: Version | None = None


class Schema(msgspec.Struct, tag_field="type", tag="SCHEMA"):
    """A SCHEMA message."""

    stream: str
    schema: dict[str, Any]
    key_properties: list[str] | None = None
    bookmark_properties: Any = None


class State(msgspec.Struct, tag_field="type", tag="STATE", gc=False):
    """A STATE message."""

    value: Raw


class Batch(msgspec.Struct, tag_field="type", tag="BATCH"):
    """A BATCH message of the Meltano SDK: records in files."""

    stream: str
    encoding: dict[str, Any]
    manifest: list[str]
    version: Version | None = None


class ActivateVersion(msgspec.Struct, tag_field="type", tag="ACTIVATE_VERSION"):
    """An ACTIVATE_VERSION message: rows of older versions are to go."""

    stream: str
    version: Version


Message = Record | Schema | State | Batch | ActivateVersion

_decoder: msgspec.json.Decoder[Message] = msgspec.json.Decoder(Message)
_TYPES = {cls.__struct_config__.tag: cls for cls in (Record, Schema, State, Batch, ActivateVersion)}


class InvalidMessageError(ValueError):
    """A line of the input that is no Singer message. The text names the line, never its content."""


class TornInputError(InvalidMessageError):
    """The input ends in the middle of a line, as that of a tap does that was killed."""


def decode_chunk(chunk: bytes, first_line: int) -> tuple[list[Message], Sequence[int]]:
    """Decode whole lines.

    Args:
        chunk: Bytes that end at the end of a line, or of the input.
        first_line: The number of the first line, for messages.

    Returns:
        One message per line that is not blank, and the numbers of their lines.

    Raises:
        InvalidMessageError: With the number of the first line that is not a Singer message.
    """
    if not is_utf8(chunk):
        _require_utf8(chunk, first_line)
    try:
        messages = _decoder.decode_lines(chunk)
    except (msgspec.DecodeError, RecursionError):
        messages = []
    if len(messages) == _count_lines(chunk):
        return messages, range(first_line, first_line + len(messages))
    # Something is unusual (a blank line, NaN, an unpaired surrogate, a wrong line): one by one.
    lines = enumerate(chunk.split(b"\n"), first_line)
    numbered = [(number, line) for number, line in lines if line.strip()]
    messages = [_decode_line(line, number) for number, line in numbered]
    return messages, [number for number, _ in numbered]


def _require_utf8(chunk: bytes, first_line: int) -> None:
    try:
        chunk.decode()
    except UnicodeDecodeError as error:
        line = first_line + chunk.count(b"\n", 0, error.start)
        column = error.start - chunk.rfind(b"\n", 0, error.start)
        raise InvalidMessageError(
            f"Line {line} of the input is not valid UTF-8 "
            f"(byte 0x{chunk[error.start]:02x} at column {column})."
        ) from None


def _count_lines(chunk: bytes) -> int:
    return sum(1 for _ in io.BytesIO(chunk))  # bytes.count looks at each byte: four times as slow


def _decode_line(line: bytes, number: int) -> Message:
    try:
        return _decoder.decode(line)
    except (msgspec.DecodeError, RecursionError) as error:
        return _decode_leniently(line, number, error)


def _decode_leniently(line: bytes, number: int, cause: Exception) -> Message:
    """Decode what msgspec will not take but Singer taps written in Python do emit.

    That is: NaN and Infinity, escaped surrogates without a partner, and nesting deeper than
    Python's own recursion limit. Python's reading of the line is only for what kind of message it
    is: its floats have not all digits, so a record stays the text that it is here, too.
    """
    message: Any = None
    is_deep = isinstance(cause, RecursionError)
    try:
        if not is_deep:
            message = json.loads(line, parse_int=_integer)
    except RecursionError:
        is_deep = True
    except ValueError as error:
        position = f" at column {error.colno}" if isinstance(error, json.JSONDecodeError) else ""
        detail = error.msg if isinstance(error, json.JSONDecodeError) else "not JSON"
        raise InvalidMessageError(
            f"Line {number} of the input is not valid JSON ({detail}{position}). "
            "Check that the tap writes nothing but Singer messages to its standard output."
        ) from None
    if is_deep:
        message = _without_record(line, number)
    if not isinstance(message, dict) or not isinstance(message.get("type"), str):
        raise InvalidMessageError(f"Line {number} of the input has no message 'type'.")
    type_ = _TYPES.get(message["type"])
    if type_ is None:
        known = ", ".join(sorted(str(tag) for tag in _TYPES))
        raise InvalidMessageError(
            f"Line {number} of the input has the unknown message type "
            f"{message['type'][:40]!r}; known are {known}."
        )
    if type_ is Record:
        time_extracted = message.get("time_extracted")
        message["time_extracted"] = None if time_extracted is None else str(time_extracted)
    texts = _members(line)
    for property_ in ("record", "value"):
        if property_ in message:
            message[property_] = Raw(texts[property_])
    try:
        return cast("Message", msgspec.convert(message, type_))
    except msgspec.ValidationError as error:
        raise InvalidMessageError(
            f"Line {number} of the input is not a valid {message['type']} message: {error}."
        ) from None


def _integer(text: str) -> int | float:
    return int(text) if len(text) < _LONG_INTEGER else float(text)


def _without_record(line: bytes, number: int) -> dict[str, Any]:
    """A RECORD message whose nesting is too deep for Python, with nothing in place of its record.

    DuckDB's parser, which does not recurse, tells whether it is JSON.
    """
    import duckdb

    # To DuckDB surrogates without a partner, which are let in here, are not.
    text = _ESCAPED_SURROGATE.sub(rb"\\u0020", line).decode()
    with duckdb.connect() as connection:
        row = connection.execute("SELECT json_valid(?)", [text]).fetchone()
    if not row or not row[0]:
        raise InvalidMessageError(f"Line {number} of the input is not valid JSON.")
    texts = _members(line)
    has_record = texts.pop("record", None) is not None
    wanted = [name for name in ("type", *Record.__struct_fields__) if name in texts]
    message: dict[str, Any] = {"record": None}
    with contextlib.suppress(RecursionError):
        message |= {name: json.loads(texts[name], parse_int=_integer) for name in wanted}
    if not has_record or message.get("type") != "RECORD":
        raise InvalidMessageError(
            f"Line {number} of the input is nested too deeply for a message that is not a RECORD."
        )
    return message


def _members(line: bytes) -> dict[str, bytes]:
    """The text of each member of an object, which must be JSON; of a repeated one the last."""
    members: dict[str, bytes] = {}
    depth, text, name, start = 0, b"", "", 0
    for token in _TOKEN.finditer(line):
        mark = token[0]
        if mark.startswith(b'"'):
            text = mark  # a name, if a colon follows
        elif mark in {b"{", b"["}:
            depth += 1
        elif mark == b":":
            if depth == 1:
                name, start = json.loads(text), token.end()
        else:
            if depth == 1 and start:
                members[name] = line[start : token.start()].strip()
                start = 0
            depth -= mark != b","
    return members


def without_surrogates(text: str) -> str:
    """The text with unpaired surrogates, which UTF-8 cannot hold, replaced by U+FFFD."""
    return _SURROGATE.sub(REPLACEMENT, text)
