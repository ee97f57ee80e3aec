"""The event log: every webhook delivery, durable and in order. Receivers append, taps read.

>>> log = open_event_log("sqlite:///events.db")
"""

from __future__ import annotations

import re
from pathlib import Path
from urllib.parse import parse_qs, unquote, urlsplit

from tap_sendgrid.event_log.base import (
    FORWARDER_PREFIX,
    Delivery,
    EventLog,
    EventLogError,
    LoggedDelivery,
    LogStatus,
    MinuteCount,
    Position,
    Quarantined,
    Trimmed,
)

__all__ = [
    "DEFAULT_EVENT_LOG_URL",
    "FORWARDER_PREFIX",
    "Delivery",
    "EventLog",
    "EventLogError",
    "LogStatus",
    "LoggedDelivery",
    "MinuteCount",
    "Position",
    "Quarantined",
    "Trimmed",
    "open_event_log",
    "shown",
    "sqlite_path",
]

DEFAULT_EVENT_LOG_URL = "sqlite:///events.db"
"""Where the log is when nobody says: receiver and tap find each other's in the same folder."""

_KINDS = f"write {DEFAULT_EVENT_LOG_URL} or nats://host:4222/stream"


def open_event_log(url: str, *, create: bool = True) -> EventLog:
    """Open the log at an address.

    Args:
        url: ``sqlite:///relative.db``, ``sqlite:////absolute.db``, each with an optional
            ``?max_bytes=N`` (a bound on the file) and ``?timeout=S`` (seconds to wait for a lock);
            ``nats://host:4222/stream`` or ``tls://...``, see ``NatsAddress`` for its options.
        create: Make the log if it does not exist.

    Raises:
        EventLogError: The address is not understood, or what is there cannot be opened.
    """
    try:
        parts = urlsplit(url)
    except ValueError:
        raise EventLogError("unavailable", f"{shown(url)!r} is no address: {_KINDS}") from None
    if parts.scheme == "sqlite":
        from tap_sendgrid.event_log.sqlite import SQLiteEventLog

        path = sqlite_path(url)
        options = _numbers(url, parse_qs(parts.query), {"max_bytes", "timeout"})
        return SQLiteEventLog(
            path,
            create=create,
            max_bytes=int(options["max_bytes"]) if "max_bytes" in options else None,
            timeout=options.get("timeout", 5.0),
        )
    if parts.scheme in {"nats", "tls"}:
        try:
            from tap_sendgrid.event_log.nats import NatsEventLog
        except ModuleNotFoundError as missing:
            if (missing.name or "").partition(".")[0] != "nats":
                raise
            raise EventLogError(
                "unavailable",
                "an event log on NATS needs the extra `nats`: pip install 'tap-sendgrid[nats]'",
            ) from missing

        return NatsEventLog(url, create=create)
    raise EventLogError(
        "unavailable",
        f"no event log is known for {parts.scheme or url!r}: {_KINDS}",
    )


def shown(url: str) -> str:
    """A log's address for people and their logs: without user, password or token."""
    if url.startswith("sqlite:"):
        return url  # nothing of it is secret, and an @ is part of the path
    # A password with a / or ? in it is wrong, but no less secret. An option may have an @.
    return re.sub(r"(?<=://)(?:[^?]*@|[^/]*@)", "***@", url, count=1)


def sqlite_path(url: str) -> Path:
    """The file that an address ``sqlite:///...`` names.

    Raises:
        EventLogError: It names none.
    """
    parts = urlsplit(url)
    if parts.netloc or len(parts.path) < 2:  # "/" alone names no file
        raise EventLogError(
            "unavailable",
            f"{url!r} is no SQLite address: write sqlite:///events.db for a file in the "
            "working folder, sqlite:////var/lib/events.db (four slashes) for an absolute path",
        )
    return Path(unquote(parts.path[1:]))


def _numbers(url: str, query: dict[str, list[str]], known: set[str]) -> dict[str, float]:
    """The options of an address as numbers."""
    if unknown := set(query) - known:
        raise EventLogError(
            "unavailable", f"unknown option {sorted(unknown)} in {url!r}: known are {sorted(known)}"
        )
    try:
        return {name: float(values[-1]) for name, values in query.items()}
    except ValueError:
        raise EventLogError("unavailable", f"the options of {url!r} must be numbers") from None
