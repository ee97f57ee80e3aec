"""The legacy generation: fuzzy pages until the 404, search by day and by second, campaigns."""

from __future__ import annotations

import contextlib

import pytest
from sendgrid_simulator.http import ApiError
from sendgrid_simulator.legacy import fuzzy_bounds
from sendgrid_simulator.times import DAY

CONTACTDB = "/v3/contactdb"


def pages(http, path, size):
    """All pages until the 404, and the answer that ended them."""
    found, page = [], 1
    while True:
        joint = "&" if "?" in path else "?"
        answer = http.get(f"{path}{joint}page={page}&page_size={size}")
        if answer.status_code != 200:
            return found, answer
        found.append(answer.json()["recipients"])
        page += 1


def test_recipients_end_with_404_not_with_a_short_or_empty_page(start, client):
    sim = start(contacts=500, generation="legacy")
    found, end = pages(client(sim), f"{CONTACTDB}/recipients", 100)
    sizes = [len(rows) for rows in found]
    assert 0 in sizes[:-1]
    assert max(sizes) > 100
    assert any(0 < size < 100 for size in sizes[:-1])
    assert len({row["id"] for rows in found for row in rows}) == sum(sizes) == 500
    assert (end.status_code, end.content) == (404, b'{"errors":[{"message":"No more pages"}]}')


def test_pages_can_be_exact(start, client):
    sim = start(contacts=30, generation="legacy", fuzzy_pages=False)
    found, _ = pages(client(sim), f"{CONTACTDB}/recipients", 10)
    assert [len(rows) for rows in found] == [10, 10, 10]


