"""Writes the records of deliveries: as RECORD messages, or into the files of BATCH messages."""

from __future__ import annotations

import gzip
import logging
from collections import Counter, defaultdict
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final, Protocol
from uuid import uuid4

import msgspec
from singer_sdk.batch import Batcher
from singer_sdk.helpers._batch import BaseBatchFileEncoding, BatchConfig, SDKBatchMessage

from tap_sendgrid.api.errors import InvalidSetting
from tap_sendgrid.event_log import Delivery
from tap_sendgrid.events.records import RecordMaker, record_maker
from tap_sendgrid.events.values import iso
from tap_sendgrid.writer import MessageWriter

if TYPE_CHECKING:
    from tap_sendgrid.events.streams import EventStream
    from tap_sendgrid.tap import TapSendGrid

logger = logging.getLogger(__name__)

# Handed over at once: few enough to be still in the processor's cache.
_CHUNK_RECORDS: Final = 64

# A file is closed at this size if it is not at `batch_size` records before.
_MAX_FILE_BYTES: Final = 8 * 1024 * 1024

_GZIP_LEVEL: Final = 1  # a file is read once and then of no use


class Writer(Protocol):
    """Writes the records of one delivery after the other.

    Attributes:
        records_per_state: After how many records a STATE is due.
    """

    records_per_state: int

    def write(
        self, delivery: Delivery, skipped: Collection[str], rejected: list[str]
    ) -> Mapping[str, int]:
        """Write the records of a delivery.

        Args:
            delivery: The delivery, whatever its body is.
            skipped: Streams that have these records already.
            rejected: Takes the reasons for what gives no message.

        Returns:
            How many records of which stream were written.
        """

    def flush(self) -> None:
        """Pass everything written on to the target."""


class LineWriter:
    """Writes RECORD messages, many at once."""

    records_per_state = 10_000

    def __init__(self, out: MessageWriter, maker: RecordMaker) -> None:
        self._out = out
        self._maker = maker
        self._heads: dict[str, bytes] = {}

    def write(
        self, delivery: Delivery, skipped: Collection[str], rejected: list[str]
    ) -> Mapping[str, int]:
        """Write the RECORD messages of a delivery."""
        counts: Counter[str] = Counter()
        heads = self._heads
        tail = b',"time_extracted":"%b"}\n' % iso(datetime.now(UTC)).encode()
        parts: list[bytes] = []
        for stream, record in self._maker.records(delivery, skipped, rejected, counts):
            head = heads.get(stream) or self._head(stream)
            parts += (head, record, tail)
            if len(parts) >= 3 * _CHUNK_RECORDS:
                self._out.write_lines(b"".join(parts))
                parts.clear()
        self._out.write_lines(b"".join(parts))
        return counts

    def _head(self, stream: str) -> bytes:
        head = b'{"type":"RECORD","stream":%b,"record":' % msgspec.json.encode(stream)
        self._heads[stream] = head
        return head

    def flush(self) -> None:
        """Pass everything written on to the target."""
        self._out.flush()


class _Held:
    """Records of a stream that are not in a file yet, a line break behind each.

    Attributes:
        texts: Many records in each.
        latest: Those that came last.
        count: How many records these are.
        size: Bytes of the texts.
    """

    __slots__ = ("count", "latest", "size", "texts")

    def __init__(self) -> None:
        self.texts: list[bytes] = []
        self.latest: list[bytes] = []
        self.count = 0
        self.size = 0

    def settle(self) -> None:
        """Join those that came last, while they are still in the processor's cache."""
        text = b"\n".join([*self.latest, b""])
        self.texts.append(text)
        self.size += len(text)
        self.count += len(self.latest)
        self.latest.clear()


