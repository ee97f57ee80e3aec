"""Keys, scopes, addresses, rate limits, and disturbances: what every request passes."""

from __future__ import annotations

import time

import pytest
import requests
from sendgrid_simulator import Fault

FORBIDDEN = b'{"errors":[{"field":null,"message":"access forbidden"}]}'


def test_a_missing_and_a_wrong_key_get_their_exact_bodies(start):
    sim = start()
    missing = requests.get(f"{sim.url}/v3/scopes", timeout=5)
    assert (missing.status_code, missing.content) == (
        401,
        b'{"errors":[{"field":null,"message":"authorization required"}]}',
    )
    wrong = requests.get(
        f"{sim.url}/v3/scopes", headers={"Authorization": "Bearer SG.x"}, timeout=5
    )
    assert wrong.status_code == 401
    assert wrong.content == (
        b'{"errors":[{"message":"The provided authorization grant is invalid, expired, or revoked",'
        b'"field":null,"help":null}]}'
    )
    assert len(wrong.content) == 116


def test_keys_look_like_sendgrids_and_follow_from_the_seed(start):
    sim = start(seed=5)
    assert len(sim.api_key) == 69
    assert [len(part) for part in sim.api_key.split(".")] == [2, 22, 43]
    assert start(seed=5).api_key == sim.api_key != start(seed=6).api_key


def test_scopes_are_listed_and_enforced(start, client):
    sim = start(scopes=("mail.send",))
    http = client(sim)
    assert http.get("/v3/scopes").json() == {"scopes": ["mail.send"]}
    refused = http.get("/v3/marketing/lists")
    assert (refused.status_code, refused.content) == (403, FORBIDDEN)
    sim.account.api_keys[sim.api_key].add("marketing.read")
    assert http.get("/v3/marketing/lists").status_code == 200


def test_a_full_access_key_may_read_all_areas(start, client):
    scopes = client(start()).get("/v3/scopes").json()["scopes"]
    assert {"marketing.read", "suppression.read", "user.webhooks.event.settings.read"} <= set(
        scopes
    )


@pytest.mark.parametrize(
    ("generation", "open_path", "shut_path"),
    [
        ("marketing", "/v3/marketing/lists", "/v3/contactdb/lists"),
        ("legacy", "/v3/contactdb/lists", "/v3/marketing/lists"),
    ],
)
def test_the_other_generation_answers_403(start, client, generation, open_path, shut_path):
    http = client(start(generation=generation))
    assert http.get(open_path).status_code == 200
    refused = http.get(shut_path)
    assert (refused.status_code, refused.content) == (403, FORBIDDEN)


def test_an_account_without_marketing_campaigns_refuses_both(start, client):
    http = client(start(generation="none"))
    answers = [http.get(f"/v3/{part}/lists").status_code for part in ("marketing", "contactdb")]
    assert answers == [403, 403]
    assert http.get("/v3/user/webhooks/event/settings/all").status_code == 200


def test_ip_access_management_refuses_everything_even_scopes(start, client):
    sim = start(allowed_ips=("203.0.113.9",))
    http = client(sim)
    refused = http.get("/v3/scopes")
    assert (refused.status_code, refused.content) == (403, FORBIDDEN)
    sim.options.allowed_ips = ("127.0.0.1",)
    assert http.get("/v3/scopes").status_code == 200


def test_every_answer_carries_the_three_rate_limit_headers(start, client):
    http = client(start(rate_limit=(600, 60.0)))
    for path, status in (("/v3/scopes", 200), ("/v3/marketing/lists/none", 404)):
        answer = http.get(path)
        assert answer.status_code == status
        assert answer.headers["X-RateLimit-Limit"] == "600"
        assert answer.headers["X-RateLimit-Remaining"] == "599"
        assert 0 <= int(answer.headers["X-RateLimit-Reset"]) - time.time() <= 61
        assert "Retry-After" not in answer.headers


def test_over_the_limit_is_429_until_the_reset(start, client):
    http = client(start(rate_limits={"/v3/marketing/lists": (2, 2.0)}))
    statuses = [http.get("/v3/marketing/lists").status_code for _ in range(3)]
    assert statuses == [200, 200, 429]
    refused = http.get("/v3/marketing/lists")
    assert refused.json() == {"errors": [{"field": None, "message": "too many requests"}]}
    assert http.get("/v3/scopes").status_code == 200  # the limit is the endpoint's own
    time.sleep(max(0.0, int(refused.headers["X-RateLimit-Reset"]) - time.time()))
    assert http.get("/v3/marketing/lists").status_code == 200


def test_a_burst_of_5xx_passes(start, client):
    sim = start(faults=[Fault("status", "/v3/marketing", times=2, skip=1, status=502)])
    http = client(sim)
    statuses = [http.get("/v3/marketing/lists").status_code for _ in range(4)]
    assert statuses == [200, 502, 502, 200]
    assert [seen.status for seen in sim.requests] == statuses
    sim.faults += [Fault("status", status=500), Fault("status", status=429)]
    broken, limited = (http.get("/v3/marketing/lists") for _ in range(2))
    assert broken.headers["X-RateLimit-Limit"] == "600"
    assert int(limited.headers["X-RateLimit-Remaining"]) > 0
    assert 0 <= int(limited.headers["X-RateLimit-Reset"]) - time.time() + 1 <= 2


def test_connections_are_cut_before_and_within_the_body(start):
    sim = start(contacts=1000)
    sim.faults.append(Fault("cut", "/v3/scopes"))
    with pytest.raises(requests.ConnectionError):
        requests.get(f"{sim.url}/v3/scopes", headers=sim.auth, timeout=5)
    sim.faults.append(Fault("cut_body", "/v3/marketing/contacts", after_bytes=500))
    with pytest.raises((requests.ConnectionError, requests.exceptions.ChunkedEncodingError)):
        requests.get(f"{sim.url}/v3/marketing/contacts", headers=sim.auth, timeout=5)
    assert requests.get(f"{sim.url}/v3/scopes", headers=sim.auth, timeout=5).ok


def test_slow_and_null_answers(start, client):
    sim = start()
    http = client(sim)
    sim.faults += [Fault("slow", seconds=0.3), Fault("null", "/v3/marketing/lists")]
    began = time.monotonic()
    assert http.get("/v3/marketing/lists").json()["result"] is not None
    assert time.monotonic() - began >= 0.3
    assert http.get("/v3/marketing/lists").json()["result"] is None
    assert http.get("/v3/marketing/lists").json()["result"]


def test_hooks_change_the_account_in_the_middle_of_a_run(start, client):
    sim = start(lists=3)
    http = client(sim)

    def drop_a_list(seen):
        if "page_token" in seen.query:
            sim.account.lists.pop()

    first = http.get("/v3/marketing/lists?page_size=1").json()
    sim.hooks.append(drop_a_list)
    second = http.get(first["_metadata"]["next"]).json()
    assert (first["_metadata"]["count"], second["_metadata"]["count"]) == (3, 2)


def test_requests_are_remembered_and_unknown_paths_are_404(start, client):
    sim = start()
    answer = client(sim).get("/v3/nothing/here?a=1")
    assert answer.status_code == 404
    assert answer.json() == {"errors": [{"field": None, "message": "not found"}]}
    seen = sim.requests[-1]
    assert (seen.method, seen.path, seen.query) == ("GET", "/v3/nothing/here", {"a": "1"})
    assert seen.headers["authorization"] == f"Bearer {sim.api_key}"
