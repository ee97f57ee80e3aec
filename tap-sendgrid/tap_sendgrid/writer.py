"""Writes Singer messages to stdout: msgspec for the bytes, few and large writes."""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping
from typing import Any, BinaryIO

import msgspec
from singer_sdk.singerlib.encoding.base import GenericSingerWriter, SingerMessageType
from singer_sdk.singerlib.encoding.simple import Message

_BUFFER_BYTES = 256 * 1024
_BUFFER_SECONDS = 1.0


def _plain(value: Any) -> Any:
    return dict(value) if isinstance(value, Mapping) else str(value)


def _write_all(out: BinaryIO, data: bytes | bytearray) -> None:
    """Write all of it: unbuffered (PYTHONUNBUFFERED), a signal cuts a write short."""
    rest = memoryview(data)
    while rest:
        rest = rest[out.write(rest) or 0 :]


class MessageWriter(GenericSingerWriter[bytes, Message]):
    """Holds RECORDs back until there is a good chunk of them; any other message goes out at once.

    What is held back is never ahead of state: a STATE leaves after everything written before it.
    A signal that arrives in the middle of a write takes effect when the write is whole, so that no
    line is ever torn (see `stop_after_write`).
    """

    def __init__(self) -> None:
        self._encoder = msgspec.json.Encoder(enc_hook=_plain, decimal_format="number")
        self._buffer = bytearray()
        self._flushed_at = time.monotonic()
        self._busy = False
        self._stop: BaseException | None = None

    def encode(self, value: Any) -> bytes:
        """A value as JSON, without a line break."""
        return self._encoder.encode(value)

    def serialize_message(self, message: Message) -> bytes:
        """The message as one line of JSON, newline included."""
        return self.encode(message.to_dict()) + b"\n"

    def write_message(self, message: Message) -> None:
        """Write a message; RECORDs may wait for company."""
        record = message.type == SingerMessageType.RECORD
        self._append(self.serialize_message(message), flush=not record)

    def write_lines(self, lines: bytes | bytearray) -> None:
        """Write ready-made messages, each with its newline; the caller made them valid."""
        self._append(lines, flush=False)

    def flush(self) -> None:
        """Hand everything held back to the reader of stdout."""
        self._append(b"", flush=True)

    def stop_after_write(self, stop: BaseException) -> bool:
        """Ask that ``stop`` is raised as soon as the present write is done.

        Returns:
            Whether a write is going on; if not, the caller raises ``stop`` itself.
        """
        if self._busy:
            self._stop = stop
        return self._busy

    def _append(self, data: bytes | bytearray, *, flush: bool) -> None:
        self._busy = True
        try:
            self._buffer += data
            due = time.monotonic() - self._flushed_at > _BUFFER_SECONDS
            if flush or due or len(self._buffer) >= _BUFFER_BYTES:
                self._write_out()
        finally:
            self._busy = False
        if self._stop is not None:
            stop, self._stop = self._stop, None
            raise stop

    def _write_out(self) -> None:
        self._flushed_at = time.monotonic()
        if self._buffer:
            out = getattr(sys.stdout, "buffer", None)
            if out is None:  # a StringIO in place of stdout
                sys.stdout.write(self._buffer.decode())
            else:
                sys.stdout.flush()
                _write_all(out, self._buffer)
                out.flush()
            self._buffer = bytearray()
        sys.stdout.flush()
