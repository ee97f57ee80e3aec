"""The current generation: fields, lists, segments, single sends, contacts and their search."""

from __future__ import annotations

import itertools

import pytest
from sendgrid_simulator.population import FieldDefinition
from sendgrid_simulator.times import iso


def test_lists_are_paged_by_token_and_the_last_page_has_no_next(start, client):
    http = client(start(lists=5))
    url, pages = "/v3/marketing/lists?page_size=2", []
    while url:
        body = http.get(url).json()
        pages.append(body)
        url = body["_metadata"].get("next")
    assert [len(page["result"]) for page in pages] == [2, 2, 1]
    assert "next" not in pages[-1]["_metadata"]
    assert "prev" not in pages[0]["_metadata"]
    assert pages[0]["_metadata"]["self"].endswith("page_token=")
    ids = [row["id"] for page in pages for row in page["result"]]
    assert ids == sorted(ids)
    assert len(set(ids)) == 5


def test_bad_page_parameters_are_400(start, client):
    http = client(start())
    for query in ("page_size=0", "page_size=1001", "page_size=x", "page_token=!", "page_token=-1"):
        assert http.get(f"/v3/marketing/lists?{query}").status_code == 400


def test_tests_may_alter_the_model_while_it_runs(start, client):
    sim = start()
    http = client(sim)
    item = sim.account.lists[0]
    item.contact_count = 200
    assert http.get(f"/v3/marketing/lists/{item.id}").json()["contact_count"] == 200
    sim.account.lists.remove(item)
    gone = http.get(f"/v3/marketing/lists/{item.id}")
    assert gone.json() == {"errors": [{"field": None, "message": "List ID does not exist"}]}
    assert gone.status_code == 404


def test_a_list_can_show_a_sample_of_its_contacts(start, client):
    sim = start(contacts=300)
    item = sim.account.lists[1]
    body = client(sim).get(f"/v3/marketing/lists/{item.id}?contact_sample=true").json()
    assert len(body["contact_sample"]) == 50
    assert all(item.id in row["list_ids"] for row in body["contact_sample"])


def test_segments_of_both_kinds(start, client):
    sim = start(segments=3, segments_v1=2)
    http = client(sim)
    second = http.get("/v3/marketing/segments/2.0").json()["results"]
    first = http.get("/v3/marketing/segments").json()["results"]
    assert (len(second), len(first)) == (3, 2)
    assert {row["query_version"] for row in second} == {"2"}
    assert {tuple(row["parent_list_ids"] or ()) for row in second} == {
        (sim.account.lists[0].id,),
        (),
    }
    assert all("query_version" not in row and "parent_list_id" in row for row in first)
    orphans = http.get("/v3/marketing/segments/2.0?no_parent_list_id=true").json()["results"]
    assert [row["parent_list_ids"] for row in orphans] == [None]
    detail = http.get(f"/v3/marketing/segments/2.0/{second[0]['id']}").json()
    assert detail["query_dsl"].startswith("SELECT contact_id, updated_at FROM contact_data")
    assert 0 < len(detail["contacts_sample"]) <= 50
    bare = f"/v3/marketing/segments/2.0/{second[0]['id']}?contacts_sample=false"
    assert "contacts_sample" not in http.get(bare).json()
    assert http.get(f"/v3/marketing/segments/{first[0]['id']}").json()["query_dsl"]
    assert http.get(f"/v3/marketing/segments/{second[0]['id']}").status_code == 404


def test_single_sends_are_newest_first_and_drafts_have_no_send_at(start, client):
    http = client(start(campaigns=7))
    body = http.get("/v3/marketing/singlesends").json()
    assert body["_metadata"]["count"] == 7
    created = [row["created_at"] for row in body["result"]]
    assert created == sorted(created, reverse=True)
    drafts = [row for row in body["result"] if row["status"] == "draft"]
    assert drafts
    assert all("send_at" not in row for row in drafts)
    sent = next(row for row in body["result"] if row["status"] == "triggered")
    detail = http.get(f"/v3/marketing/singlesends/{sent['id']}").json()
    assert detail["email_config"]["subject"]
    assert detail["send_to"]["list_ids"]
    tested = [row for row in body["result"] if row["is_abtest"]]
    assert tested[0]["abtest"]["type"] == "subject"
    found = http.post("/v3/marketing/singlesends/search", json={"status": ["draft"]}).json()
    assert [row["id"] for row in found["result"]] == [row["id"] for row in drafts]


