"""Writing contacts in both generations, and exports of the legacy one."""

from __future__ import annotations

import json

import requests

CONTACTS, RECIPIENTS = "/v3/marketing/contacts", "/v3/contactdb/recipients"


def test_an_upsert_is_seen_only_after_its_job(start, client):
    sim = start(contacts=20, write_seconds=3600)
    http = client(sim)
    known, item = sim.account.contacts.get(3), sim.account.lists[1]
    rows = [
        {"email": "New@Example.com", "first_name": "Nia", "custom_fields": {"e1_T": "gold"}},
        {"email": known.email, "city": "Oslo"},
        {"email": "nonsense"},
        {"email": "odd@example.com", "custom_fields": [1]},
    ]
    answer = http.put(CONTACTS, json={"contacts": rows, "list_ids": [item.id]})
    assert answer.status_code == 202
    job = f"{CONTACTS}/imports/{answer.json()['job_id']}"
    assert http.get(job).json()["status"] == "pending"
    assert http.get(f"{CONTACTS}/count").json()["contact_count"] == 20
    sim.account.jobs[answer.json()["job_id"]].due = 0
    done = http.get(job).json()
    assert done["status"] == "completed"
    assert done["results"] == {
        "requested_count": 4,
        "created_count": 1,
        "updated_count": 1,
        "errored_count": 2,
    }
    found = http.post(f"{CONTACTS}/search/emails", json={"emails": ["new@example.com"]}).json()
    contact = found["result"]["new@example.com"]["contact"]
    assert (contact["custom_fields"], contact["list_ids"]) == ({"plan": "gold"}, [item.id])
    changed = http.get(f"{CONTACTS}/{known.id}").json()
    assert (changed["city"], changed["last_name"]) == ("Oslo", known.text.get("last_name", ""))
    assert item.contact_count == 12


def test_contacts_are_deleted_by_a_job(start, client):
    sim = start(contacts=20)
    http = client(sim)
    ids = [sim.account.contacts.id_of(index) for index in (0, 5)]
    assert http.delete(f"{CONTACTS}?ids={','.join(ids)}").status_code == 202
    assert http.get(f"{CONTACTS}/{ids[0]}").status_code == 404
    assert http.get(f"{CONTACTS}/count").json()["contact_count"] == 18
    assert sim.account.lists[0].contact_count == 18
    assert http.delete(CONTACTS).status_code == 400
    assert http.delete(f"{CONTACTS}?delete_all_contacts=true").status_code == 202
    assert http.get(f"{CONTACTS}/count").json()["contact_count"] == 0
    assert http.put(CONTACTS, json={"contacts": []}).status_code == 400
    assert http.get(f"{CONTACTS}/imports/none").status_code == 404


def test_a_partly_bad_legacy_batch_is_still_201(start, client):
    sim = start(contacts=10, generation="legacy", rate_limits={RECIPIENTS: (100, 60.0)})
    http = client(sim)
    known = sim.account.contacts.get(2)
    rows = [{"email": "n@example.com", "plan": "gold"}, {"email": "x"}, {"email": known.email}]
    answer = http.post(RECIPIENTS, json=rows)
    body = answer.json()
    assert answer.status_code == 201
    assert (body["new_count"], body["updated_count"], body["error_indices"]) == (1, 1, [1])
    one = http.get(f"{RECIPIENTS}/{body['persisted_recipients'][0]}").json()
    assert one["custom_fields"][0]["value"] == "gold"
    patched = http.patch(RECIPIENTS, json=[{"email": "unknown@example.com"}]).json()
    assert (patched["error_count"], patched["new_count"]) == (1, 0)
    gone = http.delete(RECIPIENTS, json=body["persisted_recipients"])
    assert gone.status_code == 204
    assert http.get(f"{RECIPIENTS}/count").json() == {"recipient_count": 9}


def test_legacy_writes_have_their_documented_limit(start, client):
    http = client(start(generation="legacy"))
    statuses = [http.post(RECIPIENTS, json=[]).status_code for _ in range(4)]
    assert statuses == [201, 201, 201, 429]


def test_legacy_exports_need_the_upgrade(start, client):
    sim = start(contacts=40, generation="legacy", export_polls=0, export_encoding="plain")
    http = client(sim)
    assert http.post("/v3/contactdb/exports").status_code == 403
    sim.options.legacy_exports = True
    started = http.post("/v3/contactdb/exports", json={"list_ids": [9001], "file_type": "json"})
    assert started.status_code == 202
    assert "/v3/contactdb/exports/" in started.json()["_metadata"]["self"]
    job = http.get(f"/v3/contactdb/exports/{started.json()['id']}").json()
    assert job["recipient_count"] == 20
    lines = requests.get(job["urls"][0], timeout=5).text.splitlines()
    assert len({json.loads(line)["email"] for line in lines}) == 20
    (row,) = http.get("/v3/contactdb/exports").json()["result"]
    assert row["lists"] == [{"ID": 9001, "Name": "Every 2. contact"}]
    assert http.post("/v3/contactdb/exports", json={"list_ids": [1]}).status_code == 404


def test_the_undocumented_campaigns_are_there(start, client):
    rows = client(start()).get("/v3/marketing/campaigns").json()["result"]
    assert rows[0]["channels"] == ["email"]
    assert "categories" not in rows[0]
