"""Recipients, complete: exports in all their forms, and the legacy generation's pages."""

from __future__ import annotations

import dataclasses
import logging
import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import pytest
from sendgrid_simulator import Fault
from tap_sendgrid.objects.exports import _csv_chunks, _flat
from tap_sendgrid.schemas.marketing import PROFILE_NAMES

if TYPE_CHECKING:
    from conftest import Output, TapRunner

    Serve = Callable[..., TapRunner]


def iso(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def expected(run: TapRunner) -> dict[str, dict[str, Any]]:
    """What the account holds, as records of the current generation without received_at."""
    book = run.simulator.account.contacts
    names = [definition.name for definition in book.fields]
    records = {}
    for contact in (book.at(slot) for slot in range(book.slots)):
        if contact is None:
            continue
        records[contact.id] = {
            **{name: contact.text.get(name) or None for name in TEXTS},
            "id": contact.id,
            "email": contact.email,
            "alternate_emails": contact.alternate_emails or None,
            "created_at": iso(contact.created_at),
            "updated_at": iso(contact.updated_at),
            "last_emailed": None,
            "last_opened": None,
            "last_clicked": None,
            "custom_fields": {name: contact.custom_fields.get(name) for name in names},
        }
    return records


TEXTS = [name for name in PROFILE_NAMES if name != "email"]


def got(output: Output) -> dict[str, dict[str, Any]]:
    records = output.by_id("recipients")
    assert len(records) == len(output.records("recipients")), "a contact came twice"
    for record in records.values():
        del record["received_at"]
    return records


@pytest.mark.parametrize("encoding", ["gzip", "plain", "alternate"])
def test_an_export_of_several_files_gives_every_contact(serve: Serve, encoding: str) -> None:
    run = serve(contacts=501, export_rows_per_file=100, export_encoding=encoding)
    output = run("recipients")
    assert got(output) == expected(run)
    assert len([call for call in output.called if "/downloads/" in call]) == 6


def test_an_export_of_nothing(serve: Serve) -> None:
    run = serve(contacts=0)
    output = run("recipients")
    assert output.records("recipients") == []
    assert not output.incomplete


def test_the_download_carries_no_authorization(serve: Serve) -> None:
    output = serve(contacts=10)("recipients")
    downloads = [r for r in output.requests if r.path.startswith("/downloads/")]
    assert downloads
    assert all("authorization" not in request.headers for request in downloads)


def test_a_failed_export_falls_back_to_csv_with_the_same_records(serve: Serve) -> None:
    run = serve(contacts=300, export_failures=1, export_rows_per_file=120)
    run.simulator.account.contacts.update(
        3, 1_800_000_000, first_name='A "quoted", name', city="Zürich", custom_fields={"plan": "x"}
    )
    output = run("recipients")
    assert got(output) == expected(run)
    assert len([call for call in output.called if call.startswith("POST")]) == 2


def test_bytes_of_a_csv_that_are_no_text_are_kept_as_text() -> None:
    lines = [b"CONTACT_ID,FIRST_NAME", b"c1,Zo\xeb"]
    (chunk,) = _csv_chunks(_flat(lines, iter(())), 0, 0)
    assert chunk.rows == [{"contact_id": "c1", "first_name": "Zo\\xeb"}]


def test_two_failed_exports_are_reported_with_sendgrids_reason(serve: Serve) -> None:
    run = serve(contacts=10, export_failures=2)
    output = run("recipients")
    assert "could not be completed" in output.tap.report.failed["recipients"]
    assert "replication_key_value" not in output.state["bookmarks"].get("recipients", {})


def test_polling_backs_off_and_gives_up_with_the_setting_to_raise(
    serve: Serve, quick: list[float]
) -> None:
    run = serve(contacts=10, export_polls=10_000)
    output = run("recipients", export_timeout_seconds=1)
    assert "export_timeout_seconds" in output.tap.report.failed["recipients"]
    polls = [wait for wait in quick if wait >= 0.5]
    assert polls[:7] == [0.5, 1.0, 2.0, 4.0, 8.0, 15.0, 30.0]


def test_a_pending_export_is_adopted(serve: Serve) -> None:
    run = serve(contacts=10, export_polls=3)
    account = run.simulator.account
    run("recipients", export_timeout_seconds=1)  # done; now one that somebody else started
    from tap_sendgrid.api.client import Client

    client = Client(run.simulator.api_key, run.simulator.url)
    other = client.post("/v3/marketing/contacts/exports", {"file_type": "csv"})["id"]
    partial = client.post(
        "/v3/marketing/contacts/exports", {"list_ids": [account.lists[1].id], "file_type": "json"}
    )["id"]
    output = run("recipients")
    assert "POST /v3/marketing/contacts/exports" not in output.called
    assert any(other in call for call in output.called)
    assert not any(partial in call for call in output.called)
    assert got(output) == expected(run)


def test_expired_links_are_renewed(serve: Serve) -> None:
    run = serve(contacts=400, export_rows_per_file=100, export_encoding="alternate")
    run.simulator.faults.append(Fault("status", path="/downloads/", status=403, skip=2, times=2))
    output = run("recipients")
    assert got(output) == expected(run)


@pytest.mark.parametrize("encoding", ["gzip", "plain"])
def test_a_download_that_is_cut_goes_on_where_it_broke(serve: Serve, encoding: str) -> None:
    run = serve(contacts=6000, export_encoding=encoding)
    for after in (150, 40_000, 90_000):
        run.simulator.faults.append(Fault("cut_body", path="/downloads/", after_bytes=after))
    output = run("recipients")
    assert got(output) == expected(run)
    assert len([call for call in output.called if "/downloads/" in call]) == 4


def test_a_download_that_never_works_is_reported(serve: Serve) -> None:
    run = serve(contacts=10)
    run.simulator.faults.append(Fault("status", path="/downloads/", status=403, times=99))
    output = run("recipients")
    assert "cannot be read" in output.tap.report.failed["recipients"]


def test_custom_fields_are_typed_in_the_catalog(serve: Serve) -> None:
    run = serve(contacts=5)
    streams = {s["stream"]: s for s in run.catalog("recipients")["streams"]}
    schema = streams["recipients"]["schema"]["properties"]["custom_fields"]["properties"]
    kinds = {d.name: d.field_type for d in run.simulator.account.contacts.fields}
    assert set(schema) == set(kinds)
    for name, kind in kinds.items():
        assert schema[name]["type"] == [{"Number": "number"}.get(kind, "string"), "null"]
        assert (schema[name].get("format") == "date-time") == (kind == "Date")


def test_a_custom_field_added_between_runs_is_found_though_the_catalog_is_old(
    serve: Serve,
) -> None:
    run = serve(contacts=5)
    catalog = run.catalog("recipients")
    state = run("recipients", catalog=catalog).state
    book = run.simulator.account.contacts
    from sendgrid_simulator.population import FieldDefinition

    first = book.fields[0]
    values = {**vars(first), "name": "New Field"}
    book.fields.append(FieldDefinition(**values))
    book.update(2, int(time.time()), custom_fields={"New Field": "hello"})
    output = run("recipients", catalog=catalog, state=state)
    properties = output.schema("recipients")["properties"]["custom_fields"]["properties"]
    assert "New Field" in properties
    record = output.by_id("recipients")[book.get(2).id]
    assert record["custom_fields"]["New Field"] == "hello"


@pytest.mark.parametrize(
    "config", [{"on_behalf_of": ["anna", "ben"]}, {"recipient_memberships": True}]
)
@pytest.mark.parametrize("maps", [{}, {"stream_maps": {"recipients": {"twice": "id + id"}}}])
def test_a_catalog_that_is_older_than_a_setting_gets_its_properties(
    serve: Serve, config: dict[str, Any], maps: dict[str, Any]
) -> None:
    run = serve(contacts=12, subusers=("anna", "ben"))
    output = run(catalog=run.catalog("recipients", "lists"), **config, **maps)
    for stream in ("recipients", "lists"):
        assert output.records(stream)
        for record in output.records(stream):
            assert set(record) == set(output.schema(stream)["properties"])


@pytest.mark.parametrize("generation", ["marketing", "legacy"])
def test_all_contacts_come_again_when_the_properties_are_others(
    serve: Serve, generation: str
) -> None:
    """Contacts that do not change would lack what was selected or renamed."""
    run = serve(contacts=30, generation=generation)
    book = run.simulator.account.contacts
    states = [run("recipients", without=("first_name", "custom_fields.plan")).state]
    states.append(run("recipients", state=states[-1]).state)
    selected = run("recipients", state=states[0])
    assert all("plan" in record["custom_fields"] for record in selected.records("recipients"))
    assert len(selected.records("recipients")) == 30
    book.fields[0] = dataclasses.replace(book.fields[0], name="Renamed")
    renamed = run("recipients", state=states[1])
    assert len(renamed.records("recipients")) == 30
    assert run("recipients", state=renamed.state).records("recipients") == []
    since = iso(sorted(book.updated_at(slot) for slot in range(30))[20])
    late = run("recipients", state=states[0], start_date=since)
    assert 10 <= len(late.records("recipients")) < 20


def test_a_custom_field_of_another_subuser_brings_not_all_contacts_again(serve: Serve) -> None:
    run = serve(contacts=10, subusers=("north", "south"))
    config = {"on_behalf_of": ["north", "south"]}
    state = run("recipients", **config).state
    book = run.simulator.subusers["south"].contacts
    book.fields[0] = dataclasses.replace(book.fields[0], name="Renamed")
    again = run("recipients", state=state, **config)
    subusers = [record["subuser"] for record in again.records("recipients")]
    assert subusers.count("south") == 10
    assert subusers.count("north") <= 1  # of the bookmark's second, which is read again


def test_a_value_that_is_cleared_is_emitted_as_null(serve: Serve) -> None:
    run = serve(contacts=5)
    book = run.simulator.account.contacts
    book.update(1, int(time.time()) - 5000, first_name="Ann", custom_fields={"plan": "gold"})
    state = run("recipients").state
    book.update(1, int(time.time()), first_name="", custom_fields={"plan": None})
    (record,) = run("recipients", state=state).records("recipients")
    assert record["first_name"] is None
    assert record["custom_fields"]["plan"] is None


def test_deselected_properties_stay_out_of_schema_and_records(serve: Serve) -> None:
    without = ("email", "custom_fields.plan", "received_at", "alternate_emails")
    output = serve(contacts=20)("recipients", without=without)
    schema = output.schema("recipients")["properties"]
    for record in output.records("recipients"):
        assert not {"email", "received_at", "alternate_emails"} & set(record)
        assert "plan" not in record["custom_fields"]
        assert set(record) == set(schema)
    assert "plan" not in schema["custom_fields"]["properties"]


@pytest.mark.parametrize("generation", ["marketing", "legacy"])
def test_the_sdks_way_gives_the_same_records(serve: Serve, generation: str) -> None:
    run = serve(contacts=150, generation=generation, export_rows_per_file=70)
    quick_way = run("recipients")
    mapped = run("recipients", stream_maps={"recipients": {"twice": "email + email"}})
    records = got(mapped)
    assert all(r.pop("twice") == r["email"] * 2 for r in records.values())
    assert records == got(quick_way)
    flat = run("recipients", flattening_enabled=True, flattening_max_depth=1)
    assert all("custom_fields__plan" in record for record in flat.records("recipients"))


# -- memberships ------------------------------------------------------------------------------


def test_memberships_on_request(serve: Serve) -> None:
    run = serve(contacts=250, lists=3, segments=2)
    plain = run("recipients")
    assert "list_ids" not in plain.schema("recipients")["properties"]
    output = run("recipients", recipient_memberships=True)
    book = run.simulator.account.contacts
    records = output.by_id("recipients")
    for index in range(250):
        contact = book.get(index)
        assert records[contact.id]["list_ids"] == contact.list_ids
        assert records[contact.id]["segment_ids"] == contact.segment_ids
    assert output.called.count("POST /v3/marketing/contacts/batch") == 3
    changed = book.update(7, int(time.time()), first_name="New")
    again = run("recipients", recipient_memberships=True, state=output.state)
    (record,) = again.records("recipients")
    assert record["list_ids"] == changed.list_ids
    assert "POST /v3/marketing/contacts/batch" not in again.called  # the search tells them


def test_legacy_memberships(serve: Serve) -> None:
    run = serve(contacts=12, lists=2, generation="legacy")
    output = run("recipients", recipient_memberships=True)
    account = run.simulator.account
    numbers = {item.id: str(item.number) for item in account.lists}
    by_email = {r["email"]: r for r in output.records("recipients")}
    for index in range(12):
        contact = account.contacts.get(index)
        assert by_email[contact.email]["list_ids"] == [numbers[key] for key in contact.list_ids]


# -- legacy -----------------------------------------------------------------------------------


def legacy_expected(run: TapRunner) -> dict[str, tuple[Any, ...]]:
    book = run.simulator.account.contacts
    contacts = filter(None, (book.at(slot) for slot in range(book.slots)))
    return {
        c.email: (iso(c.updated_at), c.last_opened and iso(c.last_opened), c.text.get("last_name"))
        for c in contacts
    }


def legacy_got(output: Output) -> dict[str, tuple[Any, ...]]:
    return {
        r["email"]: (r["updated_at"], r["last_opened"], r["last_name"])
        for r in output.records("recipients")
    }


def test_legacy_pages_are_read_to_the_404(serve: Serve) -> None:
    run = serve(contacts=4321, generation="legacy", fuzzy_pages=True)
    output = run("recipients")
    assert legacy_got(output) == legacy_expected(run)
    assert len(output.records("recipients")) == 4321
    pages = [r for r in output.requests if r.path == "/v3/contactdb/recipients"]
    assert pages[-1].status == 404


def test_legacy_custom_fields_by_name_with_dates_as_times(serve: Serve) -> None:
    run = serve(contacts=60, generation="legacy")
    records = {r["email"]: r for r in run("recipients").records("recipients")}
    book = run.simulator.account.contacts
    for index in range(60):
        contact = book.get(index)
        wanted = {d.name: contact.custom_fields.get(d.name) for d in book.fields}
        assert records[contact.email]["custom_fields"] == wanted


def test_legacy_increments_come_from_the_search(serve: Serve) -> None:
    run = serve(contacts=3000, generation="legacy")
    state = run("recipients").state
    quiet = run("recipients", state=state)
    assert quiet.records("recipients") == []
    assert quiet.called == [
        "GET /v3/marketing/field_definitions",  # the probe: 403
        "GET /v3/contactdb/custom_fields",
        "POST /v3/contactdb/recipients/search",
    ]
    book = run.simulator.account.contacts
    for index in range(1500):
        book.update(index, int(time.time()), last_name="Changed")
    output = run("recipients", state=quiet.state)
    assert {r["last_name"] for r in output.records("recipients")} == {"Changed"}
    assert len(output.by_id("recipients")) == 1500
    assert "GET /v3/contactdb/recipients" not in output.called


def test_legacy_without_the_search_reads_all_pages(
    serve: Serve, caplog: pytest.LogCaptureFixture
) -> None:
    run = serve(contacts=50, generation="legacy")
    state = run("recipients").state
    run.simulator.account.contacts.update(4, int(time.time()), last_name="Changed")
    run.simulator.faults.append(
        Fault("status", path="/v3/contactdb/recipients/search", status=400, times=9)
    )
    with caplog.at_level(logging.INFO):
        output = run("recipients", state=state)
    assert [r["last_name"] for r in output.records("recipients")] == ["Changed"]
    assert "does not serve" in caplog.text


def test_legacy_pages_that_lost_rows_leave_the_bookmark(serve: Serve) -> None:
    run = serve(contacts=2500, generation="legacy", fuzzy_pages=False)
    run.simulator.faults.append(
        Fault("null", path="/v3/contactdb/recipients", method="GET", skip=2, times=3)
    )
    output = run("recipients")
    assert len(output.records("recipients")) == 1500
    problem = output.tap.report.failed["recipients"]
    assert "2,500" in problem
    assert "reads all pages again" in problem
    assert "replication_key_value" not in output.state["bookmarks"].get("recipients", {})
    again = run("recipients", state=output.state)
    assert len(again.by_id("recipients")) == 2500