def test_field_definitions_and_an_account_without_custom_fields(start, client):
    sim = start()
    http = client(sim)
    body = http.get("/v3/marketing/field_definitions").json()
    assert {f["name"]: f["field_type"] for f in body["custom_fields"]} == {
        "plan": "Text",
        "num_orders": "Number",
        "birthday": "Date",
        "Favourite Colour": "Text",
    }
    reserved = {f["id"]: f["name"] for f in body["reserved_fields"]}
    assert reserved["_rf0_T"] == "first_name"
    assert reserved["_rf23_T"] == "contact_id"
    sim.account.contacts.fields.clear()
    assert "custom_fields" not in http.get("/v3/marketing/field_definitions").json()


def test_contacts_stop_at_fifty(start, client):
    http = client(start(contacts=400))
    body = http.get("/v3/marketing/contacts").json()
    emails = [row["email"] for row in body["result"]]
    assert (len(emails), body["contact_count"]) == (50, 400)
    assert emails == sorted(emails)
    assert "next" not in body["_metadata"]
    assert http.get("/v3/marketing/contacts/count").json()["contact_count"] == 400


def test_contacts_by_id_in_batches_and_by_address(start, client):
    sim = start(contacts=500)
    http = client(sim)
    book = sim.account.contacts
    chosen = [book.get(index) for index in (0, 17, 499)]
    ids = [contact.id for contact in chosen]
    rows = http.post("/v3/marketing/contacts/batch", json={"ids": [*ids, "nobody"]}).json()[
        "result"
    ]
    assert [row["id"] for row in rows] == ids
    assert [row["list_ids"] for row in rows] == [contact.list_ids for contact in chosen]
    assert http.post("/v3/marketing/contacts/batch", json={"ids": ids * 40}).status_code == 400
    assert http.get(f"/v3/marketing/contacts/{ids[1]}").json()["email"] == chosen[1].email
    assert http.get("/v3/marketing/contacts/nobody").status_code == 404
    wanted = {"emails": [chosen[2].email.upper(), "x@y.z"]}
    found = http.post("/v3/marketing/contacts/search/emails", json=wanted).json()["result"]
    assert found[chosen[2].email.upper()]["contact"]["id"] == ids[2]
    assert found["x@y.z"] == {"error": "contact not found"}
    nobody = http.post("/v3/marketing/contacts/search/emails", json={"emails": ["x@y.z"]})
    assert nobody.status_code == 404


def search(http, query):
    answer = http.post("/v3/marketing/contacts/search", json={"query": query})
    assert answer.status_code == 200, answer.text
    return answer.json()


def test_bisection_by_updated_at_finds_every_contact_once(start, client):
    sim = start(contacts=700)
    http = client(sim)
    book = sim.account.contacts
    at = sim.account.anchor + 7
    book.update(3, at, first_name="Changed")
    book.delete(5)
    added = book.add("New.Person@example.com", at, custom_fields={"plan": "gold"})
    low, high = sim.account.anchor - 400 * 86400, at

    def find(low, high):
        """All ids with low <= updated_at < high, split until under the cap."""
        body = search(
            http,
            f"updated_at >= TIMESTAMP '{iso(low)}' AND updated_at < TIMESTAMP '{iso(high)}'",
        )
        if body["contact_count"] <= 50:
            assert len(body["result"]) == body["contact_count"]
            return [row["id"] for row in body["result"]]
        middle = (low + high) // 2
        return find(low, middle) + find(middle, high)

    found = find(low, high + 1)
    assert len(found) == len(set(found)) == 700
    assert added.id in found
    assert book.id_of(5) not in found
    last = search(http, f"updated_at = '{iso(at)}'")
    assert {row["first_name"] for row in last["result"]} == {"Changed", ""}


