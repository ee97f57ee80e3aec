"""Who gets in: keys that change, the status token, and OAuth tokens."""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor, as_completed
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import islice
from typing import Any
from urllib.parse import quote_plus

import pytest
import requests
from click.testing import CliRunner
from cryptography.hazmat.primitives.asymmetric import ec
from sendgrid_simulator import public_key_text
from tap_sendgrid.event_log import EventLogError
from tap_sendgrid.event_log.sqlite import SQLiteEventLog
from tap_sendgrid.webhook import app
from tap_sendgrid.webhook.cli import main
from tap_sendgrid.webhook.keys import store_key
from tap_sendgrid.webhook.oauth import TokenIssuer
from tap_sendgrid.webhook.server import ReceiverFactory
from tap_sendgrid.webhook.settings import ReceiverSettings

Start = Callable[..., Any]


def wait_for(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def sign(body: bytes, key: ec.EllipticCurvePrivateKey, timestamp: int | None = None) -> Any:
    from sendgrid_simulator.signing import sign_body

    return body, sign_body(body, key, timestamp)


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


def test_what_comes_while_a_new_key_is_fetched_waits_for_it(start_receiver: Start) -> None:
    new = ec.generate_private_key(ec.SECP256R1())
    go = threading.Event()

    def fetch() -> None:
        go.wait(20)
        store_key(receiver.log, "webhook-1", public_key_text(new))

    receiver = start_receiver(fetch=fetch)
    with ThreadPoolExecutor(12) as pool:
        answers = [pool.submit(receiver.post, *sign(b"[]", new)) for _ in range(12)]
        wait_for(lambda: receiver.receiver._waiting_for_keys == 12)
        go.set()
        assert {answer.result().status_code for answer in answers} == {204}


def test_a_fetch_that_hangs_delays_some_forgeries_for_some_time_and_nobody_else(
    start_receiver: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(app, "KEY_SECONDS", 3.0)
    monkeypatch.setattr(app, "MAX_WAITING_FOR_KEYS", 3)
    go = threading.Event()
    receiver = start_receiver(fetch=lambda: go.wait(20))

    def forge() -> int:
        forged = sign(b"[]", ec.generate_private_key(ec.SECP256R1()))
        return int(receiver.post(*forged).status_code)

    with ThreadPoolExecutor(12) as pool:
        answers = [pool.submit(forge) for _ in range(12)]
        try:
            for answer in islice(as_completed(answers, timeout=2.5), 9):
                assert answer.result() == 401
            assert sum(not answer.done() for answer in answers) == 3
            assert receiver.send().status_code == 204
            assert requests.get(receiver.base + "/readyz", timeout=5).status_code == 200
            assert {answer.result(10) for answer in answers} == {401}
        finally:
            go.set()


def test_a_log_that_cannot_be_asked_for_keys_refuses_the_forgery(start_receiver: Start) -> None:
    class Unreadable(SQLiteEventLog):
        def get(self, name: str) -> str | None:
            raise EventLogError("unavailable", "no leader")

    receiver = start_receiver()
    receiver.receiver.log.__class__ = Unreadable
    assert receiver.post(*sign(b"[]", ec.generate_private_key(ec.SECP256R1()))).status_code == 401
    assert receiver.send().status_code == 204


@pytest.mark.parametrize("status", [429, 500])
def test_a_sendgrid_that_does_not_answer_is_asked_once(
    log_url: str, private_key: ec.EllipticCurvePrivateKey, status: int
) -> None:
    asked = []

    class Unwilling(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(self.path)
            self.send_response(status)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *arguments: Any) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Unwilling) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        settings = ReceiverSettings(
            log_url,
            "path",
            "status",
            (public_key_text(private_key),),
            api_key="SG.x",
            api_url=f"http://127.0.0.1:{server.server_port}",
        )
        receiver = ReceiverFactory(settings)._receiver()
        receiver.log.put("webhook.ids", '["a", "b"]')
        assert not receiver.keys.refresh()
        server.shutdown()
    receiver.log.close()
    assert len(asked) == 1


def test_a_status_token_of_any_characters_opens_what_url_prints(
    start_receiver: Start, log_url: str
) -> None:
    token = "a b+c/%41&x=é#?"
    receiver = start_receiver(status_token=token)
    log = ("--event-log-url", log_url, "--status-token", token)
    printed = CliRunner().invoke(main, ["url", *log, "--base", receiver.base]).output
    (address,) = re.findall(r"status +(\S+)\n", printed)
    assert requests.get(address, timeout=10).status_code == 200
    assert requests.get(address[:-3], timeout=10).status_code == 404


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


@pytest.mark.parametrize("secret", ["100%+2", "a+b", "a%2Bb"])
def test_basic_credentials_may_be_plain_or_form_encoded(secret: str) -> None:
    issuer = TokenIssuer("me@x+y", secret)
    for name, password, status in (
        ("me@x+y", secret, 200),
        (quote_plus("me@x+y"), quote_plus(secret), 200),
        ("me@x+y", secret + "x", 401),
        ("me", secret, 401),
    ):
        header = f"Basic {_basic(name, password)}".encode()
        assert issuer.answer(header, b"grant_type=client_credentials")[0] == status


def test_tokens_end(start_receiver: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    receiver = start_receiver(oauth_client_id="a", oauth_client_secret="b")
    monkeypatch.setattr("tap_sendgrid.webhook.oauth.TOKEN_SECONDS", -1)
    token = receiver.receiver.tokens.issue()
    body, headers = sign(b"[]", receiver.private_key)
    answer = receiver.post(body, {**headers, "Authorization": f"Bearer {token}"})
    assert answer.status_code == 401


def test_without_oauth_there_is_no_token_endpoint(receiver: Any) -> None:
    assert requests.post(receiver.url + "/oauth/token", timeout=10).status_code == 404
