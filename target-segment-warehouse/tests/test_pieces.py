"""Pieces of a batch: everything of a stream in its order, whatever comes with it."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
from unittest import mock

import msgspec
from hypothesis import given, settings
from hypothesis import strategies as st
from target_segment_warehouse import files, pieces
from target_segment_warehouse.batch import Activation, Files, Records, Rows, Segment
from target_segment_warehouse.pieces import Pieces
from target_segment_warehouse.shape import Seen
from target_segment_warehouse.streams import Stream, stream_from_schema

NAMES = "abcdefg"


def stream_of(name: str, column: str) -> Stream:
    schema = {"properties": {"id": {"type": "string"}, column: {"type": ["integer", "null"]}}}
    return stream_from_schema(name, schema, ["id"], None, None)


SEGMENTS = st.lists(
    st.tuples(
        st.sampled_from(NAMES),
        st.sampled_from(["x", "y"]),  # its SCHEMA
        st.sampled_from([None, None, 1, 2]),
        st.sampled_from(["rows", "files", "activation"]),
        st.integers(0, 6),
    ),
    max_size=20,
)


def build(folder: Path, drawn: Sequence[tuple[Any, ...]]) -> Iterator[tuple[Segment, list[str]]]:
    """Segments, and what each of them holds."""
    for number, (name, column, version, kind, count) in enumerate(drawn):
        stream = stream_of(name, column)
        ids = [f"{number}-{n}" for n in range(count)]
        texts = [msgspec.json.encode({"id": id_, column: 1}) for id_ in ids]
        if kind == "activation":
            yield Activation(stream, number), [f"activate {number}"]
        elif kind == "rows":
            rows = Rows(stream, version)
            rows.records += map(msgspec.Raw, texts)
            rows.lines += range(count)
            rows.extracted += [None] * count
            rows.settle()
            yield rows, ids
        else:
            path = folder / f"{number}.json"
            path.write_bytes(b"".join(text + b"\n" for text in texts))
            encoding = {"format": "jsonl", "compression": "none"}
            yield Files(stream, encoding, [path.as_uri()], number, version, 0), ids


@settings(max_examples=300, deadline=None)
@given(SEGMENTS, st.sets(st.sampled_from(NAMES)), st.integers(1, 200))
def test_each_stream_is_as_it_came(
    drawn: list[tuple[Any, ...]], known: set[str], block_bytes: int
) -> None:
    seen = {name: Seen(stream_of(name, "x"), is_new=False) for name in known}
    with (
        tempfile.TemporaryDirectory() as folder,
        ThreadPoolExecutor(1) as executor,
        mock.patch.object(pieces, "HEAD", 2),
        mock.patch.object(files, "BLOCK_BYTES", block_bytes),
        mock.patch.object(files, "_READ_BYTES", 50),
    ):
        built = list(build(Path(folder), drawn))
        expected: dict[str, list[tuple[Stream, int | None, str]]] = {}
        for segment, held in built:
            expected.setdefault(segment.stream.name, []).extend(
                (segment.stream, segment.version, each) for each in held
            )
        found: dict[str, list[tuple[Stream, int | None, str]]] = {name: [] for name in expected}
        for piece in Pieces([segment for segment, _ in built], seen, executor):
            held = [f"activate {piece.version}"]
            if not isinstance(piece, Activation):
                assert isinstance(piece.records, Records)
                held = [msgspec.json.decode(x)["id"] for x in piece.records.texts().to_pylist()]
                seen[piece.stream.name] = Seen(piece.stream, is_new=False)
            found[piece.stream.name] += [(piece.stream, piece.version, each) for each in held]
    assert found == expected


def test_first_records_of_new_streams_come_before_others() -> None:
    with tempfile.TemporaryDirectory() as folder, ThreadPoolExecutor(1) as executor:
        drawn = [(name, "x", None, "rows", 1_000) for name in "abcdef"]
        segments = [segment for segment, _ in build(Path(folder), drawn)]
        seen = {"c": Seen(stream_of("c", "x"), is_new=False)}
        found = [
            (piece.stream.name, len(piece.records))
            for piece in Pieces(segments, seen, executor)
            if not isinstance(piece, Activation)
        ]
    first, rest = pieces.HEAD, 1_000 - pieces.HEAD
    assert found == [
        *(("a", first), ("b", first), ("a", rest)),
        *(("d", first), ("b", rest), ("e", first), ("c", 1_000), ("f", first)),
        *(("d", rest), ("e", rest), ("f", rest)),
    ]
