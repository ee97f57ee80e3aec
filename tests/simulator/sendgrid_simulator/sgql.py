"""SendGrid's query languages: contacts/search (SGQL), ``/v3/messages`` and ``/v3/logs``.

Source: Twilio docs "Segmentation query language", "Getting started with the Email Activity API" and
the spec of the logs: comparisons, IN, LIKE, BETWEEN, IS NULL, AND, OR, NOT, CONTAINS(list, '…'),
LOWER, LENGTH, NOW(), TIMESTAMP '…' and intervals. What each language knows is its `Language`.
"""

from __future__ import annotations

import math
import re
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from sendgrid_simulator.times import parse_time

_TOKEN = re.compile(
    r"\s*(?:(?P<number>\d+(?:\.\d+)?)|(?P<string>'(?:[^'\\]|\\.|'')*'|\"(?:[^\"\\]|\\.)*\")"
    r"|`(?P<quoted>[^`]+)`|(?P<word>[A-Za-z_][\w.]*)|(?P<op><=|>=|!=|<>|[-+=<>(),\[\]]))"
)
_SECONDS = {"second": 1, "minute": 60, "hour": 3600, "day": 86400, "week": 604800}
_SECONDS |= {"month": 2592000, "year": 31536000}

Test = Callable[[Any], bool]


class QueryError(ValueError):
    """The query is not understood."""


@dataclass(frozen=True)
class Language:
    """What queries may ask of a row.

    Attributes:
        value: The value of a row's field.
        known: Whether there is such a field.
        times: Fields that are instants, in unix seconds.
        clock: The field by which rows are ordered, so that its bounds narrow a search.
        plain: AND is the only way to combine conditions, and nothing is nested.
    """

    value: Callable[[Any, str], Any]
    known: Callable[[str], bool]
    times: tuple[str, ...]
    clock: str
    plain: bool = False


@dataclass
class Query:
    """A parsed query.

    Attributes:
        test: Whether a row matches.
        low: No row with an earlier clock matches.
        high: No row with a later clock matches.
        only_clock: The bounds alone decide, so that matches can be counted by arithmetic.
        equals: Fields that must have exactly this text.
    """

    test: Test
    low: float = -math.inf
    high: float = math.inf
    only_clock: bool = False
    equals: dict[str, str] = field(default_factory=dict)

    def both(self, other: Query) -> Query:
        """This AND that."""
        return Query(
            lambda row: self.test(row) and other.test(row),
            max(self.low, other.low),
            min(self.high, other.high),
            self.only_clock and other.only_clock,
            {**other.equals, **self.equals},
        )

    def either(self, other: Query) -> Query:
        """This OR that."""
        return Query(
            lambda row: self.test(row) or other.test(row),
            min(self.low, other.low),
            max(self.high, other.high),
        )


@dataclass
class _Operand:
    """A side of a comparison: the value of a row; the field's name or the constant, if it is so."""

    value: Callable[[Any], Any]
    field: str = ""
    constant: Any = None


def parse(text: str, language: Language) -> Query:
    """Parses a query.

    Raises:
        QueryError: The query is not understood.
    """
    return _Parser(text, language).whole()


