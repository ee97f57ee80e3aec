"""What the state says about recipients, and how a run moves it: forward only, true at any time.

Keys of the stream's (or subuser's) state::

    replication_key_value  B: the newest ``updated_at`` seen, but no later than the snapshot
    complete   {at: B, until: C, contacts: n, hashes: …}  every change before C is emitted (as long
               as ``at`` is still the bookmark: people edit bookmarks); n contacts in the account;
               hashes of the emitted contacts from C on, which the next run reads again
    export     {id, since, shape, file, row, newest}  an export that is half emitted
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime, timedelta
from typing import Any

from tap_sendgrid.objects.contact_codec import Body
from tap_sendgrid.objects.content import ContentMemory
from tap_sendgrid.objects.exports import Chunk, Export
from tap_sendgrid.objects.values import instant

#: Writes show up late, in searches as in exports: the minutes before a snapshot are read again.
LOOKBACK = timedelta(minutes=10)
_UNKNOWN_TOTAL = 100_000
_REMEMBERED = 2_000


class ContactState:
    """Reads and moves the state of one (sub)user's recipients.

    Args:
        state: The writable state.
        start: Bookmark or start_date as the SDK resolved them; None: from the beginning.
        shape: Changes when the records' properties do.
    """

    def __init__(self, state: dict[str, Any], start: datetime | None, shape: str) -> None:
        self._state = state
        self._shape = shape
        complete = state.get("complete")
        if not isinstance(complete, dict) or complete.get("at") != self.bookmark:
            complete = {}
        self._complete: dict[str, Any] = complete
        if start is not None and complete.get("until"):
            until = instant(complete["until"])
            later_start_date = self.bookmark is not None and start > instant(self.bookmark)
            start = max(start, until) if later_start_date else until
        self.since = start
        # A full refresh has no start, and emits what was emitted before.
        self._memory = ContentMemory(complete.get("hashes") if start else None, shape)
        self._seen = ContentMemory(None, shape)
        self._seen_count = 0

    @property
    def bookmark(self) -> str | None:
        """B, as the state has it."""
        value: str | None = self._state.get("replication_key_value")
        return value

    @property
    def since_text(self) -> str:
        """``since`` as `Body.updated_at` is written; empty: everything."""
        return "" if self.since is None else self.since.strftime("%Y-%m-%dT%H:%M:%S")

    @property
    def total(self) -> int:
        """The number of contacts that the last export had, or a guess."""
        return int(self._complete.get("contacts") or _UNKNOWN_TOTAL)

    # A run

    def fresh(self, bodies: Iterable[Body], window: str) -> list[Body]:
        """Those bodies that were not emitted before; remembers those updated from ``window`` on."""
        fresh = []
        known = None if self._memory.is_empty else self._memory
        for body in bodies:
            if body.updated_at >= window and self._seen_count <= _REMEMBERED:
                self._seen.add(body.json)
                self._seen_count += 1
            if known is None or not known.has(body.json):
                fresh.append(body)
        return fresh

    def window(self, snapshot: datetime) -> str:
        """From where on the next run reads, after one that saw ``snapshot``."""
        until = snapshot - LOOKBACK
        if self._complete.get("until"):
            until = max(until, instant(self._complete["until"]))
        return until.strftime("%Y-%m-%dT%H:%M:%S")

    def finish(self, snapshot: datetime, newest: str, *, total: int | None = None) -> None:
        """A whole read is emitted: move the bookmark.

        Args:
            snapshot: The instant of which the read surely shows everything (but for late writes).
            newest: The newest ``updated_at`` of all contacts read; empty: there were none.
            total: Number of contacts, if the read had them all.
        """
        self._state.pop("export", None)
        seen = min(newest, snapshot.strftime("%Y-%m-%dT%H:%M:%S")) + "Z" if newest else None
        marks = [mark for mark in (self.bookmark, seen) if mark]
        if not marks:
            return
        bookmark = max(marks, key=instant)
        self._state["replication_key"] = "updated_at"
        self._state["replication_key_value"] = bookmark
        complete: dict[str, Any] = {
            "at": bookmark,
            "until": self.window(snapshot) + "Z",
            "contacts": self.total if total is None else total,
        }
        if self._seen_count <= _REMEMBERED:
            complete["hashes"] = self._seen.text()
        self._state["complete"] = complete

    # An export in progress

    def position(self) -> dict[str, Any] | None:
        """Where an interrupted run stopped in its export, if this run would read the same."""
        export = self._state.get("export")
        same = {"since": self.since_text, "shape": self._shape}
        if isinstance(export, dict) and all(
            export.get(key) == value for key, value in same.items()
        ):
            return export
        return None

    def emitted(self, export: Export, chunk: Chunk, newest: str) -> None:
        """A chunk is emitted: a run that is killed from now on goes on behind it."""
        self._state["export"] = {
            "id": export.id,
            "since": self.since_text,
            "shape": self._shape,
            "file": chunk.file,
            "row": chunk.end,
            "newest": newest,
        }
