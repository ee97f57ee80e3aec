"""BATCH messages: reads their files, some records at a time."""

from __future__ import annotations

import contextlib
import zlib
from collections.abc import Iterator, Mapping, Sequence
from typing import IO, TYPE_CHECKING, Any, cast

import duckdb
import pyarrow as pa

from target_segment_warehouse.batch import Files, Records
from target_segment_warehouse.staging import Place

if TYPE_CHECKING:
    from collections.abc import Callable

BLOCK_BYTES = 24 << 20
"""About how much of a file is loaded at a time; all of a message in one transaction."""

ROWS = 5_000
"""How many rows of Parquet are read at a time."""

_READ_BYTES = 1 << 20
_COMPRESSED = 8
"""How often smaller JSON is, about, when compressed."""

_GZIP = b"\x1f\x8b"


class BatchFileError(ValueError):
    """A BATCH message, or a file of it, that cannot be read."""


def size_of(urls: Sequence[str], encoding: Mapping[str, Any]) -> int:
    """About how many bytes of JSON files hold; one that cannot be read counts as none.

    Args:
        urls: The files.
        encoding: Format and compression, as the BATCH message says.
    """
    from upath import UPath

    size = 0
    for url in urls:
        with contextlib.suppress(OSError, ValueError):
            size += UPath(url).stat().st_size
    return size if encoding.get("compression") == "none" else size * _COMPRESSED


def read_files(messages: Sequence[Files]) -> Iterator[tuple[Records, Place]]:
    """The records of BATCH messages of one stream that follow one another, in order.

    Args:
        messages: The messages.

    Yields:
        Some records, and what to call a line in messages.

    Raises:
        BatchFileError: If a file is missing or not what its message says.
    """
    from upath import UPath  # (takes a while to import, for what few runs need)

    records = Records(is_checked=False)
    names: list[tuple[int, str]] = []
    line = 1
    for files in messages:
        message = f"BATCH message on line {files.line} of the input"
        read = _reader(files, message)
        for url in files.urls:
            names.append((line, f"record {{}} of {UPath(url).name}, {message}"))
            try:
                with UPath(url).open("rb") as file:
                    for lines in read(cast("IO[bytes]", file), files):
                        kept = [(at, text) for at, text in enumerate(lines, line) if text.strip()]
                        records.append([text for _, text in kept], [at for at, _ in kept])
                        line += len(lines)
                        if len(records.text) >= BLOCK_BYTES:
                            yield records, Place(names)
                            records, names = Records(is_checked=False), names[-1:]
            except (OSError, EOFError, zlib.error, pa.ArrowException) as error:
                raise BatchFileError(
                    f"A file of the {message} cannot be read: {url} ({error})."
                ) from error
    if records:
        yield records, Place(names)


def _reader(files: Files, message: str) -> Callable[[IO[bytes], Files], Iterator[list[bytes]]]:
    match files.encoding.get("format"):
        case "jsonl":
            return _read_lines
        case "parquet":
            return _read_parquet
        case other:
            raise BatchFileError(
                f"The {message} has the format {other!r}; known are jsonl and parquet."
            )


def _read_lines(file: IO[bytes], files: Files) -> Iterator[list[bytes]]:
    rest = b""
    for block in _blocks(file, files):
        *lines, rest = (rest + block).split(b"\n")
        yield lines
    yield [rest]


def _blocks(file: IO[bytes], files: Files) -> Iterator[bytes]:
    """The file's content, decompressed.

    Raises:
        EOFError: If it ends in the middle of a compressed member.
    """
    raw = file.read(_READ_BYTES)
    if files.encoding.get("compression") == "none" or not raw.startswith(_GZIP):
        while raw:
            yield raw
            raw = file.read(_READ_BYTES)
        return
    member, rest = _member(), raw
    while raw := rest or file.read(_READ_BYTES):
        if member.eof:
            # A file can hold several members, and zeros after the last.
            raw = raw.lstrip(b"\0")
            member = _member() if raw else member
        if raw and (block := member.decompress(raw)):
            yield block
        rest = member.unused_data if raw and member.eof else b""
    if not member.eof:
        raise EOFError("it ends in the middle of its compressed data")


def _member() -> zlib._Decompress:
    return zlib.decompressobj(wbits=zlib.MAX_WBITS | 16)


def _read_parquet(file: IO[bytes], files: Files) -> Iterator[list[bytes]]:
    import pyarrow.parquet as pq

    with duckdb.connect(config={"threads": 1}) as connection:
        for rows in pq.ParquetFile(file).iter_batches(ROWS):
            connection.register("rows", pa.Table.from_batches([rows]))
            texts = connection.execute("SELECT CAST(to_json(r) AS VARCHAR) FROM rows AS r")
            yield [text.encode() for (text,) in texts.fetchall()]
