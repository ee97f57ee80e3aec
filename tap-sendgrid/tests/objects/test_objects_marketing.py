"""Lists, segments and campaigns of both generations, compared with what the account holds."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from jsonschema import Draft202012Validator
from sendgrid_simulator import Fault

if TYPE_CHECKING:
    from conftest import TapRunner

    Serve = Callable[..., TapRunner]

FOUR = ("lists", "segments", "recipients", "campaigns")


def iso(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def test_lists_in_segments_vocabulary(serve: Serve) -> None:
    run = serve(lists=3, contacts=60)
    records = run("lists").by_id("lists")
    assert {r["id"]: (r["name"], r["recipient_count"]) for r in records.values()} == {
        item.id: (item.name, item.contact_count) for item in run.simulator.account.lists
    }
    assert all(record["_id"] is None for record in records.values())


def test_legacy_lists_keep_the_native_number_as__id(serve: Serve) -> None:
    run = serve(lists=3, generation="legacy")
    records = run("lists").by_id("lists")
    assert {(r["id"], r["_id"]) for r in records.values()} == {
        (str(item.number), item.number) for item in run.simulator.account.lists
    }


def test_segments_of_both_kinds(serve: Serve) -> None:
    run = serve(segments=3, segments_v1=2)
    records = run("segments").by_id("segments")
    for segment in run.simulator.account.segments:
        record = records[segment.id]
        parent = segment.parent_list.id if segment.parent_list else None
        assert (record["list_id"], record["query_version"]) == (parent, segment.version)
        assert record["recipient_count"] == segment.contacts_count
        assert record["updated_at"] == iso(segment.updated_at)
        assert record["query_dsl"] == segment.query_dsl


def test_the_query_of_a_segment_costs_nothing_when_it_is_deselected(serve: Serve) -> None:
    output = serve(segments=3)("segments", without=("query_dsl",))
    assert len(output.records("segments")) == 3
    assert output.called == [
        "GET /v3/marketing/field_definitions",
        "GET /v3/marketing/segments/2.0",
        "GET /v3/marketing/segments",
    ]


def test_segments_go_on_when_the_first_kind_is_gone(serve: Serve) -> None:
    run = serve(segments=2)
    run.simulator.faults.append(
        Fault("status", path="/v3/marketing/segments", status=410, skip=1, times=1)
    )
    output = run("segments")
    assert len(output.records("segments")) == 2
    assert not output.incomplete


def test_legacy_segments(serve: Serve) -> None:
    run = serve(segments=2, generation="legacy")
    records = run("segments").by_id("segments")
    for segment in run.simulator.account.segments:
        record = records[str(segment.number)]
        parent = segment.parent_list
        assert record["list_id"] == (str(parent.number) if parent else None)
        assert record["conditions"] == segment.conditions
        assert record["_id"] == segment.number


def test_campaigns_with_their_detail(serve: Serve) -> None:
    run = serve(campaigns=7)
    records = run("campaigns").by_id("campaigns")
    assert len(records) == 7
    for campaign in run.simulator.account.campaigns:
        record = records[campaign.id]
        assert record["title"] == campaign.name
        assert record["status"] == campaign.status
        assert record["subject"] == (campaign.subject or None)
        assert record["html_content"] == (campaign.html_content or None)
        assert record["list_ids"] == campaign.list_ids
        assert record["sender_id"] == campaign.sender_id
        assert record["updated_at"] == iso(campaign.updated_at)
    assert next(r for r in records.values() if r["abtest"])["abtest"]["test_percentage"] == 50


def test_campaigns_of_several_pages(serve: Serve) -> None:
    run = serve(campaigns=230)
    assert len(run("campaigns").by_id("campaigns")) == 230


def test_legacy_campaigns(serve: Serve) -> None:
    run = serve(campaigns=230, generation="legacy")
    output = run("campaigns")
    records = output.by_id("campaigns")
    assert len(records) == len(output.records("campaigns")) == 230
    for campaign in run.simulator.account.campaigns:
        record = records[str(campaign.number)]
        assert record["_id"] == campaign.number
        scheduled = campaign.status == "scheduled" and campaign.send_at
        assert record["send_at"] == (iso(scheduled) if scheduled else None)
    assert {r["status"] for r in records.values()} == {"Draft", "Scheduled", "Sent"}


@pytest.mark.parametrize("generation", ["marketing", "legacy"])
def test_every_record_is_complete_and_fits_its_schema(serve: Serve, generation: str) -> None:
    output = serve(contacts=40, generation=generation, segments_v1=1)(*FOUR)
    for stream in FOUR:
        schema = output.schema(stream)
        assert schema["x-segment"] == {"collection": "object"}
        validator = Draft202012Validator(schema, format_checker=Draft202012Validator.FORMAT_CHECKER)
        assert output.records(stream), stream
        for record in output.records(stream):
            assert set(record) == set(schema["properties"])
            validator.validate(record)
            assert datetime.fromisoformat(record["received_at"]).tzinfo is not None
        assert all(prop.get("description") for prop in schema["properties"].values())


@pytest.mark.parametrize("generation", ["marketing", "legacy"])
def test_what_did_not_change_is_not_emitted_again(serve: Serve, generation: str) -> None:
    run = serve(contacts=80, generation=generation, campaigns=6)
    first = run(*FOUR)
    second = run(*FOUR, state=first.state)
    assert second.of("RECORD") == []
    account = run.simulator.account
    account.lists[0].contact_count = 200
    account.segments[1].contacts_count = 7
    account.campaigns[2].status = "triggered"
    third = run(*FOUR, state=second.state)
    assert [r["recipient_count"] for r in third.records("lists")] == [200]
    assert [r["recipient_count"] for r in third.records("segments")] == [7]
    assert [r["status"].lower() for r in third.records("campaigns")] in (["triggered"], ["sent"])
    assert run(*FOUR, state=third.state).of("RECORD") == []


def test_a_newly_selected_property_makes_all_records_new(serve: Serve) -> None:
    run = serve(lists=2)
    first = run("lists", without=("name",))
    assert all("name" not in record for record in first.records("lists"))
    assert "name" not in first.schema("lists")["properties"]
    second = run("lists", state=first.state)
    assert all(record["name"] for record in second.records("lists"))
    assert len(second.records("lists")) == 2


def test_campaigns_before_start_date_are_left_out(serve: Serve) -> None:
    run = serve(campaigns=6)
    account = run.simulator.account
    border = sorted(campaign.updated_at for campaign in account.campaigns)[3]
    output = run("campaigns", start_date=iso(border))
    wanted = {c.id for c in account.campaigns if c.updated_at >= border}
    assert set(output.by_id("campaigns")) == wanted
    account.campaigns[-1].status = "scheduled"  # an old one, whose time does not move
    again = run("campaigns", start_date=iso(border), state=output.state)
    assert again.of("RECORD") == []


def test_an_earlier_start_date_brings_what_was_left_out(serve: Serve) -> None:
    run = serve(campaigns=12)
    every = run("campaigns").records("campaigns")
    times = sorted(record["updated_at"] for record in every)
    late = run("campaigns", start_date=times[6])
    early = run("campaigns", start_date=times[2], state=late.state)
    assert {r["updated_at"] for r in early.records("campaigns")} == set(times[2:6])


def test_a_bookmark_edited_by_hand_is_obeyed(serve: Serve) -> None:
    run = serve(campaigns=6)
    state = run("campaigns").state
    times = sorted(campaign.updated_at for campaign in run.simulator.account.campaigns)
    state["bookmarks"]["campaigns"]["replication_key_value"] = iso(times[4])
    output = run("campaigns", state=state)
    assert len(output.records("campaigns")) == 2


def test_the_bookmark_only_moves_forward(serve: Serve) -> None:
    run = serve(campaigns=4)
    state = run("campaigns").state
    high = state["bookmarks"]["campaigns"]["replication_key_value"]
    del run.simulator.account.campaigns[0]  # the newest
    after = run("campaigns", state=state)
    assert after.bookmark("campaigns")["replication_key_value"] == high


def test_a_campaign_that_vanishes_while_it_is_read(serve: Serve) -> None:
    run = serve(campaigns=3)
    run.simulator.faults.append(Fault("status", path="/v3/marketing/singlesends/", status=404))
    output = run("campaigns")
    assert len(output.by_id("campaigns")) == 3
    assert not output.incomplete


@pytest.mark.parametrize(("times", "found"), [(2, 3), (99, 0)])
def test_null_in_place_of_an_array_is_asked_for_again_and_then_counts_as_none(
    serve: Serve, times: int, found: int
) -> None:
    run = serve()
    run.simulator.faults.append(Fault("null", path="/v3/marketing/lists", times=times))
    output = run("lists")
    assert len(output.records("lists")) == found
    assert not output.incomplete


# -- deletes ----------------------------------------------------------------------------------


@pytest.mark.parametrize("generation", ["marketing", "legacy"])
def test_deletes_are_marked_by_a_version(serve: Serve, generation: str) -> None:
    run = serve(contacts=30, generation=generation)
    first = run(*FOUR, detect_deletes=True)
    run.simulator.account.lists.pop()
    run.simulator.account.contacts.delete(3)
    second = run(*FOUR, detect_deletes=True, state=first.state)
    assert len(second.records("recipients")) == 29
    assert len(second.records("lists")) == 2
    for stream in FOUR:
        messages = [m for m in second.messages if m.get("stream") == stream]
        kinds = [m["type"] for m in messages]
        assert kinds[0] == "SCHEMA"
        assert kinds[-1] == "ACTIVATE_VERSION"  # only when every record is out
        assert kinds.count("ACTIVATE_VERSION") == 1
        assert {m["version"] for m in messages if m["type"] == "RECORD"} == {
            messages[-1]["version"]
        }


def test_no_deletes_from_a_read_that_failed(serve: Serve) -> None:
    run = serve(contacts=30, campaigns=4)
    faults = run.simulator.faults
    faults.append(Fault("status", path="/v3/marketing/lists", status=500, times=99))
    faults.append(Fault("status", path="/v3/marketing/singlesends", status=500, times=99, skip=1))
    faults.append(Fault("status", path="/downloads", status=500, times=99))
    output = run("lists", "campaigns", "recipients", detect_deletes=True)
    assert output.of("ACTIVATE_VERSION") == []
    assert "3 selected collection(s)" in output.incomplete


@pytest.mark.parametrize(
    ("stream", "path", "generation"),
    [
        ("lists", "/v3/marketing/lists", "marketing"),
        ("segments", "/v3/marketing/segments/2.0", "marketing"),
        ("campaigns", "/v3/marketing/singlesends", "marketing"),
        ("lists", "/v3/contactdb/lists", "legacy"),
        ("suppression_bounces", "/v3/suppression/bounces", "marketing"),
        ("templates", "/v3/templates", "marketing"),
    ],
)
def test_no_deletes_from_null_in_place_of_rows(
    serve: Serve, stream: str, path: str, generation: str
) -> None:
    run = serve(generation=generation)
    catalog = run.catalog(stream)
    assert run(catalog=catalog, detect_deletes=True).of("ACTIVATE_VERSION")
    run.simulator.faults.append(Fault("null", path=path, times=3))
    assert run(catalog=catalog, detect_deletes=True).of("ACTIVATE_VERSION") == []


def test_deletes_take_a_whole_emission_whatever_the_bookmark_and_start_date(serve: Serve) -> None:
    run = serve(campaigns=5, contacts=10, messages=5)
    first = run("campaigns", "global_stats", detect_deletes=True)
    state = first.state
    del state["bookmarks"]["campaigns"]["content"]  # as with more campaigns than are remembered
    second = run(
        *("campaigns", "global_stats"),
        detect_deletes=True,
        state=state,
        start_date=datetime.now(UTC).isoformat(),
    )
    assert len(second.records("campaigns")) == 5
    assert {m["stream"] for m in second.of("ACTIVATE_VERSION")} == {"campaigns"}


def test_no_deletes_unless_asked(serve: Serve) -> None:
    output = serve()(*FOUR)
    assert output.of("ACTIVATE_VERSION") == []
    assert all("version" not in message for message in output.of("RECORD"))


# -- subusers and regions ---------------------------------------------------------------------


def test_subusers_are_read_one_by_one(serve: Serve) -> None:
    run = serve(contacts=20, lists=2, subusers=("anna", "ben"))
    output = run("lists", "recipients", on_behalf_of=["anna", "ben"])
    for name in ("anna", "ben"):
        account = run.simulator.subusers[name]
        mine = [r for r in output.records("lists") if r["subuser"] == name]
        assert {r["id"] for r in mine} == {item.id for item in account.lists}
        assert len([r for r in output.records("recipients") if r["subuser"] == name]) == 20
    assert "subuser" in output.schema("recipients")["properties"]
    again = run("lists", "recipients", on_behalf_of="anna,ben", state=output.state)
    assert again.of("RECORD") == []
    assert {p["context"]["subuser"] for p in again.bookmark("recipients")["partitions"]} == {
        "anna",
        "ben",
    }


def test_ids_that_clash_between_subusers_get_the_subuser_in_front(serve: Serve) -> None:
    run = serve(contacts=10, lists=2, subusers=("anna", "ben"), generation="legacy")
    output = run("lists", "recipients", on_behalf_of=["anna", "ben"])
    for stream in ("lists", "recipients"):
        ids = [record["id"] for record in output.records(stream)]
        assert len(ids) == len(set(ids))
        assert {value.partition(":")[0] for value in ids} == {"anna", "ben"}


def test_without_subusers_no_record_speaks_of_them(serve: Serve) -> None:
    output = serve(subusers=("anna",))("lists")
    assert "subuser" not in output.schema("lists")["properties"]


def test_one_subuser_that_fails_does_not_stop_the_other(serve: Serve) -> None:
    run = serve(lists=2, subusers=("anna",))
    output = run("lists", on_behalf_of=["nobody", "anna"])
    assert len(output.records("lists")) == 2
    assert "lists of nobody" in output.incomplete


def test_region_eu_says_which_streams_have_no_host(serve: Serve) -> None:
    run = serve(region="eu", suppressions=3)
    output = run("lists", "suppression_bounces", region="eu")
    assert output.records("lists") == []
    assert len(output.records("suppression_bounces")) == 3
    assert "global host" in output.tap.report.empty["lists"]
    assert not output.incomplete


def test_the_region_chooses_the_host() -> None:
    from tap_sendgrid.api.settings import ApiSettings

    hosts: dict[Any, str] = {
        region: ApiSettings.from_config({"region": region}).api_url for region in ("global", "eu")
    }
    assert hosts == {"global": "https://api.sendgrid.com", "eu": "https://api.eu.sendgrid.com"}
    own = ApiSettings.from_config({"region": "eu", "api_url": "http://localhost:1/"})
    assert own.api_url == "http://localhost:1"


def test_a_full_refresh_by_the_catalog_emits_every_campaign(serve: Serve) -> None:
    run = serve(campaigns=4)
    state = run("campaigns").state
    catalog = run.catalog("campaigns")
    for stream in catalog["streams"]:
        if stream["stream"] == "campaigns":
            stream["replication_method"] = "FULL_TABLE"
    assert len(run(catalog=catalog, state=state).records("campaigns")) == 4


def test_concurrent_details_stay_within_the_limit(serve: Serve) -> None:
    run = serve(campaigns=12, rate_limits={"/v3/marketing/singlesends/{id}": (3, 0.2)})
    output = run("campaigns")
    details = [r for r in output.requests if r.path.count("/") == 4]
    assert len(output.by_id("campaigns")) == 12
    assert [r.status for r in details] == [200] * 12  # never a 429


@pytest.mark.parametrize("encoding", ["jsonl", "parquet"])
def test_objects_pass_as_records_beside_events_in_files(
    serve: Serve, tmp_path: Path, encoding: str
) -> None:
    """Files know no versions, and without versions no deletes are found."""
    batch_config = {
        "encoding": {"format": encoding, "compression": "none"},
        "storage": {"root": tmp_path.as_uri()},
    }
    run = serve(contacts=20)
    output = run("recipients", "lists", batch_config=batch_config, detect_deletes=True)
    assert output.of("BATCH") == []
    assert (len(output.by_id("recipients")), len(output.by_id("lists"))) == (20, 3)
    for stream in ("recipients", "lists"):
        (activated,) = output.of("ACTIVATE_VERSION", stream)
        assert {m["version"] for m in output.of("RECORD", stream)} == {activated["version"]}
