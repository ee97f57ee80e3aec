"""Reads Singer messages as bytes, a chunk of lines at a time, from a pipe or a file."""

from __future__ import annotations

import contextlib
import io
import os
import select
import sys
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from typing import IO, Any

from singer_sdk.singerlib.encoding.base import GenericSingerReader

from target_segment_warehouse.messages import (
    InvalidMessageError,
    Message,
    TornInputError,
    decode_chunk,
)

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

CHUNK_BYTES = 1 << 20
"""How much is read, and decoded, at a time."""

POLL_SECONDS = 0.5
"""How often a quiet input lets batches that have come of age be flushed, and a signal be seen."""

Receive = Callable[[list[Message], Sequence[int], int], None]


class Stopped(Exception):
    """Raised by ``idle`` when no more input is to be read."""


class LineReader(GenericSingerReader[str]):
    """The SDK's reader interface over chunks of lines instead of single lines.

    Args:
        receive: Takes messages, the numbers of their lines, and their size in bytes.
        idle: Called after each chunk, and about every ``POLL_SECONDS`` while the input is quiet;
            raises ``Stopped`` to end reading.
        break_off: Called when the input ends in the middle of a line.
        abort: Called when reading fails otherwise, with the reason.
    """

    def __init__(
        self,
        receive: Receive,
        idle: Callable[[], None],
        break_off: Callable[[TornInputError], None],
        abort: Callable[[BaseException], None],
    ) -> None:
        super().__init__()
        self._receive = receive
        self._idle = idle
        self._break_off = break_off
        self._abort = abort

    @property
    def default_input(self) -> IO[str]:
        """Standard input."""
        return sys.stdin

    def deserialize_json(self, line: str) -> dict[str, Any]:
        """Unused: lines are decoded by the chunk."""
        raise NotImplementedError

    def process_lines(
        self, file_input: IO[str] | None, callbacks: dict[str, Callable[[dict[str, Any]], None]]
    ) -> Counter[str]:
        """Read the input to its end, or until told to stop.

        Args:
            file_input: What to read; standard input if None.
            callbacks: Unused: they take one message at a time.

        Returns:
            How many messages of each type were read.
        """
        counts: Counter[type[Message]] = Counter()
        line = 1
        try:
            for chunk in _whole_lines(_blocks(file_input or self.default_input, self._idle)):
                messages, lines = _decode(chunk, line)
                self._receive(messages, lines, len(chunk))
                # Counting line ends in bytes is slow; of usual chunks decoding did it already.
                line = lines.stop if isinstance(lines, range) else line + chunk.count(b"\n")
                counts.update(Counter(map(type, messages)))
                self._idle()
        except Stopped:
            pass
        except TornInputError as failure:
            self._break_off(failure)
        except BaseException as failure:
            self._abort(failure)
            raise
        return Counter({str(cls.__struct_config__.tag): n for cls, n in counts.items()})


def _decode(chunk: bytes, line: int) -> tuple[list[Message], Sequence[int]]:
    try:
        return decode_chunk(chunk, line)
    except InvalidMessageError:
        # Only the last line of an input can be without an end, and is then a chunk of its own.
        if chunk.endswith((b"\n", b"}")):
            raise
        raise TornInputError(
            f"The input ends in the middle of line {line}: the tap was probably killed. What came "
            "before is loaded; the next run goes on from there."
        ) from None


def _blocks(source: IO[str], idle: Callable[[], None]) -> Iterator[bytes]:
    """The source's bytes as they come, to the end of the input."""
    try:
        descriptor = source.fileno()
    except (AttributeError, io.UnsupportedOperation):
        while text := source.read(CHUNK_BYTES):
            yield text.encode("utf-8", "surrogatepass")
        return
    if fcntl is not None:
        # A pipe holds 64 KiB unless asked for more: sixteen times the chunks for the same bytes.
        with contextlib.suppress(OSError, AttributeError):
            fcntl.fcntl(descriptor, fcntl.F_SETPIPE_SZ, CHUNK_BYTES)
    while True:
        while not select.select([descriptor], [], [], POLL_SECONDS)[0]:
            idle()
        block = os.read(descriptor, CHUNK_BYTES)
        if not block:
            return
        yield block


def _whole_lines(blocks: Iterator[bytes]) -> Iterator[bytes]:
    """Cut blocks at line ends; the last line needs none."""
    parts: list[bytes | memoryview] = []
    for block in blocks:
        end = block.rfind(b"\n") + 1
        if not end:
            parts.append(block)
            continue
        parts.append(memoryview(block)[:end])
        yield b"".join(parts)
        parts = [block[end:]] if end < len(block) else []
    if parts:
        yield b"".join(parts)
