"""What the NATS log promises beyond the contract: repeats, limits, access, dying nodes."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import time
import uuid
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import requests
from click.testing import CliRunner
from tap_sendgrid.event_log import Delivery, EventLog, EventLogError, open_event_log
from tap_sendgrid.event_log.nats_client import JetStream, NatsAddress
from tap_sendgrid.webhook.cli import main


def stream() -> str:
    return f"events-{uuid.uuid4().hex[:8]}"


def delivery(text: str, age: timedelta = timedelta()) -> Delivery:
    return Delivery(text.encode(), datetime.now(UTC) - age)


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


def test_closing_ends_what_other_threads_wait_for(nats_server: Any) -> None:
    connection = JetStream(NatsAddress.parse(f"nats://127.0.0.1:{nats_server.port}/{stream()}"))
    with ThreadPoolExecutor(4) as pool:
        waiting = [pool.submit(connection.run, asyncio.sleep(600)) for _ in range(4)]
        time.sleep(0.2)
        connection.close()
        for each in waiting:
            with pytest.raises(EventLogError, match="is closed"):
                each.result(timeout=10)
    with pytest.raises(EventLogError, match="is closed"):
        connection.run(asyncio.sleep(0))
    connection.close()


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


def test_replay_appends_what_came_just_now_as_well(
    nats_server: Any, open_log: Callable[..., EventLog]
) -> None:
    url = f"nats://127.0.0.1:{nats_server.port}/{stream()}"
    log = open_log(url)
    log.append([delivery("a"), delivery("b", timedelta(hours=1))])
    replayed = CliRunner().invoke(main, ["replay", "--event-log-url", url, "--offset", "1-2"])
    assert replayed.output == "Replayed 2 deliveries\n"
    assert [logged.delivery.body for logged in log.read(0)] == [b"a", b"b", b"a", b"b"]
    assert log.append([delivery("a")]) == [1], "SendGrid's repeats are stored once all the same"


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
    tmp_path: Path, open_log: Callable[..., EventLog], make_nats_server: Any
) -> None:
    server = make_nats_server()
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


# -- start -----------------------------------------------------------------------------------------


def test_a_receiver_waits_for_a_server_that_comes_up_later(late_nats_server: Any) -> None:
    server = late_nats_server
    url = f"nats://127.0.0.1:{server.port}/{stream()}"
    command = [sys.executable, "-m", "tap_sendgrid.webhook", "serve", "--port", "0"]
    options = ["--allow-unsigned", "--path-token", "a-token-of-this-test"]
    receiver = subprocess.Popen(
        [*command, *options, "--event-log-url", url],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        assert receiver.stderr is not None
        while "Waiting for the event log" not in (line := receiver.stderr.readline()):
            assert line, "it ended"
        server.start()
        assert receiver.stdout is not None
        base = receiver.stdout.readline().split()[-1]
        assert requests.get(f"{base}/readyz", timeout=10).status_code == 200
    finally:
        receiver.terminate()
        receiver.communicate(timeout=30)
    assert receiver.returncode == 0
