"""Rate limits, per endpoint, from the headers of every answer.

SendGrid sends X-RateLimit-Limit, -Remaining and -Reset (epoch seconds) and no Retry-After
(https://www.twilio.com/docs/sendgrid/api-reference/how-to-use-the-sendgrid-v3-api/rate-limits).
"""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

#: Parts of a path that name one object: UUIDs, numbers, e-mail addresses, opaque ids, messages.
_OBJECT = re.compile(
    r"/(?:[0-9a-f]{8}-[0-9a-f-]{27}|\d+|[^/]*(?:@|%40)[^/]*|d-[0-9a-f]{32}"
    r"|(?<=/logs/)[^/]+|(?<=/messages/)[^/]+)(?=/|$)"
)
#: After the reset instant, so that clocks a little apart do not matter.
_MARGIN_SECONDS = 1.0
#: A reset further away than this is taken for a fault of the header.
_LONGEST_WAIT_SECONDS = 3600.0


@dataclass
class _Window:
    remaining: int
    reset: float


class RateLimits:
    """What is left of each endpoint's budget; shared by all threads of a client.

    Args:
        sleep: Waits so many seconds; tests put their own in place.
        clock: Gives the epoch seconds.
    """

    def __init__(
        self,
        sleep: Callable[[float], None] = time.sleep,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._sleep = sleep
        self._clock = clock
        self._lock = threading.Lock()
        self._windows: dict[str, _Window] = {}

    @staticmethod
    def endpoint(method: str, path: str) -> str:
        """The key of the budget that a request draws on: the path without object ids."""
        return f"{method} {_OBJECT.sub('/{id}', path)}"

    def acquire(self, endpoint: str) -> float:
        """Take one call from the endpoint's budget, waiting for the reset when it is spent.

        Returns:
            The seconds waited.
        """
        waited = 0.0
        while True:
            with self._lock:
                window = self._windows.get(endpoint)
                if window is None or window.reset <= self._clock():
                    self._windows.pop(endpoint, None)
                    return waited
                if window.remaining > 0:
                    window.remaining -= 1
                    return waited
                delay = self._until(window.reset)
            self._sleep(delay)
            waited += delay

    def update(self, endpoint: str, headers: Mapping[str, str]) -> None:
        """Take over what an answer's headers say is left."""
        try:
            remaining = int(headers["X-RateLimit-Remaining"])
            reset = float(headers["X-RateLimit-Reset"])
        except (KeyError, ValueError):
            return
        with self._lock:
            window = self._windows.get(endpoint)
            if window is not None and window.reset == reset:
                # Answers arrive out of order: only the lowest count of a window is true.
                remaining = min(remaining, window.remaining)
            self._windows[endpoint] = _Window(remaining, reset)

    def wait_after_429(self, headers: Mapping[str, str], attempt: int) -> float:
        """Wait until the reset that a 429 names; 1, 2, 4 … seconds when it names none.

        Returns:
            The seconds waited.
        """
        try:
            delay = self._until(float(headers["X-RateLimit-Reset"]))
        except (KeyError, ValueError):
            delay = min(2.0 ** (attempt - 1), 60.0)
        self._sleep(delay)
        return delay

    def _until(self, reset: float) -> float:
        return min(max(reset - self._clock(), 0.0) + _MARGIN_SECONDS, _LONGEST_WAIT_SECONDS)
