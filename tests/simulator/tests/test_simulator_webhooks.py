"""Webhook settings, signing keys, the test button, and deliveries to registered webhooks."""

from __future__ import annotations

import json

import pytest
from cryptography.exceptions import InvalidSignature
from sendgrid_simulator import WebhookSender
from sendgrid_simulator.oauth import TokenSource
from sendgrid_simulator.webhooks import FLAGS, Webhook

SETTINGS = "/v3/user/webhooks/event/settings"
ALL_FLAGS = dict.fromkeys(FLAGS, True)


def error(answer):
    return answer.json()["errors"][0]


def test_webhooks_are_created_read_changed_and_deleted(start, client):
    http = client(start())
    assert http.get(f"{SETTINGS}/all").json() == {"max_allowed": 5, "webhooks": []}
    made = http.post(SETTINGS, json={"url": "https://a.example/x", "enabled": True, "open": True})
    assert made.status_code == 201
    body = made.json()
    assert (body["open"], body["click"], body["account_status_change"]) == (True, False, False)
    assert "oauth_client_secret" not in body
    assert "public_key" not in body
    one = http.get(f"{SETTINGS}/{body['id']}").json()
    assert "account_status_change" not in one
    shown = http.get(f"{SETTINGS}/{body['id']}?include=account_status_change").json()
    assert shown["account_status_change"] is False
    patched = http.patch(f"{SETTINGS}/{body['id']}", json={"click": True, "friendly_name": "x"})
    assert (patched.json()["click"], patched.json()["open"]) == (True, True)
    assert http.delete(f"{SETTINGS}/{body['id']}").status_code == 204
    gone = http.get(f"{SETTINGS}/{body['id']}")
    assert (gone.status_code, gone.content) == (
        404,
        b'{"errors":[{"message":"Invalid id provided."}]}',
    )


def test_forms_without_an_id_act_on_the_oldest(start, client):
    sim = start()
    http = client(sim)
    assert http.get(SETTINGS).status_code == 404
    sim.account.webhooks.append(Webhook("old", "https://old.example/", created_date=None))
    http.post(SETTINGS, json={"url": "https://new.example/"})
    assert http.get(SETTINGS).json()["id"] == "old"
    assert http.get(SETTINGS).json()["created_date"] is None
    assert http.patch(SETTINGS, json={"bounce": True}).json()["bounce"] is True
    http.patch(f"{SETTINGS}/signed/old", json={"enabled": True})
    signed = http.get(f"{SETTINGS}/signed").json()
    assert signed["id"] == ""
    assert signed["public_key"].startswith("MFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAE")
    assert len(signed["public_key"]) == 124


def test_errors_have_the_exact_texts(start, client):
    sim = start(max_webhooks=1)
    http = client(sim)
    bad = http.post(SETTINGS, json={"url": "nonsense"})
    assert (bad.status_code, error(bad)) == (400, {"message": "'nonsense' is not a valid url"})
    first = http.post(SETTINGS, json={"url": "https://a.example/"}).json()
    twice = http.post(SETTINGS, json={"url": "https://a.example/"})
    assert error(twice) == {
        "id": first["id"],
        "url": "https://a.example/",
        "message": "Webhook at 'https://a.example/' already exists. Please provide a unique URL.",
    }
    full = http.post(SETTINGS, json={"url": "https://b.example/"})
    text = "You have reached the maximum number of webhooks per your current billing plan."
    assert (full.status_code, error(full)["message"]) == (400, text)
    sim.options.max_webhooks = 0
    locked = http.patch(f"{SETTINGS}/{first['id']}", json={"open": True})
    text = "This webhook cannot be modified based on your current billing plan."
    assert (locked.status_code, error(locked)["message"]) == (400, text)
    half = http.patch(f"{SETTINGS}/{first['id']}", json={"oauth_client_id": "x"})
    assert half.status_code == 400


def test_a_key_lives_from_on_to_off(start, client):
    http = client(start())
    webhook = http.post(SETTINGS, json={"url": "https://a.example/"}).json()["id"]
    path = f"{SETTINGS}/signed/{webhook}"
    assert http.get(path).json() == {"id": webhook, "public_key": ""}
    first = http.patch(path, json={"enabled": True}).json()["public_key"]
    assert http.patch(path, json={"enabled": True}).json()["public_key"] == first
    assert http.get(f"{SETTINGS}/all").json()["webhooks"][0]["public_key"] == first
    assert http.patch(path, json={"enabled": False}).json()["public_key"] == ""
    assert http.patch(path, json={"enabled": True}).json()["public_key"] != first


