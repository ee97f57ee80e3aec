"""Contact exports: the only complete read of the current generation's contacts.

A job is started (or one already under way adopted), polled until it is ready, and its files are
read from where the last run stopped. Everything is streamed: memory holds one chunk at a time.
Facts: reference OpenAPI mc_contacts; files are gzip or plain whatever their names and headers say
(airbyte#35501); the JSON form is one object per line (sendgrid-csharp#1024).
"""

from __future__ import annotations

import codecs
import csv
import logging
import time
import zlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import requests
import urllib3

from tap_sendgrid.api.client import Client
from tap_sendgrid.api.errors import ExportFailed, NotFound, RequestRejected
from tap_sendgrid.api.pages import rows_of
from tap_sendgrid.objects.values import instant

logger = logging.getLogger("tap-sendgrid.recipients")

_PATH = "/v3/marketing/contacts/exports"
_CHUNK_BYTES = 256 * 1024
_LONGEST_LINE_BYTES = 50 * 1024 * 1024
_POLL_SECONDS = (0.5, 1.0, 2.0, 4.0, 8.0, 15.0)  # then half a minute
_POLL_SECONDS_LATER = 30.0
_PROGRESS_SECONDS = 10.0
_TRIES = 6
#: A pending job older than this is not adopted: it may be stuck.
_ADOPTABLE = timedelta(hours=1)
#: Any problem that `requests` has with a file, a link that is no URL or goes round included.
_BROKEN = (requests.RequestException, urllib3.exceptions.HTTPError, zlib.error)


@dataclass
class Export:
    """A finished export.

    Attributes:
        id: SendGrid's id of the job.
        created_at: When it was asked for; the files are a snapshot of some later moment.
        urls: Links to the files, which expire.
        contact_count: Rows in all files; None when SendGrid does not say.
    """

    id: str
    created_at: str
    urls: list[str]
    contact_count: int | None


@dataclass
class Chunk:
    """Some rows of one file.

    Attributes:
        file: Number of the file, from 0.
        end: Number of rows of that file that are read after this chunk.
        lines: NDJSON lines; or
        rows: rows of a CSV file, by lower-case column name, empty ones left out.
    """

    file: int
    end: int
    lines: list[bytes]
    rows: list[dict[str, str]]


class Exporter:
    """Makes and reads exports of all contacts.

    Args:
        client: Who asks.
        timeout_seconds: How long to wait for a job.
    """

    def __init__(self, client: Client, timeout_seconds: float) -> None:
        self._client = client
        self._timeout = timeout_seconds

    # Jobs

    def resume(self, export_id: str) -> Export | None:
        """An earlier export, if its files can still be had."""
        try:
            return self._ready(self._client.get(f"{_PATH}/{export_id}"))
        except (NotFound, ExportFailed):
            return None

    def make(self) -> Export:
        """A finished export of all contacts: JSON, or CSV when SendGrid will not make JSON.

        Raises:
            ExportFailed: SendGrid gave up twice, or took too long.
        """
        try:
            return self._wait(self._pending() or self._start("json"))
        except ExportFailed as problem:
            if isinstance(problem, ExportTimedOut):
                raise
            logger.warning("%s Asking for CSV instead.", problem)
            return self._wait(self._start("csv"))

    def _pending(self) -> str | None:
        """The id of a job over all contacts that somebody started a short while ago."""
        for row in rows_of(self._client.get(_PATH), "result"):
            partial = row.get("lists") or row.get("segments")
            whole = row.get("export_type", "contacts_export") == "contacts_export" and not partial
            if not whole or row.get("status") != "pending" or not row.get("created_at"):
                continue
            age = self._client.server_now() - instant(row["created_at"])
            if age <= _ADOPTABLE:
                logger.info("Waiting for contact export %s, which is already under way", row["id"])
                return str(row["id"])
        return None

    def _start(self, file_type: str) -> str:
        body = {"file_type": file_type, "notifications": {"email": False}}
        try:
            answer = self._client.post(_PATH, body)
        except RequestRejected as problem:
            if problem.status != requests.codes.bad_request or file_type == "csv":
                raise
            raise ExportFailed(
                f"SendGrid refused a {file_type} export: {problem.answer}."
            ) from None
        logger.info("Started contact export %s (%s)", answer["id"], file_type)
        return str(answer["id"])

    def _wait(self, export_id: str) -> Export:
        started = told = time.monotonic()
        polls = iter(_POLL_SECONDS)
        while True:
            export = self._ready(self._client.get(f"{_PATH}/{export_id}"))
            if export is not None:
                count = "" if export.contact_count is None else f", {export.contact_count:,} rows"
                logger.info(
                    "Contact export %s is ready: %d file(s)%s", export_id, len(export.urls), count
                )
                return export
            waited = time.monotonic() - started
            if waited > self._timeout:
                raise ExportTimedOut(
                    f"Contact export {export_id} is not ready after {waited:,.0f} s. It may still "
                    "become so: the next run adopts it. To wait longer, raise the setting "
                    "export_timeout_seconds."
                )
            if time.monotonic() - told >= _PROGRESS_SECONDS:
                told = time.monotonic()
                logger.info("Contact export %s is pending since %.0f s", export_id, waited)
            self._client.sleep(next(polls, _POLL_SECONDS_LATER))

    @staticmethod
    def _ready(answer: dict[str, Any]) -> Export | None:
        status = answer.get("status")
        if status == "ready":
            return Export(
                str(answer["id"]),
                answer["created_at"],
                list(answer.get("urls") or ()),
                answer.get("contact_count"),
            )
        if status in ("failure", "failed"):
            reason = answer.get("message") or "no reason given"
            raise ExportFailed(f"Contact export {answer.get('id')} came to nothing: {reason}.")
        return None

    # Files

    def chunks(self, export: Export, file: int = 0, row: int = 0) -> Iterator[Chunk]:
        """All rows from ``row`` of ``file`` on, in order, each once.

        A broken connection or an expired link only interrupts: the file is asked for again, with
        fresh links, and read on from the row where it broke.

        Raises:
            ExportFailed: The files cannot be had.
        """
        for number in range(file, len(export.urls)):
            done, failures = row if number == file else 0, 0
            while True:
                try:
                    for chunk in self._file(export.urls[number], number, done):
                        done, failures = chunk.end, 0
                        yield chunk
                    break
                except RequestRejected as problem:
                    failures += 1
                    reason = f"the link was refused with {problem.status}"
                except csv.Error as problem:
                    raise ExportFailed(f"an export file is no proper CSV: {problem}") from None
                except _BROKEN as problem:
                    failures += 1
                    reason = type(problem).__name__.removesuffix("Error")
                if failures >= _TRIES:
                    raise ExportFailed(
                        f"File {number + 1} of contact export {export.id} cannot be read: {reason} "
                        f"({failures} tries). The next run goes on from row {done:,}."
                    )
                logger.info("Reading file %d on from row %d: %s", number + 1, done, reason)
                self._client.sleep(min(2.0 ** (failures - 1), 30.0) if failures > 1 else 0.0)
                export.urls = self._renewed(export)

    def _renewed(self, export: Export) -> list[str]:
        fresh = self.resume(export.id)
        if fresh is None or len(fresh.urls) != len(export.urls):
            raise ExportFailed(
                f"Contact export {export.id} has expired while it was read; the next run makes a "
                "new one."
            )
        return fresh.urls

    def _file(self, url: str, number: int, skip: int) -> Iterator[Chunk]:
        with self._client.download(url) as response:
            blocks = _unpacked(response.raw.stream(_CHUNK_BYTES, decode_content=False))
            lines = _lines(blocks)
            first = next((line for line in lines if line), [])
            if first:
                first[0] = first[0].removeprefix(codecs.BOM_UTF8)
            begin = next((line for line in first if line.strip()), b"{").lstrip()
            if not begin.startswith(b"{"):
                yield from _csv_chunks(_flat(first, lines), number, skip)
                return
            end = 0
            for some in _flat_chunks(first, lines):
                end += len(some)
                if end > skip:
                    yield Chunk(number, end, some[-(end - skip) :], [])


