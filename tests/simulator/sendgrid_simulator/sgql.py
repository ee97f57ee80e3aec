"""The query language of contacts/search, as far as a contact has the data (no engagement events).

Source: Twilio docs "Segmentation query language": comparisons, IN, LIKE, BETWEEN, IS NULL, AND, OR,
NOT, CONTAINS(list_ids, '…'), LOWER, LENGTH, NOW(), TIMESTAMP '…' and interval literals.
"""

from __future__ import annotations

import math
import re
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from sendgrid_simulator.population import TEXT_FIELDS, Contact
from sendgrid_simulator.times import parse_time

_TOKEN = re.compile(
    r"\s*(?:(?P<number>\d+(?:\.\d+)?)|(?P<string>'(?:[^'\\]|\\.|'')*'|\"(?:[^\"\\]|\\.)*\")"
    r"|`(?P<quoted>[^`]+)`|(?P<word>[A-Za-z_][\w.]*)|(?P<op><=|>=|!=|<>|[-+=<>(),]))"
)
_SECONDS = {"second": 1, "minute": 60, "hour": 3600, "day": 86400, "week": 604800}
_SECONDS |= {"month": 2592000, "year": 31536000}
_TIMES = ("created_at", "updated_at")

Value = Callable[[Contact], Any]
Test = Callable[[Contact], bool]


class QueryError(ValueError):
    """The query is not understood."""


@dataclass
class Query:
    """A parsed query.

    Attributes:
        test: Whether a contact matches.
        low: No contact that was updated before matches.
        high: No contact that was updated later matches.
        only_times: The bounds alone decide, so that matches can be counted by arithmetic.
        id: Only the contact with this id can match.
        email: Only the contact with this address can match.
    """

    test: Test
    low: float = -math.inf
    high: float = math.inf
    only_times: bool = False
    id: str = ""
    email: str = ""

    def both(self, other: Query) -> Query:
        """This AND that."""
        return Query(
            lambda contact: self.test(contact) and other.test(contact),
            max(self.low, other.low),
            min(self.high, other.high),
            self.only_times and other.only_times,
            self.id or other.id,
            self.email or other.email,
        )


@dataclass
class _Operand:
    """A side of a comparison: the value for a contact; the field's name or the constant, if so."""

    value: Value
    field: str = ""
    constant: Any = None


def parse(text: str) -> Query:
    """Parses a query.

    Raises:
        QueryError: The query is not understood.
    """
    return _Parser(text).whole()


