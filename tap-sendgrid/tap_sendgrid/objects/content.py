"""Recognises unchanged objects: SendGrid gives no time of change for most of them.

The state holds eight bytes per object, base64 in one string: a hash over the id, the content and
the set of selected properties. An object whose hash is known was emitted like this before.
"""

from __future__ import annotations

import base64
from hashlib import blake2b
from typing import Any

import msgspec

#: About 107 kB of state; collections with more objects are emitted anew each time.
MOST_OBJECTS = 10_000
_BYTES = 8


class ContentMemory:
    """What an earlier run emitted, and what this one reads.

    Args:
        text: The string from the state; None or damaged: nothing is known.
        shape: Anything that, when it changes, makes all objects count as changed: the selected
            properties.
    """

    def __init__(self, text: str | None, shape: str = "") -> None:
        self._salt = blake2b(shape.encode(), digest_size=16).digest()
        self._known = self._parse(text)
        self._now: set[bytes] = set()

    @property
    def is_empty(self) -> bool:
        """Whether nothing is known from earlier runs."""
        return not self._known

    def is_known(self, record: dict[str, Any]) -> bool:
        """Whether this very content was emitted before; remembers it for `text`."""
        content = msgspec.json.encode(record)
        self.add(content)
        return self.has(content)

    def has_record(self, record: dict[str, Any]) -> bool:
        """Whether an earlier run emitted this record; remembers nothing."""
        return self.has(msgspec.json.encode(record))

    def has(self, content: bytes) -> bool:
        """Whether an earlier run emitted this content."""
        return self._hash(content) in self._known

    def add(self, content: bytes) -> None:
        """Remember this content for `text`."""
        self._now.add(self._hash(content))

    def text(self) -> str | None:
        """What the next run is to know; None when there were too many objects."""
        if len(self._now) > MOST_OBJECTS:
            return None
        return base64.b64encode(b"".join(sorted(self._now))).decode()

    def _hash(self, content: bytes) -> bytes:
        return blake2b(content, digest_size=_BYTES, key=self._salt).digest()

    @staticmethod
    def _parse(text: str | None) -> set[bytes]:
        try:
            data = base64.b64decode(text or "", validate=True)
        except (ValueError, TypeError):
            return set()
        return {data[at : at + _BYTES] for at in range(0, len(data), _BYTES)}
