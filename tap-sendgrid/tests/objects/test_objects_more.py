"""Suppressions, templates, senders, statistics, subusers, and their traps one by one."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs, urlsplit

import pytest
from jsonschema import Draft202012Validator
from sendgrid_simulator import Fault
from sendgrid_simulator.suppressions import Suppressed
from tap_sendgrid.events import event_stream_classes
from tap_sendgrid.objects import object_stream_classes
from tap_sendgrid.tap import TapSendGrid

if TYPE_CHECKING:
    from conftest import Answer, TapRunner

    Serve = Callable[..., TapRunner]
    Pretend = Callable[[Answer], TapRunner]

LISTS = {
    "suppression_bounces": "bounces",
    "suppression_blocks": "blocks",
    "suppression_invalid_emails": "invalid_emails",
    "suppression_spam_reports": "spam_reports",
    "suppression_global_unsubscribes": "unsubscribes",
}
MORE = [stream.name for stream in object_stream_classes if not stream.selected_by_default]


def iso(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def test_names_do_not_clash_with_events() -> None:
    events = {stream.name for stream in event_stream_classes}
    objects = [stream.name for stream in object_stream_classes]
    assert len(objects) == len(set(objects)) == 18
    assert not events & set(objects)


def test_they_are_off_until_selected() -> None:
    selected = {name for name, stream in TapSendGrid(config={}).streams.items() if stream.selected}
    assert selected & set(MORE) == set()
    assert {"lists", "segments", "recipients", "campaigns", "delivered"} <= selected


def test_each_gives_complete_records_that_fit_the_schema(serve: Serve) -> None:
    run = serve(messages=60, suppressions=12, templates=5, automations=2, subusers=("a", "b"))
    output = run(*MORE)
    for stream in MORE:
        schema = output.schema(stream)
        validator = Draft202012Validator(schema, format_checker=Draft202012Validator.FORMAT_CHECKER)
        assert output.records(stream), stream
        ids = [record["id"] for record in output.records(stream)]
        assert len(ids) == len(set(ids)), stream
        for record in output.records(stream):
            assert set(record) == set(schema["properties"])
            validator.validate(record)
    again = run(*MORE, state=output.state)
    assert again.of("RECORD") == []


@pytest.mark.parametrize(("stream", "kind"), LISTS.items())
def test_suppressions_beyond_the_silent_page_of_500(serve: Serve, stream: str, kind: str) -> None:
    run = serve(suppressions=1203)
    records = run(stream).by_id(stream)
    rows = run.simulator.account.suppressions[kind]
    assert {(r["email"], r["created_at"]) for r in records.values()} == {
        (row.email, iso(row.created)) for row in rows.values()
    }


def test_bounces_that_arrive_while_they_are_paged_wait_for_the_next_run(serve: Serve) -> None:
    run = serve(suppressions=1203, moving_offsets=40)
    first = run("suppression_bounces")
    emitted = first.by_id("suppression_bounces")
    assert len(emitted) == len(first.records("suppression_bounces")) == 1203
    run.simulator.options.moving_offsets = 0
    time.sleep(2.1)  # the end of a read is the second before it
    second = run("suppression_bounces", state=first.state)
    assert len(emitted | second.by_id("suppression_bounces")) == len(
        run.simulator.account.suppressions["bounces"]
    )


def test_null_in_the_middle_of_the_pages_is_not_their_end(serve: Serve) -> None:
    """The newest come first: a bookmark after half of the pages would lose the others."""
    run = serve(suppressions=1203)
    null = Fault("null", path="/v3/suppression/bounces", skip=1, times=2)
    run.simulator.faults.append(null)
    assert len(run("suppression_bounces").by_id("suppression_bounces")) == 1203
    null.skip, null.times = 1, 99
    output = run("suppression_bounces")
    assert "null from row" in output.tap.report.failed["suppression_bounces"]
    assert "replication_key_value" not in output.state["bookmarks"].get("suppression_bounces", {})


def test_an_address_that_bounces_again_is_a_new_row(serve: Serve) -> None:
    run = serve(suppressions=3)
    first = run("suppression_bounces")
    rows = run.simulator.account.suppressions["bounces"]
    email = next(iter(rows))
    rows[email] = Suppressed(int(time.time()) - 60, email, "550 again", "5.1.1")
    (record,) = run("suppression_bounces", state=first.state).records("suppression_bounces")
    assert (record["email"], record["reason"]) == (email, "550 again")
    assert record["id"] not in first.by_id("suppression_bounces")


def test_a_row_in_the_boundary_second_is_not_missed(serve: Serve) -> None:
    run = serve(suppressions=3)
    state = run("suppression_blocks").state
    rows = run.simulator.account.suppressions["blocks"]
    newest = max(row.created for row in rows.values())
    rows["late@example.com"] = Suppressed(newest, "late@example.com")
    (record,) = run("suppression_blocks", state=state).records("suppression_blocks")
    assert record["email"] == "late@example.com"
    assert record["status"] is None  # SendGrid says ""


def test_start_date_is_sent_to_the_server(serve: Serve) -> None:
    run = serve(suppressions=30)
    rows = sorted(run.simulator.account.suppressions["blocks"].values(), key=lambda r: r.created)
    output = run("suppression_blocks", start_date=iso(rows[20].created))
    assert len(output.records("suppression_blocks")) == 10
    assert output.requests[-1].query["start_time"] == str(rows[20].created)


def test_removed_suppressions_are_marked_on_request(serve: Serve) -> None:
    run = serve(suppressions=5)
    first = run("suppression_bounces", detect_deletes=True)
    rows = run.simulator.account.suppressions["bounces"]
    rows.pop(next(iter(rows)))
    second = run("suppression_bounces", detect_deletes=True, state=first.state)
    assert len(second.records("suppression_bounces")) == 4
    assert [m for m in second.messages if m["type"] != "STATE"][-1]["type"] == "ACTIVATE_VERSION"


def test_group_members_of_all_groups(serve: Serve) -> None:
    run = serve(suppressions=701, messages=200)
    records = run("suppression_group_members").records("suppression_group_members")
    groups = run.simulator.account.groups
    assert {(r["group_id"], r["email"]) for r in records} == {
        (group.id, email) for group in groups for email in group.members
    }
    assert all(record["created_at"] and record["group_name"] for record in records)


def test_group_members_when_sendgrid_ignores_offsets(
    serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    """limit and offset are not in the spec of /v3/asm/suppressions."""
    from tap_sendgrid.api.client import Client

    run = serve(suppressions=600)
    get = Client.get

    def stubborn(self: Client, path: str, params: Any = None) -> Any:
        if path == "/v3/asm/suppressions":
            params = {**params, "offset": 0}
        return get(self, path, params)

    monkeypatch.setattr(Client, "get", stubborn)
    output = run("suppression_group_members")
    emails = {(r["group_id"], r["email"]) for r in output.records("suppression_group_members")}
    groups = run.simulator.account.groups
    assert emails == {(group.id, email) for group in groups for email in group.members}


def test_templates_of_both_generations(serve: Serve) -> None:
    run = serve(templates=430)
    records = run("templates").by_id("templates")
    assert {(r["id"], r["generation"]) for r in records.values()} == {
        (t.id, t.generation) for t in run.simulator.account.templates
    }
    template = run.simulator.account.templates[0]
    assert records[template.id]["updated_at"] == iso(template.updated_at)
    assert [v["active"] for v in records[template.id]["versions"]] == [True, False]


def test_what_changes_on_a_page_that_is_read_already_comes_with_the_next_run(
    serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where there are too many objects to remember, so that their times alone decide."""
    monkeypatch.setattr("tap_sendgrid.objects.content.MOST_OBJECTS", 100)
    run = serve(templates=430)
    templates = run.simulator.account.templates
    now = int(time.time())
    for number, template in enumerate(templates):
        template.updated_at = now - 86400 + number
    pages = 0

    def change(request: Any) -> None:
        nonlocal pages
        pages += request.path == "/v3/templates"
        if pages == 2:
            templates[5].name, templates[5].updated_at = "On the first page", now - 20
            templates[-1].name, templates[-1].updated_at = "On the last page", now - 10

    run.simulator.hooks.append(change)
    first = run("templates")
    assert len(first.records("templates")) == 430
    run.simulator.hooks.clear()
    second = run("templates", state=first.state)
    names = {record["name"] for record in second.records("templates")}
    assert names == {"On the first page", "On the last page"}


