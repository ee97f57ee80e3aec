"""Contact exports: jobs, files, links, and that a file says what the contacts are."""

from __future__ import annotations

import csv
import gzip
import io
import json
import time

import pytest
import requests
from sendgrid_simulator import Fault
from sendgrid_simulator.times import iso_fraction

EXPORTS = "/v3/marketing/contacts/exports"


def export(http, body=None):
    """Runs an export to its end; the job as SendGrid last showed it, and the number of polls."""
    started = http.post(EXPORTS, json=body) if body is not None else http.post(EXPORTS)
    assert started.status_code == 202, started.text
    job, polls = {"status": "pending"}, 0
    while job["status"] == "pending":
        job = http.get(f"{EXPORTS}/{started.json()['id']}").json()
        polls += 1
    return job, polls


def fetch(url):
    """A file's bytes, unpacked when they are gzip."""
    answer = requests.get(url, timeout=20)
    assert answer.status_code == 200, answer.text
    data = answer.content
    return gzip.decompress(data) if data[:2] == b"\x1f\x8b" else data


def json_lines(job):
    return [json.loads(line) for url in job["urls"] for line in fetch(url).decode().splitlines()]


def test_a_job_is_pending_then_ready(start, client):
    http = client(start(contacts=120, export_polls=2))
    job, polls = export(http, {"file_type": "json"})
    assert polls == 3
    assert job["contact_count"] == 120
    assert len(job["urls"]) == 1
    assert job["completed_at"] <= job["expires_at"]


def test_json_files_say_what_the_contacts_are(start, client):
    sim = start(contacts=2500, export_polls=0)
    book = sim.account.contacts
    at = sim.account.anchor
    book.update(7, at, first_name='Zoë "Z"\n', custom_fields={"plan": None, "num_orders": 1})
    book.delete(8)
    book.add("new@example.com", at)
    job, _ = export(client(sim), {"file_type": "json"})
    rows = {row["contact_id"]: row for row in json_lines(job)}
    everyone = [book.get(index) for index in (*range(8), *range(9, 2501))]
    assert len(rows) == len(everyone) == 2500
    for contact in everyone:
        row = rows[contact.id]
        assert "id" not in row
        assert row["email"] == contact.email
        assert row.get("custom_fields", {}) == contact.custom_fields
        assert {k: row.get(k, "") for k in contact.text} == contact.text
        assert row.get("alternate_emails", []) == contact.alternate_emails
        assert not set(row).intersection({"list_ids", "segment_ids", "whatsapp"})
    assert "custom_fields" not in rows[book.get(2500).id]


def test_csv_has_upper_case_headers_quotes_and_empty_cells(start, client):
    sim = start(contacts=1500, export_polls=0)
    sim.account.contacts.update(4, sim.account.anchor, custom_fields={"plan": 'a "b"\nc'})
    job, _ = export(client(sim), {"file_type": "csv"})
    text = fetch(job["urls"][0]).decode()
    assert text.startswith('"EMAIL","FIRST_NAME","LAST_NAME","ADDRESS_LINE_1"')
    rows = list(csv.DictReader(io.StringIO(text)))
    assert len(rows) == 1500
    book = sim.account.contacts
    by_id = {row["CONTACT_ID"]: row for row in rows}
    for index in range(1500):
        contact = book.get(index)
        row = by_id[contact.id]
        assert row["EMAIL"] == contact.email
        assert row["LAST_NAME"] == contact.text.get("last_name", "")
        assert row["PLAN"] == contact.custom_fields.get("plan", "")
        assert row["FAVOURITE COLOUR"] == contact.custom_fields.get("Favourite Colour", "")
    assert by_id[book.id_of(4)]["PLAN"] == 'a "b"\nc'


def test_an_empty_body_exports_all_as_csv(start, client):
    job, _ = export(client(start(contacts=30, export_polls=0)))
    assert fetch(job["urls"][0]).decode().startswith('"EMAIL"')


def test_an_export_of_nothing_is_an_empty_file(start, client):
    job, _ = export(client(start(contacts=0, export_polls=0)), {"file_type": "csv"})
    assert (job["contact_count"], [fetch(url) for url in job["urls"]]) == (0, [b""])


@pytest.mark.parametrize("kind", ["gzip", "plain", "alternate"])
def test_several_files_gzip_or_not_under_the_same_name(start, client, kind):
    sim = start(contacts=95, export_polls=0, export_rows_per_file=20, export_encoding=kind)
    job, _ = export(client(sim), {"file_type": "json"})
    assert len(job["urls"]) == 5
    assert all(".json.gzip?" in url for url in job["urls"])
    packed = [requests.get(u, timeout=5).content[:2] == b"\x1f\x8b" for u in job["urls"]]
    assert (
        packed
        == {
            "gzip": [True] * 5,
            "plain": [False] * 5,
            "alternate": [True, False, True, False, True],
        }[kind]
    )
    assert len({row["contact_id"] for row in json_lines(job)}) == 95


