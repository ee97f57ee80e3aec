"""The tap in this process against a simulated SendGrid, for the tests of objects and of the run."""

from __future__ import annotations

import copy
import http.server
import io
import json
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import redirect_stdout
from dataclasses import dataclass, field
from typing import Any

import pytest
from sendgrid_simulator import Simulator, SimulatorOptions
from tap_sendgrid.report import IncompleteSync
from tap_sendgrid.tap import TapSendGrid

Record = dict[str, Any]
#: What `Stub` is given: method and path with query in; status, headers, body out.
Answer = Callable[[str, str], tuple[int, dict[str, str], bytes]]


@dataclass
class Output:
    """What a run wrote, and how it ended."""

    messages: list[dict[str, Any]]
    tap: TapSendGrid
    incomplete: str = ""
    requests: list[Any] = field(default_factory=list)

    def of(self, kind: str, stream: str | None = None) -> list[dict[str, Any]]:
        return [m for m in self.messages if m["type"] == kind and stream in (None, m.get("stream"))]

    def records(self, stream: str) -> list[Record]:
        return [message["record"] for message in self.of("RECORD", stream)]

    def by_id(self, stream: str) -> dict[str, Record]:
        return {record["id"]: record for record in self.records(stream)}

    def schema(self, stream: str) -> dict[str, Any]:
        return self.of("SCHEMA", stream)[-1]["schema"]

    @property
    def states(self) -> list[dict[str, Any]]:
        return [message["value"] for message in self.of("STATE")]

    @property
    def state(self) -> dict[str, Any]:
        return self.states[-1]

    def bookmark(self, stream: str) -> dict[str, Any]:
        return self.state["bookmarks"][stream]

    @property
    def called(self) -> list[str]:
        return [f"{request.method} {request.path}" for request in self.requests]


class Stub:
    """A server in SendGrid's place that answers what no SendGrid should.

    Attributes:
        skew: How many seconds its clock, which the header Date tells, is ahead of ours.
        pause: Seconds between the headers and the body of an answer.
    """

    def __init__(self, answer: Answer) -> None:
        self.skew = 0.0
        self.pause = 0.0
        self.api_key = "SG.keyidkeyidkeyidkeyidk.secret"
        self.requests: list[str] = []
        stub = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                self.rfile.read(int(self.headers.get("Content-Length") or 0))
                stub.requests.append(f"{self.command} {self.path}")
                status, headers, body = answer(self.command, self.path)
                self.send_response(status)
                for name, value in headers.items():
                    self.send_header(name, value)
                self.end_headers()
                time.sleep(stub.pause)
                self.wfile.write(body)

            do_POST = do_GET

            def date_time_string(self, timestamp: float | None = None) -> str:
                return super().date_time_string(timestamp or time.time() + stub.skew)

            def log_message(self, *_: object) -> None:
                pass

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}"
        threading.Thread(target=self.server.serve_forever, args=(0.01,)).start()

    def stop(self) -> None:
        self.server.shutdown()
        self.server.server_close()


@dataclass
class TapRunner:
    """Runs the tap against one simulator, with what it is given."""

    simulator: Simulator | Stub
    config: dict[str, Any] = field(default_factory=dict)

    def settings(self, **more: Any) -> dict[str, Any]:
        base = {"api_key": self.simulator.api_key, "api_url": self.simulator.url}
        return {**base, **self.config, **more}

    def catalog(self, *streams: str, without: tuple[str, ...] = (), **config: Any) -> Any:
        """A catalog with these streams selected, without the named properties (``a.b`` nested)."""
        catalog = TapSendGrid(config=self.settings(**config)).catalog_dict
        for stream in catalog["streams"]:
            for entry in stream["metadata"]:
                crumb = entry["breadcrumb"]
                if not crumb:
                    entry["metadata"]["selected"] = stream["stream"] in streams
                elif ".".join(crumb[1::2]) in without:
                    entry["metadata"]["selected"] = False
        return catalog

    def __call__(
        self,
        *streams: str,
        state: dict[str, Any] | None = None,
        without: tuple[str, ...] = (),
        catalog: Any = None,
        **config: Any,
    ) -> Output:
        """Run; what was written before a RunStopper is lost, for the caller expects the raise."""
        catalog = catalog or self.catalog(*streams, without=without, **config)
        before = len(self.simulator.requests)
        tap = TapSendGrid(
            config=self.settings(**config), catalog=catalog, state=copy.deepcopy(state or {})
        )
        out = io.StringIO()
        incomplete = ""
        with redirect_stdout(out):
            try:
                tap.sync_all()
            except IncompleteSync as problem:
                incomplete = str(problem)
        messages = [json.loads(line) for line in out.getvalue().splitlines()]
        return Output(messages, tap, incomplete, self.simulator.requests[before:])


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Waits are shortened; the list fills with the seconds that were asked for."""
    waits: list[float] = []

    def sleep(seconds: float) -> None:
        waits.append(seconds)
        time.sleep(min(seconds, 0.005))

    monkeypatch.setattr("tap_sendgrid.api.client.default_sleep", sleep)
    return waits


@pytest.fixture
def serve(quick: list[float]) -> Iterator[Callable[..., TapRunner]]:
    """Start a simulator with the given options and get a runner for it."""
    running: list[Simulator] = []

    def start(**options: Any) -> TapRunner:
        simulator = Simulator(SimulatorOptions(**options))
        simulator.__enter__()
        running.append(simulator)
        return TapRunner(simulator)

    yield start
    for simulator in running:
        simulator.__exit__(None, None, None)


@pytest.fixture
def pretend(quick: list[float]) -> Iterator[Callable[[Answer], TapRunner]]:
    """Start a `Stub` with the given answers and get a runner for it."""
    running: list[Stub] = []

    def start(answer: Answer) -> TapRunner:
        running.append(Stub(answer))
        return TapRunner(running[-1])

    yield start
    for stub in running:
        stub.stop()