def test_a_bulk_upsert_puts_more_than_the_cap_into_one_second(start, client):
    sim = start(contacts=1000, same_second=300)
    book = sim.account.contacts
    second = iso(book.updated_at(999))
    body = search(client(sim), f"updated_at = TIMESTAMP '{second}'")
    assert (body["contact_count"], len(body["result"])) == (300, 50)


def test_search_understands_the_rest_of_the_language(start, client):
    sim = start(contacts=200)
    http = client(sim)
    book = sim.account.contacts
    everyone = [book.get(index) for index in range(200)]
    one = everyone[42]
    assert search(http, f"email = '{one.email}'")["result"][0]["id"] == one.id
    assert search(http, f"contact_id = '{one.id}'")["contact_count"] == 1
    assert search(http, f"contact_id IN ('{one.id}', 'x')")["contact_count"] == 1
    assert search(http, "email LIKE '%@example.org'")["contact_count"] == sum(
        contact.email.endswith("@example.org") for contact in everyone
    )
    item = sim.account.lists[2]
    assert search(http, f"CONTAINS(list_ids, '{item.id}')")["contact_count"] == 67
    gold = sum(contact.custom_fields.get("plan") == "gold" for contact in everyone)
    assert search(http, "plan = 'gold'")["contact_count"] == gold > 0
    unset = sum("plan" not in contact.custom_fields for contact in everyone)
    assert search(http, "plan IS NULL")["contact_count"] == unset
    few = "num_orders >= 1 AND num_orders < 50 AND NOT (LOWER(email) LIKE '%org')"
    counted = sum(
        1 <= contact.custom_fields.get("num_orders", -1) < 50 and not contact.email.endswith("org")
        for contact in everyone
    )
    assert search(http, few)["contact_count"] == counted > 0
    assert search(http, "`Favourite Colour` = 'bleu' OR 1 = 2")["contact_count"] > 0
    assert search(http, "updated_at >= (NOW() - interval 800 day)")["contact_count"] == 200


@pytest.mark.parametrize("query", ["updated_at >", "= 3", "email = 'x", "a b c", "x IN (", "#"])
def test_a_query_that_is_not_understood_is_400(start, client, query):
    answer = client(start()).post("/v3/marketing/contacts/search", json={"query": query})
    assert answer.status_code == 400
    assert answer.json()["errors"][0]["field"] == "query"


def test_search_can_time_out(start, client):
    http = client(start(search_timeout=True))
    answer = http.post("/v3/marketing/contacts/search", json={"query": "email = 'a'"})
    assert answer.status_code == 408


def test_the_population_is_the_same_for_the_same_seed(start):
    one, same, other = (start(contacts=50, seed=seed).account.contacts for seed in (1, 1, 2))
    assert all(one.get(index) == same.get(index) for index in range(50))
    assert one.id_of(7) != other.id_of(7)
    ids = {one.id_of(index) for index in range(1_000_000, 1_001_000)}
    assert len(ids) == 1000


def test_order_visits_everyone_once_and_not_by_date(start):
    book = start(contacts=1597).account.contacts
    order = list(book.order())
    assert sorted(order) == list(range(1597))
    assert any(b < a for a, b in itertools.pairwise(order))


def test_a_new_custom_field_can_appear_and_be_cleared(start, client):
    sim = start()
    http = client(sim)
    book = sim.account.contacts
    book.fields.append(FieldDefinition(9, "score", "Number"))
    book.update(0, sim.account.anchor, custom_fields={"score": 4.5})
    url = f"/v3/marketing/contacts/{book.id_of(0)}"
    assert http.get(url).json()["custom_fields"]["score"] == 4.5
    book.update(0, sim.account.anchor + 1, custom_fields={"score": None})
    assert "score" not in http.get(url).json()["custom_fields"]
