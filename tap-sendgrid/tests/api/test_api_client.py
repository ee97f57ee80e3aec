"""The HTTP layer against real HTTP: retries, limits, errors by name, and what is never logged."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from sendgrid_simulator import Fault, Simulator, SimulatorOptions
from tap_sendgrid.api.account import Account
from tap_sendgrid.api.client import Client, without_addresses, without_secrets
from tap_sendgrid.api.errors import (
    Forbidden,
    InvalidCredentials,
    IPRestricted,
    NotFound,
    RequestRejected,
    SendGridError,
    ServiceUnavailable,
)
from tap_sendgrid.api.settings import ApiSettings

LISTS = "/v3/marketing/lists"


@pytest.fixture(scope="module")
def shared() -> Iterator[Simulator]:
    with Simulator(SimulatorOptions(contacts=10, suppressions=3)) as simulator:
        yield simulator


@pytest.fixture
def simulator(shared: Simulator) -> Iterator[Simulator]:
    shared.requests.clear()
    yield shared
    shared.faults.clear()
    shared.options.allowed_ips = None
    shared.options.rate_limits.clear()


Connect = Callable[..., Client]


@pytest.fixture
def client(simulator: Simulator, quick: list[float]) -> Client:
    return Client(simulator.api_key, simulator.url)


@pytest.mark.parametrize("kind", ["cut", "status", "cut_body"])
def test_what_breaks_is_tried_again(
    simulator: Simulator, client: Client, quick: list[float], kind: str
) -> None:
    fault = Fault(kind, path=LISTS, times=3, status=503, after_bytes=20)  # type: ignore[arg-type]
    simulator.faults.append(fault)
    assert len(client.get(LISTS)["result"]) == 3
    assert len(quick) == 3
    assert all(0.5 * 2**n <= wait <= 2**n for n, wait in enumerate(quick))  # jitter


def test_posts_are_tried_again_too(simulator: Simulator, client: Client) -> None:
    simulator.faults.append(Fault("cut", path="/v3/marketing/contacts/search", times=1))
    answer = client.post("/v3/marketing/contacts/search", {"query": "email = 'a@b'"})
    assert answer["contact_count"] == 0


def test_after_six_tries_it_gives_up_and_says_where_to_look(
    simulator: Simulator, client: Client, quick: list[float]
) -> None:
    simulator.faults.append(Fault("status", path=LISTS, times=99, status=500))
    with pytest.raises(ServiceUnavailable, match=r"tried 6 times.*status\.sendgrid\.com"):
        client.get(LISTS)
    assert len(quick) == 5


def test_impatience_means_one_try(simulator: Simulator, client: Client) -> None:
    simulator.faults.append(Fault("status", path=LISTS, times=1, status=500))
    with client.impatient(), pytest.raises(ServiceUnavailable):
        client.get(LISTS)
    assert client.get(LISTS)["result"]


def test_impatience_does_not_wait_for_a_reset(
    pretend: Callable[..., Any], quick: list[float]
) -> None:
    spent = {"X-RateLimit-Remaining": "0", "X-RateLimit-Reset": str(int(time.time()) + 120)}
    run = pretend(lambda *_: (429, spent, b""))
    client = Client("SG.a.b", run.simulator.url)
    with client.impatient():
        for _ in range(2):
            with pytest.raises(ServiceUnavailable):
                client.get(LISTS)
    assert quick == []


@pytest.mark.parametrize("status", [429, 503])
def test_retry_after_is_waited_for(
    pretend: Callable[..., Any], quick: list[float], status: int
) -> None:
    answers = iter([(status, {"Retry-After": "17"}, b""), (200, {}, b"{}")])
    run = pretend(lambda *_: next(answers))
    assert Client("SG.a.b", run.simulator.url).get(LISTS) == {}
    assert quick == [17]


def test_a_slow_answer_times_out_and_is_tried_again(
    simulator: Simulator, quick: list[float]
) -> None:
    simulator.faults.append(Fault("slow", path=LISTS, seconds=0.5))
    client = Client(simulator.api_key, simulator.url, timeout=(1.0, 0.1))
    assert client.get(LISTS)["result"]
    assert len(quick) == 1


def test_a_429_waits_for_the_reset(simulator: Simulator) -> None:
    senders = "/v3/marketing/senders"  # nothing else here calls it
    simulator.options.rate_limits[senders] = (2, 1.0)
    waits: list[float] = []

    def sleep(seconds: float) -> None:
        waits.append(seconds)
        time.sleep(seconds)

    client = Client(simulator.api_key, simulator.url, sleep=sleep)
    began = time.time()
    for _ in range(3):
        client.get(senders)
    statuses = [request.status for request in simulator.requests]
    assert statuses.count(429) == 0  # the spent budget is known from the headers
    assert waits
    assert time.time() - began >= 0.9


class Waited(Exception):
    """Raised in place of waiting, with the seconds."""


@pytest.mark.parametrize("skew", [-600, 0, 600])
@pytest.mark.parametrize("status", [200, 429])
def test_resets_go_by_sendgrids_clock(
    pretend: Callable[..., Any], skew: float, status: int
) -> None:
    def answer(*_: str) -> tuple[int, dict[str, str], bytes]:
        time.sleep(0.1)  # on the way, which is no part of the difference
        reset = str(int(time.time() + skew) + 30)
        return status, {"X-RateLimit-Remaining": "0", "X-RateLimit-Reset": reset}, b"{}"

    def sleep(seconds: float) -> None:
        raise Waited(seconds)

    run = pretend(answer)
    run.simulator.skew = skew
    client = Client("SG.a.b", run.simulator.url, sleep=sleep)
    with pytest.raises(Waited) as waited:
        [client.get(LISTS) for _ in range(2)]
    assert waited.value.args[0] == pytest.approx(31, abs=1)


def test_a_body_that_takes_long_does_not_set_the_clock_back(pretend: Callable[..., Any]) -> None:
    run = pretend(lambda *_: (200, {}, b"{}"))
    run.simulator.pause = 2.0
    client = Client("SG.a.b", run.simulator.url)
    client.get(LISTS)
    assert (client.server_now() - datetime.now(UTC)).total_seconds() > -1.5


def test_a_429_that_comes_unannounced(simulator: Simulator, quick: list[float]) -> None:
    simulator.faults.append(Fault("status", path=LISTS, status=429, times=2))
    client = Client(simulator.api_key, simulator.url)
    assert client.get(LISTS)["result"]
    assert [request.status for request in simulator.requests] == [429, 429, 200]
    assert len(quick) >= 2


def test_a_rejected_key_is_told_with_the_request_to_try(simulator: Simulator) -> None:
    secret = "SG.aaaaaaaaaaaaaaaaaaaaaa.bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb"
    client = Client(secret, simulator.url)
    with pytest.raises(InvalidCredentials) as caught:
        client.get(LISTS)
    text = str(caught.value)
    assert text.startswith("Invalid Credentials: ")
    assert 'curl -i -H "Authorization: Bearer $TAP_SENDGRID_API_KEY"' in text
    assert f"{simulator.url}/v3/marketing/lists?page_size=1" in text
    assert "bbbb" not in text + repr(client)


@pytest.mark.parametrize("key", ["SG.…", "SG.a b.c", "SG.a\r\nX-Evil: 1", "Sé.a.b"])
def test_a_key_with_impossible_characters_is_told_and_not_sent(
    simulator: Simulator, key: str
) -> None:
    with pytest.raises(InvalidCredentials, match="characters that no key has"):
        Client(key, simulator.url).get(LISTS)
    assert simulator.requests == []


def test_an_address_that_is_not_allowed_is_told(simulator: Simulator) -> None:
    simulator.options.allowed_ips = ("10.1.2.3",)
    account = Account(ApiSettings(simulator.api_key, simulator.url))
    with pytest.raises(IPRestricted, match="IP Access Management"):
        account.generation()


@pytest.mark.parametrize("status", [401, 403])
def test_sendgrids_own_words_for_an_address(
    simulator: Simulator, client: Client, status: int
) -> None:
    words = "The requestor's IP Address is not whitelisted"
    simulator.faults.append(Fault("status", path=LISTS, status=status, message=words))
    with pytest.raises(IPRestricted, match="not whitelisted"):
        client.get(LISTS)


def test_other_refusals_have_names(simulator: Simulator, client: Client) -> None:
    with pytest.raises(Forbidden, match="access forbidden"):
        client.get("/v3/contactdb/lists")
    with pytest.raises(NotFound):
        client.get("/v3/marketing/singlesends/none")
    with pytest.raises(RequestRejected, match="400"):
        client.get(LISTS, {"page_size": 100_000})


def test_an_answer_that_is_no_json_is_told() -> None:
    import http.server
    import threading

    class Html(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.end_headers()
            self.wfile.write(b"<html>a proxy speaks</html>")

        def log_message(self, *_: object) -> None:
            pass

    with http.server.HTTPServer(("127.0.0.1", 0), Html) as server:
        threading.Thread(target=server.handle_request).start()
        client = Client("SG.a.b", f"http://127.0.0.1:{server.server_port}")
        with pytest.raises(RequestRejected, match="api_url"):
            client.get("/v3/scopes")


def test_the_key_goes_to_no_other_host(simulator: Simulator, client: Client) -> None:
    client.get(f"https://evil.example/v3/marketing/lists?page_size=2&page_token={''}")
    assert simulator.requests[-1].path == LISTS
    assert simulator.requests[-1].query == {"page_size": "2", "page_token": ""}


def test_a_netrc_does_not_replace_the_key(
    simulator: Simulator,
    client: Client,
    pretend: Callable[..., Any],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Nor does it add credentials to the links of export files, which S3 then refuses."""
    (tmp_path / "netrc").write_text("default login me password secret\n")
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    assert client.get(LISTS)
    assert simulator.requests[-1].headers["authorization"] == f"Bearer {simulator.api_key}"
    file = f"{simulator.url}/downloads/none"
    moved = pretend(lambda method, path: (302, {"Location": file}, b""))
    for url in (file, moved.simulator.url):
        with pytest.raises(RequestRejected), client.download(url):
            pass
        assert simulator.requests[-1].path == "/downloads/none"
        assert "authorization" not in simulator.requests[-1].headers


