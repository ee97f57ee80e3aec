"""Waits that end when nobody wants any more what is waited for."""

from __future__ import annotations

import threading
import time

_thread = threading.local()


class GivenUp(Exception):
    """Whoever asked is gone, and so is the use of an answer."""


def end_waits_at(gone: threading.Event) -> None:
    """Have the waits of this thread, which no signal reaches, end when the event is set."""
    _thread.gone = gone


def wait(seconds: float) -> None:
    """Wait so many seconds.

    Raises:
        GivenUp: The event of `end_waits_at` was set before.
    """
    gone: threading.Event | None = getattr(_thread, "gone", None)
    if gone is None:
        time.sleep(seconds)
    elif gone.wait(seconds):
        raise GivenUp