def test_the_test_button_posts_eleven_events_whatever_the_flags(start, client, receiver, verify):
    http = client(start())
    webhook = http.post(SETTINGS, json={"url": receiver.url}).json()["id"]
    key = http.patch(f"{SETTINGS}/signed/{webhook}", json={"enabled": True}).json()["public_key"]
    body = {"id": webhook, "url": receiver.url}
    assert http.post("/v3/user/webhooks/event/test", json=body).status_code == 204
    raw, headers = receiver.got[0]
    verify(key, raw, headers)
    with pytest.raises(InvalidSignature):
        verify(key, raw.rstrip(b"\r\n"), headers)
    assert headers["user-agent"] == "SendGrid Event API"
    assert headers["content-type"] == "application/json;charset=utf-8"
    assert b"\\u003c14c5d75ce93" in raw
    events = json.loads(raw)
    assert [event["event"] for event in events] == [
        "processed",
        "deferred",
        "delivered",
        "open",
        "click",
        "bounce",
        "dropped",
        "spamreport",
        "unsubscribe",
        "group_unsubscribe",
        "group_resubscribe",
    ]
    assert len({event["timestamp"] for event in events}) == 1
    assert all(len(event["sg_event_id"]) == 24 for event in events)
    assert "type" not in events[5]


def test_deliveries_heed_flags_and_each_webhook_has_its_key(start, client, receiver, verify):
    sim = start(messages=60, seed=4)
    http = client(sim)
    body = {"url": receiver.url, "enabled": True, "spam_report": True, "open": True}
    webhook = http.post(SETTINGS, json=body).json()["id"]
    off = http.post(SETTINGS, json={"url": f"{receiver.url}2", "enabled": False, **ALL_FLAGS})
    assert off.status_code == 201
    key = http.patch(f"{SETTINGS}/signed/{webhook}", json={"enabled": True}).json()["public_key"]
    (report,) = sim.deliver(batch_size=10)
    assert report.acknowledged == report.deliveries == len(receiver.got) > 1
    events = []
    for raw, headers in receiver.got:
        verify(key, raw, headers)
        events += json.loads(raw)
    assert {event["event"] for event in events} <= {"open", "spamreport"}
    assert len(events) == report.acknowledged_events


def test_oauth_needs_both_halves_and_the_secret_is_never_shown(start, client):
    http = client(start())
    made = http.post(
        SETTINGS,
        json={
            "url": "https://a.example/",
            "oauth_client_id": "me",
            "oauth_client_secret": "hidden",
            "oauth_token_url": "https://token.example/",
        },
    )
    assert made.json()["oauth_client_id"] == "me"
    assert "hidden" not in made.text + http.get(f"{SETTINGS}/all").text


def test_tokens_are_fetched_kept_and_fetched_again_when_refused(receiver):
    """The token endpoint and the receiver are the same server here: it answers in turn."""
    receiver.bodies = [
        (200, b'{"access_token":"first","expires_in":3600}'),
        (204, b""),
        (401, b'{"error":"invalid_token"}'),
        (200, b'{"access_token":"second","expires_in":3600}'),
        (204, b""),
    ]
    tokens = TokenSource("me", "secret", f"{receiver.url}/token")
    sender = WebhookSender(receiver.url, tokens=tokens, connections=1)
    report = sender.send_events([{"n": 1}, {"n": 2}], 1)
    assert report.acknowledged == 2
    seen = [headers.get("authorization") for _, headers in receiver.got]
    assert seen == [None, "Bearer first", "Bearer first", None, "Bearer second"]
    assert receiver.got[0][0] == b"grant_type=client_credentials&client_id=me&client_secret=secret"


def test_tokens_may_be_asked_for_with_basic_authentication(receiver):
    receiver.bodies = [(200, b'{"access_token":"only"}')]
    tokens = TokenSource("me", "secret", receiver.url, "basic")
    assert tokens.header() == {"Authorization": "Bearer only"}
    assert receiver.got[0][1]["authorization"] == "Basic bWU6c2VjcmV0"
    receiver.bodies = [(500, b"oops")]
    assert TokenSource("me", "secret", receiver.url).header() == {}


def test_an_account_without_webhooks_may_show_an_empty_one(start, client):
    http = client(start(empty_webhook=True))
    assert http.get(f"{SETTINGS}/all").json()["webhooks"] == [{}]