def test_the_trace_has_no_secrets_and_no_addresses(
    simulator: Simulator, client: Client, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.DEBUG):
        client.get("/v3/asm/suppressions/global/someone@example.com")
        client.get("/v3/suppression/bounces", {"email": "someone@example.com", "limit": 1})
        client.get(LISTS)
    lines = [r.getMessage() for r in caplog.records if r.name.startswith("tap-sendgrid")]
    assert len(lines) == 3
    assert all(" -> 200 in " in line for line in lines)
    assert "someone" not in caplog.text
    assert simulator.api_key not in caplog.text
    assert simulator.api_key.split(".")[2] not in caplog.text


@pytest.mark.parametrize(
    ("text", "clean"),
    [
        ("GET /v3/x/a@b.c/y", "GET /v3/x/<address>/y"),
        ("/v3/x?email=a%40b.c&limit=1", "/v3/x?email=<address>&limit=1"),
        ("recipient 'a.b+c@d.example' not found", "recipient '<address>' not found"),
        ("/v3/marketing/lists?page_size=1", "/v3/marketing/lists?page_size=1"),
    ],
)
def test_addresses_are_taken_out(text: str, clean: str) -> None:
    assert without_addresses(text) == clean


@pytest.mark.parametrize("url", ["api.sendgrid.com", "http://", "ftp://x", "http://a..b"])
def test_an_api_url_that_is_none_is_told(url: str, quick: list[float]) -> None:
    with pytest.raises(SendGridError, match="api_url"):
        Client("SG.a.b", url).get(LISTS)