def test_subusers_are_asked_for_as_the_parent(serve: Serve) -> None:
    run = serve(subusers=("anna", "ben"))
    output = run("subusers", on_behalf_of=["anna", "ben"])
    assert [r["username"] for r in output.records("subusers")] == ["anna", "ben"]
    for record in output.records("subusers"):
        assert set(record) == set(output.schema("subusers")["properties"])
    requests = [r for r in output.requests if r.path == "/v3/subusers"]
    assert requests
    assert not any("on-behalf-of" in request.headers for request in requests)


def test_statistics_by_day_and_category_add_up(serve: Serve) -> None:
    run = serve(messages=300)
    output = run("global_stats", "category_stats")
    days = {r["date"]: r for r in output.records("global_stats")}
    assert len(days) >= 365
    assert sum(day["processed"] for day in days.values()) > 0
    by_category: dict[str, int] = {}
    for record in output.records("category_stats"):
        by_category[record["date"]] = by_category.get(record["date"], 0) + record["requests"]
    assert set(by_category) <= set(days)
    assert sum(by_category.values()) > 0


def test_late_counts_of_the_last_week_are_read_again(serve: Serve) -> None:
    run = serve(messages=50)
    state = run("global_stats").state
    again = run("global_stats", state=state)
    request, *_ = (r for r in again.requests if r.path == "/v3/stats")
    bookmark = state["bookmarks"]["global_stats"]["replication_key_value"]
    first = datetime.fromisoformat(bookmark) - timedelta(days=7)
    assert request.query["start_date"] == first.date().isoformat()
    assert request.query["limit"] == "500"
    assert again.of("RECORD") == []