def test_max_file_size_splits_into_files_of_about_so_many_megabytes(start, client):
    http = client(start(contacts=9000, export_polls=0, export_encoding="plain"))
    job, _ = export(http, {"file_type": "json", "max_file_size": 1})
    sizes = [len(fetch(url)) for url in job["urls"]]
    assert len(sizes) > 2
    assert all(500_000 < size < 1_300_000 for size in sizes[:-1])


def test_lists_and_segments_can_be_exported(start, client):
    sim = start(contacts=300, export_polls=0)
    http = client(sim)
    item, segment = sim.account.lists[2], sim.account.segments[1]
    assert export(http, {"list_ids": [item.id]})[0]["contact_count"] == 100
    assert export(http, {"segment_ids": [segment.id]})[0]["contact_count"] == 50
    jobs = http.get(EXPORTS).json()["result"]
    assert [job["export_type"] for job in jobs] == ["segment_export", "list_export"]
    assert jobs[1]["lists"] == [{"ID": item.id, "Name": item.name}]
    assert http.post(EXPORTS, json={"list_ids": ["none"]}).status_code == 404


def test_a_pending_job_is_in_the_list_and_can_be_adopted(start, client):
    sim = start(export_polls=1)
    http = client(sim)
    started = http.post(EXPORTS, json={"file_type": "json"}).json()["id"]
    rows = http.get(EXPORTS).json()["result"]
    assert [(row["id"], row["status"], "urls" in row) for row in rows] == [
        (started, "pending", False)
    ]


def test_the_download_host_refuses_an_authorization_header(start, client):
    sim = start(export_polls=0)
    http = client(sim)
    job, _ = export(http, {"file_type": "json"})
    refused = http.get(job["urls"][0])
    assert refused.status_code == 400
    assert "<Code>InvalidArgument</Code>" in refused.text
    tampered = requests.get(job["urls"][0] + "0", timeout=5)
    assert tampered.status_code == 403


def test_links_expire_and_a_new_get_renews_them(start, client):
    sim = start(export_polls=0, link_seconds=0.2)
    http = client(sim)
    job, _ = export(http, {"file_type": "json"})
    time.sleep(0.25)
    expired = requests.get(job["urls"][0], timeout=5)
    assert expired.status_code == 403
    assert "<Message>Request has expired</Message>" in expired.text
    sim.options.link_seconds = 60
    renewed = http.get(f"{EXPORTS}/{job['id']}").json()
    assert requests.get(renewed["urls"][0], timeout=5).status_code == 200


def test_a_job_may_fail_with_a_message(start, client):
    http = client(start(export_failures=1, export_polls=0))
    failed, _ = export(http, {"file_type": "json"})
    assert failed["status"] == "failure"
    assert failed["message"]
    assert "urls" not in failed
    assert export(http, {"file_type": "json"})[0]["status"] == "ready"


def test_an_export_is_a_snapshot(start, client):
    sim = start(contacts=50, export_polls=0)
    book = sim.account.contacts
    book.update(1, sim.account.anchor, first_name="Before")
    job, _ = export(client(sim), {"file_type": "json"})
    book.update(1, sim.account.anchor + 1, first_name="After")
    rows = {row["contact_id"]: row for row in json_lines(job)}
    assert rows[book.id_of(1)]["first_name"] == "Before"


@pytest.mark.parametrize("kind", ["json", "csv"])
def test_times_may_have_fractions(start, client, kind):
    sim = start(contacts=20, export_polls=0, fractional_times=True)
    http = client(sim)
    sim.account.contacts.update(1, sim.account.anchor + 5)
    job, _ = export(http, {"file_type": kind})
    text = fetch(job["urls"][0]).decode()
    assert iso_fraction(sim.account.anchor + 5) in text
    assert text.count(".") > 60
    assert http.get("/v3/marketing/contacts").json()["result"][0]["updated_at"][19] == "."


def test_a_download_can_be_cut(start, client):
    sim = start(contacts=5000, export_polls=0, export_encoding="plain")
    job, _ = export(client(sim), {"file_type": "json"})
    sim.faults.append(Fault("cut_body", "/downloads/", after_bytes=400_000))
    with pytest.raises(requests.exceptions.ChunkedEncodingError):
        requests.get(job["urls"][0], timeout=5)
    assert len(fetch(job["urls"][0]).splitlines()) == 5000


def test_bad_requests_are_refused(start, client):
    http = client(start())
    for body in ({"file_type": "xml"}, {"max_file_size": 0}, {"max_file_size": "5"}):
        assert http.post(EXPORTS, json=body).status_code == 400
    assert http.post(EXPORTS, data=b"{").status_code == 400
    assert http.get(f"{EXPORTS}/none").status_code == 404
