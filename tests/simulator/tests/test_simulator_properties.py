"""What holds for any seed, any index, any query and any text."""

from __future__ import annotations

import contextlib
import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sendgrid_simulator import MessageBook, frame
from sendgrid_simulator.contacts import _language, run
from sendgrid_simulator.history import _ACTIVITY, _LOGS
from sendgrid_simulator.population import ContactBook
from sendgrid_simulator.sgql import QueryError, parse
from sendgrid_simulator.times import iso

ANCHOR = 1_780_000_000
WORDS = [
    "updated_at",
    "created_at",
    "email",
    "contact_id",
    "plan",
    "TIMESTAMP",
    "interval",
    "NOW",
    "LOWER",
    "LENGTH",
    "CONTAINS",
    "AND",
    "OR",
    "NOT",
    "IN",
    "LIKE",
    "BETWEEN",
    "IS",
    "NULL",
    "status",
    "sg_message_id_created_at",
    "unique_args",
]
TOKENS = st.one_of(
    st.sampled_from([*WORDS, *"()=<>,+-[]", "<=", ">=", "!=", "<>", "day", "1", "2.5"]),
    st.sampled_from(["'2026-01-01T00:00:00Z'", '"x"', "'a%'", "`odd name`", "''", "'\\'"]),
    st.text(max_size=6),
)
LANGUAGES = {
    "contacts": _language(ContactBook(0, 0, 0, 1, lambda _index: ([], []))),
    "logs": _LOGS,
    "activity": _ACTIVITY,
}


def book(size, seed, same_second=1):
    return ContactBook(size, seed, ANCHOR, same_second, lambda _index: ([], []))


ROWS = {name: MessageBook(3, 1, ANCHOR).get(0) for name in LANGUAGES}
ROWS["contacts"] = book(3, 1).get(0)


FIELDS = st.sampled_from(
    [
        "updated_at",
        "email",
        "plan",
        "list_ids",
        "num_orders",
        "status",
        "clicks",
        "events",
        "categories",
        "last_event_time",
        "sg_message_id_created_at",
        "'x'",
        "3",
        "NOW()",
        "LOWER(email)",
        "LENGTH(email)",
    ]
)
VALUES = st.sampled_from(
    ["'x'", "3", "TIMESTAMP '2026-01-01T00:00:00Z'", "NOW() - interval 3 day", "email", "'a%'"]
)
CONDITIONS = st.one_of(
    st.tuples(FIELDS, st.sampled_from([*"=<>", "<=", "!=", "LIKE"]), VALUES),
    st.tuples(FIELDS, st.just("BETWEEN"), VALUES, st.just("AND"), VALUES),
    st.tuples(FIELDS, st.sampled_from(["IN", "NOT IN"]), st.just("("), VALUES, st.just(")")),
    st.tuples(FIELDS, st.sampled_from(["IS NULL", "IS NOT NULL"])),
    st.tuples(st.just("CONTAINS("), FIELDS, st.just(","), VALUES, st.just(")")),
).map(" ".join)
QUERIES = st.one_of(
    st.lists(TOKENS, max_size=12).map(" ".join),
    st.lists(CONDITIONS, min_size=1, max_size=3).map(" AND ".join),
    st.lists(CONDITIONS, min_size=2, max_size=3).map(" OR ".join),
)


@pytest.mark.parametrize("name", LANGUAGES)
@settings(max_examples=200, deadline=None)
@given(text=QUERIES)
def test_any_text_is_a_query_or_is_refused(name, text):
    row = ROWS[name]
    with contextlib.suppress(QueryError):
        query = parse(text, LANGUAGES[name])
        assert query.test(row) in (True, False)


@settings(max_examples=60, deadline=None)
@given(
    size=st.integers(1, 200),
    same=st.integers(1, 50),
    bounds=st.tuples(st.integers(0, 1000), st.integers(0, 1000)),
    deleted=st.sets(st.integers(0, 199), max_size=8),
    changed=st.dictionaries(st.integers(0, 199), st.integers(0, 1000), max_size=8),
)
def test_counting_by_arithmetic_equals_counting_one_by_one(size, same, bounds, deleted, changed):
    contacts = book(size, 1, same)
    start, span = ANCHOR - 365 * 86400, 365 * 86400

    def instant(part):
        return start + part * span // 1000

    for index, part in changed.items():
        if index < size:
            contacts.update(index, instant(part))
    contacts.add("new@example.com", instant(bounds[0]))
    for index in deleted:
        if index < size:
            contacts.delete(index)
    low, high = (instant(part) for part in bounds)
    text = f"updated_at >= TIMESTAMP '{iso(low)}' AND updated_at < TIMESTAMP '{iso(high)}'"
    found, total = run(contacts, parse(text, LANGUAGES["contacts"]))
    everyone = [contacts.get(index) for index in contacts.order()]
    expected = {contact.id for contact in everyone if low <= contact.updated_at < high}
    assert total == len(expected)
    assert {contact.id for contact in found} <= expected
    assert len(found) == min(50, total)
    assert len(everyone) == len(contacts)


@given(seed=st.integers(0, 10**9), index=st.integers(0, 2**31), size=st.integers(1, 2**31))
def test_contacts_are_found_by_what_they_are_called(seed, index, size):
    index %= size
    contacts = book(size, seed)
    contact = contacts.get(index)
    assert contacts.find(id=contact.id) == contact
    assert contacts.find(email=contact.email) == contact
    assert contact.created_at <= contact.updated_at <= ANCHOR
    assert index in contacts.updated_between(contact.updated_at, contact.updated_at)
    assert index in contacts.created_between(contact.created_at, contact.created_at)


@given(seed=st.integers(0, 10**9), index=st.integers(0, 2**31), count=st.integers(1, 2**31))
def test_messages_are_found_by_their_ids(seed, index, count):
    messages = MessageBook(count, seed, ANCHOR)
    message = messages.get(index % count)
    assert messages.find(message.message_id) == message
    assert len(message.events) == len(message.ids)
    assert message.index in messages.between(message.created_at, message.created_at)


TEXTS = st.text(st.characters(codec="utf-8"), max_size=20)


@given(events=st.lists(st.dictionaries(TEXTS, TEXTS, max_size=4), min_size=1, max_size=5))
def test_framing_keeps_every_text(events):
    body = frame(events)
    assert json.loads(body) == events
    assert body.startswith(b"[{")
    assert body.endswith(b"}]\r\n")
    assert body.count(b"},\r\n{") == len(events) - 1
