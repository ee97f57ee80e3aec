"""Addresses, and several processes that start at once on one log, as a receiver and a tap do."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Barrier

import pytest
from tap_sendgrid.event_log import DEFAULT_EVENT_LOG_URL, EventLogError, open_event_log, shown
from tap_sendgrid.settings import CONFIG_JSONSCHEMA
from tap_sendgrid.webhook.options import log_option

OPENERS = 4


def test_openers_do_not_lock_each_other_out(tmp_path: Path) -> None:
    with ThreadPoolExecutor(OPENERS) as threads:
        for number in range(15):
            url = f"sqlite:///{tmp_path / f'{number}.db'}"
            start = Barrier(OPENERS)

            def open_and_close(consumer: int, url: str = url, start: Barrier = start) -> int:
                start.wait()
                log = open_event_log(url)
                log.commit(f"consumer {consumer}", 0)
                log.close()
                return 1

            assert sum(threads.map(open_and_close, range(OPENERS))) == OPENERS


@pytest.mark.parametrize(
    ("url", "text"),
    [
        ("nats://me:s3cret@h1:4222,h2/events?timeout=3", "nats://***@h1:4222,h2/events?timeout=3"),
        ("nats://s3cret@h1/events", "nats://***@h1/events"),
        ("tls://me:s3cret/s3cret@s3cret#@h1/events", "tls://***@h1/events"),
        ("nats://me:s3cret?s3cret@h1/events", "nats://***@h1/events"),
        ("nats://h1/events?creds=/me@work/x.creds", "nats://h1/events?creds=/me@work/x.creds"),
        ("sqlite:////home/me@work/events.db", "sqlite:////home/me@work/events.db"),
    ],
)
def test_an_address_is_shown_without_its_secrets(url: str, text: str) -> None:
    assert shown(url) == text


@pytest.mark.parametrize("url", ["nats://me:s3cret@[::1/events", "sqlite://[::1/events.db"])
def test_half_an_ipv6_address_is_told_without_its_secrets(url: str) -> None:
    with pytest.raises(EventLogError, match="is no address: write sqlite") as told:
        open_event_log(url)
    assert "s3cret" not in str(told.value)


def test_the_tap_and_the_receiver_look_for_the_log_in_the_same_place() -> None:
    @log_option
    def command() -> None: ...

    (option,) = command.__click_params__
    assert option.default == DEFAULT_EVENT_LOG_URL
    assert CONFIG_JSONSCHEMA["properties"]["event_log_url"]["default"] == DEFAULT_EVENT_LOG_URL
