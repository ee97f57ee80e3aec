"""Asks several things at once, in order, with a bounded number under way."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

from tap_sendgrid.api.waiting import end_waits_at

#: Connections at a time. The client's rate limits are shared, so more only wait longer.
WORKERS = 4

In = TypeVar("In")
Out = TypeVar("Out")


def map_ahead(
    function: Callable[[In], Out], items: Iterable[In], workers: int = WORKERS
) -> Iterator[Out]:
    """``function`` of every item, in order, ``workers`` at a time.

    Items are taken from their iterator in the calling thread, and only a few ahead. A problem in
    ``function`` is raised here, and nothing further is started. What is under way then waits for
    no rate limit any more: a run that is stopped ends at once.
    """
    gone = threading.Event()
    pool = ThreadPoolExecutor(
        workers, thread_name_prefix="sendgrid", initializer=end_waits_at, initargs=(gone,)
    )
    waiting: deque[Future[Out]] = deque()
    try:
        for item in items:
            waiting.append(pool.submit(function, item))
            if len(waiting) > 2 * workers:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    finally:
        gone.set()
        pool.shutdown(wait=True, cancel_futures=True)
