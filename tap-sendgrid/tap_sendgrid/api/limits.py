"""Rate limits, per endpoint, from the headers of every answer.

SendGrid sends X-RateLimit-Limit, -Remaining and -Reset (epoch seconds) and no Retry-After
(https://www.twilio.com/docs/sendgrid/api-reference/how-to-use-the-sendgrid-v3-api/rate-limits),
which a proxy before it may send all the same.
"""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from email.utils import parsedate_to_datetime

#: Parts of a path that name one object: UUIDs, numbers, e-mail addresses, opaque ids, messages.
_OBJECT = re.compile(
    r"/(?:[0-9a-f]{8}-[0-9a-f-]{27}|\d+|[^/]*(?:@|%40)[^/]*|d-[0-9a-f]{32}"
    r"|(?<=/logs/)[^/]+|(?<=/messages/)[^/]+)(?=/|$)"
)
#: After the reset instant, so that clocks a little apart do not matter.
_MARGIN_SECONDS = 1.0
#: A reset (or Retry-After) further away than this is taken for a fault of the header.
_LONGEST_WAIT_SECONDS = 3600.0


@dataclass
class _Endpoint:
    """What is known of one budget: calls left until ``reset``; None: not known (any more)."""

    remaining: int | None = None
    reset: float = 0.0
    in_flight: int = 0
    limited: bool = True


class RateLimits:
    """What is left of each endpoint's budget; shared by all threads of a client.

    A window begins with a single request, whose answer tells what is left; the others wait for it.
    So any number of threads together stay within the limit.

    Args:
        sleep: Waits so many seconds; tests put their own in place.
        clock: Gives the epoch seconds, by the clock that the resets go by: SendGrid's.
    """

    def __init__(
        self,
        sleep: Callable[[float], None] = time.sleep,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._sleep = sleep
        self._clock = clock
        self._changed = threading.Condition()
        self._endpoints: dict[str, _Endpoint] = {}

    @staticmethod
    def endpoint(method: str, path: str) -> str:
        """The key of the budget that a request draws on: the path without object ids."""
        return f"{method} {_OBJECT.sub('/{id}', path)}"

    def acquire(self, endpoint: str, *, wait: bool = True) -> float:
        """Take one call from the endpoint's budget, waiting for the reset when it is spent.

        Each call is followed by one of `settle`.

        Args:
            endpoint: Of `endpoint`.
            wait: Not: the call is made at once, whatever is left.

        Returns:
            The seconds waited for a reset.
        """
        waited = 0.0
        while True:
            with self._changed:
                state = self._endpoints.setdefault(endpoint, _Endpoint())
                while wait and not self._may_tell(state):
                    self._changed.wait()
                if state.remaining is None or not (state.limited and wait):
                    state.in_flight += 1
                    return waited
                if state.remaining > 0:
                    state.remaining -= 1
                    state.in_flight += 1
                    return waited
                delay = self._until(state.reset)
            self._sleep(delay)
            waited += delay

    def _may_tell(self, state: _Endpoint) -> bool:
        """Whether it can be decided now: not while the first call of a window is under way."""
        if state.remaining is not None and state.reset <= self._clock():
            state.remaining = None
        return state.remaining is not None or state.in_flight == 0 or not state.limited

    def settle(self, endpoint: str, headers: Mapping[str, str]) -> None:
        """Take over what an answer's headers say is left; no headers for a call without answer."""
        with self._changed:
            state = self._endpoints.setdefault(endpoint, _Endpoint())
            state.in_flight -= 1
            try:
                remaining = int(headers["X-RateLimit-Remaining"])
                reset = self._reset(headers)
            except (KeyError, ValueError):
                state.limited = state.remaining is not None
            else:
                # SendGrid may not have counted yet what is under way.
                remaining = max(0, remaining - state.in_flight)
                if state.remaining is not None and state.reset == reset:
                    remaining = min(remaining, state.remaining)
                state.remaining, state.reset, state.limited = remaining, reset, True
            self._changed.notify_all()

    def wait_after_429(self, headers: Mapping[str, str], attempt: int) -> float:
        """Wait as long as a 429 says, or until its reset.

        Where it names none, or one that is past, which tells nothing: 1, 2, 4 … seconds.

        Returns:
            The seconds waited.
        """
        delay = self.retry_after(headers)
        if delay is None:
            delay = min(2.0 ** (attempt - 1), 60.0)
            with suppress(KeyError, ValueError):
                reset = self._reset(headers)
                if reset > self._clock():
                    delay = self._until(reset)
        self._sleep(delay)
        return delay

    def retry_after(self, headers: Mapping[str, str]) -> float | None:
        """The seconds that Retry-After, a number or a date, asks for; None: nothing of use."""
        value = headers.get("Retry-After", "")
        try:
            delay = float(value)
        except ValueError:
            try:
                delay = parsedate_to_datetime(value).timestamp() - self._clock()
            except (ValueError, OverflowError):
                return None
        return delay if 0 < delay <= _LONGEST_WAIT_SECONDS else None

    def _reset(self, headers: Mapping[str, str]) -> float:
        """The reset that an answer names; raises KeyError or ValueError when there is none."""
        reset = float(headers["X-RateLimit-Reset"])
        if not reset - self._clock() <= _LONGEST_WAIT_SECONDS:  # milliseconds, or no number
            raise ValueError(reset)
        return reset

    def _until(self, reset: float) -> float:
        return max(reset - self._clock(), 0.0) + _MARGIN_SECONDS
