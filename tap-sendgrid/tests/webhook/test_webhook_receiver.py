"""The receiver over real HTTP: what is taken, what is refused, and with which answer."""

from __future__ import annotations

import gzip
import http.client
import json
import socket
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import urlsplit

import pytest
import requests
from cryptography.hazmat.primitives.asymmetric import ec
from sendgrid_simulator import public_key_text, sign_delivery
from tap_sendgrid.event_log import Delivery, EventLogError, open_event_log
from tap_sendgrid.event_log.sqlite import SQLiteEventLog
from tap_sendgrid.webhook.keys import store_key

Start = Callable[..., Any]


def metric(receiver: Any, name: str) -> float:
    """The value of a metric, labels included in the name."""
    for line in receiver.look("/metrics").text.splitlines():
        if line.startswith(name + " "):
            return float(line.rsplit(" ", 1)[1])
    return 0.0


# -- taken -------------------------------------------------------------------------------------


def test_the_real_delivery_is_taken_byte_for_byte(
    start_receiver: Start, real_delivery: Any
) -> None:
    receiver = start_receiver(public_keys=(real_delivery.public_key,))
    before = datetime.now(UTC)
    answer = receiver.post(real_delivery.body, real_delivery.headers)
    assert (answer.status_code, answer.content) == (204, b"")
    [logged] = receiver.log.read(0)
    assert logged.delivery.body == real_delivery.body
    assert before <= logged.delivery.received_at <= datetime.now(UTC)
    assert logged.delivery.headers == {
        **{name.lower(): value for name, value in real_delivery.headers.items()},
        "user-agent": requests.utils.default_user_agent(),
    }
    for place in range(0, len(real_delivery.body), 7):
        body = bytearray(real_delivery.body)
        body[place] ^= 1
        refused = receiver.post(bytes(body), real_delivery.headers)
        assert (refused.status_code, refused.text) == (401, "the signature does not match\n")
    assert receiver.log.end() == 1


def test_a_body_in_chunks_is_taken(receiver: Any) -> None:
    body, headers = sign_delivery(
        [{"event": "open", "n": n} for n in range(5000)], receiver.private_key
    )

    def chunks() -> Iterator[bytes]:
        for start in range(0, len(body), 1000):
            yield body[start : start + 1000]

    assert receiver.post(chunks(), headers).status_code == 204
    assert receiver.bodies == [body]


def test_many_at_once_are_all_there(receiver: Any) -> None:
    def send(number: int) -> int:
        return int(receiver.send({"event": "click", "n": number}).status_code)

    with ThreadPoolExecutor(16) as pool:
        assert set(pool.map(send, range(200))) == {204}
    numbers = sorted(json.loads(body)[0]["n"] for body in receiver.bodies)
    assert numbers == list(range(200))


@pytest.mark.parametrize(
    "events",
    [
        [],
        [{"event": "never heard of"}],
        [{"event": {"odd": 1}}, {"event": None}, {}, 5, "text", None, [1]],
        [{"event": "open", "n": 10**400}],
    ],
)
def test_strange_events_are_taken_as_they_are(receiver: Any, events: list[Any]) -> None:
    body = json.dumps(events).encode()
    _, headers = sign(body, receiver.private_key)
    assert receiver.post(body, headers).status_code == 204
    assert receiver.bodies == [body]
    assert receiver.log.status().quarantined == 0


def sign(body: bytes, key: ec.EllipticCurvePrivateKey, timestamp: int | None = None) -> Any:
    from sendgrid_simulator.signing import sign_body

    return body, sign_body(body, key, timestamp)


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (b"", "not a JSON list of events"),
        (b"hello", "not a JSON list of events"),
        (b'{"event": "open"}', "not a JSON list of events"),
        (b'[{"event": "open"}', "not a JSON list of events"),
        (b'[{"event": "\xff"}]', "not a JSON list of events"),
        (b"[" * 100_000, "nested too deeply"),
    ],
)
def test_signed_but_unreadable_is_kept_in_log_and_quarantine(
    receiver: Any, body: bytes, reason: str
) -> None:
    assert receiver.post(*sign(body, receiver.private_key)).status_code == 204
    assert receiver.bodies == [body]
    [kept] = receiver.log.quarantined()
    assert (kept.offset, kept.delivery.body) == (1, body)
    assert reason in kept.reason
    assert metric(receiver, "sendgrid_webhook_unreadable_total") == 1