class ExportTimedOut(ExportFailed):
    """SendGrid did not finish an export in time; it may still do."""


def contact_count(client: Client) -> int | None:
    """The number of contacts that the account has now; None when SendGrid does not tell."""
    try:
        count = client.get("/v3/marketing/contacts/count").get("contact_count")
    except RequestRejected:
        return None
    return None if count is None else int(count)


def _unpacked(blocks: Iterable[bytes]) -> Iterator[bytes]:
    """The blocks as they are, or gunzipped when they begin as gzip does."""
    unpack: Any = None
    first = True
    for block in blocks:
        if first and block:
            first = False
            if block[:2] == b"\x1f\x8b" or block == b"\x1f":
                unpack = zlib.decompressobj(31)
        if unpack is None:
            yield block
            continue
        data = block
        while data:
            # A bound on what one block may become: memory stays flat whatever is sent.
            yield unpack.decompress(data, 8 * _CHUNK_BYTES)
            data = unpack.unconsumed_tail
            if unpack.eof and unpack.unused_data:  # several gzip members, one after the other
                data, unpack = unpack.unused_data, zlib.decompressobj(31)
    if unpack is not None and not unpack.eof:
        raise zlib.error("the gzip file ends too early")


def _lines(blocks: Iterable[bytes]) -> Iterator[list[bytes]]:
    """Whole lines, as many at a time as a block completes."""
    rest = b""
    for block in blocks:
        *whole, tail = block.split(b"\n")
        if whole:
            whole[0] = rest + whole[0]
            rest = tail
            yield whole
        else:
            rest += tail
        if len(rest) > _LONGEST_LINE_BYTES:
            raise ExportFailed("an export file has a line of more than 50 MiB")
    if rest:
        yield [rest]


def _flat_chunks(first: list[bytes], following: Iterator[list[bytes]]) -> Iterator[list[bytes]]:
    if first:
        yield first
    yield from following


def _flat(first: list[bytes], following: Iterator[list[bytes]]) -> Iterator[str]:
    for lines in _flat_chunks(first, following):
        for line in lines:
            yield line.decode("utf-8", "backslashreplace") + "\n"


def _csv_chunks(lines: Iterator[str], number: int, skip: int) -> Iterator[Chunk]:
    """Rows of a CSV file by lower-case column name; unset columns are left out."""
    reader = csv.reader(lines, strict=True)
    header = [name.strip().lower() for name in next(reader, [])]
    if "contact_id" not in header:
        raise ExportFailed("an export file is neither NDJSON nor CSV with a column CONTACT_ID")
    rows: list[dict[str, str]] = []
    end = 0
    for cells in reader:
        end += 1
        if end > skip and cells:
            rows.append({n: cell for n, cell in zip(header, cells, strict=False) if cell})
        if len(rows) >= 1000:
            yield Chunk(number, end, [], rows)
            rows = []
    if rows:
        yield Chunk(number, end, [], rows)
