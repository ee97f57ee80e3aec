"""What the NATS log promises beyond the contract: repeats, limits, access, dying nodes."""

from __future__ import annotations

import datetime as dt
import ipaddress
import json
import logging
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from sendgrid_simulator import RetryPolicy, WebhookSender, new_private_key, public_key_text
from tap_sendgrid.event_log import Delivery, EventLog, EventLogError, open_event_log
from tap_sendgrid.event_log.nats_client import NatsAddress


def stream() -> str:
    return f"events-{uuid.uuid4().hex[:8]}"


def delivery(text: str, age: timedelta = timedelta()) -> Delivery:
    return Delivery(text.encode(), datetime.now(UTC) - age)


@pytest.fixture
def open_log() -> Iterator[Callable[..., EventLog]]:
    logs: list[EventLog] = []

    def begin(url: str, **more: Any) -> EventLog:
        logs.append(open_event_log(url, **more))
        return logs[-1]

    yield begin
    for log in logs:
        log.close()


# -- addresses ---------------------------------------------------------------------------------


def test_an_address_names_servers_stream_and_options() -> None:
    address = NatsAddress.parse("nats://me:pw@one:4222,two:4223/events?replicas=5&timeout=1.5")
    assert address.servers == ("nats://one:4222", "nats://two:4223")
    assert address.login == {"user": "me", "password": "pw"}
    assert NatsAddress.parse("nats://t%40ken@one/events").login == {"token": "t@ken"}
    assert address.stream == "events"
    assert address.options == {"replicas": "5", "timeout": "1.5"}
    assert address.tls() is None
    assert NatsAddress.parse("tls://one/events").tls() is not None
    assert "pw" not in repr(address)


@pytest.mark.parametrize(
    "url", ["nats://one:4222", "nats:///events", "nats://one/a.b", "nats://one/a?copies=3"]
)
def test_an_address_that_is_none_says_how_to_write_it(url: str) -> None:
    with pytest.raises(EventLogError, match=r"nats://host:4222/stream|known are"):
        open_event_log(url)


def test_no_server(caplog: pytest.LogCaptureFixture) -> None:
    started = time.monotonic()
    with pytest.raises(EventLogError, match="no NATS server lets us") as caught:
        open_event_log("nats://user:secret@127.0.0.1:1/events")
    assert caught.value.kind == "unavailable"
    assert "secret" not in str(caught.value) + caplog.text
    assert time.monotonic() - started < 30


# -- one server --------------------------------------------------------------------------------


def test_a_single_server_keeps_one_copy_and_says_so(
    nats_server: Any, open_log: Callable[..., EventLog], caplog: pytest.LogCaptureFixture
) -> None:
    url = f"nats://127.0.0.1:{nats_server.port}/{stream()}"
    open_log(url)
    assert "one copy" in caplog.text
    caplog.clear()
    open_log(url)
    assert caplog.text == "", "said once, when it is made"
    with pytest.raises(EventLogError, match="replicas"):
        open_log(f"nats://127.0.0.1:{nats_server.port}/{stream()}?replicas=3")


def test_a_repeated_body_is_stored_once_but_a_replay_is_not_a_repeat(
    nats_server: Any, open_log: Callable[..., EventLog]
) -> None:
    log = open_log(f"nats://127.0.0.1:{nats_server.port}/{stream()}")
    first = log.append([delivery("a"), delivery("b")])
    assert log.append([delivery("a"), delivery("c"), delivery("b")]) == [
        first[0],
        first[1] + 1,
        first[1],
    ]
    log.append([delivery("a", timedelta(hours=1))])
    assert [logged.delivery.body for logged in log.read(0)] == [b"a", b"b", b"c", b"a"]


def test_a_full_stream_is_told_and_drops_nothing(
    nats_server: Any, open_log: Callable[..., EventLog]
) -> None:
    log = open_log(f"nats://127.0.0.1:{nats_server.port}/{stream()}?max_bytes=100000")
    stored = 0

    def fill() -> None:
        nonlocal stored
        while True:
            log.append([delivery(str(stored).zfill(10_000), timedelta(hours=1))])
            stored += 1

    with pytest.raises(EventLogError, match="is full") as caught:
        fill()
    assert caught.value.kind == "full"
    assert len(list(log.read(0))) == stored > 5
    log.commit("tap", log.end())
    assert log.trim(datetime.now(UTC)).deliveries == stored
    assert log.append([delivery("again")]) == [stored + 1]


