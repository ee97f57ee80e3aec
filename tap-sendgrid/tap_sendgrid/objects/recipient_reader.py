"""Reads the changed contacts of one (sub)user, by the cheapest way that gives all of them."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import msgspec

from tap_sendgrid.api.account import Account
from tap_sendgrid.api.client import Client
from tap_sendgrid.api.errors import ExportFailed, NotFound
from tap_sendgrid.api.generation import Generation
from tap_sendgrid.api.pages import rows_of
from tap_sendgrid.objects import legacy_recipients
from tap_sendgrid.objects.concurrent import map_ahead
from tap_sendgrid.objects.contact_codec import Body, ContactCodec
from tap_sendgrid.objects.contact_search import ContactSearch, TooMany
from tap_sendgrid.objects.contact_state import ContactState
from tap_sendgrid.objects.exports import Chunk, Export, Exporter, contact_count
from tap_sendgrid.objects.values import instant

logger = logging.getLogger("tap-sendgrid.recipients")

_PROGRESS_SECONDS = 10.0
_IDS_PER_REQUEST = 100


@dataclass(frozen=True)
class ReadOptions:
    """What is asked of a read.

    Attributes:
        everything: Give all contacts, changed or not, from a read that is known to be whole.
        memberships: Which of ``list_ids`` and ``segment_ids`` to add.
        export_timeout_seconds: How long to wait for an export.
    """

    everything: bool = False
    memberships: tuple[str, ...] = ()
    export_timeout_seconds: float = 7200


class RecipientReader:
    """One read of an account's contacts.

    Args:
        account: Whose contacts.
        codec: Makes bodies of them.
        state: Says what is known, and is moved as contacts are given out.
        options: What is asked.

    Attributes:
        whole: After the read: whether it surely gave every contact there is.
    """

    def __init__(
        self, account: Account, codec: ContactCodec, state: ContactState, options: ReadOptions
    ) -> None:
        self._account = account
        self._client: Client = account.client
        self._codec = codec
        self._state = state
        self._options = options
        self._newest = ""
        self._read = self._before = 0  # rows read; rows of the export that an earlier run read
        self._started = self._told = time.monotonic()
        self.whole = False

    def batches(self) -> Iterator[list[Body]]:
        """The changed contacts, many at a time. The state moves behind each batch.

        Raises:
            SendGridError: They could not all be read; the next run goes on from the state.
        """
        if self._account.generation() is Generation.LEGACY:
            return self._legacy()
        return self._current()

    def _current(self) -> Iterator[list[Body]]:
        exporter = Exporter(self._client, self._options.export_timeout_seconds)
        while True:
            snapshot = self._client.server_now()
            rows = self._searched()
            if rows is not None:
                yield from self._found(rows, snapshot)
                return
            resumed = self._resumed(exporter)
            yield from self._export(exporter, resumed)
            if resumed is None:
                return
            # That was an earlier run's snapshot: what changed since then is still to be read.
            self._state = self._state.next()
            self._newest, self._read, self._before = "", 0, 0

    def _searched(self) -> list[dict[str, Any]] | None:
        """What changed, as the API gives it; None when an export is to be read."""
        if self._state.since is None or self._options.everything:
            return None
        search = ContactSearch(self._client, self._state.total)
        try:
            return search.updated_since(self._state.since, self._state.known)
        except TooMany as reason:
            logger.info("Reading an export: %s", reason)
            return None

    def _found(self, rows: list[dict[str, Any]], snapshot: datetime) -> Iterator[list[Body]]:
        bodies = self._noted([self._codec.contact(row) for row in rows])
        fresh = self._state.fresh(bodies, snapshot)
        yield self._with_memberships(fresh, {str(row.get("id")): row for row in rows})
        self._state.finish(snapshot, self._newest)

    # Exports

    def _export(
        self, exporter: Exporter, resumed: tuple[Export, int, int] | None
    ) -> Iterator[list[Body]]:
        export, file, row = resumed or (exporter.make(), 0, 0)
        snapshot = instant(export.created_at)
        # An export that does not say how much it has, or says nothing at all, may lack any of it.
        expected = export.contact_count or contact_count(self._client)
        for chunk in exporter.chunks(export, file, row):
            bodies = self._changed(self._decoded(chunk), snapshot)
            yield self._with_memberships(bodies, {})
            self._state.emitted(export, chunk, self._read, self._newest)
            self._tell_progress(expected)
        missing = max(0, (expected or 0) - self._read)
        self.whole = expected is not None and not missing
        self._explain(export, missing)
        self._state.finish(snapshot, self._newest, total=self._read)

    def _explain(self, export: Export, missing: int) -> None:
        """Why an export lacks rows; nothing, if it does not.

        Its count is that of the contacts exported (OpenAPI mc_contacts). Should it be taken before
        the files are written, contacts deleted in between explain a difference; and a count that
        is off in the same way each time must not fail every run for ever.

        Raises:
            ExportFailed: Nothing explains it: rows are lost, and may come with another export.
        """
        usual = self._state.is_usual(missing)
        if not missing:
            return
        text = (
            f"Contact export {export.id} should have {self._read + missing:,} contacts and has "
            f"{self._read:,}"
        )
        if usual:
            logger.warning("%s: as many are missing as in the one before, so it is taken", text)
            return
        now = contact_count(self._client)
        if now is None or now > self._read:
            raise ExportFailed(
                f"{text}. What was found is synced, and the bookmark stays: the next run reads "
                "again what it should have brought. If another export lacks exactly as many, it "
                "is taken."
            )
        logger.info("%s: SendGrid has %s now, for others were deleted", text, f"{now:,}")

    def _resumed(self, exporter: Exporter) -> tuple[Export, int, int] | None:
        """The export that an interrupted run was reading, and where it stopped."""
        position = None if self._options.everything else self._state.position()
        export = exporter.resume(position["id"]) if position else None
        if position is None or export is None:
            return None
        file, row = int(position["file"]), int(position["row"])
        logger.info("Going on in contact export %s: file %d, row %d", export.id, file + 1, row)
        self._newest, self._read = position["newest"], int(position["read"])
        self._before = self._read
        return export, file, row

    def _decoded(self, chunk: Chunk) -> list[Body]:
        # Blank lines are no contacts: counted, they would hide as many that are missing.
        self._read += sum(map(bool, map(bytes.strip, chunk.lines))) + len(chunk.rows)
        since = "" if self._options.everything else self._state.since_text
        if chunk.rows:
            bodies = [self._codec.contact(row) for row in chunk.rows]
            return self._noted([body for body in bodies if body.updated_at >= since])
        return self._noted(self._codec.lines(chunk.lines, since))

    def _tell_progress(self, total: int | None) -> None:
        now = time.monotonic()
        if now - self._told >= _PROGRESS_SECONDS:
            self._told = now
            count = "" if total is None else f" of {total:,}"
            rate = (self._read - self._before) / (now - self._started)
            logger.info(f"Read {self._read:,}{count} contacts, {rate:,.0f} a second")  # noqa: G004

    # Legacy

    def _legacy(self) -> Iterator[list[Body]]:
        snapshot = self._client.server_now()
        if self._state.since is not None and not self._options.everything:
            try:
                pages = legacy_recipients.updated_since(self._client, self._state.since)
                yield from self._legacy_pages(pages, snapshot)
            except legacy_recipients.SearchFailed as reason:
                logger.info("Reading all recipients, for the search does not serve: %s", reason)
            else:
                self._state.finish(snapshot, self._newest)
                return
        count = legacy_recipients.recipient_count(self._client)
        pages = legacy_recipients.all_pages(self._client, count)
        yield from self._legacy_pages(pages, snapshot)
        self.whole = count is not None
        self._state.finish(snapshot, self._newest)

    def _legacy_pages(
        self, pages: Iterator[list[dict[str, Any]]], snapshot: datetime
    ) -> Iterator[list[Body]]:
        for page in pages:
            self._read += len(page)
            bodies = self._noted([self._codec.contact(row) for row in page])
            if not self._options.everything:
                bodies = [body for body in bodies if body.updated_at >= self._state.since_text]
            yield self._with_legacy_lists(self._changed(bodies, snapshot))
            self._tell_progress(None)

    # Shared

    def _noted(self, bodies: list[Body]) -> list[Body]:
        self._newest = max([self._newest, *(body.updated_at for body in bodies)])
        return bodies

    def _changed(self, bodies: list[Body], snapshot: datetime) -> list[Body]:
        return bodies if self._options.everything else self._state.fresh(bodies, snapshot)

    # Memberships

    def _with_memberships(self, bodies: list[Body], given: dict[str, dict[str, Any]]) -> list[Body]:
        """The bodies with list_ids and segment_ids: a hundred contacts a request.

        Exports have none, searches do (``given``). This costs in proportion to what changed; an
        export per list, the other way, costs in proportion to what there is.
        """
        if not self._options.memberships:
            return bodies
        missing = [body.id for body in bodies if body.id not in given]
        groups = [
            missing[at : at + _IDS_PER_REQUEST] for at in range(0, len(missing), _IDS_PER_REQUEST)
        ]
        found = dict(given)
        for rows in map_ahead(self._batch, groups):
            found.update({str(row.get("id")): row for row in rows})
        return [self._joined(body, found.get(body.id, {})) for body in bodies]

    def _batch(self, ids: list[str]) -> list[dict[str, Any]]:
        try:
            answer = self._client.post("/v3/marketing/contacts/batch", {"ids": ids})
        except NotFound:  # all of them were deleted meanwhile
            return []
        return rows_of(answer, "result")

    def _with_legacy_lists(self, bodies: list[Body]) -> list[Body]:
        """The bodies with list_ids; the legacy generation does not tell segments by recipient."""
        if not self._options.memberships:
            return bodies
        found = map_ahead(self._legacy_lists, bodies)
        return [self._joined(body, row) for body, row in zip(bodies, found, strict=True)]

    def _legacy_lists(self, body: Body) -> dict[str, Any]:
        try:
            answer = self._client.get(f"/v3/contactdb/recipients/{body.id}/lists")
        except NotFound:
            return {}
        return {"list_ids": [str(row["id"]) for row in rows_of(answer, "lists")]}

    def _joined(self, body: Body, row: dict[str, Any]) -> Body:
        values = msgspec.json.encode({name: row.get(name) for name in self._options.memberships})
        return Body(body.updated_at, b"%b,%b" % (body.json, values[1:-1]))
