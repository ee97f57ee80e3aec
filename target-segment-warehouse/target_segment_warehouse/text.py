"""Looks into long texts through Arrow: several times as fast as Python, beside other threads."""

from __future__ import annotations

import re
from array import array

import pyarrow as pa
import pyarrow.compute as pc


def is_utf8(text: bytes) -> bool:
    """Whether a text is UTF-8."""
    if text.isascii():
        return True
    try:
        _column(text).cast(pa.large_string())
    except pa.ArrowInvalid:
        return False
    return True


def contains(text: bytes, part: str) -> bool:
    """Whether a text contains another, of ASCII characters."""
    # Arrow's search for regular expressions is some thirty times as fast as its one for texts.
    return bool(pc.match_substring_regex(_column(text), pattern=re.escape(part))[0].as_py())


def _column(text: bytes) -> pa.Array:
    """The text, uncopied, as the only value of an Arrow column."""
    ends = pa.py_buffer(array("q", (0, len(text))))
    return pa.Array.from_buffers(pa.large_binary(), 1, [None, ends, pa.py_buffer(text)])