def days_of_categories(path: str, opens: Callable[[date], int]) -> list[dict[str, Any]]:
    """What ``/v3/categories/stats`` answers."""
    query = parse_qs(urlsplit(path).query)
    first, last = (date.fromisoformat(query[name][0]) for name in ("start_date", "end_date"))
    days = [first + timedelta(days=n) for n in range((last - first).days + 1)]
    return [
        {
            "date": day.isoformat(),
            "stats": [
                {"type": "category", "name": name, "metrics": {"opens": opens(day)}}
                for name in query["categories"]
            ],
        }
        for day in days
    ]


@pytest.mark.parametrize("categories", [20, 30])  # 366 days of 30 are more rows than remembered
def test_late_counts_are_not_lost_when_there_are_many_rows(
    pretend: Pretend, categories: int
) -> None:
    late = datetime.now(UTC).date() - timedelta(days=3)
    names = [f"c{n}" for n in range(categories)]
    opens = {late: 5}

    def answer(_: str, path: str) -> tuple[int, dict[str, str], bytes]:
        if path.startswith("/v3/categories/stats"):
            body = days_of_categories(path, lambda day: opens.get(day, 1))
        else:
            offset = int(parse_qs(urlsplit(path).query)["offset"][0])
            body = [{"category": name} for name in names[offset:]]
        return 200, {}, json.dumps(body).encode()

    run = pretend(answer)
    state = run("category_stats").state
    opens[late] = 7
    again = run("category_stats", state=state)
    changed = [r for r in again.records("category_stats") if r["opens"] == 7]
    assert len(changed) == categories
    assert run("category_stats", state=again.state).of("RECORD") == []


def test_the_day_of_start_date_counts_whole(serve: Serve) -> None:
    start = datetime.now(UTC) - timedelta(days=3)
    output = serve(messages=5)("global_stats", start_date=f"{start:%Y-%m-%d}T23:00:00Z")
    assert len(output.records("global_stats")) == 4


def test_statistics_start_at_start_date(serve: Serve) -> None:
    start = (datetime.now(UTC) - timedelta(days=3)).date().isoformat()
    output = serve(messages=5)("global_stats", start_date=f"{start}T00:00:00Z")
    assert len(output.records("global_stats")) == 4


def test_single_sends_statistics_of_several_pages(serve: Serve) -> None:
    run = serve(campaigns=200, messages=30)
    records = run("singlesend_stats").records("singlesend_stats")
    sent = {c.id for c in run.simulator.account.campaigns if c.status == "triggered"}
    assert len(sent) > 50
    assert {r["singlesend_id"] for r in records} == sent


def test_automations_with_their_steps(serve: Serve) -> None:
    records = serve(automations=2)("automation_stats").records("automation_stats")
    assert len(records) == 2 * 3
    for automation in {r["automation_id"] for r in records}:
        mine = [r for r in records if r["automation_id"] == automation]
        total = next(r for r in mine if r["step_id"] == "all")
        assert sum(r["opens"] for r in mine if r is not total) == total["opens"]


def test_streams_that_the_legacy_generation_lacks_are_empty(serve: Serve) -> None:
    run = serve(generation="legacy")
    output = run("senders", "singlesend_stats", "automation_stats")
    assert output.of("RECORD") == []
    assert set(output.tap.report.empty) == {"senders", "singlesend_stats", "automation_stats"}
    assert not output.incomplete


@pytest.mark.parametrize(
    "odd",
    [
        {"replication_key": "updated_at", "replication_key_value": "garbage"},
        {"replication_key": "updated_at", "replication_key_value": 5},
        {"content": "x"},
    ],
)
@pytest.mark.parametrize("start_date", [None, "2020-01-01T00:00:00Z"])
def test_a_state_that_cannot_be_read_is_not_sendgrids_fault(
    serve: Serve, odd: dict[str, Any], start_date: str | None
) -> None:
    state = {"bookmarks": {"campaigns": odd, "recipients": odd}}
    run = serve(contacts=5)
    output = run("campaigns", "recipients", "lists", state=state, start_date=start_date)
    assert set(output.tap.report.failed) == {"campaigns", "recipients"}
    for stream, problem in output.tap.report.failed.items():
        assert f"the state of {stream} cannot be read" in problem
        assert "meltano state clear" in problem
        assert odd.items() <= output.bookmark(stream).items()
    assert output.records("lists")


def test_null_in_place_of_rows_is_no_rows(serve: Serve) -> None:
    run = serve(suppressions=2, subusers=("a",), messages=4)
    catalog = run.catalog(*MORE)
    run.simulator.faults.append(Fault("null", path="/v3/", times=99))
    output = run(catalog=catalog)
    assert output.of("RECORD") == []
    assert not output.incomplete