@pytest.mark.parametrize("total", [0, 1, 2, 3, 5, 99, 100, 101, 102, 1000])
@pytest.mark.parametrize("size", [1, 2, 7, 100])
def test_every_row_is_on_exactly_one_page(total, size):
    pages = 1 + -(-total // size) + 1  # one more for the empty page, one for the odd row
    rows: list[int] = []
    with contextlib.suppress(ApiError):
        for page in range(1, pages + 1):
            rows += range(*fuzzy_bounds(page, size, total, fuzzy=True))
    assert rows == list(range(total))
    with pytest.raises(ApiError, match="No more pages"):
        fuzzy_bounds(pages + 1, size, total, fuzzy=True)


def test_deleted_rows_leave_gaps_in_pages(start, client):
    sim = start(contacts=40, generation="legacy", fuzzy_pages=False)
    order = list(sim.account.contacts.order())
    for index in order[10:20]:
        sim.account.contacts.delete(index)
    found, _ = pages(client(sim), f"{CONTACTDB}/recipients", 10)
    assert [len(rows) for rows in found] == [10, 0, 10, 10]


def test_a_recipient_has_epochs_nulls_and_every_custom_field(start, client):
    sim = start(contacts=200, generation="legacy")
    found, _ = pages(client(sim), f"{CONTACTDB}/recipients", 1000)
    rows = [row for page in found for row in page]
    for row in rows:
        assert [field["name"] for field in row["custom_fields"]] == [
            "plan",
            "num_orders",
            "birthday",
            "Favourite Colour",
        ]
        assert isinstance(row["updated_at"], int)
    assert {row["last_name"] is None for row in rows} == {True, False}
    births = {type(row["custom_fields"][2]["value"]) for row in rows}
    assert births == {int, type(None)}
    one = client(sim).get(f"{CONTACTDB}/recipients/{rows[5]['id']}")
    assert one.json() == rows[5]


def test_bad_pages_and_ids_are_refused(start, client):
    http = client(start(generation="legacy"))
    for query in ("page=0", "page_size=1001", "page=x"):
        assert http.get(f"{CONTACTDB}/recipients?{query}").status_code == 400
    assert http.get(f"{CONTACTDB}/recipients/!!").status_code == 400
    assert http.get(f"{CONTACTDB}/recipients/bm9ib2R5").status_code == 404
    missing = http.get(f"{CONTACTDB}/lists/1")
    assert missing.json()["errors"][0]["message"] == "List ID does not exist"


def test_search_by_parameter_widens_dates_to_the_utc_day(start, client):
    sim = start(contacts=1000, generation="legacy")
    http, book = client(sim), sim.account.contacts
    middle = book.updated_at(500)
    day = middle // DAY * DAY
    expected = [i for i in range(1000) if day <= book.updated_at(i) < day + DAY]
    answer = http.get(f"{CONTACTDB}/recipients/search?updated_at={middle}").json()
    assert answer["recipient_count"] == len(expected) == len(answer["recipients"]) > 1
    created = http.get(f"{CONTACTDB}/recipients/search?created_at={book.created_at(3)}").json()
    assert book.get(3).email in {row["email"] for row in created["recipients"]}
    named = http.get(f"{CONTACTDB}/recipients/search?first_name=Ann&plan=gold").json()
    assert {row["first_name"] for row in named["recipients"]} == {"Ann"}
    none = http.get(f"{CONTACTDB}/recipients/search?email=nobody@x.y").json()
    assert none == {"recipients": [], "recipient_count": 0}


def test_search_by_parameter_has_the_documented_errors(start, client):
    http = client(start(generation="legacy"))
    unknown = http.get(f"{CONTACTDB}/recipients/search?shoe=9")
    text = "The following parameters are not custom fields or reserved fields: [shoe]"
    assert (unknown.status_code, unknown.json()) == (400, {"errors": [{"message": text}]})
    nothing = http.get(f"{CONTACTDB}/recipients/search")
    assert nothing.json() == {"errors": [{"message": "No search params are specified"}]}


def conditions(*rows):
    names = ("and_or", "field", "operator", "value")
    return {"conditions": [dict(zip(names, row, strict=True)) for row in rows]}


def test_search_by_conditions_works_to_the_second(start, client):
    sim = start(contacts=1000, generation="legacy")
    http, book = client(sim), sim.account.contacts
    since, until = book.updated_at(700), book.updated_at(720)
    body = conditions(
        ("", "updated_at", "gt", str(since)), ("and", "updated_at", "lt", str(until + 1))
    )
    answer = http.post(f"{CONTACTDB}/recipients/search", json=body).json()
    assert answer["recipient_count"] == 20
    assert {row["updated_at"] for row in answer["recipients"]} == {
        book.updated_at(index) for index in range(701, 721)
    }
    either = conditions(("", "email", "eq", "x"), ("or", "first_name", "contains", "nn"))
    found = http.post(f"{CONTACTDB}/recipients/search?page_size=1000", json=either).json()
    assert {row["first_name"] for row in found["recipients"]} == {"Ann"}
    on_list = conditions(("", "email", "not_empty", "")) | {"list_id": 9002}
    assert (
        http.post(f"{CONTACTDB}/recipients/search", json=on_list).json()["recipient_count"] == 334
    )


@pytest.mark.parametrize(
    "body",
    [
        {},
        conditions(("and", "email", "eq", "x")),
        conditions(("", "shoe", "eq", "x")),
        conditions(("", "email", "like", "x")),
        conditions(("", "updated_at", "gt", "2024-01-01")),
        conditions(("", "email", "eq", 3)),
        conditions(*[("", "email", "eq", "x")] * 16),
    ],
)
def test_conditions_that_are_wrong_are_400(start, client, body):
    http = client(start(generation="legacy"))
    assert http.post(f"{CONTACTDB}/recipients/search", json=body).status_code == 400


def test_members_of_lists_and_segments_and_lists_of_a_member(start, client):
    sim = start(contacts=90, generation="legacy")
    http = client(sim)
    book = sim.account.contacts
    added = book.add("x@example.com", sim.account.anchor, list_ids=[sim.account.lists[1].id])
    found, _ = pages(http, f"{CONTACTDB}/lists/9001/recipients", 1000)
    emails = {row["email"] for page in found for row in page}
    assert len(emails) == 46
    assert added.email in emails
    found, _ = pages(http, f"{CONTACTDB}/segments/101/recipients", 1000)
    assert sum(map(len, found)) == 15
    row = http.get(f"{CONTACTDB}/recipients/search?email={book.email_of(6)}").json()
    key = row["recipients"][0]["id"]
    lists = http.get(f"{CONTACTDB}/recipients/{key}/lists").json()["lists"]
    assert [item["id"] for item in lists] == [9000, 9001, 9002]


def test_campaigns_come_ten_at_a_time_newest_first(start, client):
    sim = start(campaigns=23, generation="legacy")
    http = client(sim)
    first = http.get("/v3/campaigns").json()["result"]
    last = http.get("/v3/campaigns?limit=10&offset=20").json()["result"]
    assert (len(first), len(last)) == (10, 3)
    assert first[0]["id"] > first[-1]["id"] > last[-1]["id"]
    drafts = [row for row in first if row["status"] == "Draft"]
    assert all(row["subject"] is None and row["list_ids"] is None for row in drafts)
    assert {row["status"] for row in first} == {"Draft", "Scheduled", "Sent"}
    assert http.get(f"/v3/campaigns/{first[0]['id']}").json() == first[0]
    assert http.get(f"/v3/campaigns/{drafts[0]['id']}/schedules").status_code == 404
    assert http.get("/v3/campaigns?offset=23").json() == {"result": []}


def test_status_tells_of_delays(start, client):
    sim = start(generation="legacy")
    http = client(sim)
    assert http.get(f"{CONTACTDB}/status").json() == {
        "status": [{"id": "worker_delay", "value": "OK"}]
    }
    sim.options.worker_delay_seconds = 75
    assert http.get(f"{CONTACTDB}/status").json()["status"][1]["value"] == "75.0"
