"""The tap as a process: signals, following, and dying at any moment."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, TextIO

import pytest
from tap_sendgrid.event_log import EventLog
from tap_sendgrid.tap import TapSendGrid

from .conftest import as_delivery, bookmarks, catalog_of, fill, last_state, records

COMMAND = "from tap_sendgrid.__main__ import main; main()"


class Tap:
    """A running tap, reading `_open` and `click` from a log."""

    def __init__(self, folder: Path, log_url: str, state: Any = None, **config: Any) -> None:
        config = {"event_log_url": log_url, **config}
        catalog = catalog_of(TapSendGrid(config=config), ["_open", "click"])
        files = {"config": config, "catalog": catalog, "state": state or {}}
        arguments = []
        for name, content in files.items():
            path = folder / f"{name}.json"
            path.write_text(json.dumps(content))
            arguments += [f"--{name}", str(path)]
        self.process = subprocess.Popen(
            [sys.executable, "-c", COMMAND, *arguments],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            bufsize=1,
            # As in most containers: then a signal can cut a write short.
            env={**os.environ, "PYTHONUNBUFFERED": "1"},
        )
        self.messages: list[Any] = []

    @property
    def out(self) -> TextIO:
        assert self.process.stdout is not None
        return self.process.stdout

    def read_until(self, done: Any) -> None:
        """Read messages until one of them is what is waited for."""
        for line in self.out:
            self.messages.append(json.loads(line))
            if done(self.messages[-1]):
                return
        raise AssertionError(f"the tap ended: {self.process.stderr.read()[-2000:]}")  # type: ignore[union-attr]

    def finish(self) -> int:
        """Read the rest; the exit code."""
        self.messages += [json.loads(line) for line in self.out]
        code = self.process.wait(timeout=20)
        if self.process.stderr is not None:
            self.log = self.process.stderr.read()
        return code


@pytest.fixture
def start(tmp_path: Path, log_url: str) -> Iterator[Any]:
    taps: list[Tap] = []

    def start_tap(state: Any = None, **config: Any) -> Tap:
        taps.append(Tap(tmp_path, log_url, state, **config))
        return taps[-1]

    yield start_tap
    for tap in taps:
        if tap.process.poll() is None:
            tap.process.kill()
            tap.process.wait()
        for pipe in (tap.process.stdout, tap.process.stderr):
            if pipe is not None:
                pipe.close()


def is_record(event_id: str) -> Any:
    return lambda message: message.get("record", {}).get("id") == event_id


def test_follow_tails_the_log_and_stops_cleanly(log: EventLog, start: Any) -> None:
    fill(log, 3)
    tap = start(follow=True)
    tap.read_until(is_record("e2"))
    tap.read_until(lambda m: m["type"] == "STATE")
    assert bookmarks(tap.messages[-1]["value"]) == {"_open": 3, "click": 3}
    for number in range(3):
        log.append([as_delivery([{"event": "click", "sg_event_id": f"c{number}"}])])
        begun = time.monotonic()
        tap.read_until(is_record(f"c{number}"))
        assert time.monotonic() - begun < 2
    tap.process.send_signal(signal.SIGTERM)
    assert tap.finish() == 0
    assert bookmarks(last_state(tap.messages)) == {"_open": 6, "click": 6}
    assert "stopped by a signal" in tap.log


def test_follow_waits_for_a_log_that_is_not_there_yet(
    start: Any, log_url: str, tmp_path: Path
) -> None:
    from tap_sendgrid.event_log import open_event_log

    tap = start(follow=True)
    while not (tmp_path / "events.db").exists():
        assert tap.process.poll() is None
        time.sleep(0.05)
    log = open_event_log(log_url)
    fill(log, 1)
    log.close()
    tap.read_until(is_record("e0"))
    tap.process.send_signal(signal.SIGINT)
    assert tap.finish() == 0


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGKILL])
def test_a_stop_in_the_middle_loses_nothing(log: EventLog, start: Any, number: int) -> None:
    ids = fill(log, 60_000, per_delivery=7)
    tap = start()
    # The pipe is full long before the end, so the tap is in the middle of a write.
    tap.read_until(lambda m: m["type"] == "STATE")
    tap.process.send_signal(number)
    if number == signal.SIGKILL:
        whole = [line for line in tap.out.read().split("\n") if line.endswith("}")]
        for line in whole:
            try:
                tap.messages.append(json.loads(line))
            except ValueError:  # the line that was torn by the kill
                break
        tap.process.wait()
    else:
        assert tap.finish() == 0
        assert tap.messages[-1]["type"] == "STATE"
    seen = [r["id"] for r in records(tap.messages)]
    committed = bookmarks(last_state(tap.messages))["_open"] * 7
    assert seen == ids[: len(seen)]
    assert 0 < committed <= len(seen) < len(ids)
    if number != signal.SIGKILL:
        assert committed == len(seen)
    rest = start(state=last_state(tap.messages))
    assert rest.finish() == 0
    assert ids[:committed] + [r["id"] for r in records(rest.messages)] == ids


def test_a_target_that_died_stops_the_tap(log: EventLog, start: Any) -> None:
    fill(log, 60_000, per_delivery=100)
    tap = start()
    tap.out.readline()
    os.close(os.dup(tap.out.fileno()))
    tap.out.close()
    tap.process.stdout = None
    assert tap.process.wait(timeout=20) != 0
