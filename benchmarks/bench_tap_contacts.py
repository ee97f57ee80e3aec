"""A contact export to Singer messages: tap-sendgrid against a plain SDK stream of the same records.

    python benchmarks/bench_tap_contacts.py [--contacts 1000000]

Wall and CPU time of whole processes, start-up, export job and download included.
All read the same simulated account; the export file is made once and then served from disk, so that
making it costs none of them. The plain tap is
what the SDK's guide leads to: a stream whose `get_records` reads the export line by line and yields
a complete dictionary for each contact. It stands in this file, once as the SDK comes and once tuned
with all that the SDK offers (its msgspec writer, no type conformance, msgspec for the lines). That
the taps emit the same records is checked beforehand, on an account of 20,000.
"""

from __future__ import annotations

import argparse
import gzip
import json
import os
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from hashlib import blake2b
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import msgspec
import requests
from measure import Run, machine, run, save, table
from sendgrid_simulator import Simulator, SimulatorOptions
from singer_sdk import Stream, Tap
from singer_sdk import typing as th
from singer_sdk.contrib.msgspec import MsgSpecWriter
from singer_sdk.helpers.conform import TypeConformanceLevel
from tap_sendgrid.api.generation import CustomField
from tap_sendgrid.objects.contact_codec import custom_field_schema
from tap_sendgrid.schemas.columns import names, object_schema
from tap_sendgrid.schemas.marketing import RECIPIENTS

VERIFIED = 20_000
NAMES = [name for name in names(RECIPIENTS) if name not in ("id", "custom_fields", "received_at")]


class PlainStream(Stream):
    """All contacts; the bookmark is their time of change."""

    name = "recipients"
    primary_keys = ("id",)
    replication_key = "updated_at"
    parse: Callable[[bytes], Any] = staticmethod(json.loads)

    def __init__(self, tap: Tap) -> None:
        answer = self.call(tap.config, "GET", "field_definitions")
        self.fields = [
            CustomField(field["name"], field["field_type"].lower())
            for field in answer["custom_fields"]
        ]
        schema = object_schema(RECIPIENTS)
        schema["properties"]["custom_fields"]["properties"] = custom_field_schema(self.fields)
        super().__init__(tap, schema=schema)

    @staticmethod
    def call(config: Any, method: str, path: str, **body: Any) -> Any:
        return requests.request(
            method,
            f"{config['api_url']}/v3/marketing/{path}",
            headers={"Authorization": f"Bearer {config['api_key']}"},
            json=body or None,
            timeout=60,
        ).json()

    def get_records(self, context: Any) -> Iterable[dict[str, Any]]:
        job = self.call(self.config, "POST", "contacts/exports", file_type="json")
        while job.get("status") != "ready":
            time.sleep(0.5)
            job = self.call(self.config, "GET", f"contacts/exports/{job['id']}")
        fields = [field.name for field in self.fields]
        for url in job["urls"]:
            with (
                requests.get(url, stream=True, timeout=60) as response,
                gzip.open(response.raw) as lines,
            ):
                for line in lines:
                    contact = self.parse(line)
                    record = {"id": contact["contact_id"]}
                    for name in NAMES:
                        record[name] = contact.get(name) or None
                    custom = contact.get("custom_fields") or {}
                    record["custom_fields"] = {name: custom.get(name) for name in fields}
                    record["received_at"] = "2026-01-01T00:00:00Z"
                    yield record


class TunedStream(PlainStream):
    TYPE_CONFORMANCE_LEVEL = TypeConformanceLevel.NONE
    parse = staticmethod(msgspec.json.Decoder().decode)


class PlainTap(Tap):
    name = "plain-tap"
    config_jsonschema = th.PropertiesList(
        th.Property("api_key", th.StringType), th.Property("api_url", th.StringType)
    ).to_dict()
    stream_class: type[PlainStream] = PlainStream

    def discover_streams(self) -> list[Stream]:
        return [self.stream_class(self)]


class TunedTap(PlainTap):
    message_writer_class = MsgSpecWriter
    stream_class = TunedStream


TAPS = {"plain": PlainTap, "tuned": TunedTap}


def digest(path: Path) -> tuple[int, int]:
    """Number of records, and a sum over the hashes of all of them that no order changes."""
    count = total = 0
    decode = msgspec.json.Decoder().decode
    encode = msgspec.json.Encoder(order="sorted").encode
    with path.open("rb") as lines:
        for line in lines:
            message = decode(line)
            if message["type"] == "RECORD":
                record = message["record"]
                del record["received_at"]
                count += 1
                total += int.from_bytes(blake2b(encode(record), digest_size=8).digest())
    return count, total


QUIET = dict(os.environ, LOGLEVEL="WARNING")


def verify(folder: Path, contacts: int) -> None:
    """All taps emit the same records, every one of them."""
    digests = set()
    with served(contacts, folder) as config:
        for _, key, command in taps(folder, config):
            result = run(command, None, folder / f"{key}.log", QUIET)
            digests.add(digest(result.stdout))
            result.stdout.unlink()
    if len(digests) != 1 or next(iter(digests))[0] != contacts:
        raise RuntimeError(f"the taps did not emit the same {contacts} records: {digests}")


def measured(key: str, command: list[str], folder: Path) -> Run:
    """One tap's run, its output thrown away: the disk is not what is measured."""
    log = folder / f"{key}.log"
    log.with_suffix(".out").symlink_to(os.devnull)
    result = run(command, None, log, QUIET)
    log.with_suffix(".out").unlink()
    print(f"{key}: {result.seconds:.1f} s", file=sys.stderr, flush=True)
    return result