def test_a_delivery_longer_than_the_servers_take(
    nats_server: Any, open_log: Callable[..., EventLog]
) -> None:
    log = open_log(f"nats://127.0.0.1:{nats_server.port}/{stream()}")
    with pytest.raises(EventLogError, match="raise max_payload"):
        log.append([delivery("x" * (8 << 20))])
    assert log.append([delivery("x" * (7 << 20))]) == [1]
    assert len(next(log.read(0)).delivery.body) == 7 << 20


def test_a_stream_that_forgets_by_itself_is_refused(
    nats_server: Any, open_log: Callable[..., EventLog]
) -> None:
    import asyncio

    import nats

    name = stream()

    async def make() -> None:
        client = await nats.connect(f"nats://127.0.0.1:{nats_server.port}")
        await client.jetstream().add_stream(name=name, subjects=[f"{name}.deliveries"], max_age=60)
        await client.close()

    asyncio.run(make())
    with pytest.raises(EventLogError, match="drops messages by itself") as caught:
        open_log(f"nats://127.0.0.1:{nats_server.port}/{name}")
    assert caught.value.kind == "not_a_log"


def test_a_restart_of_the_server_is_survived(
    tmp_path: Path, open_log: Callable[..., EventLog], make_server: Any
) -> None:
    server = make_server()
    log = open_log(f"nats://127.0.0.1:{server.port}/events?timeout=2")
    log.append([delivery("before")])
    server.kill()
    started = time.monotonic()
    with pytest.raises(EventLogError) as caught:
        log.append([delivery("during")])
    assert caught.value.kind == "unavailable"
    assert time.monotonic() - started < 4
    server.start()
    deadline = time.monotonic() + 20
    while True:
        try:
            log.append([delivery("after")])
            break
        except EventLogError:
            assert time.monotonic() < deadline
            time.sleep(0.1)
    found = [logged.delivery.body for logged in log.read(0)]
    assert found[0] == b"before"
    assert found[-1] == b"after"


# -- access ------------------------------------------------------------------------------------


@pytest.fixture
def make_server(tmp_path: Path, nats_server: Any) -> Iterator[Callable[..., Any]]:
    """Starts further servers, with more configuration."""
    from contextlib import ExitStack

    kind = type(nats_server)
    free_ports = kind.__init__.__globals__["free_ports"]
    with ExitStack() as stack:

        def start(more: str = "") -> Any:
            server = kind(tmp_path, uuid.uuid4().hex[:6], free_ports(1)[0], more)
            server.start()
            stack.callback(server.stop)
            return server

        yield start


def test_user_and_password(
    make_server: Callable[..., Any],
    open_log: Callable[..., EventLog],
    caplog: pytest.LogCaptureFixture,
) -> None:
    server = make_server('authorization { user: "me", password: "s3cret/pw" }\n')
    open_log(f"nats://me:s3cret%2Fpw@127.0.0.1:{server.port}/events").append([delivery("a")])
    with pytest.raises(EventLogError, match=r"[Aa]uthorization") as caught:
        open_log(f"nats://me:wr0ng@127.0.0.1:{server.port}/events")
    assert "wr0ng" not in str(caught.value) + caplog.text


