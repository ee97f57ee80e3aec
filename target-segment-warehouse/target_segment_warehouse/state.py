"""Which STATE may be told to the world, and when: the watermark.

A STATE says that everything before it is loaded. It may therefore leave only when everything that
was received before it is committed, and should leave as soon as that is so.
"""

from __future__ import annotations

import json
import threading
from collections import deque
from collections.abc import Callable
from typing import Any


class Watermark:
    """Holds each STATE back until the batch that it waits for is committed.

    Safe to use from the thread that reads and the thread that loads.

    Args:
        emit: Writes one line to where states go (standard output).
    """

    def __init__(self, emit: Callable[[str], None]) -> None:
        self._emit = emit
        self._held: deque[tuple[int, Any]] = deque()
        self._committed = 0
        self._last = ""
        self._lock = threading.Lock()

    def add(self, state: Any, batch: int) -> None:
        """Take a STATE that is true once the given batch (numbered from 1) is committed."""
        with self._lock:
            self._held.append((batch, state))
            self._release()

    def commit(self, batch: int) -> None:
        """Tell that this batch, and so every one before it, is committed."""
        with self._lock:
            self._committed = batch
            self._release()

    def _release(self) -> None:
        while self._held and self._held[0][0] <= self._committed:
            _, state = self._held.popleft()
            line = json.dumps(state)  # (to Python, 1 and true are the same)
            # An empty state would replace the stored bookmarks with nothing; a repeat says nothing.
            if state and line != self._last:
                self._last = line
                self._emit(line)
