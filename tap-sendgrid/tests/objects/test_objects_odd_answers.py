"""Answers that only a broken SendGrid, or a proxy in its place, gives: nothing is lost by them."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl, urlsplit

import pytest
from sendgrid_simulator import Fault

if TYPE_CHECKING:
    from conftest import Answer, TapRunner

    Pretend = Callable[[Answer], TapRunner]
    Serve = Callable[..., TapRunner]

JSON = {"Content-Type": "application/json"}
#: What every account answers: the key's scopes, and no custom fields.
ACCOUNT = json.dumps({"scopes": ["marketing.read"], "custom_fields": []}).encode()
WHOLE = ("suppression_groups", "senders", "subusers", "lists", "templates", "suppression_bounces")
PATHS = ("/asm/groups", "/senders", "/subusers", "/lists", "/templates", "/bounces")


@pytest.mark.parametrize(
    ("status", "headers"), [(204, {}), (200, JSON), (302, {"Location": "http://127.0.0.1:1/login"})]
)
def test_an_empty_answer_is_not_an_empty_list(
    pretend: Pretend, status: int, headers: dict[str, str]
) -> None:
    """It would have the target mark everything as deleted."""

    def answer(method: str, path: str) -> tuple[int, dict[str, str], bytes]:
        if any(part in path for part in PATHS):
            return status, headers, b""
        return 200, JSON, ACCOUNT

    output = pretend(answer)(*WHOLE, detect_deletes=True)
    assert set(output.tap.report.failed) == set(WHOLE)
    assert output.of("ACTIVATE_VERSION") == []
    assert '"content"' not in json.dumps(output.states)


@pytest.mark.parametrize("body", [b"{}", b'{"errors":[{"message":"try later"}]}'])
def test_an_object_without_the_rows_is_not_an_empty_list(pretend: Pretend, body: bytes) -> None:
    def answer(method: str, path: str) -> tuple[int, dict[str, str], bytes]:
        return 200, JSON, body if any(part in path for part in PATHS) else ACCOUNT

    output = pretend(answer)(*WHOLE, detect_deletes=True)
    assert set(output.tap.report.failed) == set(WHOLE)
    assert output.of("ACTIVATE_VERSION") == []


@pytest.mark.parametrize("times", [1, 99])
def test_suppressions_removed_in_bulk_while_they_are_paged_hide_no_others(
    pretend: Pretend, times: int
) -> None:
    """They are read again from the start; if it happens each time, the bookmark stays."""
    rows = [{"created": 1_700_000_000 + n, "email": f"a{n}@b.c"} for n in range(3000)][::-1]
    left = times

    def answer(method: str, path: str) -> tuple[int, dict[str, str], bytes]:
        nonlocal left
        query = {name: int(value) for name, value in parse_qsl(urlsplit(path).query)}
        start = query["offset"]
        page = rows[start : start + query["limit"]]
        if left:
            left -= 1
            del rows[:60]
        return 200, JSON, json.dumps(page).encode()

    output = pretend(answer)("suppression_bounces")
    if times == 1:
        assert output.tap.report.failed == {}
        found = {record["email"] for record in output.records("suppression_bounces")}
        assert {row["email"] for row in rows} <= found
    else:
        assert "removed" in output.tap.report.failed["suppression_bounces"]
        assert "replication_key_value" not in json.dumps(output.states)


LINKS = {
    "it leads in a circle": "{url}/circle",
    "of no host": "https://bucket..s3.example/file",
    "without a scheme": "bucket.s3.example/file",
    "of another scheme": "s3://bucket/file",
    "a bad address": "http://[bucket/file",
    "null": None,
}


@pytest.mark.parametrize("link", LINKS.values(), ids=list(LINKS))
def test_a_link_to_an_export_file_that_is_none_fails_its_collection_alone(
    pretend: Pretend, caplog: pytest.LogCaptureFixture, link: str | None
) -> None:
    signed = link and f"{link}?X-Amz-Credential=id&X-Amz-Signature=SIGNATURE"

    def answer(method: str, path: str) -> tuple[int, dict[str, str], bytes]:
        if path.startswith("/circle"):
            return 302, {"Location": path}, b""
        if path.endswith("/exports/e1"):
            urls = [signed and signed.format(url=run.simulator.url)]
            export = {"id": "e1", "status": "ready", "created_at": "2026-01-01T00:00:00Z"}
            return 200, JSON, json.dumps({**export, "urls": urls, "contact_count": 1}).encode()
        if path.endswith("/exports"):
            return 200, JSON, b'{"id": "e1"}' if method == "POST" else b'{"result": []}'
        if path.startswith("/v3/marketing/lists"):
            return 200, JSON, b'{"result": [{"id": "l1"}], "_metadata": {}}'
        return 200, JSON, ACCOUNT

    run = pretend(answer)
    with caplog.at_level(logging.DEBUG):
        output = run("recipients", "lists")
    assert set(output.tap.report.failed) == {"recipients"}
    assert len(output.records("lists")) == 1
    told = caplog.text + output.incomplete + str(output.tap.report.failed)
    assert "SIGNATURE" not in told


def test_a_redirect_does_not_take_the_segments_of_the_first_kind_for_gone(
    pretend: Pretend,
) -> None:
    def answer(method: str, path: str) -> tuple[int, dict[str, str], bytes]:
        if path.endswith("/segments/2.0"):
            return 200, JSON, b'{"results": []}'
        if path.endswith("/segments"):
            return 302, {"Location": "/login"}, b""
        return 200, JSON, ACCOUNT

    output = pretend(answer)("segments", detect_deletes=True)
    assert "302" in output.tap.report.failed["segments"]
    assert output.of("ACTIVATE_VERSION") == []


FIELDS = {"marketing": "/v3/marketing/field_definitions", "legacy": "/v3/contactdb/custom_fields"}


@pytest.mark.parametrize(
    ("generation", "setting"), [("marketing", "auto"), ("marketing", "marketing"), ("legacy",) * 2]
)
@pytest.mark.parametrize("fault", [{"status": 404}, {"status": 500}, {"kind": "null"}])
def test_no_contact_is_read_while_its_custom_fields_are_not_known(
    serve: Serve, generation: str, setting: str, fault: dict[str, Any]
) -> None:
    """Contacts read without them would lack them for good: the bookmark passes over them."""
    run = serve(contacts=30, generation=generation)
    catalog = run.catalog("recipients", "lists")
    fault = {"kind": "status", "times": 99, **fault}
    run.simulator.faults.append(Fault(path=FIELDS[generation], **fault))
    failed = run(catalog=catalog, api_generation=setting)
    assert "recipients" in failed.tap.report.failed
    assert failed.records("recipients") == []
    assert "replication_key_value" not in json.dumps(failed.state)
    if setting != "auto":  # the probe for the generation asks the same, and lists need that
        assert failed.records("lists")
        assert "deselect the property custom_fields" in failed.tap.report.failed["recipients"]
    run.simulator.faults.clear()
    healed = run(catalog=catalog, api_generation=setting, state=failed.state)
    records = healed.records("recipients")
    assert len(records) == 30
    assert any(any(record["custom_fields"].values()) for record in records)


@pytest.mark.parametrize("fault", [{"status": 404}, {"kind": "null", "times": 3}])
def test_custom_fields_that_are_known_only_at_the_second_asking_are_in_the_schema(
    serve: Serve, fault: dict[str, Any]
) -> None:
    """Of a catalog that was made without them, too."""
    run = serve(contacts=30)
    run.simulator.faults.append(Fault(path=FIELDS["marketing"], **{"kind": "status", **fault}))
    catalog = run.catalog("recipients")
    run.simulator.faults.append(Fault(path=FIELDS["marketing"], **{"kind": "status", **fault}))
    output = run(catalog=catalog)
    assert not output.incomplete
    names = {definition.name for definition in run.simulator.account.contacts.fields}
    custom = output.schema("recipients")["properties"]["custom_fields"]["properties"]
    assert set(custom) == names
    assert all(set(record["custom_fields"]) == names for record in output.records("recipients"))
    types = [message["type"] for message in output.messages]
    assert "RECORD" not in types[: len(types) - types[::-1].index("SCHEMA")]


def test_contacts_are_read_without_custom_fields_when_these_are_deselected(serve: Serve) -> None:
    run = serve(contacts=30)
    catalog = run.catalog("recipients", without=("custom_fields",))
    run.simulator.faults.append(Fault("status", FIELDS["marketing"], status=404, times=99))
    output = run(catalog=catalog, api_generation="marketing")
    assert len(output.records("recipients")) == 30