class FileWriter:
    """Writes files of records, and a BATCH message for each file.

    The files are those of the SDK's batchers, but all streams' come of one pass over the log, and
    JSON lines are written as they are, compressed if ``encoding.compression`` is not ``none``.
    """

    records_per_state = 100_000

    def __init__(
        self, out: MessageWriter, maker: RecordMaker, tap: str, config: BatchConfig
    ) -> None:
        self._out = out
        self._maker = maker
        self._tap = tap
        self._config = config
        self._held: defaultdict[str, _Held] = defaultdict(_Held)

    def write(
        self, delivery: Delivery, skipped: Collection[str], rejected: list[str]
    ) -> Mapping[str, int]:
        """Put the records of a delivery into files."""
        counts: Counter[str] = Counter()
        most = self._config.batch_size
        for stream, record in self._maker.records(delivery, skipped, rejected, counts):
            held = self._held[stream]
            latest = held.latest
            latest.append(record)
            if len(latest) >= _CHUNK_RECORDS or held.count + len(latest) >= most:
                held.settle()
                if held.count >= most or held.size >= _MAX_FILE_BYTES:
                    self._write_file(stream)
        return counts

    def flush(self) -> None:
        """Put everything that is held into files, and announce them."""
        for stream, held in list(self._held.items()):
            held.settle()
            self._write_file(stream)
        self._out.flush()

    def _write_file(self, stream: str) -> None:
        try:
            encoding, manifest = self._files(stream, self._held[stream].texts)
        except OSError as error:
            raise InvalidSetting(
                f"A batch file cannot be written to {self._config.storage.root}: {error}. Check "
                "storage.root of the setting batch_config."
            ) from error
        del self._held[stream]  # not before: what failed is tried again before the last STATE
        self._out.write_message(SDKBatchMessage(stream, encoding, manifest))

    def _files(self, stream: str, texts: list[bytes]) -> tuple[BaseBatchFileEncoding, list[str]]:
        """Write lines of JSON to files; how these are encoded, and their URLs."""
        encoding = self._config.encoding
        if encoding.format != "jsonl" and (urls := self._write_columns(stream, texts)):
            return encoding, urls
        is_plain = encoding.compression == "none"
        lines = BaseBatchFileEncoding("jsonl", "none" if is_plain else "gzip")
        return lines, [self._write_lines(stream, texts, is_plain=is_plain)]

    def _write_columns(self, stream: str, texts: Sequence[bytes]) -> list[str]:
        """Write files as the SDK does; their URLs, or none where they cannot hold the records.

        A column has one type, but a custom argument may be a number here and a text there.
        """
        try:
            import pyarrow as pa  # not above: few have files of columns written
        except ImportError as error:
            raise InvalidSetting(
                f"Files of the format {self._config.encoding.format} need a package that is not "
                f"installed: {error}. Install tap-sendgrid[parquet], or set encoding.format of "
                "the setting batch_config to jsonl."
            ) from error
        records = msgspec.json.Decoder().decode_lines(b"".join(texts))
        try:
            made = Batcher(self._tap, stream, self._config).get_batches(iter(records))
            return [url for urls in made for url in urls]
        except pa.ArrowException as error:
            logger.info("Records of %s are written as JSON lines: %s", stream, error)
            return []

    def _write_lines(self, stream: str, texts: Sequence[bytes], *, is_plain: bool) -> str:
        """Write a file of JSON lines; its URL."""
        storage = self._config.storage
        name = f"{storage.prefix or ''}{self._tap}--{stream}-{uuid4()}.json"
        if not is_plain:
            name, texts = f"{name}.gz", [gzip.compress(b"".join(texts), _GZIP_LEVEL)]
        with storage.open(name, "wb") as file:
            file.writelines(texts)
        return storage.get_url(name)


@contextmanager
def open_writer(tap: TapSendGrid, streams: Sequence[EventStream]) -> Iterator[Writer]:
    """A writer of RECORD messages; of BATCH messages with the setting `batch_config`."""
    maker = record_maker(tap, streams)
    batches = streams[0].get_batch_config(tap.config)
    writer: Writer
    if batches is None:
        writer = LineWriter(tap.message_writer, maker)
    else:
        writer = FileWriter(tap.message_writer, maker, tap.name, batches)
    try:
        yield writer
    finally:
        writer.flush()