@pytest.mark.parametrize(
    ("text", "clean"),
    [
        ("Invalid URL 'b.s3/f?X-Amz-Signature=1&b=2': no", "Invalid URL 'b.s3/f?…': no"),
        ("host='b.s3', url: /f?sig=a%2F+b (Caused by x)", "host='b.s3', url: /f?… (Caused by x)"),
        ("https://x/y?a=1#b of a@b.c", "https://x/y?… of <address>"),
        ("is it? a = b", "is it? a = b"),
    ],
)
def test_signatures_of_links_are_taken_out(text: str, clean: str) -> None:
    assert without_secrets(text) == clean


def test_connections_are_reused(simulator: Simulator, client: Client) -> None:
    pool = client._session.get_adapter(simulator.url).poolmanager  # type: ignore[attr-defined]
    for _ in range(5):
        client.get(LISTS)
    (key,) = pool.pools.keys()
    assert pool.pools[key].num_connections == 1


def test_the_subuser_is_named_in_a_header(simulator: Simulator) -> None:
    client = Client(simulator.api_key, simulator.url, on_behalf_of="anna")
    with pytest.raises(Forbidden):
        client.get(LISTS)
    assert simulator.requests[-1].headers["on-behalf-of"] == "anna"


@pytest.mark.parametrize(
    ("value", "subusers"),
    [
        (["north", " south "], ("north", "south")),
        ("north, south,", ("north", "south")),
        ('["north", "south"]', ("north", "south")),
        (' ["north"]', ("north",)),
        ("[]", ()),
        ("[north", ("[north",)),
        (None, ()),
    ],
)
def test_subusers_in_every_form(value: Any, subusers: tuple[str, ...]) -> None:
    assert ApiSettings.from_config({"on_behalf_of": value}).subusers == subusers


def test_settings_hide_the_key() -> None:
    settings = ApiSettings("SG.keyid.secret")
    assert "secret" not in repr(settings)
    assert settings.key_id == "keyid"
    assert (
        "no" not in ApiSettings("nonsense").key_id or ApiSettings("nonsense").key_id != "nonsense"
    )
