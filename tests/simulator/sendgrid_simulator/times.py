"""Instants: unix seconds inside the simulator, ISO 8601 on the wire."""

from __future__ import annotations

import time
from datetime import UTC, datetime, timedelta
from functools import lru_cache

DAY = 86400


@lru_cache(maxsize=4096)
def _date(day: int) -> str:
    return (datetime(1970, 1, 1, tzinfo=UTC) + timedelta(days=day)).strftime("%Y-%m-%d")


@lru_cache(maxsize=DAY)
def _clock(second: int) -> str:
    return f"T{second // 3600:02d}:{second // 60 % 60:02d}:{second % 60:02d}Z"


def iso(seconds: int) -> str:
    """``1760011712`` as ``2025-10-09T12:08:32Z``."""
    day, second = divmod(seconds, DAY)
    return _date(day) + _clock(second)


def iso_fraction(seconds: int) -> str:
    """The same with milliseconds, as some examples of the specs have it."""
    return f"{iso(seconds)[:-1]}.{seconds % 1000:03d}Z"


def date_of(seconds: int) -> str:
    """The UTC day of an instant as ``YYYY-MM-DD``."""
    return _date(seconds // DAY)


def parse_time(text: str) -> float:
    """Unix seconds of an ISO 8601 instant; without a zone it is UTC.

    Raises:
        ValueError: The text is no instant.
    """
    value = datetime.fromisoformat(text.strip().replace("Z", "+00:00"))
    if value.tzinfo is None:
        value = value.replace(tzinfo=UTC)
    return value.timestamp()


def midnight() -> int:
    """Unix seconds of today's midnight, UTC."""
    return int(time.time()) // DAY * DAY
