"""The lives of messages, the framing of deliveries, and the sender with its retries."""

from __future__ import annotations

import base64
import itertools
import json
from collections import Counter

import pytest
from sendgrid_simulator import (
    MessageBook,
    RetryPolicy,
    WebhookSender,
    frame,
    generate_events,
    new_private_key,
    public_key_text,
    sign_delivery,
)
from sendgrid_simulator.mixing import disorder, drift, repeat
from sendgrid_simulator.sender import MAX_BODY, batches

DELIVERY = {"processed", "deferred", "delivered", "bounce", "dropped"}


@pytest.fixture(scope="module")
def events():
    return list(generate_events(4000, seed=2))


def decoded(event_id):
    return base64.urlsafe_b64decode(event_id + "=" * (-len(event_id) % 4))


def of(events, name):
    return [event for event in events if event["event"] == name]


def test_the_same_arguments_give_the_same_events(events):
    again = list(generate_events(4000, seed=2))
    assert again == events
    assert list(generate_events(50, seed=3)) != list(generate_events(50, seed=2))


def test_all_twelve_events_come_and_ids_are_unique(events):
    assert set(Counter(event["event"] for event in events)) == DELIVERY | {
        "open",
        "click",
        "spamreport",
        "unsubscribe",
        "group_unsubscribe",
        "group_resubscribe",
        "account_status_change",
    }
    ids = [event["sg_event_id"] for event in events if "sg_event_id" in event]
    assert len(ids) == len(set(ids))


def test_ids_of_delivery_events_are_readable_and_of_engagement_events_random(events):
    for event in events:
        if event["event"] in DELIVERY:
            kind = decoded(event["sg_event_id"]).decode().split("-")[0]
            assert kind == {"dropped": "drop"}.get(event["event"], event["event"])
        elif event["event"] != "account_status_change" and "sg_event_id" in event:
            assert len(event["sg_event_id"]) == 22
            assert len(decoded(event["sg_event_id"])) == 16
    status = of(events, "account_status_change")[0]
    assert "-terminate-" in decoded(status["sg_event_id"]).decode()
    assert set(status) == {"event", "sg_event_id", "timestamp", "type"}


def test_message_ids_belong_to_their_smtp_ids(events):
    for event in events:
        if event.get("smtp-id") and "sg_message_id" in event:
            head = event["sg_message_id"].partition(".")[0]
            assert event["smtp-id"].startswith(f"<{head}@")
            received = int(event["sg_message_id"].split(".")[1].split("-")[-2], 16)
            assert 0 <= event["timestamp"] - received <= 200_000


def test_every_documented_oddity_comes(events):
    shapes = {type(event.get("category")).__name__ for event in events}
    assert shapes == {"NoneType", "str", "list"}
    assert any(event.get("category") == [] for event in events)
    bounces = of(events, "bounce")
    assert {event["type"] for event in bounces} == {"bounce", "blocked"}
    assert any("sg_message_id" not in event and "ip" not in event for event in bounces)
    assert any(event.get("type") == "email" for event in of(events, "delivered"))
    gone = of(events, "unsubscribe")
    assert any("sg_event_id" not in event and event["reseller_id"] == 1 for event in gone)
    assert any(event["email"] == "" for event in of(events, "dropped"))
    assert all(isinstance(event["attempt"], str) for event in of(events, "deferred"))
    assert any("ip" not in event for event in of(events, "deferred"))
    pools = [event["pool"] for event in of(events, "processed") if "pool" in event]
    assert pools[0] == {"id": "210", "name": "transactional"}
    assert {event.get("send_at") for event in of(events, "processed")} >= {0, None}
    assert any(event.get("smtp-id") == "" for event in of(events, "processed"))
    opens = of(events, "open")
    assert {event.get("sg_machine_open") for event in opens} == {True, False, None}
    assert any("mc_stats" in event and event["send_at"].isdigit() for event in opens)
    assert any("mc_auto_id" in event for event in events)
    assert any(event.get("sg_content_type") == "amp" and "url" in event for event in opens)
    assert any("pool" in event for event in of(events, "dropped"))
    assert any("asm_group_id" in event for event in of(events, "click"))
    assert any("newsletter" in event for event in events)
    assert any(event.get("marketing_campaign_id") == 23314 for event in events)
    assert any("cert_err" in event for event in events)
    assert any("New Argument 1" in event for event in events)
    clicks = of(events, "click")
    same = Counter((e["email"], e["timestamp"], e["url"], e["url_offset"]["index"]) for e in clicks)
    assert max(same.values()) == 2


def test_a_life_is_in_order_of_time(events):
    for _, life in itertools.groupby(events, key=lambda event: event.get("order_id")):
        times = [event["timestamp"] for event in life]
        if _ is not None:
            assert times == sorted(times)


def test_a_message_is_found_by_its_id_however_many_there_are():
    book = MessageBook(1_000_000_000, 7, 1_767_225_600)
    message = book.get(123_456_789)
    assert book.find(message.message_id) == message
    assert book.find("nothing") is None
    assert book.find(message.message_id + "0") is None
    window = book.between(message.created_at, message.created_at)
    assert message.index in window
    assert {book.created_at(window[0]), book.created_at(window[-1])} == {message.created_at}


def test_framing_is_byte_for_byte():
    body = frame([{"url": "https://x/?p=café&q=<a>", "email": "a@b"}, {"b": 1, "a": [1, 2]}])
    assert body == (
        '[{"email":"a@b","url":"https://x/?p=café&q=<a>"},\r\n{"a":[1,2],"b":1}]\r\n'.encode()
    )
    assert frame([{"a": 1}]) == b'[{"a":1}]\r\n'


