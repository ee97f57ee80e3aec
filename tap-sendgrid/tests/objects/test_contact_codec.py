"""Contacts as bytes: the compiled way and the slow way say the same, whatever the contact."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tap_sendgrid.api.errors import ExportFailed
from tap_sendgrid.api.generation import CustomField
from tap_sendgrid.objects.contact_codec import ContactCodec
from tap_sendgrid.schemas.columns import names
from tap_sendgrid.schemas.marketing import RECIPIENTS

FIELDS = (
    CustomField("plan", "text"),
    CustomField("Favourite Colour", "text"),
    CustomField("num_orders", "number"),
    CustomField("birthday", "date"),
)
ODD = (*FIELDS, CustomField('odd "name"\\', "text"))
ALL = names(RECIPIENTS)
CODEC = ContactCodec(FIELDS, ALL)
TIMES = st.datetimes().map(lambda moment: moment.strftime("%Y-%m-%dT%H:%M:%SZ").rjust(20, "0"))
ODD_TIMES = st.one_of(
    TIMES,
    st.datetimes().map(lambda moment: f"{moment:%Y-%m-%dT%H:%M:%S}.5Z".rjust(22, "0")),
    st.integers(1_000_000_000, 2_000_000_000),
    st.just("2024-05-06T07:08:09+02:00"),
)
CONTACTS = st.fixed_dictionaries(
    {"contact_id": st.uuids().map(str), "created_at": ODD_TIMES, "updated_at": ODD_TIMES},
    optional={
        **{name: st.text() for name in ("email", "first_name", "city", "postal_code")},
        "phone_number": st.one_of(st.none(), st.text(), st.integers()),
        "alternate_emails": st.one_of(st.none(), st.lists(st.text(min_size=1), max_size=3)),
        "unknown": st.integers(),
        "custom_fields": st.fixed_dictionaries(
            {},
            optional={
                "plan": st.one_of(st.none(), st.text()),
                "Favourite Colour": st.text(),
                "num_orders": st.one_of(
                    st.none(), st.integers(), st.floats(allow_nan=False, allow_infinity=False)
                ),
                "birthday": st.one_of(st.none(), TIMES, st.just("1999-12-31"), st.just("")),
                'odd "name"\\': st.text(),
                "gone": st.text(),
            },
        ),
    },
)


@settings(max_examples=50, deadline=None)
@given(CONTACTS)
def test_names_of_custom_fields_may_be_anything(contact: dict[str, Any]) -> None:
    codec = ContactCodec(ODD, ALL)
    (body,) = codec.lines([json.dumps(contact).encode()], "")
    custom = body.record()["custom_fields"]
    assert list(custom) == [field.name for field in ODD]
    given_value = contact.get("custom_fields", {}).get(ODD[-1].name)
    assert custom[ODD[-1].name] == (given_value or None)


@settings(max_examples=150, deadline=None)
@given(CONTACTS)
def test_both_ways_give_the_same_bytes(contact: dict[str, Any]) -> None:
    line = json.dumps(contact, ensure_ascii=False).encode()
    (quick,) = CODEC.lines([line], "")
    slow = CODEC.contact(contact)
    assert quick == slow
    record = quick.record()
    assert list(record) == [name for name in ALL if name != "received_at"]
    assert record["id"] == contact["contact_id"] == quick.id
    assert list(record["custom_fields"]) == [field.name for field in FIELDS]
    assert record["updated_at"].removesuffix("Z") == quick.updated_at
    assert "" not in record.values()


@settings(max_examples=50, deadline=None)
@given(CONTACTS, st.sets(st.sampled_from(ALL)))
def test_only_what_is_selected_is_in_the_record(contact: dict[str, Any], chosen: set[str]) -> None:
    codec = ContactCodec(FIELDS[:1], chosen)
    (body,) = codec.lines([json.dumps(contact).encode()], "")
    record = body.record()
    assert set(record) == (chosen | {"id", "updated_at"}) - {"received_at"}
    assert set(record.get("custom_fields", {"plan"})) == {"plan"}


def test_contacts_before_the_bookmark_are_left_out() -> None:
    times = ["2024-01-01T00:00:00Z", "2024-01-01T00:00:00.5Z", "2024-01-01T00:00:01Z"]
    lines = [json.dumps({"contact_id": t, "updated_at": t}).encode() for t in times]
    assert [b.id for b in CODEC.lines(lines, "2024-01-01T00:00:01")] == times[2:]
    assert [b.id for b in CODEC.lines(lines, "2024-01-01T00:00:00")] == times


def test_csv_rows_come_out_typed() -> None:
    row = {
        "contact_id": "c1",
        "email": "a@example.com",
        "alternate_emails": "b@example.com,c@example.com",
        "updated_at": "2024-01-01T00:00:00Z",
        "num_orders": "7",
        "favourite colour": "red",
        "birthday": "2024-05-05T00:00:00Z",
    }
    record = CODEC.contact(row).record()
    assert record["alternate_emails"] == ["b@example.com", "c@example.com"]
    assert record["custom_fields"]["num_orders"] == 7
    assert record["custom_fields"]["Favourite Colour"] == "red"
    assert record["custom_fields"]["plan"] is None


def test_a_number_that_is_none_is_kept_as_it_came() -> None:
    contact = {"contact_id": "c", "custom_fields": {"num_orders": "many"}}
    assert CODEC.contact(contact).record()["custom_fields"]["num_orders"] == "many"


@pytest.mark.parametrize("line", [b"{", b"[1]", b"not json", b'{"email":"a@b"}'])
def test_a_line_that_is_no_contact_is_told(line: bytes) -> None:
    with pytest.raises(ExportFailed):
        CODEC.lines([line], "")


@pytest.mark.parametrize(
    ("written", "read"),
    [(b"Zo\xeb", "Zo\\xeb"), (b"\\ud83d", "\\ud83d"), (b"a\x01b\xff\xfe", "a\x01b\\xff\\xfe")],
)
def test_what_is_no_text_is_kept_as_text(written: bytes, read: str) -> None:
    """As in events: nothing of it is lost, and the other contacts are read."""
    odd = b'{"contact_id":"c1","updated_at":"2024-01-01T00:00:00Z","first_name":"%b"}' % written
    other = b'{"contact_id":"c2","updated_at":"2024-01-01T00:00:00Z","first_name":"B"}'
    records = [body.record() for body in CODEC.lines([odd, other], "")]
    assert [record["first_name"] for record in records] == [read, "B"]
    assert records[0] == {**records[1], "id": "c1", "first_name": read}


def test_blank_lines_are_passed_over() -> None:
    assert CODEC.lines([b"", b"  ", b"\r"], "") == []
