"""Search of the legacy generation: by query parameters (whole days) and by conditions (seconds).

Source: official spec lmc_contactdb and the API blueprint of 2018.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from sendgrid_simulator.http import ApiError
from sendgrid_simulator.times import DAY, parse_time

if TYPE_CHECKING:
    from sendgrid_simulator.http import Call
    from sendgrid_simulator.population import Contact, ContactBook

Test = Callable[["Contact"], bool]
_DATES = ("created_at", "updated_at", "last_emailed", "last_opened", "last_clicked")
_TEXTS = ("first_name", "last_name", "email")


def _value(contact: Contact, field: str) -> Any:
    if field in _DATES or field == "email":
        return getattr(contact, field)
    if field in _TEXTS:
        return contact.text.get(field) or None
    return contact.custom_fields.get(field)


def _is_date(book: ContactBook, field: str) -> bool:
    custom = {f.name for f in book.fields if f.field_type == "Date"}
    return field in _DATES or field in custom


def _known(book: ContactBook, field: str) -> bool:
    return field in _DATES or field in _TEXTS or any(f.name == field for f in book.fields)


def _matches(book: ContactBook, test: Test, candidates: Iterable[int]) -> list[int]:
    """Indexes of the contacts that pass, among these and all that were changed."""
    hidden = book.deleted | book.changed.keys()
    hits = [index for index in candidates if index not in hidden and test(book.get(index))]
    return hits + [index for index, contact in sorted(book.changed.items()) if test(contact)]


def by_parameters(call: Call) -> list[int]:
    """Contacts whose fields equal the query parameters.

    Raises:
        ApiError: 400 for no parameter, an unknown one, or a date that is no epoch.
    """
    book = call.account.contacts
    wanted = {
        name: value
        for name, value in call.request.query_params.items()
        if name not in ("page", "page_size")
    }
    unknown = [name for name in wanted if not _known(book, name)]
    if unknown:
        names = ", ".join(unknown)
        text = f"The following parameters are not custom fields or reserved fields: [{names}]"
        raise ApiError(400, text, {})
    if not wanted:
        raise ApiError(400, "No search params are specified", {})
    candidates: Iterable[int] = range(book.size)
    tests: list[Test] = []
    for name, value in wanted.items():
        if not _is_date(book, name):
            tests.append(lambda c, n=name, v=value: str(_value(c, n)) == v)  # type: ignore[misc]
            continue
        if not value.lstrip("-").isdigit():
            raise ApiError(400, f"invalid date: {value}", {"field": name})
        day = int(value) // DAY * DAY
        tests.append(_compare(name, "eq", (day, day + DAY - 1)))
        if name == "updated_at":
            candidates = book.updated_between(day, day + DAY - 1)
        elif name == "created_at":
            candidates = book.created_between(day, day + DAY - 1)
    return _matches(book, lambda contact: all(test(contact) for test in tests), candidates)


def by_conditions(call: Call) -> list[int]:
    """Contacts that meet the segment conditions in the body, at most fifteen.

    Raises:
        ApiError: 400 or 404, for what is wrong with the conditions or the list.
    """
    body = call.json_object()
    book = call.account.contacts
    conditions = body.get("conditions")
    if not isinstance(conditions, list) or not conditions or len(conditions) > 15:
        raise ApiError(400, "1 to 15 conditions are required", {"field": "conditions"})
    low, high = float("-inf"), float("inf")
    tests: list[tuple[str, Test]] = []
    for number, condition in enumerate(conditions):
        joined, test, bounds = _condition(book, condition, first=number == 0)
        tests.append((joined, test))
        low, high = max(low, bounds[0]), min(high, bounds[1])
    if any(joined == "or" for joined, _ in tests):
        low, high = float("-inf"), float("inf")
    list_id = body.get("list_id")
    member: Test = lambda _contact: True  # noqa: E731
    if list_id is not None:
        chosen = next((x.id for x in call.account.lists if x.number == list_id), None)
        if chosen is None:
            raise ApiError(404, "List ID does not exist", {"field": "list_id"})
        member = lambda contact: chosen in contact.list_ids  # noqa: E731

    def meets(contact: Contact) -> bool:
        result = True
        for joined, test in tests:
            result = (result or test(contact)) if joined == "or" else (result and test(contact))
        return result and member(contact)

    return _matches(book, meets, book.updated_between(low, high))


def _condition(
    book: ContactBook, condition: Any, *, first: bool
) -> tuple[str, Test, tuple[float, float]]:
    """How a condition is joined, its test, and the bounds that it puts on ``updated_at``."""
    if not isinstance(condition, dict):
        raise ApiError(400, "a condition must be an object", {"field": "conditions"})
    field, operator = condition.get("field", ""), condition.get("operator", "")
    joined, value = condition.get("and_or", ""), condition.get("value", "")
    if (joined != "") if first else (joined not in ("and", "or")):
        raise ApiError(
            400, "and_or must be empty first and 'and' or 'or' then", {"field": "and_or"}
        )
    if not isinstance(value, str):
        raise ApiError(400, "condition values must be strings", {"field": "value"})
    if not _known(book, field):
        raise ApiError(400, f"unknown field: {field}", {"field": "field"})
    operators = ("eq", "ne", "lt", "gt", "contains", "empty", "not_empty")
    if operator not in operators:
        raise ApiError(400, f"invalid operator: {operator}", {"field": "operator"})
    everything = (float("-inf"), float("inf"))
    if operator in ("empty", "not_empty"):
        empty = operator == "empty"
        return joined, lambda c: (_value(c, field) in (None, "")) is empty, everything
    if not _is_date(book, field):
        return joined, _plain(field, operator, value), everything
    span = _span(value)
    bounds = everything
    if field == "updated_at":
        bounds = {
            "eq": (float(span[0]), float(span[1])),
            "gt": (span[1] + 1.0, float("inf")),
            "lt": (float("-inf"), span[0] - 1.0),
        }.get(operator, everything)
    return joined, _compare(field, operator, span), bounds


def _span(text: str) -> tuple[int, int]:
    """The first and last second of a value: an epoch is one second, MM/DD/YYYY a day."""
    if text.lstrip("-").isdigit():
        return int(text), int(text)
    try:
        day = int(datetime.strptime(text, "%m/%d/%Y").replace(tzinfo=UTC).timestamp())
    except ValueError:
        raise ApiError(400, f"invalid date: {text}", {"field": "value"}) from None
    return day, day + DAY - 1


def _compare(field: str, operator: str, span: tuple[int, int]) -> Test:
    def test(contact: Contact) -> bool:
        value = _value(contact, field)
        if value is None:
            return False
        second = parse_time(value) if isinstance(value, str) else value
        if operator == "gt":
            return bool(second > span[1])
        if operator == "lt":
            return bool(second < span[0])
        return (span[0] <= second <= span[1]) is (operator == "eq")

    return test


def _plain(field: str, operator: str, wanted: str) -> Test:
    def test(contact: Contact) -> bool:
        value = _value(contact, field)
        if operator in ("lt", "gt"):
            try:
                number = float(wanted)
            except ValueError:
                return False
            if not isinstance(value, int | float):
                return False
            return value < number if operator == "lt" else value > number
        if operator == "contains":
            return value is not None and wanted.lower() in str(value).lower()
        return (value is not None and str(value) == wanted) is (operator == "eq")

    return test
