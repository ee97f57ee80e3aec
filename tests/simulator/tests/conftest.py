"""Fixtures of the simulator's tests: a server per test, and a client that has its key."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any, Protocol

import pytest
import requests
from sendgrid_simulator import Simulator, SimulatorOptions


class Start(Protocol):
    def __call__(self, **options: Any) -> Simulator: ...


@pytest.fixture
def start() -> Iterator[Start]:
    """Starts simulators that end with the test."""
    with ExitStack() as stack:

        def started(**options: Any) -> Simulator:
            return stack.enter_context(Simulator(SimulatorOptions(**options)))

        yield started


class Client(requests.Session):
    """A session with the account's key, whose paths are relative to the server."""

    def __init__(self, simulator: Simulator) -> None:
        super().__init__()
        self.headers.update(simulator.auth)
        self._url = simulator.url

    def request(self, method: str, url: str, *args: Any, **kwargs: Any) -> requests.Response:  # type: ignore[override]
        if url.startswith("/"):
            url = self._url + url
        kwargs.setdefault("timeout", 20)
        return super().request(method, url, *args, **kwargs)


@pytest.fixture
def client() -> Iterator[Any]:
    """Makes clients; their connections are closed at the end."""
    with ExitStack() as stack:
        yield lambda simulator: stack.enter_context(Client(simulator))
