"""One pass of the tap over a log of events, against plain SDK streams that read the same log.

    python benchmarks/bench_tap_events.py [--events 1000000]

Wall time of whole processes, start-up included, output to a file. The plain tap is what the SDK's
guide leads to: one stream per event type, each with its own `get_records` over the log. It stands
in this file (`plain_tap`), once as the SDK comes and once tuned with all that the SDK offers (its
msgspec writer, no type conformance). Each output's records are counted, per stream.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import sys
import tempfile
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec
from measure import Run, machine, run, save, table
from sendgrid_simulator import generate_events
from singer_sdk import Stream, Tap
from singer_sdk import typing as th
from singer_sdk.contrib.msgspec import MsgSpecWriter
from singer_sdk.helpers.conform import TypeConformanceLevel
from tap_sendgrid.event_log import Delivery, open_event_log
from tap_sendgrid.events import event_stream_classes
from tap_sendgrid.events.fields import EVENT_TYPES, EventType, fields_of
from tap_sendgrid.events.schema import event_schema

PER_DELIVERY = 1000


def fill_log(url: str, events: int) -> Counter[str]:
    """A log of deliveries of 1,000 events; gives how many of each kind."""
    log = open_event_log(url)
    words: Counter[str] = Counter()
    batch: list[bytes] = []
    left = events
    for event in generate_events(messages=events, seed=1):
        words[event["event"]] += 1
        batch.append(msgspec.json.encode(dict(sorted(event.items()))))
        left -= 1
        if len(batch) == PER_DELIVERY or not left:
            body = b"[" + b",\r\n".join(batch) + b"]\r\n"
            log.append([Delivery(body, datetime.now(UTC), {"content-type": "application/json"})])
            batch = []
        if not left:
            break
    log.close()
    return words


class PlainStream(Stream):
    """One event type; the bookmark is the time of arrival."""

    event_type: EventType
    primary_keys = ("id",)
    replication_key = "received_at"
    is_sorted = True

    def get_records(self, context: Any) -> Iterable[dict[str, Any]]:
        known = fields_of(self.event_type.word)
        log = open_event_log(self.config["event_log_url"])
        for logged in log.read(0):
            received_at = logged.delivery.received_at.isoformat()
            for event in json.loads(logged.delivery.body):
                if event["event"] != self.event_type.word:
                    continue
                record: dict[str, Any] = {
                    "id": event.get("sg_event_id"),
                    "received_at": received_at,
                }
                custom = {}
                for key, value in event.items():
                    if key == "timestamp":
                        record["timestamp"] = value
                        record["occurred_at"] = datetime.fromtimestamp(value, UTC).isoformat()
                    elif key in known:
                        record[known[key].name] = value
                    else:
                        custom[key] = value
                if isinstance(record.get("category"), list):
                    record["category"] = json.dumps(record["category"])
                record["custom_args"] = custom
                yield record
        log.close()


class TunedStream(PlainStream):
    TYPE_CONFORMANCE_LEVEL = TypeConformanceLevel.NONE


class PlainTap(Tap):
    name = "plain-tap"
    config_jsonschema = th.PropertiesList(th.Property("event_log_url", th.StringType)).to_dict()
    stream_class: type[PlainStream] = PlainStream

    def discover_streams(self) -> Sequence[Stream]:
        return [
            type(t.stream, (self.stream_class,), {"name": t.stream, "event_type": t})(
                tap=self, schema=event_schema(t)
            )
            for t in EVENT_TYPES
            if t.word
        ]


class TunedTap(PlainTap):
    message_writer_class = MsgSpecWriter
    stream_class = TunedStream


TAPS = {"plain": PlainTap, "tuned": TunedTap}


def write_catalog(path: Path, url: str) -> None:
    """The tap's catalog with the event streams selected."""
    from tap_sendgrid.tap import TapSendGrid

    catalog = TapSendGrid(config={"event_log_url": url}).catalog_dict
    names = {stream_class.name for stream_class in event_stream_classes}
    for stream in catalog["streams"]:
        for entry in stream["metadata"]:
            if not entry["breadcrumb"]:
                entry["metadata"]["selected"] = stream["tap_stream_id"] in names
    path.write_text(json.dumps(catalog))


def count_records(path: Path) -> Counter[str]:
    """Records per stream in a tap's output."""

    class Head(msgspec.Struct):
        type: str
        stream: str = ""

    decoder = msgspec.json.Decoder(Head)
    counts: Counter[str] = Counter()
    with path.open("rb") as lines:
        for line in lines:
            head = decoder.decode(line)
            counts[head.stream] += head.type == "RECORD"
    return +counts


def measured(label: str, command: list[str], folder: Path, wanted: Counter[str]) -> Run:
    result = run(command, None, folder / f"{label}.log", dict(os.environ, LOGLEVEL="WARNING"))
    counts = count_records(result.stdout)
    if counts != wanted:
        raise RuntimeError(f"{label}: {counts} records instead of {wanted}")
    result.stdout.unlink()
    print(f"{label}: {result.seconds:.1f} s", file=sys.stderr, flush=True)
    return result


def taps(folder: Path, url: str) -> Iterator[tuple[str, str, list[str]]]:
    config, catalog = folder / "config.json", folder / "catalog.json"
    config.write_text(json.dumps({"event_log_url": url}))
    write_catalog(catalog, url)
    ours = "from tap_sendgrid.__main__ import main; main()"
    arguments = ["--config", str(config)]
    yield (
        "tap-sendgrid",
        "ours",
        [sys.executable, "-c", ours, *arguments, "--catalog", str(catalog)],
    )
    here = [sys.executable, str(Path(__file__).resolve())]
    yield "SDK streams, tuned", "tuned", [*here, "--as", "tuned", *arguments]
    yield "SDK streams, plain", "plain", [*here, "--as", "plain", *arguments]


def main() -> None:
    if sys.argv[1:2] == ["--as"]:
        kind = TAPS[sys.argv[2]]
        sys.argv[1:3] = []
        kind.cli()
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--events", type=int, default=1_000_000)
    events = parser.parse_args().events
    folder = Path(tempfile.mkdtemp(prefix="bench-tap-"))
    try:
        url = f"sqlite:///{folder / 'events.db'}"
        words = fill_log(url, events)
        streams = {event_type.word: event_type.stream for event_type in EVENT_TYPES}
        wanted = Counter({streams[word]: count for word, count in words.items()})
        load = os.getloadavg()[0]
        results = {
            label: measured(key, command, folder, wanted)
            for label, key, command in taps(folder, url)
        }
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    plain = results["SDK streams, plain"].seconds
    rows = [
        [
            label,
            f"{r.seconds:.1f}",
            f"{r.cpu_seconds:.1f}",
            f"{events / r.seconds:,.0f}",
            f"{r.peak_mb:.0f}",
            f"{plain / r.seconds:.1f}x",
        ]
        for label, r in results.items()
    ]
    header = ["tap", "seconds", "CPU seconds", "events/s", "peak MB", "against plain"]
    print(
        f"{events:,} events, deliveries of {PER_DELIVERY:,}; load average {load:.1f} at the start"
    )
    print(", ".join(machine().values()))
    print(table(header, rows))
    save(
        "tap_events",
        {
            "events": events,
            "load_average_at_start": load,
            "taps": {label: r.figures() for label, r in results.items()},
        },
    )


if __name__ == "__main__":
    main()
