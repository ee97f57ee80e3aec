"""Reading the NATS log while servers lose each other: later, but never with a gap."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime
from typing import Any

import pytest
from nats.aio.subscription import Subscription
from tap_sendgrid.event_log import Delivery, EventLogError, open_event_log


@pytest.fixture
def log(nats_server: Any) -> Iterator[Any]:
    url = f"nats://127.0.0.1:{nats_server.port}/events-{uuid.uuid4().hex[:8]}"
    with closing(open_event_log(url)) as event_log:
        yield event_log


def append(log: Any, count: int) -> None:
    log.append([Delivery(b"%d" % number, datetime.now(UTC)) for number in range(count)])


def test_what_is_lost_on_the_way_to_a_reader_is_asked_for_again(
    log: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    append(log, 10)
    receive = Subscription.next_msg
    received = 0

    async def lossy(self: Subscription, timeout: float | None = 1.0) -> Any:
        nonlocal received
        received += 1
        if received == 4:
            await receive(self, timeout)
        return await receive(self, timeout)

    monkeypatch.setattr(Subscription, "next_msg", lossy)
    assert [logged.offset for logged in log.read(0)] == list(range(1, 11))
    assert received > 10


def test_a_leader_that_has_not_caught_up_is_not_the_end(
    log: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    append(log, 4)
    end = log.end()
    behind = log._info()
    behind.state.last_seq = 2

    async def nothing(*_: Any) -> Any:
        return None

    with monkeypatch.context() as change:
        change.setattr(log, "_info", lambda: behind)
        change.setattr(log._nats, "read", nothing)
        change.setattr(log, "_next", nothing)
        assert log.end() == end
        with pytest.raises(EventLogError, match="not caught up"):
            list(log.read(2, end))
    assert [logged.offset for logged in log.read(2, end)] == [3, 4]