def certificates(folder: Path) -> None:
    """A certificate authority, and a server and a client certificate of it."""

    def write(name: str, data: bytes) -> None:
        (folder / name).write_bytes(data)

    def name(text: str) -> x509.Name:
        return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)])

    ca_key = ec.generate_private_key(ec.SECP256R1())
    now = datetime.now(dt.UTC)

    def certificate(subject: str, key: ec.EllipticCurvePrivateKey, *, ca: bool) -> None:
        built = (
            x509.CertificateBuilder()
            .subject_name(name(subject))
            .issuer_name(name("ca"))
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - timedelta(days=1))
            .not_valid_after(now + timedelta(days=1))
            .add_extension(x509.BasicConstraints(ca=ca, path_length=None), critical=True)
            .add_extension(
                x509.SubjectAlternativeName(
                    [x509.IPAddress(ipaddress.ip_address("127.0.0.1")), x509.DNSName("localhost")]
                ),
                critical=False,
            )
            .sign(ca_key, hashes.SHA256())
        )
        write(f"{subject}.pem", built.public_bytes(serialization.Encoding.PEM))
        write(
            f"{subject}.key",
            key.private_bytes(
                serialization.Encoding.PEM,
                serialization.PrivateFormat.PKCS8,
                serialization.NoEncryption(),
            ),
        )

    certificate("ca", ca_key, ca=True)
    for subject in ("server", "client"):
        certificate(subject, ec.generate_private_key(ec.SECP256R1()), ca=False)


