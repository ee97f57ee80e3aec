"""Events in the files of BATCH messages: the same records, in one pass, under the same states."""

from __future__ import annotations

import gzip
import json
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pyarrow.parquet
import pytest
from tap_sendgrid.api.errors import InvalidSetting
from tap_sendgrid.event_log import EventLog
from tap_sendgrid.events import writer as writer_module
from tap_sendgrid.events.writer import FileWriter

from .conftest import (
    SAMPLES,
    Message,
    RunTap,
    as_delivery,
    bookmarks,
    fill,
    last_state,
    records,
)

Config = Callable[..., dict[str, Any]]


@pytest.fixture
def config(tmp_path: Path) -> Config:
    """Settings for files in a folder of the test."""

    def make(format_: str = "jsonl", compression: str | None = "gzip", **more: Any) -> Any:
        encoding = {"format": format_} | ({"compression": compression} if compression else {})
        return {
            "encoding": encoding,
            "storage": {"root": (tmp_path / "files").as_uri(), "prefix": "mine-"},
            **more,
        }

    return make


def path_of(url: str) -> Path:
    return Path(url.removeprefix("file://"))


def rows_in(message: Message) -> list[Any]:
    """The records of a BATCH message."""
    rows: list[Any] = []
    for url in message["manifest"]:
        path = path_of(url)
        assert path.name.startswith(f"mine-tap-sendgrid--{message['stream']}-")
        if message["encoding"]["format"] == "parquet":
            rows += pyarrow.parquet.read_table(path).to_pylist()
            continue
        content = path.read_bytes()
        if message["encoding"]["compression"] == "gzip":
            assert path.suffixes[-2:] == [".json", ".gz"]
            content = gzip.decompress(content)
        assert content.endswith(b"}\n")
        rows += map(json.loads, content.splitlines())
    return rows


def by_stream(messages: Sequence[Message]) -> dict[str, list[Any]]:
    found: dict[str, list[Any]] = {}
    for message in messages:
        if message["type"] == "BATCH":
            found.setdefault(message["stream"], []).extend(rows_in(message))
    return found


ODD = [
    {"event": "open", "sg_event_id": "o", "n": 1.25, "deep": {"a": [1, {"b": None}]}, "é": '"😀\n'},
    {"event": 5, "timestamp": "soon"},
]


@pytest.mark.parametrize("compression", ["gzip", "none", None])
def test_the_files_hold_the_same_records(
    log: EventLog, run_tap: RunTap, config: Config, compression: str | None
) -> None:
    log.append(
        [as_delivery([*SAMPLES, *ODD]), as_delivery([{"event": "click", "sg_event_id": "2"}])]
    )
    plain = run_tap()
    messages = run_tap(batch_config=config(compression=compression))
    assert {m["encoding"]["compression"] for m in messages if m["type"] == "BATCH"} == {
        compression or "gzip"
    }
    assert not records(messages)
    found = by_stream(messages)
    assert len(found) > 9
    for stream, rows in found.items():
        assert rows == records(plain, stream)
    assert sum(map(len, found.values())) == len(records(plain))
    assert last_state(messages) == last_state(plain)


def test_parquet(log: EventLog, run_tap: RunTap, config: Config) -> None:
    log.append([as_delivery(SAMPLES)])
    plain = run_tap(selected=["bounce", "_open"])
    messages = run_tap(
        selected=["bounce", "_open"], batch_config=config("parquet", None, batch_size=2)
    )
    for stream, rows in by_stream(messages).items():
        kept = [{k: v for k, v in row.items() if v is not None} for row in rows]
        assert [row["id"] for row in kept] == [r["id"] for r in records(plain, stream)]


def test_what_no_column_holds_is_written_as_lines(
    log: EventLog, run_tap: RunTap, config: Config
) -> None:
    mixed = [{"event": "open", "sg_event_id": str(n), "k": k} for n, k in enumerate([1, "x", {}])]
    log.append([as_delivery([*mixed, {"event": "click", "sg_event_id": "c"}])])
    messages = run_tap(batch_config=config("parquet", "none"))
    formats = {m["stream"]: m["encoding"]["format"] for m in messages if m["type"] == "BATCH"}
    assert formats == {"_open": "jsonl", "click": "parquet"}
    assert by_stream(messages)["_open"] == records(run_tap(), "_open")