# -- refused -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "path", ["/", "/wrong", "//", "/metrics", "/%00", "/path-token-of-the-test"]
)
def test_other_paths_are_not_found(receiver: Any, path: str) -> None:
    body, headers = sign(b"[]", receiver.private_key)
    answer = requests.post(receiver.base + path, data=body, headers=headers, timeout=10)
    assert (answer.status_code, answer.text) == (404, "not found\n")
    assert receiver.log.end() == 0


@pytest.mark.parametrize("method", ["GET", "PUT", "DELETE", "HEAD", "OPTIONS"])
def test_other_methods_are_not_allowed(receiver: Any, method: str) -> None:
    answer = requests.request(method, receiver.url, timeout=10)
    assert answer.status_code == 405
    assert answer.headers["allow"] == "POST"


def test_missing_and_bad_signatures(receiver: Any) -> None:
    body, headers = sign(b"[]", receiver.private_key)
    stamp, signature = (
        f"X-Twilio-Email-Event-Webhook-{name}" for name in ("Timestamp", "Signature")
    )
    _, foreign = sign(b"[]", ec.generate_private_key(ec.SECP256R1()))
    cases = [
        ({}, "missing"),
        ({**headers, stamp: None}, "missing"),
        ({**headers, signature: None}, "missing"),
        ({**headers, signature: "%%%"}, "base64"),
        ({**headers, signature: "A" * 5000}, "too long"),
        ({**headers, stamp: "soon"}, "epoch second"),
        ({**headers, stamp: "1" * 21}, "epoch second"),
        ({**headers, stamp: "1760000000"}, "does not match"),
        (foreign, "does not match"),
    ]
    for bad, text in cases:
        answer = receiver.post(body, bad)
        assert answer.status_code == 401
        assert text in answer.text
    assert receiver.log.end() == 0
    assert metric(receiver, 'sendgrid_webhook_refused_total{reason="unsigned"}') == 3


def test_compressed_bodies_are_not_unpacked(receiver: Any) -> None:
    body, headers = sign(gzip.compress(b"[]" * 1000), receiver.private_key)
    answer = receiver.post(body, {**headers, "Content-Encoding": "gzip"})
    assert answer.status_code == 415
    assert receiver.post(body, {**headers, "Content-Encoding": "identity"}).status_code == 204


def test_too_long_bodies(start_receiver: Start) -> None:
    receiver = start_receiver(max_body_bytes=100_000)
    good = b"[" + b" " * 99_998 + b"]"
    assert receiver.post(*sign(good, receiver.private_key)).status_code == 204
    body, headers = sign(good + b" ", receiver.private_key)
    told = receiver.post(body, headers)
    assert (told.status_code, told.text) == (413, "the body has more than 100000 bytes\n")
    untold = receiver.post((body[i : i + 5000] for i in range(0, len(body), 5000)), headers)
    assert untold.status_code == 413
    huge = receiver.post(iter([b"x" * 50_000] * 3), headers)
    assert huge.status_code == 413
    assert receiver.log.end() == 1
    assert metric(receiver, 'sendgrid_webhook_refused_total{reason="too_large"}') == 3


def test_the_clock_window(start_receiver: Start) -> None:
    receiver = start_receiver(clock_window=300)
    now = int(time.time())
    for age, status in ((0, 204), (200, 204), (-200, 204), (400, 401), (-400, 401)):
        answer = receiver.post(*sign(b"[]", receiver.private_key, now - age))
        assert answer.status_code == status, age
    assert "300 s" in answer.text


def test_unsigned_only_when_allowed(start_receiver: Start) -> None:
    receiver = start_receiver(allow_unsigned=True, public_keys=())
    assert receiver.post(b"[]", {}).status_code == 204


def connection(receiver: Any) -> socket.socket:
    address = urlsplit(receiver.base)
    return socket.create_connection((address.hostname, address.port), timeout=10)


def test_a_body_that_does_not_come_is_given_up(start_receiver: Start) -> None:
    receiver = start_receiver(body_timeout=0.3)
    _, headers = sign(b"[]", receiver.private_key)
    with connection(receiver) as sock:
        head = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
        path = urlsplit(receiver.url).path
        sock.sendall(
            f"POST {path} HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n{head}\r\n[".encode()
        )
        answer = sock.recv(1000)
        assert answer.startswith(b"HTTP/1.1 408")
        assert b"longer than 0.3 s" in answer
        assert sock.recv(1000) == b""


