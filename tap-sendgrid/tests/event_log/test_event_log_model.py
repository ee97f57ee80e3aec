"""Any sequence of operations does to the log what it does to a list: hypothesis against a model."""

from __future__ import annotations

import shutil
import tempfile
from datetime import UTC, datetime, timedelta
from pathlib import Path

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule
from tap_sendgrid.event_log import Delivery
from tap_sendgrid.event_log.sqlite import SQLiteEventLog

START = datetime(2026, 1, 1, tzinfo=UTC)
CONSUMERS = st.sampled_from(["tap-sendgrid", "second", "forward:https://example.com"])


class LogMachine(RuleBasedStateMachine):
    """The model: a dict of offset to delivery, the end, and positions."""

    @initialize()
    def begin(self) -> None:
        self.folder = Path(tempfile.mkdtemp())
        self.log = SQLiteEventLog(self.folder / "events.db")
        self.model: dict[int, Delivery] = {}
        self.aside: dict[int, Delivery] = {}
        self.positions: dict[str, int] = {}
        self.end = 0
        self.minute = 0

    @rule(bodies=st.lists(st.binary(max_size=40), max_size=5))
    def append(self, bodies: list[bytes]) -> None:
        self.minute += 1
        new = [Delivery(body, START + timedelta(minutes=self.minute), {}) for body in bodies]
        offsets = self.log.append(new)
        assert offsets == sorted(offsets)
        assert all(offset > self.end for offset in offsets)
        self.model.update(zip(offsets, new, strict=True))
        self.end = max([self.end, *offsets])

    @rule(after=st.integers(0, 60), length=st.none() | st.integers(0, 30))
    def read(self, after: int, length: int | None) -> None:
        until = None if length is None else after + length
        found = [(logged.offset, logged.delivery) for logged in self.log.read(after, until)]
        last = self.end if until is None else until
        assert found == sorted(
            ((o, d) for o, d in self.model.items() if after < o <= last), key=lambda item: item[0]
        )

    @rule(consumer=CONSUMERS, share=st.floats(0, 1))
    def commit(self, consumer: str, share: float) -> None:
        offset = int(self.end * share)
        self.log.commit(consumer, offset)
        self.positions[consumer] = max(offset, self.positions.get(consumer, 0))

    @rule(consumer=CONSUMERS)
    def forget(self, consumer: str) -> None:
        assert self.log.forget(consumer) == (self.positions.pop(consumer, None) is not None)

    @rule(minutes=st.integers(0, 40))
    def trim(self, minutes: int) -> None:
        before = START + timedelta(minutes=minutes)
        result = self.log.trim(before)
        gone: list[int] = []
        if any(not name.startswith("forward:") for name in self.positions):
            floor = min(self.positions.values())
            for offset in sorted(self.model):
                if offset > floor or self.model[offset].received_at >= before:
                    break
                gone.append(offset)
        for offset in gone:
            del self.model[offset]
        assert result.deliveries == len(gone)

    @rule(share=st.floats(0, 1))
    def quarantine(self, share: float) -> None:
        if self.model:
            offsets = sorted(self.model)
            offset = offsets[min(int(len(offsets) * share), len(offsets) - 1)]
            self.log.quarantine(self.model[offset], "why", offset)
            self.aside.setdefault(offset, self.model[offset])

    @rule()
    def release(self) -> None:
        kept = self.log.quarantined(limit=1000)
        assert {q.offset: q.delivery for q in kept} == self.aside
        offsets = self.log.release([q.id for q in kept])
        self.model.update(zip(offsets, (q.delivery for q in kept), strict=True))
        self.end = max([self.end, *offsets])
        self.aside.clear()
        # What is released keeps its time of arrival; time in this model only grows.
        self.minute += 1

    @rule()
    def reopen(self) -> None:
        self.log.close()
        self.log = SQLiteEventLog(self.folder / "events.db", create=False)

    @invariant()
    def agrees(self) -> None:
        if not hasattr(self, "log"):
            return
        assert self.log.end() == self.end
        assert {p.consumer: p.offset for p in self.log.positions()} == self.positions
        status = self.log.status()
        assert status.first == min(self.model, default=self.end + 1)
        assert status.quarantined == len(self.aside)

    def teardown(self) -> None:
        if hasattr(self, "log"):
            assert self.log.check() == []
            self.log.close()
            shutil.rmtree(self.folder)


LogMachine.TestCase.settings = settings(
    max_examples=25,
    stateful_step_count=30,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
)
TestLogMachine = LogMachine.TestCase
