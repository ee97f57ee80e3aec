"""BATCH messages: reads their files, some records at a time."""

from __future__ import annotations

import gzip
import zlib
from array import array
from collections.abc import Iterator
from typing import IO, cast

import pyarrow as pa
import pyarrow.parquet as pq
from upath import UPath

from target_segment_warehouse.batch import Files, json_texts
from target_segment_warehouse.staging import Place
from target_segment_warehouse.workbench import Workbench

ROWS = 50_000
"""Records that are loaded at a time; all of a message in one transaction."""

BLOCK_BYTES = 16 << 20


class BatchFileError(ValueError):
    """A BATCH message, or a file of it, that cannot be read."""


def read_files(workbench: Workbench, files: Files) -> Iterator[tuple[pa.Table, Place]]:
    """The records of a BATCH message, in order.

    Args:
        workbench: Turns Parquet rows into JSON.
        files: The message.

    Yields:
        Columns ``line`` (the record's number in its file, from 1), ``record`` and ``extracted``,
        and what to call a line in messages.

    Raises:
        BatchFileError: If a file is missing or not what the message says.
    """
    message = f"BATCH message on line {files.line} of the input"
    read = {"jsonl": _read_lines, "parquet": _read_parquet}.get(str(files.encoding.get("format")))
    if read is None:
        raise BatchFileError(
            f"The {message} has the format {files.encoding.get('format')!r}; known are jsonl and "
            "parquet."
        )
    for url in files.urls:
        try:
            with UPath(url).open("rb") as file:
                for table in read(workbench, cast("IO[bytes]", file), files):
                    yield table, Place(f"record {{}} of {UPath(url).name}, {message}")
        except (OSError, EOFError, zlib.error, pa.ArrowException) as error:
            raise BatchFileError(
                f"A file of the {message} cannot be read: {url} ({error})."
            ) from error


def _read_lines(workbench: Workbench, file: IO[bytes], files: Files) -> Iterator[pa.Table]:
    source = file
    if files.encoding.get("compression") != "none" and _is_gzip(file):
        source = cast("IO[bytes]", gzip.GzipFile(fileobj=file))
    first = 1
    rest = b""
    while block := source.read(BLOCK_BYTES):
        end = block.rfind(b"\n") + 1
        if end:
            lines = (rest + block[:end]).split(b"\n")
            rest = block[end:]
            yield from _tables(lines, first)
            first += len(lines) - 1
        else:
            rest += block
    yield from _tables([rest], first)


def _is_gzip(file: IO[bytes]) -> bool:
    start = file.read(2)
    file.seek(0)
    return start == b"\x1f\x8b"


def _tables(lines: list[bytes], first: int) -> Iterator[pa.Table]:
    numbered = [(number, line) for number, line in enumerate(lines, first) if line.strip()]
    for start in range(0, len(numbered), ROWS):
        part = numbered[start : start + ROWS]
        yield _table([line for _, line in part], array("q", (number for number, _ in part)))


def _table(records: list[bytes], numbers: array[int]) -> pa.Table:
    return pa.table(
        {
            "line": pa.array(numbers, pa.int64()),
            "record": json_texts(records),
            "extracted": pa.nulls(len(records), pa.string()),
        }
    )


def _read_parquet(workbench: Workbench, file: IO[bytes], files: Files) -> Iterator[pa.Table]:
    first = 1
    for rows in pq.ParquetFile(file).iter_batches(ROWS):
        workbench.register("__parquet", pa.Table.from_batches([rows]))
        yield workbench.reader(
            f"""SELECT row_number() OVER () + {first - 1} AS line,
                CAST(to_json(r) AS VARCHAR) AS record, CAST(NULL AS VARCHAR) AS extracted
            FROM __parquet AS r"""  # noqa: S608
        ).read_all()
        workbench.unregister("__parquet")
        first += len(rows)
