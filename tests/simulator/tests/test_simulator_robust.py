"""Whatever is asked of it, the server answers, and never with a 5xx of its own."""

from __future__ import annotations

import json
import random
import re
from urllib.parse import quote

import pytest
from sendgrid_simulator.server import AREAS

VALUES = [
    None,
    True,
    0,
    -1,
    1.5,
    "",
    "x",
    "2026-01-01",
    "http://a.example/",
    "é",
    10**30,
    [[]],
    [{}],
]
KEYS = [
    "ids",
    "query",
    "file_type",
    "max_file_size",
    "list_ids",
    "segment_ids",
    "contacts",
    "emails",
    "identifiers",
    "url",
    "enabled",
    "open",
    "id",
    "oauth_client_id",
    "friendly_name",
    "limit",
    "subusers",
    "conditions",
    "list_id",
    "name",
    "status",
    "categories",
    "and_or",
    "field",
    "operator",
    "value",
    "custom_fields",
    "alternate_emails",
    "email",
    "first_name",
    "plan",
]
PARAMETERS = [
    "page",
    "page_size",
    "page_token",
    "limit",
    "offset",
    "start_time",
    "end_time",
    "start_date",
    "end_date",
    "email",
    "ids",
    "updated_at",
    "created_at",
    "categories",
    "aggregated_by",
    "generations",
    "sort_by_metric",
    "query",
    "subuser",
    "contact_sample",
    "singlesend_ids",
    "group_by",
]
TEXTS = ["", "x", "-1", "0", "3", "1e9", "2026-01-01", "9999-99-99", "é", "a,b", "day", "9" * 30]


def odd(rng, depth=0):
    """Some JSON value."""
    if depth < 3 and rng.random() < 0.4:
        return {rng.choice(KEYS): odd(rng, depth + 1) for _ in range(rng.randrange(4))}
    if depth < 3 and rng.random() < 0.3:
        return [odd(rng, depth + 1) for _ in range(rng.randrange(3))]
    return rng.choice(VALUES)


@pytest.mark.parametrize("generation", ["marketing", "legacy"])
def test_odd_requests_get_an_answer(start, client, generation):
    sim = start(
        contacts=20,
        messages=10,
        generation=generation,
        email_activity=True,
        legacy_exports=True,
        rate_limits={"/v3/": (10**9, 60.0)},
    )
    http, rng = client(sim), random.Random(5)
    ids = [sim.account.lists[0].id, "9000", "x", "\0", "..", "é", "=", "10", "cGVy"]
    endpoints = [
        endpoint
        for area in AREAS
        for endpoint in area.endpoints
        if endpoint.family in ("any", generation) and not endpoint.path.endswith("/test")
    ]
    for endpoint in endpoints * 4:
        path = re.sub(r"{.*?}", lambda _: quote(rng.choice(ids), safe=""), endpoint.path)
        query = {rng.choice(PARAMETERS): rng.choice(TEXTS) for _ in range(rng.randrange(3))}
        body = json.dumps(odd(rng)) if rng.random() < 0.9 else rng.choice(["{", "\0", '"'])
        sent = None if endpoint.method == "GET" else body.encode()
        answer = http.request(endpoint.method, path, params=query, data=sent, timeout=30)
        assert answer.status_code < 500, (endpoint.method, path, query, body)