def taps(folder: Path, config: dict[str, str]) -> Iterator[tuple[str, str, list[str]]]:
    from tap_sendgrid.tap import TapSendGrid

    catalog = TapSendGrid(config=config).catalog_dict
    for stream in catalog["streams"]:
        for entry in stream["metadata"]:
            if not entry["breadcrumb"]:
                entry["metadata"]["selected"] = stream["tap_stream_id"] == "recipients"
    (folder / "catalog.json").write_text(json.dumps(catalog))
    (folder / "config.json").write_text(json.dumps(config))
    arguments = ["--config", str(folder / "config.json")]
    ours = "from tap_sendgrid.__main__ import main; main()"
    chosen = ["--catalog", str(folder / "catalog.json")]
    yield "tap-sendgrid", "ours", [sys.executable, "-c", ours, *arguments, *chosen]
    here = [sys.executable, str(Path(__file__).resolve())]
    yield "SDK stream, tuned", "tuned", [*here, "--as", "tuned", *arguments]
    yield "SDK stream, plain", "plain", [*here, "--as", "plain", *arguments]


class Handler(BaseHTTPRequestHandler):
    """The simulator's API, and its export file from disk."""

    protocol_version = "HTTP/1.1"
    simulator: Simulator
    export: Path

    def do_GET(self) -> None:
        if not self.path.startswith("/downloads/"):
            self.forward(None)
            return
        self.send_response(200)
        self.send_header("Content-Length", str(self.export.stat().st_size))
        self.end_headers()
        with self.export.open("rb") as file:
            shutil.copyfileobj(file, self.wfile, 1 << 20)

    def do_POST(self) -> None:
        self.forward(self.rfile.read(int(self.headers["Content-Length"])))

    def forward(self, body: bytes | None) -> None:
        # The Host header goes along, so that the links of an export lead here.
        url, headers = self.simulator.url + self.path, dict(self.headers)
        answer = requests.request(self.command, url, headers=headers, data=body, timeout=60)
        self.send_response(answer.status_code)
        self.send_header("Content-Length", str(len(answer.content)))
        self.end_headers()
        self.wfile.write(answer.content)

    def log_message(self, *_: object) -> None:
        pass


def serve(contacts: int, export: Path) -> None:
    """Serve until stdin closes; the first line on stdout is the configuration that reaches it."""
    with Simulator(SimulatorOptions(contacts=contacts, seed=1)) as simulator:
        config = {"api_url": simulator.url, "api_key": simulator.api_key}
        job = PlainStream.call(config, "POST", "contacts/exports", file_type="json")
        while job.get("status") != "ready":
            job = PlainStream.call(config, "GET", f"contacts/exports/{job['id']}")
        with (
            requests.get(job["urls"][0], stream=True, timeout=60) as answer,
            export.open("wb") as file,
        ):
            shutil.copyfileobj(answer.raw, file, 1 << 20)
        Handler.simulator, Handler.export = simulator, export
        with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
            threading.Thread(target=server.serve_forever, daemon=True).start()
            url = f"http://127.0.0.1:{server.server_port}"
            print(json.dumps({**config, "api_url": url}), flush=True)
            sys.stdin.read()
            server.shutdown()


@contextmanager
def served(contacts: int, folder: Path) -> Iterator[dict[str, str]]:
    """The configuration that reaches an account with so many contacts, in its own process."""
    here = str(Path(__file__).resolve())
    process = subprocess.Popen(
        [sys.executable, here, "--serve", str(contacts), str(folder / "export.json.gz")],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    try:
        yield json.loads(process.stdout.readline())
    finally:
        process.communicate()


def main() -> None:
    if sys.argv[1:2] == ["--as"]:
        kind = TAPS[sys.argv[2]]
        sys.argv[1:3] = []
        kind.cli()
    if sys.argv[1:2] == ["--serve"]:
        serve(int(sys.argv[2]), Path(sys.argv[3]))
        return
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--contacts", type=int, default=1_000_000)
    contacts = parser.parse_args().contacts
    folder = Path(tempfile.mkdtemp(prefix="bench-contacts-"))
    try:
        load = os.getloadavg()[0]
        verify(folder, min(contacts, VERIFIED))
        with served(contacts, folder) as config:
            results = {
                label: measured(key, command, folder)
                for label, key, command in taps(folder, config)
            }
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    plain = results["SDK stream, plain"]
    rows = [
        [
            label,
            f"{r.seconds:.1f}",
            f"{contacts / r.seconds:,.0f}",
            f"{r.cpu_seconds:.1f}",
            f"{r.peak_mb:.0f}",
            f"{plain.seconds / r.seconds:.1f}x",
            f"{plain.cpu_seconds / r.cpu_seconds:.1f}x",
        ]
        for label, r in results.items()
    ]
    header = ["tap", "seconds", "contacts/s", "CPU seconds", "peak MB", "wall", "CPU"]
    print(f"{contacts:,} contacts; load average {load:.1f} at the start")
    print(", ".join(machine().values()))
    print(table(header, rows))
    save(
        "tap_contacts",
        {
            "contacts": contacts,
            "load_average_at_start": load,
            "taps": {label: r.figures() for label, r in results.items()},
        },
    )


if __name__ == "__main__":
    main()
