"""Killed at any instant and run again from the last STATE: the same warehouse as without the kill.

A small number of instants by default; ``KILLS=200`` for a long run.
"""

from __future__ import annotations

import contextlib
import os
import random
import signal
import time
from typing import Any

import pytest

from .messages import Message, events, record, schema, state

KILLS = int(os.environ.get("KILLS", "4"))
RECEIVED = "2026-03-01T10:00:00Z"


def messages() -> list[Message]:
    """Objects and events with new columns, widening, repeats and nested values."""
    generator = random.Random(7)
    lines: list[Message] = [
        schema("lists", {"id": "integer", "name": "string"}),
        events("click", {"id": "string", "timestamp": "integer"}),
    ]
    for n in range(400):
        kind = n % 4
        if n == 150:
            lines.append(events("bounce", {"id": "string"}))
        if n == 250:
            lines.append(schema("lists", {"id": "integer", "name": "string", "count": "integer"}))
        if kind == 0:
            values: Message = {"id": n % 60, f"p{n // 40}": n, "name": f"name {n}"}
            if n > 200:
                values["count"] = n / 2
            lines.append(record("lists", values, received_at=RECEIVED))
        elif kind == 1 and n > 150:
            lines.append(record("bounce", id=f"b{n}", reason="x" * (n % 50), received_at=RECEIVED))
        else:
            value: Any = n if n < 100 else n + 0.5 if n < 300 else f"text {n}"
            values = {
                "id": f"c{n - generator.randrange(5) * (n % 7 == 0)}",
                "timestamp": 1_700_000_000 + n,
                "received_at": RECEIVED,
                "custom_args": {f"arg{n // 50}": value, "mixed": value},
                "url_offset": {"index": n, "type": "html"},
            }
            lines.append(record("click", values))
        if n % 9 == 8:
            lines.append(state({"position": len(lines)}))
    lines.append(state({"position": len(lines)}))
    return lines


def rest(lines: list[Message], position: int) -> list[Message]:
    """What the tap sends when it starts again from a state: the schemas known by then, and the
    rest."""
    known: dict[str, Message] = {}
    for line in lines[:position]:
        if line["type"] == "SCHEMA":
            known[line["stream"]] = line
    return [*known.values(), *lines[position:]]


@pytest.mark.parametrize("activity", ["view", "table"])
def test_killed_and_run_again(make_warehouse: Any, engine: str, activity: str) -> None:
    lines = messages()
    config = {"max_batch_rows": 25, "activity": activity}
    reference = make_warehouse(engine)
    began = time.monotonic()
    reference.load(*lines, **config)
    duration = time.monotonic() - began
    expected = reference.data()
    assert {len(rows) for rows in expected.values()} > {0} or expected
    generator = random.Random(f"{engine} {activity}")
    warehouse = make_warehouse(engine)
    for _ in range(max(1, KILLS // 2)):
        # Several kills on one warehouse, each at a random instant of what is left, until it is
        # done.
        position = 0
        for attempt in range(4):
            process = warehouse.start(rest(lines, position), **config)
            if attempt < 3:
                time.sleep(generator.uniform(0, duration))
                with contextlib.suppress(ProcessLookupError):
                    process.signal(signal.SIGKILL)
            result = process.finish()
            assert result.returncode in (0, -9), result.stderr[-3000:]
            states = process.states()  # whole lines only
            if states:
                assert states[-1]["position"] >= position
                position = states[-1]["position"]
        result.ok()
        assert position == lines[-1]["value"]["position"]
        assert warehouse.data() == expected
        warehouse.assert_activity_is_the_union(["click", "bounce"])
        for relation in ("lists", "click", "bounce"):
            assert len(set(warehouse.rows(relation, "id"))) == warehouse.count(relation)
        # The next round begins with an empty warehouse again.
        warehouse.execute("DROP SCHEMA wh CASCADE")
