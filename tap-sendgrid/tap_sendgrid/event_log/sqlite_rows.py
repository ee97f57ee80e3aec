"""What stands in a row of a SQLite log, and how damage to it is found.

The checksum is of the body; of the rest a row says only whether it can be read. Headers are asked
for as a blob: SQLite gives no text of bytes that are no UTF-8, and with it not the row.
"""

from __future__ import annotations

import zlib
from collections.abc import Mapping

import msgspec

from tap_sendgrid.event_log.base import Delivery
from tap_sendgrid.event_log.micros import from_micros

HEADERS = "CAST(headers AS BLOB)"
BAD_HEADERS = "has headers that cannot be read"

_decode = msgspec.json.Decoder(dict[str, str]).decode


class DamagedRowError(Exception):
    """The row is not what was written; the message goes on after "delivery 7"."""


def delivery_of(received_at: int, checksum: int, headers: bytes, body: bytes) -> Delivery:
    """The delivery of a row.

    Raises:
        DamagedRowError: A part of it is not what was written.
    """
    try:
        whole = zlib.crc32(body) == checksum
    except TypeError:  # a damaged page may tell of another type
        whole = False
    if not whole:
        raise DamagedRowError("does not match its checksum")
    try:
        moment = from_micros(received_at)
    except (TypeError, OverflowError):
        raise DamagedRowError("has an impossible time of arrival") from None
    found = headers_of(headers)
    if found is None:
        raise DamagedRowError(BAD_HEADERS)
    return Delivery(body, moment, found)


def headers_of(stored: bytes) -> dict[str, str] | None:
    """The headers of a row; None if they cannot be read."""
    try:
        return _decode(stored)
    except (TypeError, ValueError, RecursionError):
        return None


def as_json(headers: Mapping[str, str]) -> str:
    """Headers as they are stored."""
    return msgspec.json.encode(dict(headers)).decode()
