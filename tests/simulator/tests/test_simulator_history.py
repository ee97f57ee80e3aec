"""Logs, activity, suppressions and statistics: all tell of the messages that the webhook posts."""

from __future__ import annotations

import time
from collections import Counter

import pytest
from sendgrid_simulator.times import DAY, date_of, iso

AT = "sg_message_id_created_at"


def logs(http, query="", limit=1000, **more):
    answer = http.post("/v3/logs", json={"query": query, "limit": limit, **more})
    assert answer.status_code == 200, answer.text
    return answer.json()["messages"]


def test_the_logs_have_the_webhooks_events_with_the_same_ids(start, client):
    sim = start(messages=150, seed=8)
    http = client(sim)
    seen = {}
    for row in logs(http):
        detail = http.get(f"/v3/logs/{row['sg_message_id']}").json()
        seen |= {event["sg_event_id"]: event for event in detail["events"]}
    sent = [event for message in sim.account.messages for event in message.events]
    with_id = [e for e in sent if "sg_event_id" in e and e["event"] != "account_status_change"]
    assert {event["sg_event_id"] for event in with_id} <= set(seen)
    for event in with_id:
        logged = seen[event["sg_event_id"]]
        assert (logged["event"], logged["timestamp"]) == (event["event"], event["timestamp"])
        assert "order_id" not in logged
        assert logged.get("custom_args", {}).get("order_id") == event.get("order_id")
        assert logged.get("tls", 1) == 1
        assert isinstance(logged.get("category", []), list)
    others = [
        event for key, event in seen.items() if key not in {e["sg_event_id"] for e in with_id}
    ]
    assert {event["event"] for event in others} == {"received", "unsubscribe"}


def test_logs_are_windowed_by_creation_newest_first_and_capped(start, client):
    sim = start(messages=500)
    http = client(sim)
    book = sim.account.messages
    assert len(logs(http, limit=10)) == 10
    low, high = book.created_at(100), book.created_at(199)
    found = logs(http, f'{AT} >= TIMESTAMP "{iso(low)}" AND {AT} <= TIMESTAMP "{iso(high)}"')
    assert len(found) == 100
    times = [row[AT] for row in found]
    assert times == sorted(times, reverse=True)
    sim.options.logs_row_cap = 30
    assert len(logs(http)) == 30


def test_logs_filter_by_the_documented_fields_only(start, client):
    sim = start(messages=300)
    http = client(sim)
    everything = logs(http)
    statuses = Counter(row["status"] for row in everything)
    assert set(statuses) == {"delivered", "processed", "bounced", "blocked", "dropped"} & set(
        statuses
    )
    some = logs(http, "status IN ('bounced', 'blocked')")
    assert len(some) == statuses["bounced"] + statuses["blocked"] > 0
    assert logs(http, f"to_email = '{everything[3]['to_email']}'")
    assert logs(http, "categories IN ('news')")
    assert logs(http, "status IN ('dropped') AND reason = 'Bounced Address'")
    for query in ("status = 'x' OR status = 'y'", "nothing = 'x'", "(status IN ('a'))", "status"):
        assert http.post("/v3/logs", json={"query": query}).status_code == 400
    for body in ({"limit": 0}, {"limit": 1001}, {"subusers": ["1", "2"]}):
        assert http.post("/v3/logs", json=body).status_code == 400


def test_logs_reach_back_thirty_days(start, client):
    anchor = 1_780_000_000
    sim = start(messages=100, message_days=40, anchor=anchor)
    http = client(sim)
    found = logs(http)
    assert 0 < len(found) < 100
    assert min(row[AT] for row in found) >= iso(anchor - 30 * DAY)
    gone = http.get(f"/v3/logs/{sim.account.messages.get(0).message_id}")
    assert gone.status_code == 404


def test_a_parent_reads_a_subusers_logs_by_number(start, client):
    sim = start(messages=20, subusers=("kid",))
    http = client(sim)
    kid = sim.subusers["kid"]
    rows = logs(http, subusers=[str(kid.user_id)])
    assert {row["sg_message_id"] for row in rows} == {m.message_id for m in kid.messages}
    assert http.post("/v3/logs", json={"subusers": ["99"]}).status_code == 403
    detail = http.get(f"/v3/logs/{rows[0]['sg_message_id']}?subuser={kid.user_id}")
    assert detail.status_code == 200
    assert http.get(f"/v3/logs/{rows[0]['sg_message_id']}").status_code == 404


