"""Increments that are true: only what changed, nothing missed, whatever happens to a run."""

from __future__ import annotations

import copy
import io
import json
import time
from collections.abc import Callable
from contextlib import redirect_stdout
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sendgrid_simulator import Fault
from tap_sendgrid.api.errors import RequestRejected
from tap_sendgrid.objects.contact_search import ContactSearch, TooMany
from tap_sendgrid.tap import TapSendGrid

if TYPE_CHECKING:
    from conftest import Output, TapRunner

    Serve = Callable[..., TapRunner]

EXPORT = "POST /v3/marketing/contacts/exports"
SEARCH = "POST /v3/marketing/contacts/search"


def changed_names(output: Output) -> dict[str, Any]:
    return {r["email"]: r["first_name"] for r in output.records("recipients")}


def test_a_steady_state_takes_the_fewest_requests(serve: Serve) -> None:
    """With everything as it was: one request per collection, and the probe, which types fields."""
    run = serve(contacts=200, lists=5, segments=4, campaigns=8)
    first = run("lists", "segments", "recipients", "campaigns")
    second = run("lists", "segments", "recipients", "campaigns", state=first.state)
    assert sorted(second.called) == [
        "GET /v3/marketing/field_definitions",
        "GET /v3/marketing/lists",
        "GET /v3/marketing/segments",
        "GET /v3/marketing/segments/2.0",
        "GET /v3/marketing/singlesends",
        SEARCH,
    ]
    assert second.of("RECORD") == []
    assert second.state == run(
        "lists", "segments", "recipients", "campaigns", state=second.state
    ).state | {"bookmarks": second.state["bookmarks"]}


def test_few_changes_come_by_search(serve: Serve) -> None:
    run = serve(contacts=300)
    state = run("recipients").state
    book = run.simulator.account.contacts
    now = int(time.time())
    for index in range(40):
        book.update(index, now - index, first_name=f"New {index}")
    new = book.add("brand.new@example.com", now, first_name="Brand")
    output = run("recipients", state=state)
    assert EXPORT not in output.called
    assert output.called.count(SEARCH) == 1
    assert len(output.records("recipients")) == 41
    assert changed_names(output)[new.email] == "Brand"
    assert run("recipients", state=output.state).of("RECORD") == []


def test_search_and_export_give_the_same_record(serve: Serve) -> None:
    run = serve(contacts=50)
    full = run("recipients").by_id("recipients")
    found = run("recipients", start_date="2000-01-01T00:00:00Z")
    assert SEARCH in found.called
    assert EXPORT not in found.called
    for record in (*full.values(), *found.records("recipients")):
        del record["received_at"]
    assert found.by_id("recipients") == full


def test_more_than_fifty_are_halved(serve: Serve) -> None:
    run = serve(contacts=1000)
    book = run.simulator.account.contacts
    now = int(time.time())
    # The bookmark's age decides how wide the pieces are that it is halved into: here 40 s and more.
    book.update(999, now - 660, first_name="Last before")
    state = run("recipients").state
    for index in range(400):
        book.update(index, now - index, first_name="New")
    output = run("recipients", state=state)
    assert EXPORT not in output.called
    assert 9 <= output.called.count(SEARCH) <= 40
    assert len(output.by_id("recipients")) == len(output.records("recipients")) == 400


def test_a_burst_in_one_second_needs_an_export(serve: Serve) -> None:
    run = serve(contacts=300)
    state = run("recipients").state
    book = run.simulator.account.contacts
    now = int(time.time())
    for index in range(120):
        book.update(index, now, first_name="Bulk")
    output = run("recipients", state=state)
    assert EXPORT in output.called
    assert len(output.records("recipients")) == 120
    later = run("recipients", state=output.state)
    assert later.of("RECORD") == []  # it is read again, for late writes, and recognised


def test_an_old_burst_at_the_bookmark_costs_three_requests_not_an_export(serve: Serve) -> None:
    run = serve(contacts=5000, same_second=3000)
    state = run("recipients").state
    quiet = run("recipients", state=state)
    assert (quiet.of("RECORD"), quiet.called.count(SEARCH)) == ([], 3)
    assert EXPORT not in quiet.called
    book = run.simulator.account.contacts
    book.update(4500, int(time.time()), first_name="New")  # one of the burst
    output = run("recipients", state=quiet.state)
    assert changed_names(output) == {book.email_of(4500): "New"}


