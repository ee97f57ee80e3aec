"""Whatever SendGrid (or a proxy in its place) answers, a run reports it and goes on."""

from __future__ import annotations

import io
import json
from contextlib import redirect_stdout
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tap_sendgrid.api.client import Client
from tap_sendgrid.objects import object_stream_classes
from tap_sendgrid.report import IncompleteSync
from tap_sendgrid.tap import TapSendGrid

NAMES = [stream.name for stream in object_stream_classes]
CONFIG = {"api_key": "SG.a.b", "api_url": "http://127.0.0.1:9", "export_timeout_seconds": 1}
KEYS = st.sampled_from(
    [
        *("result", "results", "recipients", "lists", "segments", "custom_fields", "_metadata"),
        *("name", "id", "type", "status", "urls", "next", "created_at", "updated_at", "created"),
        *("contact_count", "recipient_count", "stats", "date", "metrics", "category", "versions"),
        *("abtest", "parent_list_ids", "email", "group_id", "scopes", "field_type", "send_to"),
        "email_config",
    ]
)
SCALARS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(2**70), 2**70),
    st.floats(allow_nan=False, allow_infinity=False),
    st.text(max_size=8),
    st.sampled_from(["ready", "marketing", "2024-01-01T00:00:00Z", "2024-13-99", "scheduled"]),
)
ANSWERS = st.recursive(
    SCALARS,
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(KEYS, inner, max_size=6)),
    max_leaves=12,
)


def catalog() -> dict[str, Any]:
    found = TapSendGrid(config={}).catalog_dict
    for stream in found["streams"]:
        for entry in stream["metadata"]:
            if not entry["breadcrumb"]:
                entry["metadata"]["selected"] = stream["stream"] in NAMES
    return found


CATALOG = catalog()


@settings(
    max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(st.lists(ANSWERS, min_size=1, max_size=8), st.sampled_from(["auto", "marketing", "legacy"]))
def test_any_json_is_survived(
    monkeypatch: pytest.MonkeyPatch, answers: list[Any], generation: str
) -> None:
    asked = 0

    def answer(self: Client, *_: object) -> Any:
        nonlocal asked
        asked += 1
        return json.loads(json.dumps(answers[asked % len(answers)]))

    with monkeypatch.context() as patch:
        patch.setattr(Client, "get", answer)
        patch.setattr(Client, "post", answer)
        patch.setattr("tap_sendgrid.api.client.default_sleep", lambda _: None)
        tap = TapSendGrid(config={**CONFIG, "api_generation": generation}, catalog=CATALOG)
        out = io.StringIO()
        with redirect_stdout(out):
            try:
                tap.sync_all()
            except IncompleteSync:
                told = set(tap.report.failed)
            else:
                told = set()
    assert told == set(tap.report.failed)
    assert told | set(tap.report.empty) <= set(NAMES)
    for line in out.getvalue().splitlines():
        message = json.loads(line)
        assert message["type"] in ("SCHEMA", "RECORD", "STATE")
        assert message["type"] != "RECORD" or message["record"]["id"]