class _Parser:
    def __init__(self, text: str) -> None:
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
        query = self._or()
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
            left, right = query, self._and()
            query = Query(
                lambda contact, a=left, b=right: a.test(contact) or b.test(contact),  # type: ignore[misc]
                min(left.low, right.low),
                max(left.high, right.high),
            )
        return query

    def _and(self) -> Query:
        query = self._not()
        while self._accept("and"):
            query = query.both(self._not())
        return query

    def _not(self) -> Query:
        if self._accept("not"):
            inner = self._not().test
            return Query(lambda contact: not inner(contact))
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
            return Query(lambda contact: not inner(contact)) if negated else query
        operator = self._accept("=", "!=", "<>", "<", "<=", ">", ">=")
        if not operator or negated:
            raise QueryError("a comparison is expected")
        return _compare(left, operator, self._operand())

    def _predicate(self, left: _Operand) -> Query | None:
        value = left.value
        if self._accept("between"):
            low = self._operand()
            self._expect("and")
            return _compare(left, ">=", low).both(_compare(left, "<=", self._operand()))
        if self._accept("in"):
            self._expect("(")
            allowed = [self._operand().constant]
            while self._accept(","):
                allowed.append(self._operand().constant)
            self._expect(")")
            return Query(lambda contact: value(contact) in allowed)
        if self._accept("like"):
            pattern = str(self._operand().constant)
            parts = [re.escape(part) for part in pattern.split("%")]
            regex = re.compile(".*".join(parts), re.DOTALL)
            return Query(lambda contact: regex.fullmatch(str(value(contact) or "")) is not None)
        if self._accept("is"):
            wanted = not self._accept("not")
            self._expect("null")
            return Query(lambda contact: (value(contact) in (None, "")) is wanted)
        return None

    def _contains(self) -> Query:
        self._expect("(")
        field = self._operand().value
        self._expect(",")
        wanted = self._operand().constant
        self._expect(")")
        return Query(lambda contact: wanted in (field(contact) or ()))

    def _operand(self) -> _Operand:
        left = self._term()
        while operator := self._accept("+", "-"):
            right = self._term()
            if left.constant is None or right.constant is None:
                raise QueryError("arithmetic is understood between constants only")
            sign = 1 if operator == "+" else -1
            left = _constant(left.constant + sign * right.constant)
        return left

    def _term(self) -> _Operand:
        if self._accept("("):
            inner_operand = self._operand()
            self._expect(")")
            return inner_operand
        kind, text = self._take()
        if kind == "number":
            return _constant(float(text))
        if kind == "string":
            return _constant(_unquote(text))
        if kind == "quoted":
            return _field(text)
        if kind != "word":
            raise QueryError(f"unexpected {text!r}")
        word = text.lower()
        if word == "timestamp":
            try:
                return _constant(parse_time(_unquote(self._take()[1])))
            except ValueError as error:
                raise QueryError(f"invalid timestamp: {error}") from None
        if word == "interval":
            amount, unit = float(self._take()[1]), self._take()[1].lower().rstrip("s")
            if unit not in _SECONDS:
                raise QueryError(f"unknown unit {unit!r}")
            return _constant(amount * _SECONDS[unit])
        if word in ("now", "lower", "length"):
            self._expect("(")
            inner = None if word == "now" else self._operand().value
            self._expect(")")
            if inner is None:
                return _constant(time.time())
            if word == "lower":
                return _Operand(lambda contact: str(inner(contact) or "").lower())
            return _Operand(lambda contact: float(len(inner(contact) or "")))
        return _field(text)


def _unquote(text: str) -> str:
    return re.sub(r"\\(.)|''", lambda match: match[1] or "'", text[1:-1])


def _constant(value: Any) -> _Operand:
    return _Operand(lambda _contact: value, constant=value)


def _field(name: str) -> _Operand:
    if name in (*_TIMES, "email", "alternate_emails", "list_ids", "segment_ids"):
        return _Operand(lambda contact: getattr(contact, name), name)
    if name == "contact_id":
        return _Operand(lambda contact: contact.id, name)
    if name in TEXT_FIELDS:
        return _Operand(lambda contact: contact.text.get(name, ""), name)
    return _Operand(lambda contact: contact.custom_fields.get(name), name)


def _compare(left: _Operand, operator: str, right: _Operand) -> Query:
    if left.constant is not None and right.field:
        mirrored = {"<": ">", "<=": ">=", ">": "<", ">=": "<="}
        return _compare(right, mirrored.get(operator, operator), left)
    if left.field in _TIMES and isinstance(right.constant, str):
        try:
            right = _constant(parse_time(right.constant))
        except ValueError:
            raise QueryError(f"{right.constant!r} is no timestamp") from None

    def test(contact: Contact) -> bool:
        a, b = left.value(contact), right.value(contact)
        if operator in ("=", "!=", "<>"):
            return (a == b) is (operator == "=")
        if a is None or b is None or isinstance(a, str) is not isinstance(b, str):
            return False
        order = {"<": a < b, "<=": a <= b, ">": a > b, ">=": a >= b}
        return bool(order[operator])

    query = Query(test)
    constant = right.constant
    if left.field == "updated_at" and isinstance(constant, float) and operator not in ("!=", "<>"):
        query.only_times = True
        if operator in (">", ">=", "="):
            query.low = constant if operator != ">" else math.floor(constant) + 1
        if operator in ("<", "<=", "="):
            query.high = constant if operator != "<" else math.ceil(constant) - 1
    elif operator == "=" and isinstance(constant, str):
        if left.field == "contact_id":
            query.id = constant
        elif left.field == "email":
            query.email = constant
    return query