def test_a_head_that_does_not_come_is_given_up(
    receiver: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tap_sendgrid.webhook.protocol.HEAD_SECONDS", 0.3)
    for beginning in (b"", b"POST / HTTP/1.1\r\nX-Slow: "):
        with connection(receiver) as sock:
            started = time.monotonic()
            sock.sendall(beginning)
            assert sock.recv(1000) == b"", "closed without an answer"
            assert time.monotonic() - started < 5


def test_a_head_without_end_is_cut_off(receiver: Any) -> None:
    sent = 0
    with connection(receiver) as sock, suppress(ConnectionResetError, BrokenPipeError):
        sock.sendall(b"GET /healthz HTTP/1.1\r\n")
        while sent < 10_000_000:
            sock.sendall(b"X-More: " + b"x" * 1000 + b"\r\n")
            sent += 1000
            time.sleep(0.001)
    assert 60_000 < sent < 1_000_000
    assert receiver.look("/healthz").status_code == 200


def test_connections_are_kept_for_further_deliveries(receiver: Any) -> None:
    address = urlsplit(receiver.base)
    kept = http.client.HTTPConnection(str(address.hostname), address.port, timeout=10)
    kept.connect()
    own = kept.sock.getsockname()
    for _ in range(3):
        body, headers = sign(b"[]", receiver.private_key)
        kept.request("POST", urlsplit(receiver.url).path, body, headers)
        answer = kept.getresponse()
        assert (answer.status, answer.read()) == (204, b"")
        assert kept.sock.getsockname() == own
    kept.close()


# -- the log in trouble ------------------------------------------------------------------------


def test_a_full_log_answers_503_and_comes_back_by_itself(
    start_receiver: Start, log_url: str
) -> None:
    receiver = start_receiver(log=open_event_log(f"{log_url}?max_bytes=400000"))
    taken = 0
    for _ in range(100):
        answer = receiver.send({"event": "open", "text": "x" * 20_000})
        if answer.status_code != 204:
            break
        taken += 1
    assert (answer.status_code, answer.text) == (503, "not stored, send it again\n")
    assert answer.headers["retry-after"] == "10"
    ready = requests.get(receiver.base + "/readyz", timeout=10)
    assert ready.status_code == 503
    assert ready.text == "not ready: the event log is full\n"
    assert len(receiver.bodies) == taken > 5
    receiver.log.commit("tap", taken)
    receiver.log.trim(datetime.now(UTC) + timedelta(days=1))
    assert receiver.send({"event": "open", "text": "x" * 20_000}).status_code == 204
    assert requests.get(receiver.base + "/readyz", timeout=10).status_code == 200
    assert metric(receiver, 'sendgrid_webhook_refused_total{reason="log_full"}') == 1


def test_a_locked_log_answers_503_and_readyz_says_so(start_receiver: Start, log_url: str) -> None:
    receiver = start_receiver(log=open_event_log(f"{log_url}?timeout=0.2"))
    assert requests.get(receiver.base + "/readyz", timeout=10).status_code == 200
    locking = receiver.log._file
    with locking.transaction():
        time.sleep(1.1)  # the answer of /readyz is kept for a second
        assert receiver.send().status_code == 503
        ready = requests.get(receiver.base + "/readyz", timeout=10)
        assert ready.status_code == 503
        assert ready.text == "not ready: the event log is locked\n", "no path for strangers"
        assert requests.get(receiver.base + "/healthz", timeout=10).text == "ok\n"
    assert receiver.send().status_code == 204


class BrokenLog(SQLiteEventLog):
    """A log whose appending fails in ways nobody foresaw."""

    def append(self, deliveries: Any) -> list[int]:
        raise RuntimeError("surprise")


def test_a_log_that_breaks_in_an_unknown_way_answers_503(
    start_receiver: Start, log_url: str
) -> None:
    receiver = start_receiver(log=BrokenLog(log_url.removeprefix("sqlite:///")))
    assert receiver.send().status_code == 503


class SlowLog(SQLiteEventLog):
    """A log that shows when it appends, and how much at once."""

    def __init__(self, path: str) -> None:
        super().__init__(path)
        self.go = threading.Event()
        self.batches: list[int] = []

    def append(self, deliveries: Any) -> list[int]:
        self.go.wait(10)
        self.batches.append(len(deliveries))
        return super().append(deliveries)


def test_nothing_is_acknowledged_before_it_is_on_disk_and_waiting_ones_go_together(
    start_receiver: Start, log_url: str
) -> None:
    log = SlowLog(log_url.removeprefix("sqlite:///"))
    receiver = start_receiver(log=log)
    with ThreadPoolExecutor(20) as pool:
        answers = [pool.submit(receiver.send) for _ in range(20)]
        time.sleep(0.5)
        assert not any(answer.done() for answer in answers)
        assert receiver.log.end() == 0
        log.go.set()
        assert {answer.result().status_code for answer in answers} == {204}
    assert len(receiver.bodies) == 20
    assert len(log.batches) <= 3


# -- keys that change --------------------------------------------------------------------------


def test_a_key_stored_by_register_is_found_without_restart(
    start_receiver: Start, private_key: ec.EllipticCurvePrivateKey
) -> None:
    receiver = start_receiver()
    new = ec.generate_private_key(ec.SECP256R1())
    store_key(receiver.log, "webhook-1", public_key_text(new))
    assert receiver.post(*sign(b"[]", new)).status_code == 204
    assert receiver.send().status_code == 204, "the old key stays good"


def test_a_rotated_key_is_fetched_from_sendgrid_but_not_at_every_forgery(
    start_receiver: Start,
) -> None:
    new = ec.generate_private_key(ec.SECP256R1())
    fetched = []

    def fetch() -> None:
        fetched.append(1)
        store_key(receiver.log, "webhook-1", public_key_text(new))

    receiver = start_receiver(fetch=fetch)
    assert receiver.post(*sign(b"[]", new)).status_code == 204
    for _ in range(5):
        forged = sign(b"[]", ec.generate_private_key(ec.SECP256R1()))
        assert receiver.post(*forged).status_code == 401
    assert len(fetched) == 1


def test_a_fetch_that_fails_changes_nothing(start_receiver: Start) -> None:
    def fetch() -> None:
        raise EventLogError("unavailable", "no network")

    receiver = start_receiver(fetch=fetch)
    assert receiver.post(*sign(b"[]", ec.generate_private_key(ec.SECP256R1()))).status_code == 401
    assert receiver.send().status_code == 204


# -- OAuth -------------------------------------------------------------------------------------


def test_oauth_tokens(start_receiver: Start) -> None:
    receiver = start_receiver(oauth_client_id="sendgrid", oauth_client_secret="s3cret/+ü")
    token_url = receiver.url + "/oauth/token"
    form = {
        "grant_type": "client_credentials",
        "client_id": "sendgrid",
        "client_secret": "s3cret/+ü",
    }

    refused = receiver.send()
    assert refused.status_code == 401
    assert "invalid_token" in refused.text
    assert refused.headers["www-authenticate"] == 'Bearer error="invalid_token"'

    granted = requests.post(token_url, data=form, timeout=10)
    assert granted.status_code == 200
    assert granted.json()["token_type"] == "Bearer"
    assert granted.headers["cache-control"] == "no-store"
    by_basic = requests.post(
        token_url,
        data={"grant_type": "client_credentials"},
        headers={"Authorization": "Basic " + _basic("sendgrid", "s3cret%2F%2B%C3%BC")},
        timeout=10,
    )
    for answer in (granted, by_basic):
        body, headers = sign(b"[]", receiver.private_key)
        bearer = {"Authorization": "Bearer " + answer.json()["access_token"]}
        assert receiver.post(body, {**headers, **bearer}).status_code == 204
        assert receiver.post(body, bearer).status_code == 401, "a token replaces no signature"

    for change, status, error in (
        ({"client_secret": "wrong"}, 401, "invalid_client"),
        ({"client_id": "wrong"}, 401, "invalid_client"),
        ({"grant_type": "password"}, 400, "unsupported_grant_type"),
    ):
        bad = requests.post(token_url, data={**form, **change}, timeout=10)
        assert (bad.status_code, bad.json()) == (status, {"error": error})
    body, headers = sign(b"[]", receiver.private_key)
    for token in ("", "x", "99999999999.x.y", "Ä.", granted.json()["access_token"][:-1]):
        forged = {**headers, "Authorization": f"Bearer {token}".encode()}
        assert receiver.post(body, forged).status_code == 401


def _basic(name: str, password: str) -> str:
    import base64

    return base64.b64encode(f"{name}:{password}".encode()).decode()


def test_tokens_end(start_receiver: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    receiver = start_receiver(oauth_client_id="a", oauth_client_secret="b")
    monkeypatch.setattr("tap_sendgrid.webhook.oauth.TOKEN_SECONDS", -1)
    token = receiver.receiver.tokens.issue()
    body, headers = sign(b"[]", receiver.private_key)
    answer = receiver.post(body, {**headers, "Authorization": f"Bearer {token}"})
    assert answer.status_code == 401


def test_without_oauth_there_is_no_token_endpoint(receiver: Any) -> None:
    assert requests.post(receiver.url + "/oauth/token", timeout=10).status_code == 404


# -- looking -----------------------------------------------------------------------------------


def test_health_is_open_figures_are_not(receiver: Any) -> None:
    assert requests.get(receiver.base + "/healthz", timeout=10).text == "ok\n"
    assert requests.head(receiver.base + "/healthz", timeout=10).status_code == 200
    for path in ("/", "/metrics", "/?token=wrong", "/metrics?token="):
        assert requests.get(receiver.base + path, timeout=10).status_code == 404
    assert receiver.look("/metrics").status_code == 200
    token = receiver.receiver.settings.status_token
    page = requests.get(f"{receiver.base}/?token={token}", timeout=10)
    assert page.status_code == 200
    assert "default-src 'none'" in page.headers["content-security-policy"]


def test_metrics_tell_what_happened(receiver: Any) -> None:
    receiver.send({"event": "open"}, {"event": "open"}, {"event": "click"}, {"event": "new one"})
    receiver.post(b"[]", {})
    receiver.log.commit("tap-sendgrid", 0)
    assert metric(receiver, "sendgrid_webhook_deliveries_total") == 1
    assert metric(receiver, 'sendgrid_webhook_events_total{event="open"}') == 2
    assert metric(receiver, 'sendgrid_webhook_events_total{event="other"}') == 1
    assert metric(receiver, "sendgrid_webhook_received_bytes_total") == len(receiver.bodies[0])
    assert metric(receiver, "sendgrid_webhook_delivery_seconds_count") == 1
    assert metric(receiver, 'sendgrid_webhook_refused_total{reason="unsigned"}') == 1
    assert metric(receiver, "sendgrid_event_log_end_offset") == 1
    waiting = 'sendgrid_event_log_waiting_deliveries{consumer="tap-sendgrid"}'
    assert metric(receiver, waiting) == 1
    oldest = 'sendgrid_event_log_oldest_waiting_seconds{consumer="tap-sendgrid"}'
    assert 0 < metric(receiver, oldest) < 60
    receiver.log.commit("tap-sendgrid", 1)
    assert metric(receiver, waiting) == 0
    assert metric(receiver, oldest) == 0


def test_counts_per_minute_reach_the_log(receiver: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    receiver.send({"event": "open"}, {"event": "open"})
    receiver.post(b"[]", {})
    deadline = time.monotonic() + 10
    while not receiver.log.counts(0) and time.monotonic() < deadline:
        time.sleep(0.05)
    totals: dict[str, int] = {}
    for _, name, total in receiver.log.counts(0):
        totals[name] = totals.get(name, 0) + total
    assert totals == {
        "event:open": 2,
        "deliveries": 1,
        "bytes": len(receiver.bodies[0]),
        "refused:unsigned": 1,
    }


def test_stopping_finishes_what_was_taken(start_receiver: Start, log_url: str) -> None:
    log = SlowLog(log_url.removeprefix("sqlite:///"))
    receiver = start_receiver(log=log)
    with ThreadPoolExecutor(1) as pool:
        answer = pool.submit(receiver.send)
        time.sleep(0.3)
        log.go.set()
        assert answer.result().status_code == 204


def test_a_delivery_of_an_old_release_is_readable(log_url: str) -> None:
    log = open_event_log(log_url)
    log.append([Delivery(b"[]", datetime.now(UTC))])
    assert next(log.read(0)).delivery.headers == {}
    log.close()
