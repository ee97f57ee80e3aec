"""Addresses, and several processes that start at once on one log, as a receiver and a tap do."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Barrier

import pytest
from tap_sendgrid.event_log import open_event_log, shown

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