def test_many_changes_cost_less_by_export(serve: Serve) -> None:
    run = serve(contacts=6000)
    state = run("recipients").state
    book = run.simulator.account.contacts
    now = int(time.time())
    for index in range(5000):
        book.update(index, now - index // 5, first_name="New")
    output = run("recipients", state=state)
    assert EXPORT in output.called
    assert output.called.count(SEARCH) == 1
    assert len(output.by_id("recipients")) == 5000


@pytest.mark.parametrize("status", [400, 408])
def test_without_a_search_that_serves_an_export_does(serve: Serve, status: int) -> None:
    run = serve(contacts=50)
    state = run("recipients").state
    run.simulator.account.contacts.update(2, int(time.time()), first_name="New")
    run.simulator.faults.append(
        Fault("status", path="/v3/marketing/contacts/search", status=status, times=99)
    )
    output = run("recipients", state=state)
    assert EXPORT in output.called
    assert list(changed_names(output).values()) == ["New"]


def test_start_date_limits_the_first_run(serve: Serve) -> None:
    run = serve(contacts=200)
    book = run.simulator.account.contacts
    border = book.updated_at(150)
    start = datetime.fromtimestamp(border, UTC).isoformat().replace("+00:00", "Z")
    output = run("recipients", start_date=start)
    assert {r["email"] for r in output.records("recipients")} == {
        book.email_of(index) for index in range(200) if book.updated_at(index) >= border
    }


def test_a_second_change_in_the_boundary_second_is_not_missed(serve: Serve) -> None:
    run = serve(contacts=20)
    book = run.simulator.account.contacts
    now = int(time.time())
    book.update(3, now, first_name="First")
    state = run("recipients").state
    assert state["bookmarks"]["recipients"]["replication_key_value"] <= datetime.fromtimestamp(
        now + 1, UTC
    ).isoformat().replace("+00:00", "Z")
    book.update(3, now, first_name="Second")  # the same second again
    book.update(4, now, first_name="Other")
    output = run("recipients", state=state)
    assert sorted(changed_names(output).values()) == ["Other", "Second"]


@pytest.mark.parametrize("seconds", [0, 1, 3600])
def test_changes_before_the_last_run_that_show_up_after_it(serve: Serve, seconds: int) -> None:
    """However late: nothing from the bookmark's second on is taken for known unseen."""
    run = serve(contacts=20)
    state = run("recipients").state
    book = run.simulator.account.contacts
    book.update(4, book.updated_at(19) + seconds, first_name="Late")
    assert changed_names(run("recipients", state=state)) == {book.email_of(4): "Late"}


def test_late_writes_with_older_times_are_found(serve: Serve) -> None:
    """A change shows up minutes after its own updated_at, behind a newer one that was seen."""
    run = serve(contacts=20)
    book = run.simulator.account.contacts
    now = int(time.time())
    book.update(3, now, first_name="Newest")
    state = run("recipients").state
    book.update(4, now - 300, first_name="Late")
    assert changed_names(run("recipients", state=state)).get(book.email_of(4)) == "Late"


def test_the_bookmark_is_never_past_the_export(serve: Serve) -> None:
    run = serve(contacts=20)
    future = int(time.time()) + 5000  # changes while the export runs, by a clock ahead of ours
    run.simulator.account.contacts.update(3, future, first_name="Ahead")
    bookmark = run("recipients").bookmark("recipients")["replication_key_value"]
    assert datetime.fromisoformat(bookmark) <= datetime.now(UTC) + timedelta(seconds=1)


def test_a_full_refresh_by_the_catalog_emits_everything(serve: Serve) -> None:
    run = serve(contacts=30)
    state = run("recipients").state
    catalog = run.catalog("recipients")
    for stream in catalog["streams"]:
        if stream["stream"] == "recipients":
            stream["replication_method"] = "FULL_TABLE"
    output = run("recipients", catalog=catalog, state=state)
    assert len(output.records("recipients")) == 30


def test_a_bookmark_edited_by_hand_is_obeyed(serve: Serve) -> None:
    run = serve(contacts=100)
    book = run.simulator.account.contacts
    state = run("recipients").state
    border = datetime.fromtimestamp(book.updated_at(90), UTC)
    state["bookmarks"]["recipients"]["replication_key_value"] = border.isoformat()
    assert len(run("recipients", state=state).records("recipients")) == 10


def test_a_run_that_dies_goes_on_in_the_same_export(serve: Serve) -> None:
    """Whatever state the target got last, the next run emits the rest, and nothing is missing."""
    run = serve(contacts=30_000, export_rows_per_file=14_000)
    whole = run("recipients")
    ids = set(whole.by_id("recipients"))
    middle = [s for s in whole.states if "export" in s["bookmarks"]["recipients"]]
    assert len(middle) >= 2
    for state in middle:
        position = whole.messages.index({"type": "STATE", "value": state})
        before = {m["record"]["id"] for m in whole.messages[:position] if m["type"] == "RECORD"}
        rest = run("recipients", state=state)
        assert EXPORT not in rest.called
        assert before | set(rest.by_id("recipients")) == ids
        assert len(rest.records("recipients")) < 30_000
        assert (
            rest.bookmark("recipients")["replication_key_value"]
            == (whole.bookmark("recipients")["replication_key_value"])
        )
        assert "export" not in rest.bookmark("recipients")


def test_what_changed_after_an_interrupted_export_comes_with_the_rest_of_it(serve: Serve) -> None:
    run = serve(contacts=15_000)
    states = run("recipients").states
    state = next(s for s in states if "export" in s["bookmarks"]["recipients"])
    book = run.simulator.account.contacts
    book.update(3, int(time.time()), first_name="Since then")
    output = run("recipients", state=state)
    assert output.called.count(EXPORT) == 0
    assert output.called.count(SEARCH) == 1
    assert changed_names(output)[book.email_of(3)] == "Since then"
    assert len(output.records("recipients")) < 15_000


def test_an_interrupted_export_that_expired_is_made_anew(serve: Serve) -> None:
    run = serve(contacts=15_000)
    states = run("recipients").states
    state = next(s for s in states if "export" in s["bookmarks"]["recipients"])
    run.simulator.account.exports.clear()
    output = run("recipients", state=state)
    assert EXPORT in output.called
    assert len(output.by_id("recipients")) == 15_000


def test_an_interrupted_export_does_not_serve_another_selection(serve: Serve) -> None:
    run = serve(contacts=15_000)
    states = run("recipients", without=("city",)).states
    state = next(s for s in states if "export" in s["bookmarks"]["recipients"])
    output = run("recipients", state=state)
    assert len(output.by_id("recipients")) == 15_000


def test_a_failed_read_moves_nothing_but_the_position(serve: Serve) -> None:
    run = serve(contacts=20_000, export_rows_per_file=8000)
    old = run("recipients").state
    run.simulator.account.contacts.update(5, int(time.time()), first_name="New")
    run.simulator.options.search_timeout = True
    run.simulator.faults.append(Fault("status", path="/downloads/", status=403, skip=1, times=99))
    failed = run("recipients", state=old)
    assert failed.incomplete
    mark = old["bookmarks"]["recipients"]["replication_key_value"]
    assert failed.bookmark("recipients")["replication_key_value"] == mark
    run.simulator.faults.clear()
    healed = run("recipients", state=failed.state)
    emitted = changed_names(failed) | changed_names(healed)
    assert emitted == {run.simulator.account.contacts.email_of(5): "New"}


def test_a_signal_leaves_whole_lines_and_a_true_state(serve: Serve) -> None:
    run = serve(contacts=20_000)
    tap = TapSendGrid(config=run.settings(), catalog=run.catalog("recipients"), state={})
    written = 0
    write = tap.message_writer.write_lines

    def write_and_stop(lines: bytes | bytearray) -> None:
        nonlocal written
        write(lines)
        written += 1
        if written == 2:
            tap._handle_termination(15, None)

    tap.message_writer.write_lines = write_and_stop  # type: ignore[method-assign]
    out = io.StringIO()
    with redirect_stdout(out), pytest.raises(SystemExit) as stop:
        tap.sync_all()
    assert stop.value.code == 0
    messages = [json.loads(line) for line in out.getvalue().splitlines()]
    assert messages[-1]["type"] == "STATE"
    first = {m["record"]["id"] for m in messages if m["type"] == "RECORD"}
    rest = run("recipients", state=messages[-1]["value"])
    assert len(first | set(rest.by_id("recipients"))) == 20_000


# -- the search alone -------------------------------------------------------------------------

BEGIN = datetime(2026, 1, 1, tzinfo=UTC)


class FakeClient:
    """Answers searches over contacts that are only their times, in any order."""

    def __init__(self, times: list[int]) -> None:
        self.times = times
        self.requests = 0

    def server_now(self) -> datetime:
        return BEGIN + timedelta(days=1)

    def post(self, path: str, body: dict[str, str]) -> dict[str, Any]:
        self.requests += 1
        texts = body["query"].split("'")[1::2]
        bounds = [(datetime.fromisoformat(text) - BEGIN).total_seconds() for text in texts]
        high = bounds[1] if len(bounds) > 1 else float("inf")
        hits = [(n, t) for n, t in enumerate(self.times) if bounds[0] <= t < high]
        return {"result": [{"id": n} for n, _ in hits[:50]], "contact_count": len(hits)}


@settings(max_examples=60, deadline=None)
@given(st.lists(st.integers(0, 86_399), max_size=900))
def test_the_search_finds_each_contact_once_or_says_that_it_cannot(times: list[int]) -> None:
    client = FakeClient(times)
    try:
        rows = ContactSearch(client, 1_000_000).updated_since(BEGIN)  # type: ignore[arg-type]
    except TooMany:
        assert len(times) > 50
        return
    assert sorted(row["id"] for row in rows) == list(range(len(times)))
    assert client.requests <= 200


def test_the_search_counts_on_a_total_to_choose() -> None:
    client = FakeClient([n * 30 for n in range(2500)])
    with pytest.raises(TooMany):
        ContactSearch(client, 1000).updated_since(BEGIN)  # type: ignore[arg-type]
    assert client.requests == 1
    few = FakeClient([n * 30 for n in range(2400)])
    rows = ContactSearch(few, 5_000_000).updated_since(BEGIN)  # type: ignore[arg-type]
    assert len(rows) == 2400


def test_a_burst_that_is_known_is_left_out() -> None:
    client = FakeClient([100] * 500 + [900])
    known = (BEGIN + timedelta(seconds=101), 500)
    search = ContactSearch(client, 10)  # type: ignore[arg-type]
    rows = search.updated_since(BEGIN + timedelta(seconds=100), known)
    assert [row["id"] for row in rows] == [500]
    assert client.requests == 3


def test_a_search_without_a_count_is_not_taken_for_complete() -> None:
    class Silent(FakeClient):
        def post(self, path: str, body: dict[str, str]) -> dict[str, Any]:
            return {"result": super().post(path, body)["result"]}

    client = Silent([n * 100 for n in range(120)])
    rows = ContactSearch(client, 10).updated_since(BEGIN)  # type: ignore[arg-type]
    assert len(rows) == 120
    few = Silent([5] * 49)
    assert len(ContactSearch(few, 10).updated_since(BEGIN)) == 49  # type: ignore[arg-type]


def test_a_search_that_is_refused_is_not_the_end() -> None:
    class Refusing(FakeClient):
        def post(self, path: str, body: dict[str, str]) -> dict[str, Any]:
            raise RequestRejected(400, "POST /v3/marketing/contacts/search", "no such field")

    with pytest.raises(TooMany, match="does not serve"):
        ContactSearch(Refusing([]), 10).updated_since(BEGIN)  # type: ignore[arg-type]


def test_state_survives_json_and_copies(serve: Serve) -> None:
    run = serve(contacts=20)
    state = run("recipients").state
    assert json.loads(json.dumps(state)) == state
    before = copy.deepcopy(state)
    run("recipients", state=state)
    assert state == before