def test_a_signed_delivery_verifies(verify):
    key = new_private_key(1)
    body, headers = sign_delivery([{"a": "é"}], key, 1_700_000_000)
    assert headers["X-Twilio-Email-Event-Webhook-Timestamp"] == "1700000000"
    verify(public_key_text(key), body, headers)
    assert public_key_text(new_private_key(1)) == public_key_text(key)
    assert public_key_text(new_private_key()) != public_key_text(key)


def test_batches_keep_to_size_and_bytes(events):
    parts = list(batches(iter(events), 50))
    assert {len(part.encoded) for part in parts[:-1]} == {50}
    big = list(batches([{"a": "x" * 100_000, "n": n} for n in range(20)], 100))
    assert all(len(part.body()) <= MAX_BODY for part in big)
    assert sum(len(part.encoded) for part in big) == 20


def test_disorder_and_repeats_lose_nothing(events):
    shuffled = list(disorder(iter(events), 1))
    assert shuffled != events
    assert sorted(map(str, shuffled)) == sorted(map(str, events))
    repeated = list(repeat(iter(events), 0.05, 1))
    extra = len(repeated) - len(events)
    assert 0.03 * len(events) < extra < 0.07 * len(events)
    assert {str(event) for event in repeated} == {str(event) for event in events}


def test_types_drift_as_in_captures(events):
    drifted = list(drift(iter(events), 1, share=1.0))
    assert [event.get("sg_event_id") for event in drifted] == [
        event.get("sg_event_id") for event in events
    ]
    for new, old in zip(drifted, events, strict=True):
        second = old["timestamp"]
        assert new["timestamp"] in (str(second), second * 1000)
    assert {event["tls"] for event in drifted if "tls" in event} == {0, True}
    assert all(isinstance(event["attempt"], int) for event in of(drifted, "deferred"))
    some = list(drift(iter(events), 1))
    unchanged = sum(new == old for new, old in zip(some, events, strict=True))
    assert 0.7 < unchanged / len(events) < 0.9


def test_the_sender_retries_until_acknowledged(receiver, verify):
    receiver.statuses = [503, 204, 500, 404, 204]
    key = new_private_key(3)
    sent = list(generate_events(60, seed=1))
    kept = []
    sender = WebhookSender(
        receiver.url,
        key,
        connections=2,
        retry=RetryPolicy(first=0.01, longest=0.05),
        on_acknowledged=kept.extend,
    )
    report = sender.send_events(sent, 25)
    assert report.acknowledged == report.deliveries
    assert report.acknowledged_events == len(sent) == len(kept)
    assert (report.retried, report.failed) == (3, 0)
    assert report.statuses == {"204": report.deliveries, "503": 1, "500": 1, "404": 1}
    assert report.attempts == len(receiver.got) == report.deliveries + 3
    got = [event for body, _ in receiver.got for event in json.loads(body)]
    assert {frame([event]) for event in got} == {frame([event]) for event in sent}
    for body, headers in receiver.got:
        verify(public_key_text(key), body, headers)


def test_without_retry_or_after_the_last_one_a_delivery_is_lost(receiver):
    receiver.statuses = [500] * 100
    lost = WebhookSender(receiver.url).send_events([{"a": 1}])
    assert (lost.failed, lost.attempts) == (1, 1)
    policy = RetryPolicy(first=0.01, longest=0.02, give_up=0.3)
    given_up = WebhookSender(receiver.url, retry=policy).send_events([{"a": 1}])
    assert given_up.failed == 1
    assert given_up.attempts > 1


def test_what_goes_wrong_in_a_connection_is_raised(receiver):
    def broken(_events):
        raise RuntimeError("the disk is full")

    sender = WebhookSender(receiver.url, on_acknowledged=broken)
    with pytest.raises(RuntimeError, match="the disk is full"):
        sender.send_events([{"n": n} for n in range(100)], 1)


def test_no_answer_is_a_refusal_and_redirects_are_not_followed(receiver):
    nobody = WebhookSender("http://127.0.0.1:9/", timeout=1).send_events([{"a": 1}])
    assert nobody.statuses == {"none": 1}
    receiver.statuses = [302]
    redirected = WebhookSender(receiver.url).send_events([{"a": 1}])
    assert (redirected.failed, redirected.statuses) == (1, {"302": 1})


def test_a_user_and_a_password_in_the_url_are_sent(receiver):
    url = receiver.url.replace("http://", "http://me:s%40cret@")
    assert WebhookSender(url).send_events([{"a": 1}]).acknowledged == 1
    encoded = base64.b64encode(b"me:s@cret").decode()
    assert receiver.got[0][1]["authorization"] == f"Basic {encoded}"


def test_engagement_ids_may_be_drawn_anew_for_a_retry(receiver):
    receiver.statuses = [500]
    both = [
        {"event": "open", "sg_event_id": "one"},
        {"event": "processed", "sg_event_id": "two"},
    ]
    policy = RetryPolicy(first=0.01, new_ids=True)
    WebhookSender(receiver.url, retry=policy).send_events(both)
    first, second = (json.loads(body) for body, _ in receiver.got)
    assert first == both
    assert second[0]["sg_event_id"] != "one"
    assert second[1]["sg_event_id"] == "two"


def test_the_rate_is_kept_and_connections_are_reused(receiver):
    report = WebhookSender(receiver.url, rate=200).send_events([{"n": n} for n in range(100)], 10)
    assert report.seconds > 0.4
    ports = {headers["peer-port"] for _, headers in receiver.got}
    assert len(ports) <= 4 < len(receiver.got)