class _Parser:
    def __init__(self, text: str, language: Language) -> None:
        self._language = language
        self._tokens: list[tuple[str, str]] = []
        position = 0
        text = text.rstrip()
        while position < len(text):
            match = _TOKEN.match(text, position)
            if match is None or match.lastgroup is None:
                raise QueryError(f"unexpected {text[position : position + 20]!r}")
            self._tokens.append((match.lastgroup, match[match.lastgroup]))
            position = match.end()
        self._at = 0

    def whole(self) -> Query:
        query = self._and() if self._language.plain else self._or()
        if self._at < len(self._tokens):
            raise QueryError(f"unexpected {self._tokens[self._at][1]!r}")
        return query

    def _take(self) -> tuple[str, str]:
        if self._at >= len(self._tokens):
            raise QueryError("the query ends too early")
        self._at += 1
        return self._tokens[self._at - 1]

    def _accept(self, *texts: str) -> str:
        """The next token, lower case, if it is one of these; else nothing is taken."""
        if self._at < len(self._tokens):
            kind, text = self._tokens[self._at]
            if kind in ("word", "op") and text.lower() in texts:
                self._at += 1
                return text.lower()
        return ""

    def _expect(self, text: str) -> None:
        if not self._accept(text):
            raise QueryError(f"{text!r} expected")

    def _or(self) -> Query:
        query = self._and()
        while self._accept("or"):
            query = query.either(self._and())
        return query

    def _and(self) -> Query:
        query = self._not()
        while self._accept("and"):
            query = query.both(self._not())
        return query

    def _not(self) -> Query:
        if not self._language.plain:
            if self._accept("not"):
                inner = self._not().test
                return Query(lambda row: not inner(row))
            if self._accept("("):
                query = self._or()
                self._expect(")")
                return query
        return self._comparison()

    def _comparison(self) -> Query:
        if self._accept("contains"):
            return self._contains()
        left = self._operand()
        negated = bool(self._accept("not"))
        query = self._predicate(left)
        if query is not None:
            inner = query.test
            return Query(lambda row: not inner(row)) if negated else query
        operator = self._accept("=", "!=", "<>", "<", "<=", ">", ">=")
        if not operator or negated:
            raise QueryError("a comparison is expected")
        return _compare(self._language, left, operator, self._operand())

    def _predicate(self, left: _Operand) -> Query | None:
        value = left.value
        if self._accept("between"):
            low = _compare(self._language, left, ">=", self._operand())
            self._expect("and")
            return low.both(_compare(self._language, left, "<=", self._operand()))
        if self._accept("in"):
            self._expect("(")
            allowed = {self._operand().constant}
            while self._accept(","):
                allowed.add(self._operand().constant)
            self._expect(")")
            return Query(lambda row: _member(value(row), allowed))
        if self._accept("like"):
            pattern = str(self._operand().constant)
            parts = [re.escape(part) for part in pattern.split("%")]
            regex = re.compile(".*".join(parts), re.DOTALL)
            return Query(lambda row: regex.fullmatch(str(value(row) or "")) is not None)
        if self._accept("is"):
            wanted = not self._accept("not")
            self._expect("null")
            return Query(lambda row: (value(row) in (None, "")) is wanted)
        return None

    def _contains(self) -> Query:
        self._expect("(")
        values = self._operand().value
        self._expect(",")
        wanted = self._operand().constant
        self._expect(")")
        return Query(lambda row: isinstance(found := values(row), list) and wanted in found)

    def _operand(self) -> _Operand:
        left = self._term()
        while operator := self._accept("+", "-"):
            right = self._term()
            if not (isinstance(left.constant, float) and isinstance(right.constant, float)):
                raise QueryError("arithmetic is understood between numbers and times only")
            sign = 1 if operator == "+" else -1
            left = _constant(left.constant + sign * right.constant)
        return left

    def _term(self) -> _Operand:
        if self._accept("("):
            nested = self._operand()
            self._expect(")")
            return nested
        kind, text = self._take()
        if kind == "number":
            return _constant(float(text))
        if kind == "string":
            return _constant(_unquote(text))
        if kind == "quoted":
            return self._field(text)
        if kind != "word":
            raise QueryError(f"unexpected {text!r}")
        return self._word(text)

    def _word(self, text: str) -> _Operand:
        word = text.lower()
        if word == "timestamp":
            try:
                return _constant(parse_time(_unquote(self._take()[1])))
            except ValueError as error:
                raise QueryError(f"invalid timestamp: {error}") from None
        if word == "interval":
            kind, amount = self._take()
            unit = self._take()[1].lower().rstrip("s")
            if kind != "number" or unit not in _SECONDS:
                raise QueryError(f"invalid interval: {amount} {unit}")
            return _constant(float(amount) * _SECONDS[unit])
        if word not in ("now", "lower", "length"):
            if self._accept("["):
                text += f"[{_unquote(self._take()[1])}]"
                self._expect("]")
            return self._field(text)
        self._expect("(")
        inner = None if word == "now" else self._operand().value
        self._expect(")")
        if inner is None:
            return _constant(time.time())
        if word == "lower":
            return _Operand(lambda row: str(inner(row) or "").lower())
        return _Operand(lambda row: float(len(inner(row) or "")))

    def _field(self, name: str) -> _Operand:
        if not self._language.known(name):
            raise QueryError(f"'{name}' is not a known field")
        value = self._language.value
        return _Operand(lambda row: value(row, name), name)


def _unquote(text: str) -> str:
    return re.sub(r"\\(.)|''", lambda match: match[1] or "'", text[1:-1])


def _constant(value: Any) -> _Operand:
    return _Operand(lambda _row: value, constant=value)


def _member(value: Any, allowed: set[Any]) -> bool:
    """Whether a value, or one of several, is among those allowed."""
    if isinstance(value, list):
        return not allowed.isdisjoint(value)
    return value in allowed


def _number(value: Any) -> bool:
    return isinstance(value, int | float)


def _compare(language: Language, left: _Operand, operator: str, right: _Operand) -> Query:
    if left.constant is not None and right.field:
        mirrored = {"<": ">", "<=": ">=", ">": "<", ">=": "<="}
        return _compare(language, right, mirrored.get(operator, operator), left)
    if left.field in language.times and isinstance(right.constant, str):
        try:
            right = _constant(parse_time(right.constant))
        except ValueError:
            raise QueryError(f"{right.constant!r} is no timestamp") from None

    def test(row: Any) -> bool:
        a, b = left.value(row), right.value(row)
        if operator in ("=", "!=", "<>"):
            return (a == b) is (operator == "=")
        kinds = (isinstance(a, str), isinstance(b, str))
        if kinds != (True, True) and not (_number(a) and _number(b)):
            return False
        return bool({"<": a < b, "<=": a <= b, ">": a > b, ">=": a >= b}[operator])

    query = Query(test)
    constant = right.constant
    if left.field == language.clock and isinstance(constant, float):
        if operator in (">", ">=", "="):
            query.low = constant if operator != ">" else math.floor(constant) + 1
        if operator in ("<", "<=", "="):
            query.high = constant if operator != "<" else math.ceil(constant) - 1
        query.only_clock = operator not in ("!=", "<>")
    elif operator == "=" and left.field and isinstance(constant, str):
        query.equals[left.field] = constant
    return query
