"""Files of BATCH messages: every line of theirs, however it lies in what is read at a time."""

from __future__ import annotations

import gzip
import io
import json
import re
import tempfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from singer_sdk.helpers._batch import StorageTarget
from target_segment_warehouse import files as files_module
from target_segment_warehouse.batch import Files, Records
from target_segment_warehouse.files import BatchFileError, Cleaner, read_files, size_of
from target_segment_warehouse.staging import InvalidRecordError
from target_segment_warehouse.streams import Stream
from target_segment_warehouse.target import TargetSegmentWarehouse

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
    """Files of one name in a folder of their own each."""
    paths = []
    for number, content in enumerate(contents):
        (folder / f"d{number}").mkdir()
        paths.append(folder / f"d{number}" / "Part.json")
        paths[-1].write_bytes(_gzipped(content, number) if compression == "gzip" else content)
    return paths


def _gzipped(content: bytes, number: int) -> bytes:
    """One member, or three of which one is empty; perhaps with zeros after the last."""
    middle = len(content) // 2 if number else 0
    parts = [content[:middle], b"", content[middle:]] if number else [content]
    return b"".join(map(gzip.compress, parts)) + b"\0" * (number % 2 * 512)


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
        (number, name, line)
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
    message = "BATCH message on line 3 of the input"
    assert found == [
        (f"record {number} of {paths[name].as_uri()}, {message}", line)
        for number, name, line in expected
    ]


@pytest.mark.parametrize("padding", [b"", bytes(512), bytes(2 << 20)], ids=len)
def test_what_unpacks_to_much_may_be_followed_by_zeros(tmp_path: Path, padding: bytes) -> None:
    (path,) = write(tmp_path, [b""], "none")
    member = gzip.compress(b'{"a": 1}\n' * 400_000)
    for content, count in ((member, 1), (member + member, 2)):
        path.write_bytes(content + padding)
        found = read_files([files_of([path], "gzip")])
        assert sum(len(records) for records, _ in found) == count * 400_000


def test_a_file_that_ends_in_the_middle_is_named(tmp_path: Path) -> None:
    (path,) = write(tmp_path, [b'{"a": 1}\n' * 1000], "gzip")
    path.write_bytes(path.read_bytes()[:-10])
    with pytest.raises(BatchFileError, match=r"line 3 of the input cannot be read: .*Part\.json"):
        list(read_files([files_of([path], "gzip")]))


def test_the_first_may_be_few(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(files_module, "_READ_BYTES", 90)
    monkeypatch.setattr(files_module, "BLOCK_BYTES", 400)
    files = files_of(write(tmp_path, [b'{"a": 1}\n' * 100], "none"), "none")
    for few_first, counts in ((False, [50, 50]), (True, [10, 50, 40])):
        assert [len(records) for records, _ in read_files([files], few_first=few_first)] == counts


def test_a_wrong_line_is_named_as_it_is(tmp_path: Path) -> None:
    path = tmp_path / "Events-A.json"
    path.write_bytes(b'{"id": "1"}\n{"id": "2"\n')
    batch = {
        "type": "BATCH",
        "stream": "s",
        "encoding": {"format": "jsonl", "compression": "none"},
        "manifest": [path.as_uri()],
    }
    schema = {"type": "SCHEMA", "stream": "s", "schema": {"properties": {}}, "key_properties": []}
    target = TargetSegmentWarehouse(
        config={"warehouse_url": f"duckdb:///{tmp_path / 'w.duckdb'}", "default_target_schema": "s"}
    )
    message = (
        f"Record 2 of {path.as_uri()}, BATCH message on line 2 of the input is not valid JSON."
    )
    with pytest.raises(InvalidRecordError, match=re.escape(message)):
        target.listen(io.StringIO(f"{json.dumps(schema)}\n{json.dumps(batch)}\n"))


@pytest.mark.parametrize("folder", ["a b", "d=1 é", "p%20q", "100%"])
@pytest.mark.parametrize("scheme", ["", "file://"])
def test_files_are_found_as_the_sdk_names_them(tmp_path: Path, folder: str, scheme: str) -> None:
    storage = StorageTarget(f"{scheme}{tmp_path}/{folder}")
    with storage.open("1.json", "wb") as file:
        file.write(b'{"a": 1}\n')
    url = storage.get_url("1.json")
    encoding = {"format": "jsonl", "compression": "none"}
    files = Files(Stream.__new__(Stream), encoding, [url], 3, None, 0)
    assert [len(records) for records, _ in read_files([files])] == [1]
    assert size_of([url], encoding) == 9
    cleaner = Cleaner(is_wished=True)
    cleaner.commit(cleaner.receive("t", [url]))
    assert not [*tmp_path.rglob("1.json")]
