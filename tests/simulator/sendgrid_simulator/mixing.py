"""What may happen to events on their way: another order, repeats, and types that drift.

Source: the reference, 3.3 and 3.9, and what other receivers reported.
"""

from __future__ import annotations

import random
from collections.abc import Iterable, Iterator
from typing import Any


def disorder(
    events: Iterable[dict[str, Any]], seed: int, window: int = 500
) -> Iterator[dict[str, Any]]:
    """The same events, shuffled within a window: delivered comes before processed at times."""
    rng = random.Random(seed)
    held: list[dict[str, Any]] = []
    for event in events:
        if len(held) < window:
            held.append(event)
            continue
        place = rng.randrange(window)
        yield held[place]
        held[place] = event
    rng.shuffle(held)
    yield from held


def repeat(
    events: Iterable[dict[str, Any]], share: float, seed: int, distance: int = 200
) -> Iterator[dict[str, Any]]:
    """The same events, of which this share comes a second time, some events later."""
    rng = random.Random(seed)
    waiting: list[dict[str, Any]] = []
    for event in events:
        yield event
        if rng.random() < share:
            waiting.append(event)
        if len(waiting) > distance * share:
            yield waiting.pop(rng.randrange(len(waiting)))
    yield from waiting


def drift(
    events: Iterable[dict[str, Any]], seed: int, share: float = 0.2
) -> Iterator[dict[str, Any]]:
    """The same events, of which this share has members of other types, as captures of years show.

    ``timestamp`` comes as digits in text or in milliseconds, ``tls`` as 0 or a boolean, ``attempt``
    and ``pool.id`` as integers, a single ``category`` as text, ``marketing_campaign_id`` as text.
    """
    rng = random.Random(seed)
    for event in events:
        if rng.random() >= share:
            yield event
            continue
        changed = dict(event)
        second = event["timestamp"]
        changed["timestamp"] = rng.choice((str(second), second * 1000))
        if "tls" in event:
            changed["tls"] = rng.choice((0, True, False))
        if "attempt" in event:
            changed["attempt"] = int(event["attempt"])
        if "pool" in event:
            changed["pool"] = event["pool"] | {"id": int(event["pool"]["id"])}
        if isinstance(event.get("category"), list) and len(event["category"]) == 1:
            changed["category"] = event["category"][0]
        if "marketing_campaign_id" in event:
            changed["marketing_campaign_id"] = str(event["marketing_campaign_id"])
        yield changed
