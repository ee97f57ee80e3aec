"""Whatever changes between runs and in the middle of them: the warehouse ends up as the account."""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from conftest import TapRunner

    Serve = Callable[..., TapRunner]

CONTACTS = 260


def iso(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def account_of(run: TapRunner) -> dict[str, tuple[Any, ...]]:
    book = run.simulator.account.contacts
    contacts = filter(None, (book.at(slot) for slot in range(book.slots)))
    return {c.email: (c.text.get("first_name") or None, iso(c.updated_at)) for c in contacts}


def change(run: TapRunner, rng: random.Random, most: int) -> None:
    """Some contacts change, in bursts, and new ones come; now, or a little while ago."""
    book = run.simulator.account.contacts
    at = int(time.time()) - rng.choice((0, 0, 1, 5, 200))
    for _ in range(rng.randrange(most)):
        moment = at - rng.choice((0, 0, 0, 1, 2, 60))
        if rng.random() < 0.1:
            book.add(f"new.{rng.getrandbits(40)}@example.com", moment, first_name="New")
        else:
            name = rng.choice(("", "Ann", "Bob", f"N{rng.randrange(999)}"))
            index = rng.randrange(CONTACTS)
            moment = max(moment, book.get(index).updated_at)  # no contact's time goes back
            book.update(index, moment, first_name=name)


@pytest.mark.parametrize("generation", ["marketing", "legacy"])
@pytest.mark.parametrize("seed", range(3))
def test_it_converges(serve: Serve, generation: str, seed: int) -> None:
    rng = random.Random(seed)
    run = serve(
        contacts=CONTACTS,
        seed=seed,
        generation=generation,
        same_second=rng.choice((1, 30, 120)),
        export_rows_per_file=100,
        fuzzy_pages=False,  # pages that move lose rows by nature, and are told (see the reads)
    )
    catalog = run.catalog("recipients")
    warehouse: dict[str, tuple[Any, ...]] = {}
    state: dict[str, Any] = {}
    emitted = 0
    for _ in range(7):
        change(run, rng, rng.choice((3, 30, 150)))
        run.simulator.hooks[:] = [lambda _: change(run, rng, 3) if rng.random() < 0.3 else None]
        output = run(catalog=catalog, state=state)
        # Sometimes the target dies before it has committed everything.
        kept = rng.choice(output.messages) if rng.random() < 0.4 else output.messages[-1]
        messages = output.messages[: output.messages.index(kept) + 1]
        states = [n for n, message in enumerate(messages) if message["type"] == "STATE"]
        for message in messages[: states[-1]] if states else ():
            if message["type"] == "RECORD":
                record = message["record"]
                warehouse[record["email"]] = (record["first_name"], record["updated_at"])
                emitted += 1
        if states:
            state = messages[states[-1]]["value"]
    run.simulator.hooks.clear()
    last = run(catalog=catalog, state=state)
    for record in last.records("recipients"):
        warehouse[record["email"]] = (record["first_name"], record["updated_at"])
    assert not last.incomplete
    assert warehouse == account_of(run)
    assert run(catalog=catalog, state=last.state).records("recipients") == []