def test_activity_needs_the_add_on_and_six_calls_a_minute_are_all(start, client):
    sim = start(messages=100)
    http = client(sim)
    assert http.get("/v3/messages").status_code == 403
    sim.options.email_activity = True
    sim.options.rate_limits["/v3/messages"] = (10_000, 60)
    query = 'status="not_delivered"'
    rows = http.get("/v3/messages", params={"query": query, "limit": 1000}).json()["messages"]
    assert {row["status"] for row in rows} == {"not_delivered"}
    middle = iso(sim.account.messages.created_at(50))
    query = f'last_event_time BETWEEN TIMESTAMP "{middle}" AND TIMESTAMP "2099-01-01T00:00:00Z"'
    late = http.get("/v3/messages", params={"query": query, "limit": 1000}).json()["messages"]
    assert 45 <= len(late) < 100
    bad = http.get("/v3/messages", params={"query": 'bad_field="x"'})
    text = "invalid syntax: 'bad_field' is not a known field"
    assert (bad.status_code, bad.json()["errors"][0]["message"]) == (400, text)
    for query in ('Contains(events,"bounced")', "unique_args['order_id']=\"A-3\""):
        found = http.get("/v3/messages", params={"query": query}).json()["messages"]
        assert found
    one = http.get(f"/v3/messages/{found[0]['msg_id']}").json()
    assert one["unique_args"].startswith('{"order_id":"A-3"')
    assert "sg_event_id" not in str(one)
    sim.options.rate_limits.clear()
    assert [http.get("/v3/messages").status_code for _ in range(7)].count(429) > 0


@pytest.mark.parametrize(
    ("kind", "members"),
    [
        ("bounces", {"created", "email", "reason", "status"}),
        ("blocks", {"created", "email", "reason", "status"}),
        ("invalid_emails", {"created", "email", "reason"}),
        ("spam_reports", {"created", "email", "ip"}),
        ("unsubscribes", {"created", "email"}),
    ],
)
def test_suppressions_are_bare_arrays_newest_first_500_a_page(start, client, kind, members):
    sim = start(suppressions=700, messages=200)
    http = client(sim)
    path = f"/v3/suppression/{kind}"
    first = http.get(path).json()
    assert len(first) == 500
    assert set(first[0]) == members
    rest = http.get(f"{path}?offset=500&limit=500").json()
    times = [row["created"] for row in first + rest]
    assert times == sorted(times, reverse=True)
    assert len(first) + len(rest) == len(sim.account.suppressions[kind]) >= 700
    assert http.get(f"{path}?limit=501").status_code == 400
    second = times[250]
    bounded = http.get(f"{path}?start_time={second}&end_time={second}").json()
    assert {row["created"] for row in bounded} == {second}
    if kind != "unsubscribes":
        assert http.get(f"{path}/{first[0]['email']}").json() == [first[0]]
    named = http.get(f"{path}?email={kind}.69").json()
    assert {row["email"] for row in named} == {f"{kind}.69@example.org"} | {
        f"{kind}.69{n}@example.org" for n in range(10)
    }


def test_offsets_move_while_rows_arrive(start, client):
    sim = start(suppressions=30, moving_offsets=2)
    http = client(sim)
    began = int(time.time()) - 1
    first = http.get("/v3/suppression/bounces?limit=10").json()
    second = http.get("/v3/suppression/bounces?limit=10&offset=10").json()
    assert [row for row in second if row in first] == first[-2:]
    frozen = http.get(f"/v3/suppression/bounces?limit=10&end_time={began}").json()
    assert frozen == first


def test_groups_and_their_members(start, client):
    sim = start(messages=400, suppressions=600)
    http = client(sim)
    groups = http.get("/v3/asm/groups").json()
    assert [(row["id"], row["is_default"]) for row in groups] == [(10, True), (11, False)]
    assert "last_email_sent_at" not in groups[0]
    assert [row["id"] for row in http.get("/v3/asm/groups?id=11").json()] == [11]
    emails = http.get("/v3/asm/groups/11/suppressions").json()
    assert len(emails) == groups[1]["unsubscribes"] == 600
    rows = http.get("/v3/asm/suppressions").json()
    assert len(rows) == 500
    assert set(rows[0]) == {"email", "group_id", "group_name", "created_at"}
    assert len(http.get("/v3/asm/suppressions?limit=500&offset=500").json()) > 100
    left = http.get(f"/v3/asm/suppressions/{emails[0]}").json()["suppressions"]
    assert [row["suppressed"] for row in left] == [False, True]
    everywhere = next(iter(sim.account.suppressions["unsubscribes"]))
    path = "/v3/asm/suppressions/global/"
    assert http.get(path + everywhere).json() == {"recipient_email": everywhere}
    assert http.get(path + "nobody@x.y").json() == {}