def test_tls_with_client_certificates(
    tmp_path: Path,
    make_server: Callable[..., Any],
    open_log: Callable[..., EventLog],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("tap_sendgrid.event_log.nats_client.CONNECT_SECONDS", 2.0)
    certificates(tmp_path)
    server = make_server(
        f'tls {{ cert_file: "{tmp_path}/server.pem", key_file: "{tmp_path}/server.key", '
        f'ca_file: "{tmp_path}/ca.pem", verify: true }}\n'
    )
    base = f"tls://127.0.0.1:{server.port}/events?tls_ca={tmp_path}/ca.pem"
    client = f"&tls_cert={tmp_path}/client.pem&tls_key={tmp_path}/client.key"
    log = open_log(base + client)
    assert log.append([delivery("a")]) == [1]
    with pytest.raises(EventLogError):
        open_log(base)
    with pytest.raises(EventLogError):
        open_log(f"tls://127.0.0.1:{server.port}/events")


# -- a cluster ---------------------------------------------------------------------------------


def cluster_url(servers: list[Any], options: str = "") -> str:
    hosts = ",".join(f"127.0.0.1:{server.port}" for server in servers)
    return f"nats://{hosts}/events?timeout=2{options}"


def open_when_ready(url: str, open_log: Callable[..., EventLog]) -> EventLog:
    """Open a log once the cluster has found a leader."""
    deadline = time.monotonic() + 60
    while True:
        try:
            return open_log(url)
        except EventLogError:
            assert time.monotonic() < deadline
            time.sleep(0.3)


def leader(log: Any) -> str:
    return str(log._info().cluster.leader)


class Load:
    """Writers that append numbered deliveries and try each again until it is acknowledged."""

    def __init__(self, url: str, open_log: Callable[..., EventLog], writers: int = 3) -> None:
        self.acknowledged: list[str] = []
        self.kinds: set[str] = set()
        self._stop = threading.Event()
        logs = [open_log(url) for _ in range(writers)]
        self._threads = [
            threading.Thread(target=self._write, args=(log, number))
            for number, log in enumerate(logs)
        ]
        for thread in self._threads:
            thread.start()

    def _write(self, log: EventLog, writer: int) -> None:
        number = 0
        while not self._stop.is_set():
            names = [f"{writer}-{number + i}" for i in range(4)]
            while True:
                try:
                    log.append([delivery(name) for name in names])
                    break
                except EventLogError as error:
                    self.kinds.add(error.kind)
                    time.sleep(0.1)
            self.acknowledged += names
            number += 4

    def wait_for_more(self, count: int = 40) -> None:
        wanted = len(self.acknowledged) + count
        deadline = time.monotonic() + 60
        while len(self.acknowledged) < wanted:
            assert time.monotonic() < deadline, "nothing is acknowledged any more"
            time.sleep(0.02)

    def stop(self) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()


def test_what_a_cluster_acknowledged_outlives_its_nodes_and_is_there_once(
    nats_cluster: list[Any], open_log: Callable[..., EventLog], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.CRITICAL, logger="nats.aio.client")
    by_name = {server.name: server for server in nats_cluster}
    log = open_when_ready(cluster_url(nats_cluster), open_log)
    assert log._info().config.num_replicas == 3  # type: ignore[attr-defined]
    load = Load(cluster_url(nats_cluster), open_log)
    try:
        load.wait_for_more()
        follower = next(name for name in by_name if name != leader(log))
        by_name[follower].kill()
        load.wait_for_more()
        by_name[follower].start()
        load.wait_for_more()
        by_name[leader(log)].kill()
        load.wait_for_more()
        for server in nats_cluster:
            if server.process is None:
                server.start()
        load.wait_for_more()
    finally:
        load.stop()
    deadline = time.monotonic() + 60
    while log.check():
        assert time.monotonic() < deadline, log.check()
        time.sleep(0.2)
    found = [logged.delivery.body.decode() for logged in log.read(0)]
    assert load.kinds <= {"unavailable"}
    assert sorted(found) == sorted(load.acknowledged)
    assert len(found) == len(set(found))
    assert log.end() >= len(found)


def test_without_a_majority_nothing_is_acknowledged(
    nats_cluster: list[Any], open_log: Callable[..., EventLog], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.CRITICAL, logger="nats.aio.client")
    log = open_when_ready(cluster_url(nats_cluster), open_log)
    log.append([delivery("before")])
    for server in nats_cluster[:2]:
        server.kill()
    for _ in range(3):
        started = time.monotonic()
        with pytest.raises(EventLogError) as caught:
            log.append([delivery("lost")])
        assert caught.value.kind == "unavailable"
        assert time.monotonic() - started < 5
    for server in nats_cluster[:2]:
        server.start()
    deadline = time.monotonic() + 60
    while True:
        try:
            log.append([delivery("after")])
            break
        except EventLogError:
            assert time.monotonic() < deadline
            time.sleep(0.2)
    found = [logged.delivery.body for logged in log.read(0)]
    assert {b"before", b"after"} <= set(found)
    assert len(found) == len(set(found))


# -- a receiver on it --------------------------------------------------------------------------


def test_receivers_on_a_cluster_acknowledge_only_what_a_majority_has(
    nats_cluster: list[Any], open_log: Callable[..., EventLog], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.CRITICAL, logger="nats.aio.client")
    url = cluster_url(nats_cluster)
    log = open_when_ready(url, open_log)
    key = new_private_key()
    command = [sys.executable, "-m", "tap_sendgrid.webhook", "serve", "--port", "0"]
    options = ["--public-key", public_key_text(key), "--path-token", "a-token-of-this-test"]
    receivers = [
        subprocess.Popen(
            [*command, *options, "--event-log-url", url],
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        for _ in range(2)
    ]
    acknowledged: list[int] = []
    try:
        senders = []
        for receiver in receivers:
            assert receiver.stdout is not None
            base = receiver.stdout.readline().split()[-1]
            senders.append(
                WebhookSender(
                    f"{base}/a-token-of-this-test",
                    key,
                    connections=2,
                    rate=60,
                    retry=RetryPolicy(first=0.3, longest=1),
                    on_acknowledged=lambda sent: acknowledged.extend(
                        json.loads(event)["n"] for event in sent
                    ),
                )
            )
        with ThreadPoolExecutor(2) as pool:
            results = [
                pool.submit(
                    sender.send_events,
                    ({"event": "open", "n": n} for n in range(number, 600, 2)),
                    2,
                )
                for number, sender in enumerate(senders)
            ]
            time.sleep(1)
            nats_cluster[0].kill()
            nats_cluster[1].kill()  # no majority any more
            time.sleep(2)
            before = len(acknowledged)
            time.sleep(1)
            assert len(acknowledged) == before, "nothing is acknowledged without a majority"
            nats_cluster[0].start()
            nats_cluster[1].start()
            reports = [result.result() for result in results]
    finally:
        for receiver in receivers:
            receiver.terminate()
            receiver.communicate(timeout=30)
    assert [receiver.returncode for receiver in receivers] == [0, 0]
    assert [report.failed for report in reports] == [0, 0]
    statuses = {status for report in reports for status in report.statuses}
    assert statuses <= {"204", "503", "none"}
    assert "503" in statuses
    stored = [event["n"] for logged in log.read(0) for event in json.loads(logged.delivery.body)]
    assert sorted(acknowledged) == list(range(600))
    assert set(stored) == set(range(600))
