"""BATCH messages: reads their files, some records at a time."""

from __future__ import annotations

import contextlib
import logging
import threading
import zlib
from array import array
from collections import Counter, deque
from collections.abc import Iterator, Mapping, Sequence
from typing import IO, TYPE_CHECKING, Any, TypeAlias, cast
from urllib.parse import unquote

import pyarrow as pa

from target_segment_warehouse.batch import Files, Records
from target_segment_warehouse.parquet import Columns, read_tables
from target_segment_warehouse.staging import Place

if TYPE_CHECKING:
    from collections.abc import Callable

    from upath import UPath

logger = logging.getLogger(__name__)

BLOCK_BYTES = 8 << 20
"""About how much is loaded at a time; all of a message in one transaction."""

_READ_BYTES = 1 << 20
_COMPRESSED = 8
"""How often smaller JSON is, about, when compressed."""

_REMEMBERED = 10_000
"""How many files that were removed are known, of a run without end: the last ones."""

_GZIP = b"\x1f\x8b"

_OTHER_PLACES = (
    "For files that are not on this machine the package that is named here has to be installed "
    "beside the target; or the tap's setting 'batch_config' names a folder of this machine."
)

Content: TypeAlias = bytes | pa.Table
"""Whole lines of JSON, or rows of Parquet."""


class BatchFileError(ValueError):
    """A BATCH message, or a file of it, that cannot be read."""


def size_of(urls: Sequence[str], encoding: Mapping[str, Any]) -> int:
    """About how many bytes of JSON files hold; one that cannot be read counts as none.

    Args:
        urls: The files.
        encoding: Format and compression, as the BATCH message says.
    """
    size = 0
    for url in urls:
        with contextlib.suppress(OSError, ValueError, ImportError):
            size += _path(url).stat().st_size
    return size if encoding.get("compression") == "none" else size * _COMPRESSED


class Cleaner:
    """Removes the files of BATCH messages once they are loaded, if that is wished for.

    A file may be named by several messages: it stays while one of them is still to be loaded.
    Messages are received by one thread and loaded by another.

    Args:
        is_wished: Whether to remove any.
    """

    def __init__(self, *, is_wished: bool) -> None:
        self._is_wished = is_wished
        self._lock = threading.Lock()
        self._waiting: Counter[str] = Counter()
        self._removed: deque[tuple[str, str]] = deque(maxlen=_REMEMBERED)

    def receive(self, stream: str, urls: Sequence[str]) -> list[tuple[str, str]]:
        """Take note of a message.

        Args:
            stream: The stream that it is for.
            urls: Its files.

        Returns:
            The files that are to be loaded, each with the stream: not one that was loaded into it
            before and removed.
        """
        named = [(stream, url) for url in urls]
        if not self._is_wished:
            return named
        with self._lock:
            kept = [file for file in named if not self._is_gone(file)]
            self._waiting.update(url for _, url in kept)
        return kept

    def _is_gone(self, file: tuple[str, str]) -> bool:
        if file not in self._removed or _path(file[1]).exists():
            return False
        logger.warning("The batch file %s was loaded and removed before: left aside.", file[1])
        return True

    def commit(self, files: Sequence[tuple[str, str]]) -> None:
        """Remove files that are committed, as ``receive`` gave them, unless others wait for them.

        One that cannot be removed is named in a warning.
        """
        if not self._is_wished:
            return
        with self._lock:
            self._waiting.subtract(url for _, url in files)
            self._removed.extend(dict.fromkeys(files))
            for url in dict.fromkeys(url for _, url in files):
                if not self._waiting[url]:
                    del self._waiting[url]
                    _remove(url)


def _remove(url: str) -> None:
    try:
        _path(url).unlink(missing_ok=True)
    except (OSError, ValueError, NotImplementedError) as error:
        logger.warning("The batch file %s is loaded but cannot be removed: %s", url, error)


def _path(url: str) -> UPath:
    """Where a file is.

    The SDK quotes the URLs of files whose folder it was given as a path (``/data/a b``), and leaves
    them as they are where that was a URL.
    """
    from upath import UPath  # (takes a while to import, for what few runs need)

    path = UPath(url)
    if "%" in url and url.startswith("file:") and not path.exists():
        return UPath(unquote(url))
    return path


