"""Singer files for the target benchmarks: events over nine streams, recipients with repeats.

The records have the properties and sizes that tap-sendgrid emits; the schemas are the tap's own.
Files are made once, in data/, and reused.
"""

from __future__ import annotations

import base64
import gzip
import json
import random
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
from measure import DATA

EVENT_SHARES = {
    "processed": 25,
    "delivered": 24,
    "_open": 22,
    "click": 10,
    "deferred": 6,
    "bounce": 4,
    "dropped": 4,
    "unsubscribe": 3,
    "spam_report": 2,
}
WORDS = {"_open": "open", "spam_report": "spamreport"}
STATE_EVERY = 10_000
AGENT = (
    "Mozilla/5.0 (Macintosh; Intel Mac OS X 10_15_7) AppleWebKit/605.1.15 (KHTML, like Gecko)"
    " Version/26.0.1 Safari/605.1.15"
)


def schemas() -> dict[str, dict]:
    """Each stream's schema as tap-sendgrid discovers it, with its Segment annotation."""
    tap = str(Path(sys.executable).with_name("tap-sendgrid"))
    catalog = json.loads(
        subprocess.run([tap, "--discover"], check=True, capture_output=True).stdout
    )
    return {s["tap_stream_id"]: s["schema"] for s in catalog["streams"]}


def event(stream: str, number: int, rng: random.Random) -> dict:
    """One event as the tap emits it (sendgrid-api reference, fields by event)."""
    message = number // 3
    msg = base64.urlsafe_b64encode(message.to_bytes(16, "big")).decode().rstrip("=")
    second = 1_760_000_000 + number // 50
    clock = f"{second // 60 % 60:02d}:{second % 60:02d}"
    record: dict[str, object] = {
        "id": base64.urlsafe_b64encode(f"{stream}-{number}-1234567-{msg}-0".encode()).decode(),
        "received_at": f"2026-10-09T08:{clock}.{number % 10**6:06d}Z",
        "timestamp": second,
        "occurred_at": f"2026-10-09T08:{clock}Z",
        "event": WORDS.get(stream, stream),
        "email": f"person{message % 50_000}@example.com",
        "sg_message_id": f"{msg}.recvd-786d47b7ff-42mlq-1-68E7A5C0-B.0",
        "category": '["welcome","digest"]' if number % 3 else "welcome",
        "custom_args": {"order_id": f"A-{message}", "tenant": f"t{message % 40}", "variant": "b"},
    }
    record["sg_event_id"] = record["id"]
    if stream in ("processed", "delivered", "deferred", "bounce", "dropped"):
        record["smtp_id"] = f"<{msg}@geopod-ismtpd-16>"
    if stream in ("delivered", "deferred", "bounce"):
        record |= {"ip": "192.0.2.10", "tls": 1, "response": "250 2.0.0 OK"}
    if stream == "deferred":
        record["attempt"] = str(rng.randint(1, 9))
    if stream in ("bounce", "dropped"):
        record |= {"reason": "550 5.1.1 user unknown", "status": "5.1.1"}
    if stream in ("_open", "click"):
        record |= {"ip": f"198.51.100.{number % 250}", "useragent": AGENT}
    if stream == "click":
        record |= {
            "url": f"https://shop.example/?p={number}",
            "url_offset": {"index": number % 7, "type": "html"},
        }
    return record


def events(count: int, start: int = 0) -> Iterator[tuple[str, dict]]:
    """``count`` (stream, record) pairs, streams mixed as a sender's traffic mixes them."""
    rng = random.Random(start + 1)
    streams, weights = list(EVENT_SHARES), list(EVENT_SHARES.values())
    for number, stream in enumerate(rng.choices(streams, weights, k=count), start):
        yield stream, event(stream, number, rng)


def recipients(count: int) -> Iterator[tuple[str, dict]]:
    """``count`` recipients; one in five repeats an earlier id with a later change."""
    rng = random.Random(7)
    fresh = 0
    for number in range(count):
        repeat = number % 5 == 4
        key = rng.randrange(fresh) if repeat else fresh
        fresh += not repeat
        yield (
            "recipients",
            {
                "id": f"{key:08x}-43b9-4c67-a890-3a38cb63b54a",
                "received_at": f"2026-10-09T08:00:{number % 60:02d}.000000Z",
                "email": f"person{key}@example.com",
                "first_name": f"First{key % 997}",
                "last_name": f"Last{number % 991}",
                "city": "Köln" if key % 2 else None,
                "country": "DE",
                "created_at": "2026-01-01T00:00:00Z",
                "updated_at": f"2026-10-0{1 + number % 9}T12:00:{number % 60:02d}Z",
                "custom_fields": {"plan": f"p{key % 4}", "score": number % 100, "ltv": key / 7},
            },
        )


