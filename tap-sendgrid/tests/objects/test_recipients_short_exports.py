"""Exports with fewer contacts than they should have: what is lost must come with the next run."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable
from typing import TYPE_CHECKING

import pytest
from sendgrid_simulator import Fault

if TYPE_CHECKING:
    from conftest import Answer, TapRunner

    Pretend = Callable[[Answer], TapRunner]
    Serve = Callable[..., TapRunner]

JSON = {"Content-Type": "application/json"}
EXPORT = "POST /v3/marketing/contacts/exports"
#: Enough for several chunks, so that a run can be stopped in the middle.
ROWS = 20_000


class Account:
    """An account whose exports lack some of their rows."""

    def __init__(self) -> None:
        self.url = ""
        self.exports = 0
        self.counted: int | None = ROWS  # what an export says that it has
        self.files: list[str] | None = ["/file"]  # its files; None: null stands for them
        self.before = b""  # what stands at the beginning of its file
        self.blank = 0  # blank lines at the end of its file
        self.written = ROWS  # what its files have
        self.now: int | None = ROWS  # what the account says that it has

    def answer(self, method: str, path: str) -> tuple[int, dict[str, str], bytes]:
        if path.startswith("/file"):
            lines = [
                b'{"contact_id":"c%d","email":"a%d@b.c","updated_at":"2026-01-01T%02d:00:00Z"}\n'
                % (n, n, n % 24)
                for n in range(self.written)
            ]
            return 200, {}, b"".join([self.before, *lines, *[b" \r\n"] * self.blank])
        if path.endswith("/contacts/count"):
            if self.now is None:
                return 403, JSON, b'{"errors": [{"message": "access forbidden"}]}'
            return 200, JSON, json.dumps({"contact_count": self.now}).encode()
        if path.endswith("/contacts/search"):
            return 408, JSON, b"{}"
        if path.endswith("/exports"):
            if method == "GET":
                return 200, JSON, b'{"result": []}'
            self.exports += 1
            return 202, JSON, json.dumps({"id": f"e{self.exports}"}).encode()
        if "/exports/" in path:
            export = {
                "id": path.rpartition("/")[2],
                "status": "ready",
                "created_at": "2026-02-01T00:00:00Z",
                "urls": self.files and [self.url + path for path in self.files],
            }
            if self.counted is not None:
                export["contact_count"] = self.counted
            return 200, JSON, json.dumps(export).encode()
        return 200, JSON, b'{"scopes": ["marketing.read"], "custom_fields": []}'


@pytest.fixture
def account() -> Account:
    return Account()


@pytest.fixture
def run(pretend: Pretend, account: Account) -> TapRunner:
    runner = pretend(account.answer)
    account.url = runner.simulator.url
    return runner


def test_a_short_export_leaves_the_bookmark_and_the_next_run_reads_another(
    run: TapRunner, account: Account
) -> None:
    account.written = ROWS - 3
    short = run("recipients")
    assert len(short.records("recipients")) == ROWS - 3
    problem = short.tap.report.failed["recipients"]
    assert "20,000" in problem
    assert "19,997" in problem
    assert "the next run reads again" in problem
    assert "replication_key_value" not in short.bookmark("recipients")
    account.written = ROWS
    whole = run("recipients", state=short.state)
    assert account.exports == 2
    assert len(whole.by_id("recipients")) == ROWS
    assert not whole.incomplete
    assert set(whole.bookmark("recipients")) == {
        "replication_key",
        "replication_key_value",
        "complete",
    }


def test_an_increment_by_a_short_export_is_read_again_too(run: TapRunner, account: Account) -> None:
    state = run("recipients").state
    account.written = ROWS - 1
    short = run("recipients", state=state)
    assert set(short.tap.report.failed) == {"recipients"}
    mark = state["bookmarks"]["recipients"]["replication_key_value"]
    assert short.bookmark("recipients")["replication_key_value"] == mark


def test_contacts_deleted_while_the_export_was_made_are_not_missed(
    run: TapRunner, account: Account
) -> None:
    account.written = account.now = ROWS - 3
    output = run("recipients")
    assert not output.incomplete
    assert "replication_key_value" in output.bookmark("recipients")


def test_without_the_right_to_count_nothing_explains_a_short_export(
    run: TapRunner, account: Account
) -> None:
    account.written, account.now = ROWS - 3, None
    assert set(run("recipients").tap.report.failed) == {"recipients"}


def test_a_count_that_is_off_in_the_same_way_twice_does_not_fail_every_run(
    run: TapRunner, account: Account, caplog: pytest.LogCaptureFixture
) -> None:
    account.counted = account.now = ROWS + 7
    first = run("recipients")
    assert first.incomplete
    with caplog.at_level(logging.WARNING):
        second = run("recipients", state=first.state)
    assert not second.incomplete
    assert account.exports == 2
    assert "as many are missing as in the one before" in caplog.text
    assert "replication_key_value" in second.bookmark("recipients")
    account.counted = account.now = ROWS + 9
    assert run("recipients", state=second.state).incomplete


def test_a_short_export_does_not_tell_what_was_deleted(run: TapRunner, account: Account) -> None:
    account.counted = account.now = ROWS + 7
    first = run("recipients", detect_deletes=True)
    second = run("recipients", detect_deletes=True, state=first.state)
    assert first.incomplete
    assert not second.incomplete
    assert [*first.of("ACTIVATE_VERSION"), *second.of("ACTIVATE_VERSION")] == []


@pytest.mark.parametrize("now", [2, None])
@pytest.mark.parametrize(
    ("counted", "files", "written"),
    [
        (None, ["/file"], 1),
        (None, ["/file"], 0),
        (None, [], 0),
        (None, None, 0),
        (0, ["/file"], 0),
        (0, [], 0),
        (0, None, 0),
    ],
)
def test_an_export_that_does_not_say_how_much_it_has_is_held_against_the_account(
    run: TapRunner,
    account: Account,
    counted: int | None,
    files: list[str] | None,
    written: int,
    now: int | None,
) -> None:
    """One that holds nothing does not tell that everything was deleted."""
    account.counted, account.files = counted, files
    account.written, account.now = written, now
    output = run("recipients", detect_deletes=True)
    assert output.of("ACTIVATE_VERSION") == []
    assert len(output.records("recipients")) == written
    assert set(output.tap.report.failed) == (set() if now is None else {"recipients"})


@pytest.mark.parametrize(("counted", "rows"), [(None, 2), (None, 0), (0, 0), (2, 2)])
def test_an_export_of_all_that_is_there_tells_what_was_deleted(
    run: TapRunner, account: Account, counted: int | None, rows: int
) -> None:
    account.counted, account.written, account.now = counted, rows, rows
    output = run("recipients", detect_deletes=True)
    assert len(output.of("ACTIVATE_VERSION")) == 1
    assert not output.incomplete


def test_blank_lines_are_no_contacts(run: TapRunner, account: Account) -> None:
    account.counted, account.now, account.written, account.blank = 3, 3, 2, 1
    output = run("recipients", detect_deletes=True)
    assert output.of("ACTIVATE_VERSION") == []
    assert "has 2" in output.tap.report.failed["recipients"]


@pytest.mark.parametrize("before", [b"\xef\xbb\xbf", b"\n", b"\xef\xbb\xbf\r\n"])
def test_a_byte_order_mark_or_a_blank_line_at_the_beginning_is_no_row(
    run: TapRunner, account: Account, before: bytes
) -> None:
    account.before, account.written, account.counted, account.now = before, 2, 2, 2
    output = run("recipients", detect_deletes=True)
    assert set(output.by_id("recipients")) == {"c0", "c1"}
    assert not output.incomplete


def test_recipients_that_nobody_counted_do_not_tell_what_was_deleted(serve: Serve) -> None:
    run = serve(contacts=5, generation="legacy")
    run.simulator.faults.append(
        Fault("status", path="/v3/contactdb/recipients/count", status=404, times=99)
    )
    uncounted = run("recipients", detect_deletes=True)
    assert not uncounted.incomplete
    assert uncounted.of("ACTIVATE_VERSION") == []
    run.simulator.faults.clear()
    assert len(run("recipients", detect_deletes=True).of("ACTIVATE_VERSION")) == 1


def test_a_short_export_is_noticed_by_the_run_that_reads_the_rest_of_it(
    run: TapRunner, account: Account
) -> None:
    account.written = ROWS - 3
    states = run("recipients").states
    middle = [s for s in states if "export" in s["bookmarks"]["recipients"]]
    assert middle
    rest = run("recipients", state=middle[-1])
    assert account.exports == 1
    assert set(rest.tap.report.failed) == {"recipients"}
    account.written = ROWS
    assert not run("recipients", state=middle[-1]).incomplete
