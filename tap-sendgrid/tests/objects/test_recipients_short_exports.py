"""Exports with fewer contacts than they should have: what is lost must come with the next run."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from conftest import Answer, TapRunner

    Pretend = Callable[[Answer], TapRunner]

JSON = {"Content-Type": "application/json"}
EXPORT = "POST /v3/marketing/contacts/exports"
#: Enough for several chunks, so that a run can be stopped in the middle.
ROWS = 20_000


class Account:
    """An account whose exports lack some of their rows."""

    def __init__(self) -> None:
        self.url = ""
        self.exports = 0
        self.counted = ROWS  # what an export says that it has
        self.written = ROWS  # what its files have
        self.now: int | None = ROWS  # what the account says that it has

    def answer(self, method: str, path: str) -> tuple[int, dict[str, str], bytes]:
        if path.startswith("/file"):
            lines = [
                b'{"contact_id":"c%d","email":"a%d@b.c","updated_at":"2026-01-01T%02d:00:00Z"}\n'
                % (n, n, n % 24)
                for n in range(self.written)
            ]
            return 200, {}, b"".join(lines)
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
                "urls": [f"{self.url}/file"],
                "contact_count": self.counted,
            }
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