def schema_of(stream: str, known: dict[str, dict]) -> dict:
    """The tap's schema; custom fields as this data set defines them."""
    schema = json.loads(json.dumps(known[stream]))
    collection = "object" if stream == "recipients" else "event"
    schema["x-segment"] = {"collection": collection}
    if collection == "event":
        schema["x-segment"]["hoist"] = ["custom_args"]
    else:
        schema["properties"]["custom_fields"] = {
            "type": ["object", "null"],
            "properties": {
                "plan": {"type": ["string", "null"]},
                "score": {"type": ["integer", "null"]},
                "ltv": {"type": ["number", "null"]},
            },
        }
    return schema


def schema_messages(streams: list[str]) -> list[bytes]:
    """SCHEMA lines for the streams."""
    known = schemas()
    return [
        json.dumps(
            {
                "type": "SCHEMA",
                "stream": stream,
                "schema": schema_of(stream, known),
                "key_properties": ["id"],
            }
        ).encode()
        for stream in streams
    ]


def write_records(path: Path, pairs: Iterator[tuple[str, dict]], streams: list[str]) -> Path:
    """RECORD lines with a STATE every 10,000, as taps write them."""
    if path.exists():
        return path
    DATA.mkdir(exist_ok=True)
    part = path.with_suffix(".part")
    dump = json.JSONEncoder(separators=(",", ":"), ensure_ascii=False).encode
    with part.open("wb", buffering=1 << 20) as out:
        for line in schema_messages(streams):
            out.write(line + b"\n")
        position = 0
        for position, (stream, record) in enumerate(pairs, 1):
            out.write(
                f'{{"type":"RECORD","stream":"{stream}","record":{dump(record)},'
                f'"time_extracted":"2026-10-09T08:00:00.000000+00:00"}}\n'.encode()
            )
            if position % STATE_EVERY == 0:
                out.write(b'{"type":"STATE","value":{"bookmarks":{"position":%d}}}\n' % position)
        out.write(b'{"type":"STATE","value":{"bookmarks":{"position":%d}}}\n' % position)
    part.rename(path)
    return path


def write_batches(path: Path, pairs: Iterator[tuple[str, dict]], streams: list[str]) -> Path:
    """The same records as BATCH messages, with files of 10,000 in an encoding of the SDK's.

    Args:
        path: Where to; Parquet if it ends in ``.parquet``, else gzipped JSONL.
        pairs: Streams and records.
        streams: All streams.
    """
    if path.exists():
        return path
    is_parquet = path.suffix == ".parquet"
    folder = path.with_suffix(".files-parquet" if is_parquet else ".files")
    folder.mkdir(parents=True, exist_ok=True)
    waiting: dict[str, list[dict]] = {stream: [] for stream in streams}
    messages = schema_messages(streams)
    dump = json.JSONEncoder(separators=(",", ":"), ensure_ascii=False).encode

    def close(stream: str) -> None:
        file = folder / f"{len(messages):05d}-{stream}"
        if is_parquet:
            pq.write_table(pa.Table.from_pylist(waiting[stream]), file)
            encoding = {"format": "parquet", "compression": "snappy"}
        else:
            with gzip.open(file, "wb", compresslevel=1) as out:
                out.writelines(f"{dump(record)}\n".encode() for record in waiting[stream])
            encoding = {"format": "jsonl", "compression": "gzip"}
        waiting[stream] = []
        message = {
            "type": "BATCH",
            "stream": stream,
            "encoding": encoding,
            "manifest": [file.as_uri()],
        }
        messages.append(json.dumps(message).encode())

    for stream, record in pairs:
        waiting[stream].append(record)
        if len(waiting[stream]) == 10_000:
            close(stream)
    for stream, rest in waiting.items():
        if rest:
            close(stream)
    messages.append(b'{"type":"STATE","value":{"bookmarks":{"position":1}}}')
    path.write_bytes(b"\n".join(messages) + b"\n")
    return path
