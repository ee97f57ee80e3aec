"""What Arrow sees in a text is what Python sees in it."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from target_segment_warehouse.messages import decode_chunk
from target_segment_warehouse.text import contains, is_utf8

# Surrogates, overlong forms, code points beyond Unicode, sequences cut short.
PIECES = [b"a", "é".encode(), "€".encode(), "😀".encode(), b"\xed\xa0\x80", b"\xed\xbf\xbf"]
PIECES += [b"\xc0\xaf", b"\xe0\x80\xaf", b"\xf0\x80\x80\xaf", b"\xf4\x90\x80\x80", b"\xf5"]
PIECES += [b"\xc3", b"\xe2\x82", b"\xf0\x9f\x98", b"\x80", b"\xff", b"\0", b"\n"]


@given(st.binary() | st.lists(st.sampled_from(PIECES)).map(b"".join))
def test_utf8_is_what_python_decodes(text: bytes) -> None:
    try:
        text.decode()
    except UnicodeDecodeError:
        assert not is_utf8(text)
    else:
        assert is_utf8(text)


@given(st.lists(st.sampled_from([rb"\u0000", rb"\u", b"\\", b"0", b"null", b"nul", b"\xff\n"])))
def test_contains_is_what_python_finds(pieces: list[bytes]) -> None:
    text = b"".join(pieces)
    for part in (r"\u0000", "null", "(", "."):
        assert contains(text, part) == (part.encode() in text)


@pytest.mark.parametrize("end", [b"", b"\n", b"\r\n"])
@pytest.mark.parametrize("blank", [b"", b"\n", b" \n\n"])
def test_lines_have_their_numbers_whatever_is_between_them(blank: bytes, end: bytes) -> None:
    line = b'{"type": "RECORD", "stream": "s", "record": {"a": "\xc3\xa9"}}'
    messages, numbers = decode_chunk(line + b"\n" + blank + line + end, 7)
    assert len(messages) == 2
    assert list(numbers) == [7, 8 + blank.count(b"\n")]
