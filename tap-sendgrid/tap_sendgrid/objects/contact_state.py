"""What the state says about recipients, and how a run moves it: forward only, true at any time.

Keys of the stream's (or subuser's) state::

    replication_key_value  B: the newest ``updated_at`` seen, but no later than the snapshot
    complete   {at: B, from: W, count: n, contacts: N, hashes: …, shape}: everything before W is
               emitted; n contacts from W to B's second were seen, and the hashes tell which (if
               not too many); the account has N contacts. Void when B is another: people edit
               bookmarks. With another shape the records of all contacts are new.
    export     {id, since, shape, file, row, read, newest}: an export that is half emitted
    short      by how many rows the last export that was read was shorter than its own count

W is B's second, or ten minutes before the snapshot where B is later than that: writes show up late,
in searches as in exports. The next run reads from W, the second included, and emits what is not
among the hashes.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime, timedelta
from typing import Any

from tap_sendgrid.objects.contact_codec import Body
from tap_sendgrid.objects.content import ContentMemory
from tap_sendgrid.objects.exports import Chunk, Export
from tap_sendgrid.objects.values import LOOKBACK, instant

_UNKNOWN_TOTAL = 100_000
_REMEMBERED = 2_000
_SECOND = 19  # characters of 2024-05-06T07:08:09


class _Seen:
    """Contacts that the next run reads again: how many, and (if not too many) which."""

    def __init__(self, shape: str) -> None:
        self.memory = ContentMemory(None, shape)
        self.count = 0

    def add(self, body: Body) -> None:
        self.count += 1
        if self.count <= _REMEMBERED:
            self.memory.add(body.json)

    @property
    def hashes(self) -> str | None:
        return self.memory.text() if self.count <= _REMEMBERED else None


class ContactState:
    """Reads and moves the state of one (sub)user's recipients.

    Args:
        state: The writable state.
        start: Bookmark or start_date as the SDK resolved them; None: from the beginning.
        shape: Changes when the records' properties do.
        start_date: The moment to read from when the shape has changed; None: from the beginning.

    Attributes:
        since: Contacts updated before this moment are known; None: nothing is.
    """

    def __init__(
        self,
        state: dict[str, Any],
        start: datetime | None,
        shape: str,
        start_date: datetime | None = None,
    ) -> None:
        self._state = state
        self._shape = shape
        self._start = start
        self._start_date = start_date
        complete = state.get("complete")
        if not isinstance(complete, dict) or complete.get("at") != self.bookmark:
            complete = {}
        self._complete: dict[str, Any] = complete
        self.since = start
        if complete.get("shape", shape) != shape:
            self.since = start_date
        elif start is not None and complete.get("from"):
            low = instant(complete["from"])
            start_date_is_later = self.bookmark is not None and start > instant(self.bookmark)
            self.since = max(start, low) if start_date_is_later else low
        # A full refresh has no start, and emits what was emitted before.
        self._memory = ContentMemory(complete.get("hashes") if start else None, shape)
        self._late = _Seen(shape)
        self._edge = _Seen(shape)
        self._edge_second = ""

    def next(self) -> ContactState:
        """The state as a run would find it that began now, after `finish`."""
        marks = [self._start] if self._start else []
        if self.bookmark:
            marks.append(instant(self.bookmark))
        start = max(marks, default=None)
        return ContactState(self._state, start, self._shape, self._start_date)

    @property
    def bookmark(self) -> str | None:
        """B, as the state has it."""
        value: str | None = self._state.get("replication_key_value")
        return value

    @property
    def since_text(self) -> str:
        """``since`` as `Body.updated_at` is written; empty: everything."""
        return "" if self.since is None else _text(self.since)

    @property
    def total(self) -> int:
        """The number of contacts that the last export had, or a guess."""
        return int(self._complete.get("contacts") or _UNKNOWN_TOTAL)

    @property
    def known(self) -> tuple[datetime, int] | None:
        """The second behind B, and how many contacts of B's second are known.

        None while late writes to that second may still show up: numbers would not tell them.
        """
        count = self._complete.get("count")
        if not count or self.bookmark is None:
            return None
        edge = instant(self.bookmark).replace(microsecond=0)
        if self._complete["from"] != f"{_text(edge)}Z" or self.since != edge:
            return None
        return edge + timedelta(seconds=1), int(count)

    # A run

    def fresh(self, bodies: Iterable[Body], snapshot: datetime) -> list[Body]:
        """Those bodies that were not emitted before; notes what the next run reads again."""
        late = _text(snapshot - LOOKBACK)
        known = None if self._memory.is_empty else self._memory
        fresh = []
        for body in bodies:
            second = body.updated_at[:_SECOND]
            if second >= self._edge_second:
                if second > self._edge_second:
                    self._edge_second, self._edge = second, _Seen(self._shape)
                self._edge.add(body)
            if second >= late:
                self._late.add(body)
            if known is None or not known.has(body.json):
                fresh.append(body)
        return fresh

    def finish(self, snapshot: datetime, newest: str, *, total: int | None = None) -> None:
        """A whole read is emitted: move the bookmark.

        Args:
            snapshot: The moment of which the read surely shows everything (but for late writes).
            newest: The newest ``updated_at`` of all contacts read; empty: there were none.
            total: Number of contacts, if the read had them all.
        """
        self._state.pop("export", None)
        seen = min(newest, _text(snapshot)) + "Z" if newest else None
        marks = [mark for mark in (self.bookmark, seen) if mark]
        if not marks:
            return
        bookmark = max(marks, key=instant)
        if not newest and self._complete:  # nothing was read, so what was known still is
            return
        edge = _text(instant(bookmark))
        late = _text(snapshot - LOOKBACK)
        read_again = self._late if late <= edge else self._edge
        if late > edge and edge != self._edge_second:  # the newest contact is gone
            read_again = _Seen(self._shape)
        self._state["replication_key"] = "updated_at"
        self._state["replication_key_value"] = bookmark
        self._state["complete"] = {
            "at": bookmark,
            "from": max(min(edge, late) + "Z", self._complete.get("from", "")),
            "count": read_again.count,
            "contacts": self.total if total is None else total,
            "hashes": read_again.hashes,
            "shape": self._shape,
        }

    # An export in progress

    def position(self) -> dict[str, Any] | None:
        """Where an interrupted run stopped in its export, if this run would read the same."""
        export = self._state.get("export")
        if not isinstance(export, dict):
            return None
        same = export.get("since") == self.since_text and export.get("shape") == self._shape
        return export if same and "read" in export else None

    def emitted(self, export: Export, chunk: Chunk, read: int, newest: str) -> None:
        """A chunk is emitted, ``read`` rows in all: a run killed from now on goes on behind it."""
        self._state["export"] = {
            "id": export.id,
            "since": self.since_text,
            "shape": self._shape,
            "file": chunk.file,
            "row": chunk.end,
            "read": read,
            "newest": newest,
        }

    def is_usual(self, missing: int) -> bool:
        """Whether an export may lack so many rows: none, or as many as the one before it.

        Notes the number. If it is another one, the next run makes a new export.
        """
        usual = missing in (0, self._state.pop("short", None))
        if missing:
            self._state["short"] = missing
            self._state.pop("export", None)
        return usual


def _text(moment: datetime) -> str:
    return moment.strftime("%Y-%m-%dT%H:%M:%S")
