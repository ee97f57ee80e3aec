"""Numbers keep every digit, whatever their size and however they are written."""

from __future__ import annotations

import math
from decimal import Decimal
from typing import Any

import pytest

from .harness import Warehouse
from .messages import Message, record, schema

NUMBERS = {
    "int64_max": "9223372036854775807",
    "int64_min": "-9223372036854775808",
    "two_63": "9223372036854775808",
    "two_64": "18446744073709551616",
    "two_70": "1180591620717411303424",
    "digits_60": "9" * 60,
    "minus_60": "-" + "9" * 60,
    "huge": "1e400",
    "tiny": "1e-400",
    "decimal_30": "123456789012345678901234567.891",
    "money": "0.1",
    "exact": "0.30000000000000004",
    "negative_zero": "-0.0",
    "exponent": "1E+2",
}


@pytest.mark.parametrize("kind", ["none", "integer", "number"])
def test_numbers_keep_every_digit(warehouse: Warehouse, kind: str) -> None:
    properties: Message = {"id": "string"}
    if kind != "none":
        properties |= dict.fromkeys(NUMBERS, kind)
    members = ", ".join(f'"{name}": {text}' for name, text in NUMBERS.items())
    line = f'{{"type": "RECORD", "stream": "t", "record": {{"id": "1", {members}}}}}'
    ones = record("t", dict.fromkeys(NUMBERS, 1), id="0")
    warehouse.load(schema("t", properties), ones, max_batch_rows=1)
    warehouse.load(schema("t", properties), line)
    rows = {row["id"]: row for row in warehouse.rows("t")}
    for name, text in NUMBERS.items():
        stored = rows["1"][name]
        assert stored is not None, name
        assert Decimal(str(stored)) == Decimal(text), (name, stored)
        assert Decimal(str(rows["0"][name])) == 1


@pytest.mark.parametrize("inside", ["[{}]", '[{{"a": {}}}]', "[[1, {}]]"])
def test_numbers_in_an_array_keep_every_digit(warehouse: Warehouse, inside: str) -> None:
    for at, number in enumerate(["0.1234567890123456789", "12345678901234567.5", "1e400"]):
        member = inside.format(number)
        line = f'{{"type": "RECORD", "stream": "t", "record": {{"id": "{at}", "v": {member}}}}}'
        warehouse.load(schema("t"), line)
        assert number in warehouse.by_id("t")[str(at)]["v"]


LONG_NUMBERS = {
    "9007199254740993.5": "text",
    "1234567890123456.7": "text",
    "999999999999999.67": "text",
    "12345678901234567e1": "integer",
    "-9007199254740993.0": "integer",
    "9007199254740993e0": "integer",
    "9.007199254740993e15": "integer",
    "1.2345678901234567E+16": "integer",
    "9.2233720368547758e18": "integer",
    "1.2345678901234569e20": "text",
    "1E99999999999999999999": "text",
    "1.234567890123456e16": "float",
    "1.5e300": "float",
}


@pytest.mark.parametrize("kind", ["none", "number", "string"])
def test_a_number_with_too_many_digits_for_a_float_keeps_them(
    warehouse: Warehouse, kind: str
) -> None:
    properties = {"id": "string"} | ({} if kind == "none" else {"n": kind})
    lines = []
    for place, text in enumerate(LONG_NUMBERS):
        line = f'{{"type": "RECORD", "stream": "t{place}", "record": {{"id": "1", "n": {text}}}}}'
        lines += [schema(f"t{place}", properties), line]
    warehouse.load(*lines)
    for place, (text, type_) in enumerate(LONG_NUMBERS.items()):
        assert says(text, warehouse.by_id(f"t{place}", "n")["1"])
        assert warehouse.types(f"t{place}")["n"] == ("text" if kind == "string" else type_), text


def test_a_long_number_among_many_that_are_not(warehouse: Warehouse) -> None:
    # These go the quick way, which has to notice.
    lines: list[Any] = []
    for place, text in enumerate(LONG_NUMBERS):
        others = (record(f"t{place}", id=str(n), n=n + 0.5) for n in range(600))
        line = f'{{"type": "RECORD", "stream": "t{place}", "record": {{"id": "x", "n": {text}}}}}'
        lines += [schema(f"t{place}"), *others, line]
    warehouse.load(*lines)
    for place, text in enumerate(LONG_NUMBERS):
        stored = warehouse.by_id(f"t{place}", "n")
        assert says(text, stored.pop("x"))
        assert {float(value) for value in stored.values()} == {n + 0.5 for n in range(600)}


def says(number: str, stored: Any) -> bool:
    """Whether what is stored is the number, to the last digit."""
    return stored == number or Decimal(str(stored)) == Decimal(number)


@pytest.mark.parametrize("mapped", [False, True])
@pytest.mark.parametrize("token", ["NaN", "Infinity", "-Infinity"])
def test_numbers_that_json_has_not(warehouse: Warehouse, token: str, mapped: bool) -> None:
    warehouse.config = {"stream_maps": {"t": {"more": "1"}}} if mapped else {}
    line = f'{{"type": "RECORD", "stream": "t", "record": {{"id": "1", "n": {token}}}}}'
    result = warehouse.run(schema("t", {"id": "string", "n": "number"}), line, state_line(1))
    if result.returncode:
        result.failed("line 2")
        assert result.states == []
    else:
        stored = warehouse.by_id("t", "n")["1"]
        assert math.isnan(stored) if token == "NaN" else stored == float(token.lower())


@pytest.mark.parametrize("beside", ["NaN", '"cut \\ud83d"', "[" * 1500 + '"\\ud83d"' + "]" * 1500])
def test_numbers_keep_every_digit_beside_what_the_reader_refuses(
    warehouse: Warehouse, beside: str
) -> None:
    numbers = {
        "id": '"1"',
        "long": "0.1234567890123456789012345",
        "huge": "1e400",
        "digits": "9" * 5000,
        "text": '"0.10, \\"1e400"',
    }
    members = ", ".join(f'"{name}": {text}' for name, text in numbers.items())
    line = f'{{ "record" : {{{members}, "odd": {beside}}} , "stream": "t","type":"RECORD"}}'
    warehouse.load(schema("t"), line)
    row = warehouse.by_id("t")["1"]
    assert row["text"] == '0.10, "1e400'
    assert [row[name] for name in ("long", "huge", "digits")] == [*numbers.values()][1:4]


def state_line(value: int) -> Message:
    return {"type": "STATE", "value": {"n": value}}
