"""Files of BATCH messages: every line of theirs, however it lies in what is read at a time."""

from __future__ import annotations

import gzip
import tempfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from target_segment_warehouse import files as files_module
from target_segment_warehouse.batch import Files, Records
from target_segment_warehouse.files import BatchFileError, read_files
from target_segment_warehouse.streams import Stream

LINES = st.lists(
    st.sampled_from(
        [
            b"",
            b" ",
            b"\t",
            b"\r",
            b"{}",
            b'{"a": 1}',
            b' {"a": "b"}',
            b'{"x": "' + b"y" * 40 + b'"}',
        ]
    )
    | st.text("{}ab\\ é", max_size=30).map(str.encode),
    max_size=12,
)


def files_of(paths: list[Path], compression: str) -> Files:
    stream = Stream.__new__(Stream)
    encoding: dict[str, Any] = {"format": "jsonl", "compression": compression}
    return Files(stream, encoding, [path.as_uri() for path in paths], 3, None, 0)


def write(folder: Path, contents: list[bytes], compression: str) -> list[Path]:
    paths = []
    for number, content in enumerate(contents):
        paths.append(folder / f"{number}.json")
        paths[-1].write_bytes(gzip.compress(content) if compression == "gzip" else content)
    return paths


@settings(
    max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    st.lists(st.tuples(LINES, st.booleans()), min_size=1, max_size=3),
    st.integers(2, 60),  # a file is known to be compressed by its first two
    st.integers(1, 100),
    st.sampled_from(["none", "gzip"]),
    st.booleans(),
)
def test_every_line_is_there_once_in_its_place(
    monkeypatch: pytest.MonkeyPatch,
    contents: list[tuple[list[bytes], bool]],
    read_bytes: int,
    block_bytes: int,
    compression: str,
    few_first: bool,
) -> None:
    monkeypatch.setattr(files_module, "_READ_BYTES", read_bytes)
    monkeypatch.setattr(files_module, "BLOCK_BYTES", block_bytes)
    texts = [b"\n".join(lines) + b"\n" * ended for lines, ended in contents]
    expected = [
        (f"record {number} of {name}.json, BATCH message on line 3 of the input", line)
        for name, text in enumerate(texts)
        for number, line in enumerate(text.split(b"\n"), 1)
        if line.strip()
    ]
    found = []
    with tempfile.TemporaryDirectory() as folder:
        paths = write(Path(folder), texts, compression)
        for records, place in read_files([files_of(paths, compression)], few_first=few_first):
            assert isinstance(records, Records)
            lines = records.text.split(b"\n")
            assert lines.pop() == b""
            assert records.longest() >= max(map(len, lines))
            assert records.texts().to_pylist() == [f"{line.decode()}\n" for line in lines]
            first, rest = records.split(len(lines) // 2)
            assert first.text + rest.text == records.text
            assert first.texts().to_pylist() + rest.texts().to_pylist() == (
                records.texts().to_pylist()
            )
            names = [place.of(line) for line in records.lines]
            found += zip(names, lines, strict=True)
    assert found == expected


def test_a_file_that_ends_in_the_middle_is_named(tmp_path: Path) -> None:
    (path,) = write(tmp_path, [b'{"a": 1}\n' * 1000], "gzip")
    path.write_bytes(path.read_bytes()[:-10])
    with pytest.raises(BatchFileError, match=r"line 3 of the input cannot be read: .*0\.json"):
        list(read_files([files_of([path], "gzip")]))


def test_the_first_may_be_few(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(files_module, "_READ_BYTES", 90)
    monkeypatch.setattr(files_module, "BLOCK_BYTES", 400)
    files = files_of(write(tmp_path, [b'{"a": 1}\n' * 100], "none"), "none")
    for few_first, counts in ((False, [50, 50]), (True, [10, 50, 40])):
        assert [len(records) for records, _ in read_files([files], few_first=few_first)] == counts
