"""Every way in which SendGrid pages, and its traps."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tap_sendgrid.api.errors import NotFound, SendGridError
from tap_sendgrid.api.pages import (
    PagesIgnored,
    PagesMoved,
    legacy_pages,
    offset_pages,
    rows_of,
    token_pages,
)


class Rows:
    """Answers like an endpoint over some rows; counts the requests."""

    def __init__(self, rows: list[Any]) -> None:
        self.rows = rows
        self.asked: list[dict[str, Any]] = []

    def get(self, path: str, params: dict[str, Any] | None = None) -> Any:
        self.asked.append(params or {})
        start, limit = params["offset"], params["limit"]  # type: ignore[index]
        return [{"n": n} for n in self.rows[start : start + limit]]


@given(st.integers(0, 60), st.integers(1, 12), st.integers(0, 8))
def test_offsets_give_each_row_once(total: int, limit: int, overlap: int) -> None:
    limit += overlap  # an overlap is less than a page
    client = Rows(list(range(total)))
    rows = list(offset_pages(client, "/x", limit=limit, overlap=overlap))  # type: ignore[arg-type]
    assert [row["n"] for row in rows] == list(range(total))
    assert all(asked["limit"] == limit for asked in client.asked)


def test_rows_removed_while_paging_are_caught_by_the_overlap() -> None:
    client = Rows(list(range(100)))
    got = []
    for row in offset_pages(client, "/x", limit=20, overlap=5):  # type: ignore[arg-type]
        got.append(row["n"])
        if row["n"] == 10:
            del client.rows[:4]
    assert set(got) >= set(range(100)) - set(range(4))
    assert len(client.asked) == 7  # none of them twice


class Shrinking(Rows):
    """Removes the first rows after so many of its answers."""

    def __init__(self, rows: list[Any], removed: int, times: int) -> None:
        super().__init__(rows)
        self.removed, self.times = removed, times

    def get(self, path: str, params: dict[str, Any] | None = None) -> Any:
        answer = super().get(path, params)
        if self.times:
            self.times -= 1
            del self.rows[: self.removed]
        return answer


@pytest.mark.parametrize("total", [100, 20, 25])
def test_more_rows_removed_than_the_overlap_has_are_read_again(total: int) -> None:
    client = Shrinking(list(range(total)), removed=8, times=1)
    rows = list(offset_pages(client, "/x", limit=20, overlap=5))  # type: ignore[arg-type]
    assert {row["n"] for row in rows} == set(range(total))
    assert [asked["offset"] for asked in client.asked[:3]] == [0, 15, 0]


def test_rows_that_are_removed_all_the_time_are_told() -> None:
    client = Shrinking(list(range(1000)), removed=8, times=99)
    with pytest.raises(PagesMoved, match="removed"):
        list(offset_pages(client, "/x", limit=20, overlap=5))  # type: ignore[arg-type]
    assert len(client.asked) == 6


def test_an_endpoint_that_ignores_the_offset_is_found_out() -> None:
    class Stubborn(Rows):
        def get(self, path: str, params: dict[str, Any] | None = None) -> Any:
            return [{"n": n} for n in range(500)]

    with pytest.raises(PagesIgnored):
        list(offset_pages(Stubborn([]), "/x", limit=500))  # type: ignore[arg-type]


@pytest.mark.parametrize(("limit", "overlap"), [(500, 0), (100, 10)])
def test_an_endpoint_that_ignores_the_limit_gave_everything(limit: int, overlap: int) -> None:
    class Generous(Rows):
        def get(self, path: str, params: dict[str, Any] | None = None) -> Any:
            self.asked.append(params or {})
            return [{"n": n} for n in range(500 + 200 * (not overlap))]

    client = Generous([])
    rows = list(offset_pages(client, "/x", limit=limit, overlap=overlap))  # type: ignore[arg-type]
    assert len(rows) in {500, 700}
    assert len(client.asked) == 1


class Capped(Rows):
    """Gives no more than so many rows a page, whatever the limit says."""

    def __init__(self, rows: list[Any], cap: int) -> None:
        super().__init__(rows)
        self.cap = cap

    def get(self, path: str, params: dict[str, Any] | None = None) -> Any:
        return super().get(path, params)[: self.cap]


@given(st.integers(0, 60), st.integers(1, 12), st.integers(1, 12), st.integers(0, 8))
def test_a_server_that_caps_pages_below_the_limit_does_not_end_a_list_early(
    total: int, limit: int, cap: int, overlap: int
) -> None:
    limit += overlap
    client = Capped(list(range(total)), cap)
    rows = list(offset_pages(client, "/x", limit=limit, overlap=overlap))  # type: ignore[arg-type]
    assert [row["n"] for row in rows] == list(range(total))


@pytest.mark.parametrize(("total", "requests"), [(0, 1), (1, 2), (7, 2), (499, 2), (500, 2)])
def test_a_list_of_one_page_costs_one_more_request(total: int, requests: int) -> None:
    client = Rows(list(range(total)))
    rows = list(offset_pages(client, "/x", limit=500, overlap=10))  # type: ignore[arg-type]
    assert len(rows) == total
    assert len(client.asked) == requests


@pytest.mark.parametrize("total", [1, 7, 499])
def test_a_short_list_that_is_not_paged_is_whole(total: int) -> None:
    class Same(Rows):
        def get(self, path: str, params: dict[str, Any] | None = None) -> Any:
            return [{"n": n} for n in self.rows]

    client = Same(list(range(total)))
    rows = list(offset_pages(client, "/x", limit=500, overlap=10))  # type: ignore[arg-type]
    assert [row["n"] for row in rows] == list(range(total))


class Tokens:
    def __init__(self, *pages: Any) -> None:
        self.pages = list(pages)

    def get(self, path: str, params: dict[str, Any] | None = None) -> Any:
        return self.pages.pop(0)


def test_tokens_end_where_next_is_absent() -> None:
    client = Tokens(
        {"result": [{"n": 1}], "_metadata": {"next": "u2"}},
        {"result": None, "_metadata": {"next": "u3"}},  # null, and not the end
        {"result": [{"n": 3}], "_metadata": {"self": "u3"}},
    )
    assert [row["n"] for row in token_pages(client, "/x")] == [1, 3]  # type: ignore[arg-type]


def test_tokens_that_go_round_are_found_out() -> None:
    page = {"result": [{"n": 1}], "_metadata": {"next": "u1"}}
    with pytest.raises(SendGridError, match="circle"):
        list(token_pages(Tokens(page, page, page), "/x"))  # type: ignore[arg-type]


class Legacy:
    def __init__(self, pages: list[Any]) -> None:
        self.pages = pages

    def get(self, path: str, params: dict[str, Any]) -> Any:
        if params["page"] > len(self.pages):
            raise NotFound(404, "GET /x", "No more pages")
        return {"recipients": self.pages[params["page"] - 1]}


def test_only_the_404_ends_legacy_pages() -> None:
    client = Legacy([[{"n": 1}], [], None, [{"n": 2}, {"n": 3}], []])
    pages = [rows for rows, _ in legacy_pages(client, "/x")]  # type: ignore[arg-type]
    assert pages == [[{"n": 1}], [{"n": 2}, {"n": 3}]]


def test_legacy_pages_without_a_404_end_too() -> None:
    client = Legacy([[{"n": 1}], *([[]] * 1000)])
    assert len(list(legacy_pages(client, "/x"))) == 1  # type: ignore[arg-type]


@pytest.mark.parametrize("answer", [None, {"r": None}, [], {"r": [{}]}, [None]])
def test_nothing_in_any_form_is_no_rows(answer: Any) -> None:
    assert rows_of(answer, "r") == []


@pytest.mark.parametrize("answer", [{"r": "text"}, {}, {"errors": [{"message": "later"}]}, 5])
def test_something_else_in_place_of_rows_is_told(answer: Any) -> None:
    with pytest.raises(SendGridError, match="array"):
        rows_of(answer, "r")
