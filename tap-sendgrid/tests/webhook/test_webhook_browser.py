"""The status page in a real headless browser (Lightpanda, driven by the DevTools protocol)."""

from __future__ import annotations

import json
import socket
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from typing import Any

import lightpanda
import pytest
from tap_sendgrid.event_log import Delivery
from websockets.sync.client import ClientConnection, connect


class Browser:
    """One page of a browser."""

    def __init__(self, connection: ClientConnection) -> None:
        self._connection = connection
        self._number = 0
        self._session: str | None = None
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        attached = self.call("Target.attachToTarget", targetId=target, flatten=True)
        self._session = attached["sessionId"]
        for domain in ("Page", "Runtime", "Network"):
            self.call(f"{domain}.enable")
        self.requests: list[str] = []

    def call(self, method: str, **parameters: Any) -> Any:
        self._number += 1
        message = {"id": self._number, "method": method, "params": parameters}
        if self._session:
            message["sessionId"] = self._session
        self._connection.send(json.dumps(message))
        while True:
            answer = json.loads(self._connection.recv(timeout=20))
            if answer.get("method") == "Network.requestWillBeSent":
                self.requests.append(answer["params"]["request"]["url"])
            if answer.get("id") == self._number:
                assert "error" not in answer, answer
                return answer["result"]

    def open(self, url: str) -> None:
        self.call("Page.navigate", url=url)
        deadline = time.monotonic() + 20
        while self.ask("document.readyState + location.href") != "complete" + url:
            assert time.monotonic() < deadline, "the page did not load"
            time.sleep(0.05)

    def ask(self, script: str) -> Any:
        """The value of an expression in the page."""
        answer = self.call("Runtime.evaluate", expression=script, returnByValue=True)
        assert "exceptionDetails" not in answer, answer
        return answer["result"].get("value")


@pytest.fixture
def browser() -> Iterator[Browser]:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    process = lightpanda.serve(host="127.0.0.1", port=port)
    try:
        deadline = time.monotonic() + 20
        while True:
            try:
                connection = connect(f"ws://127.0.0.1:{port}/", max_size=None)
                break
            except OSError:
                assert time.monotonic() < deadline, "the browser did not start"
                time.sleep(0.05)
        with connection:
            yield Browser(connection)
    finally:
        process.kill()
        process.wait()
        for stream in (process.stdin, process.stdout, process.stderr):
            if stream is not None:
                stream.close()


def page_url(receiver: Any) -> str:
    return f"{receiver.base}/?token={receiver.receiver.settings.status_token}"


def test_the_page_shows_what_the_receiver_did(
    start_receiver: Callable[..., Any], browser: Browser
) -> None:
    receiver = start_receiver()
    receiver.send(*[{"event": "open"}] * 30, *[{"event": "click"}] * 10, {"event": "new one"})
    receiver.post(b"[]", {})
    bad = Delivery(b"x", datetime.now(UTC))
    receiver.log.quarantine(bad, "<b onclick=alert(1)>why</b><script>window.evil = 1</script>")
    receiver.log.commit("tap-sendgrid", 0)
    deadline = time.monotonic() + 10
    while not receiver.log.counts(0):
        assert time.monotonic() < deadline
        time.sleep(0.05)

    browser.open(page_url(receiver))
    assert browser.ask("document.title") == "SendGrid is sending | sendgrid-webhook"
    assert browser.ask("document.compatMode") == "CSS1Compat", "no quirks mode"
    figures = browser.ask(
        "JSON.stringify(Object.fromEntries([...document.querySelectorAll('dl div')].map("
        "d => [d.querySelector('dt').textContent, d.querySelector('dd').textContent])))"
    )
    shown = json.loads(figures)
    assert shown["Events in the last hour"] == "41"
    assert shown["Deliveries in the log"] == "1"
    assert shown["Waiting to be flushed"] == "1"
    assert shown["Refused today"] == "1"
    assert shown["In quarantine"] == "1"
    bars = json.loads(
        browser.ask(
            "JSON.stringify([...document.querySelectorAll('svg rect')].map(r => "
            "[r.querySelector('title').textContent.slice(6), Number(r.getAttribute('height'))]))"
        )
    )
    heights: dict[str, float] = {}
    for name, height in bars:
        event, count = name.split(": ")
        heights[event] = heights.get(event, 0) + height
        assert height > 0, count
    assert heights["open"] == pytest.approx(3 * heights["click"], rel=0.02)
    assert browser.ask("document.querySelector('.legend').textContent").split() == (
        ["open", "30", "click", "10", "other", "1"]
    )
    cells = "[...document.querySelectorAll('td')].map(c => c.textContent)"
    assert "tap-sendgrid" in browser.ask(f"JSON.stringify({cells})")

    assert browser.ask("window.evil") is None, "what is stored never runs"
    assert browser.ask("document.scripts.length") == 0
    assert "<script>window.evil" in browser.ask("document.body.textContent")
    others = [u for u in browser.requests if not u.startswith((receiver.base, "about:"))]
    assert others == []


def test_the_page_of_an_empty_log(start_receiver: Callable[..., Any], browser: Browser) -> None:
    receiver = start_receiver()
    browser.open(page_url(receiver))
    assert browser.ask("document.querySelector('h1').textContent") == "Nothing has arrived yet"
    assert browser.ask("document.querySelectorAll('svg rect').length") == 0
    assert browser.ask("document.querySelectorAll('h2').length") == 4


def test_without_the_token_the_browser_sees_nothing(
    start_receiver: Callable[..., Any], browser: Browser
) -> None:
    receiver = start_receiver()
    browser.open(receiver.base + "/?token=wrong")
    assert browser.ask("document.documentElement.textContent").strip() == "not found"