def read_files(
    messages: Sequence[Files], *, few_first: bool = False
) -> Iterator[tuple[Records | Columns, Place]]:
    """The records of BATCH messages of one stream that follow one another, in order.

    Args:
        messages: The messages.
        few_first: Whether the first that are yielded are only those that are read at once.

    Yields:
        Some records, and what to call a line in messages.

    Raises:
        BatchFileError: If a file is missing or not what its message says.
    """
    records: Records | Columns = Records(is_checked=False)
    names: list[tuple[int, str]] = []
    line, enough = 1, 1 if few_first else BLOCK_BYTES
    for name, contents in _opened(messages):
        start = line
        for content in contents:
            if records and not _are_alike(records, content):
                yield records, Place(names)
                records, names = Records(is_checked=False), []
            if not names or names[-1] != (start, name):
                names.append((start, name))
            records, count = _with(records, content, line)
            line += count
            if records.size >= enough:
                yield records, Place(names)
                records, names, enough = Records(is_checked=False), [], BLOCK_BYTES
    if records:
        yield records, Place(names)


def _are_alike(records: Records | Columns, content: Content) -> bool:
    """Whether what comes next can be loaded together with what came before."""
    if isinstance(records, Columns):
        return isinstance(content, pa.Table) and content.schema.equals(records.table.schema)
    return not isinstance(content, pa.Table)


def _with(records: Records | Columns, content: Content, line: int) -> tuple[Records | Columns, int]:
    """Records with those that come next, which are like them; how many lines or rows these are."""
    if isinstance(records, Columns):
        return records.plus(content), len(content)
    if isinstance(content, pa.Table):
        return Columns(content, line), len(content)
    texts = content.split(b"\n")
    texts.pop()
    sizes = array("q", map(len, texts))
    if all(sizes) and not any(map(bytes.isspace, texts)):
        records.append_text(content, sizes, range(line, line + len(texts)))
    else:
        kept = [(at, text) for at, text in enumerate(texts, line) if text.strip()]
        records.append([text for _, text in kept], [at for at, _ in kept])
    return records, len(texts)


def _opened(messages: Sequence[Files]) -> Iterator[tuple[str, Iterator[Content]]]:
    """The files: what to call a record of each, and what is in it."""
    for files in messages:
        message = f"BATCH message on line {files.line} of the input"
        for url in files.urls:
            yield f"record {{}} of {url}, {message}", _contents(url, files, message)


def _contents(url: str, files: Files, message: str) -> Iterator[Content]:
    """What is in a file, some at a time."""
    read = _reader(files, message)
    try:
        with _path(url).open("rb") as file:
            yield from read(cast("IO[bytes]", file), files)
    except (OSError, EOFError, ImportError, ValueError, zlib.error, pa.ArrowException) as error:
        # (What Arrow cannot read is a ValueError, too.)
        needs_package = isinstance(error, ImportError | ValueError)
        needs_package &= not isinstance(error, pa.ArrowException)
        advice = f" {_OTHER_PLACES}" if needs_package else ""
        raise BatchFileError(
            f"A file of the {message} cannot be read: {url} ({error}).{advice}"
        ) from error


def _reader(files: Files, message: str) -> Callable[[IO[bytes], Files], Iterator[Content]]:
    match files.encoding.get("format"):
        case "jsonl":
            return _read_lines
        case "parquet":
            return lambda file, _: read_tables(file)
        case other:
            raise BatchFileError(
                f"The {message} has the format {other!r}; known are jsonl and parquet."
            )


def _read_lines(file: IO[bytes], files: Files) -> Iterator[bytes]:
    begun: list[bytes] = []
    for block in _blocks(file, files):
        if end := block.rfind(b"\n") + 1:
            yield b"".join([*begun, block[:end]])
            begun.clear()
        begun.append(block[end:])
    if rest := b"".join(begun):
        yield rest + b"\n"


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
        if raw and (block := member.decompress(raw, _READ_BYTES)):
            yield block
        # (After its end a member may still show the tail that it had before.)
        rest = (member.unused_data if member.eof else member.unconsumed_tail) if raw else b""
    if not member.eof:
        raise EOFError("it ends in the middle of its compressed data")


def _member() -> zlib._Decompress:
    return zlib.decompressobj(wbits=zlib.MAX_WBITS | 16)