def test_a_package_that_parquet_needs_is_named(
    log: EventLog, run_tap: RunTap, config: Config, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill(log, 1)
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(InvalidSetting, match=r"tap-sendgrid\[parquet\].*jsonl"):
        run_tap(batch_config=config("parquet"))


def test_what_is_asked_of_single_records_is_done(
    log: EventLog, run_tap: RunTap, config: Config
) -> None:
    log.append([as_delivery(SAMPLES)])
    wishes: dict[str, Any] = {
        "selected": ["click", "bounce"],
        "without": ["click.url_offset.index"],
        "stream_maps": {"bounce": {"__filter__": "type == 'blocked'", "__alias__": "refused"}},
        "stream_map_config": {},
    }
    plain = run_tap(**wishes)
    found = by_stream(run_tap(**wishes, batch_config=config()))
    assert sorted(found) == ["click", "refused"]
    assert found == {stream: records(plain, stream) for stream in found}
    assert "index" not in found["click"][0]["url_offset"]


def test_files_end_at_the_number_of_records_and_at_a_size(
    log: EventLog, run_tap: RunTap, config: Config, monkeypatch: pytest.MonkeyPatch
) -> None:
    ids = fill(log, 25, per_delivery=5)
    messages = run_tap(selected=["_open"], batch_config=config(batch_size=7))
    sizes = [len(rows_in(m)) for m in messages if m["type"] == "BATCH"]
    assert sizes == [7, 7, 7, 4]
    assert [row["id"] for row in by_stream(messages)["_open"]] == ids
    monkeypatch.setattr(writer_module, "_MAX_FILE_BYTES", 1)
    monkeypatch.setattr(writer_module, "_CHUNK_RECORDS", 1)
    messages = run_tap(selected=["_open"], batch_config=config(batch_size=7))
    assert sum(m["type"] == "BATCH" for m in messages) == 25


def test_a_state_comes_after_the_files_of_all_that_it_says(
    log: EventLog, run_tap: RunTap, config: Config, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(FileWriter, "records_per_state", 10)
    ids = fill(log, 40, per_delivery=4)
    seen: list[str] = []
    states = []
    for message in run_tap(selected=["_open"], batch_config=config()):
        if message["type"] == "BATCH":
            seen += [row["id"] for row in rows_in(message)]
        elif message["type"] == "STATE":
            states.append(bookmarks(message["value"])["_open"])
            assert seen == ids[: states[-1] * 4]
    assert states == [3, 6, 9, 10]


def test_one_pass_for_streams_that_lag(log: EventLog, run_tap: RunTap, config: Config) -> None:
    log.append([as_delivery([{"event": w, "sg_event_id": w} for w in ("open", "click")])] * 4)
    state = {
        "bookmarks": {
            name: {"replication_key": "log_offset", "replication_key_value": offset}
            for name, offset in {"_open": 3, "click": 1}.items()
        }
    }
    messages = run_tap(state=state, selected=["_open", "click"], batch_config=config())
    assert {stream: len(rows) for stream, rows in by_stream(messages).items()} == {
        "_open": 1,
        "click": 3,
    }
    assert bookmarks(last_state(messages)) == {"_open": 4, "click": 4}
    # Only what the target has is committed: the smallest bookmark that the run was given.
    assert [p.offset for p in log.positions()] == [1]


def test_what_is_no_event_is_set_aside(log: EventLog, run_tap: RunTap, config: Config) -> None:
    log.append([as_delivery([{"event": "open", "sg_event_id": "o"}, 5])])
    assert len(by_stream(run_tap(batch_config=config()))["_open"]) == 1
    assert len(log.quarantined()) == 1


def test_no_events_make_no_files(
    log: EventLog, run_tap: RunTap, config: Config, tmp_path: Path
) -> None:
    fill(log, 1)
    assert not by_stream(run_tap(selected=["click"], batch_config=config()))
    assert not (tmp_path / "files").exists()


def test_follow_and_batch_files_exclude_each_other(run_tap: RunTap, config: Config) -> None:
    # Of the SDK's ConfigValidationError the command line would not show the text.
    with pytest.raises(InvalidSetting, match="`follow` and `batch_config` do not go together"):
        run_tap(follow=True, batch_config=config())


def test_a_folder_that_cannot_be_written_to_is_named(
    log: EventLog, run_tap: RunTap, config: Config, tmp_path: Path
) -> None:
    fill(log, 1)
    (tmp_path / "files").write_text("in the way")
    with pytest.raises(InvalidSetting, match=r"cannot be written to file:.*batch_config"):
        run_tap(batch_config=config())


def test_no_state_is_ahead_of_a_file_that_could_not_be_written(
    log: EventLog,
    run_tap: RunTap,
    config: Config,
    monkeypatch: pytest.MonkeyPatch,
    capsysbinary: pytest.CaptureFixture[bytes],
) -> None:
    ids = fill(log, 10)
    write, failures = gzip.compress, iter([OSError("no space left on device")])

    def fail_once(*args: Any) -> bytes:
        for failure in failures:
            raise failure
        return write(*args)

    monkeypatch.setattr(gzip, "compress", fail_once)
    with pytest.raises(InvalidSetting, match="no space left"):
        run_tap(selected=["_open"], batch_config=config(batch_size=4))
    messages = [json.loads(line) for line in capsysbinary.readouterr().out.splitlines()]
    assert bookmarks(last_state(messages)) == {"_open": 3}
    assert [row["id"] for row in by_stream(messages)["_open"]] == ids[:4]
