"""SendGrid's values in one form: times as ISO 8601 in UTC, unset as null, ids as text."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

#: Writes show up late: what the last minutes before a read brought may not all be seen by it.
LOOKBACK = timedelta(minutes=10)

#: Epoch numbers above this are milliseconds (it is the year 5138 in seconds).
_MILLISECONDS = 100_000_000_000


def timestamp(value: Any) -> str | None:
    """An instant as ``2021-03-02T15:25:47Z``.

    Takes what SendGrid sends: ISO 8601 with or without fraction (kept as sent), epoch seconds (the
    legacy generation, and old contacts) or milliseconds, as a number or a digit string. Unset and
    zero are null; a text that is no time stays as it is, so that nothing is lost.
    """
    if value is None or value == "" or value == 0:
        return None
    if isinstance(value, str):
        text = value.strip()
        if text.isdigit() and len(text) >= 9:
            return timestamp(int(text))
        if len(text) >= 20 and text[10] == "T" and text.endswith("Z"):
            return text
        return _reformat(text)
    seconds = value / 1000 if value > _MILLISECONDS else value
    moment = datetime.fromtimestamp(seconds, UTC)
    return moment.isoformat(timespec="auto").replace("+00:00", "Z")


def _reformat(text: str) -> str:
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        return text
    moment = moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)
    return moment.isoformat(timespec="auto").replace("+00:00", "Z")


def instant(text: str) -> datetime:
    """The aware moment of an ISO 8601 text, a bookmark or a start_date.

    Raises:
        ValueError: It is no time.
    """
    moment = datetime.fromisoformat(text)
    return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)


def iso_now() -> str:
    """The present moment to the microsecond, ISO 8601 in UTC."""
    return datetime.now(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")


def iso_seconds(moment: datetime) -> str:
    """An aware moment in UTC to the second, ISO 8601."""
    return moment.strftime("%Y-%m-%dT%H:%M:%SZ")


def text_or_none(value: Any) -> str | None:
    """A text or an id as text; the empty string is how SendGrid says unset."""
    return None if value is None or value == "" else str(value)


def id_texts(values: Any) -> list[str] | None:
    """A list of ids as text; null stays null."""
    return None if values is None else [str(value) for value in values]