def test_daily_statistics_agree_with_the_events(start, client):
    sim = start(messages=600)
    http = client(sim)
    start_day = date_of(sim.account.messages.start)
    rows = http.get(f"/v3/stats?start_date={start_day}").json()
    counted = Counter(
        (date_of(event["timestamp"]), event["event"])
        for message in sim.account.messages
        for event in message.events
    )
    names = {"processed": "processed", "delivered": "delivered", "open": "opens", "click": "clicks"}
    for row in rows:
        metrics = row["stats"][0]["metrics"]
        for event, metric in names.items():
            assert metrics[metric] == counted[row["date"], event]
        assert metrics["bounces"] + metrics["blocks"] == counted[row["date"], "bounce"]
    assert sum(row["stats"][0]["metrics"]["requests"] for row in rows) == 600
    monthly = http.get(f"/v3/stats?start_date={start_day}&aggregated_by=month").json()
    assert all(row["date"].endswith("-01") for row in monthly)
    assert sum(row["stats"][0]["metrics"]["requests"] for row in monthly) == 600
    assert len(http.get(f"/v3/stats?start_date={start_day}&limit=2&offset=1").json()) == 2
    for query in ("", "?start_date=x", "?start_date=2026-01-02&end_date=2026-01-01"):
        assert http.get(f"/v3/stats{query}").status_code == 400


def test_categories_and_single_sends_have_statistics(start, client):
    sim = start(messages=400, campaigns=60)
    http = client(sim)
    names = [row["category"] for row in http.get("/v3/categories").json()]
    assert names == ["café", "news", "welcome"]
    day = date_of(sim.account.messages.start)
    query = f"/v3/categories/stats?start_date={day}&categories=news&categories=café"
    assert [row["name"] for row in http.get(query).json()[0]["stats"]] == ["news", "café"]
    assert http.get(f"/v3/categories/stats?start_date={day}").status_code == 400
    sums = http.get(f"/v3/categories/stats/sums?start_date={day}&sort_by_metric=requests").json()
    counts = [row["metrics"]["requests"] for row in sums["stats"]]
    assert counts == sorted(counts, reverse=True)
    body = http.get("/v3/marketing/stats/singlesends?page_size=15").json()
    assert len(body["results"]) == 15
    assert "next" in body["_metadata"]
    assert http.get("/v3/marketing/stats/singlesends?page_size=51").status_code == 400
    total = {row["id"]: row["stats"] for row in body["results"]}[sim.account.campaigns[0].id]
    assert total["delivered"] > 0
    path = f"/v3/marketing/stats/singlesends/{sim.account.campaigns[0].id}"
    daily = http.get(f"{path}?aggregated_by=day&start_date={day}&page_size=50").json()["results"]
    assert sum(row["stats"]["delivered"] for row in daily) == total["delivered"]
    links = http.get(f"{path}/links").json()
    assert sum(row["clicks"] for row in links["results"]) == links["total_clicks"]
    csv = http.get("/v3/marketing/stats/singlesends/export").text
    assert csv.splitlines()[0].startswith("id,bounce_drops")


def test_templates_hide_the_dynamic_ones_unless_asked(start, client):
    http = client(start(templates=9))
    usual = http.get("/v3/templates").json()["result"]
    assert {row["generation"] for row in usual} == {"legacy"}
    both = http.get("/v3/templates?generations=legacy,dynamic&page_size=200").json()["result"]
    assert len(both) == 9
    dynamic = next(row for row in both if row["generation"] == "dynamic")
    assert dynamic["id"].startswith("d-")
    assert "html_content" not in dynamic["versions"][0]
    detail = http.get(f"/v3/templates/{dynamic['id']}").json()
    assert detail["versions"][0]["html_content"]
    assert http.get("/v3/templates?generations=x").status_code == 400


def test_subusers_are_accounts_of_their_own(start, client):
    sim = start(subusers=("north", "south"), contacts=20)
    http = client(sim)
    assert [row["username"] for row in http.get("/v3/subusers").json()] == ["north", "south"]
    own, north = (
        http.get("/v3/marketing/lists", headers=headers).json()["result"]
        for headers in ({}, {"on-behalf-of": "north"})
    )
    assert {row["id"] for row in own}.isdisjoint(row["id"] for row in north)
    assert http.get("/v3/scopes", headers={"on-behalf-of": "nobody"}).status_code == 403
    key = {"Authorization": f"Bearer {sim.subusers['north'].api_key}"}
    assert http.get("/v3/marketing/lists", headers=key).json()["result"] == north
    refused = http.get("/v3/scopes", headers={**key, "on-behalf-of": "south"})
    assert refused.status_code == 403


def test_the_eu_region_has_no_marketing_hosts(start, client):
    http = client(start(region="eu", messages=5))
    for path in ("/v3/marketing/lists", "/v3/messages", "/v3/marketing/stats/singlesends"):
        assert http.get(path).status_code == 404
    for path in ("/v3/scopes", "/v3/suppression/bounces", "/v3/templates", "/v3/asm/groups"):
        assert http.get(path).status_code == 200
    assert len(logs(http)) == 5
    places = http.get("/v3/geo/stats?start_date=2026-01-01&end_date=2026-01-01").json()
    assert places == [{"date": "2026-01-01", "stats": []}]
