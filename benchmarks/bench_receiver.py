"""The receiver against a bare fsync loop and against a FastAPI + SQLAlchemy + Postgres receiver.

    python benchmarks/bench_receiver.py [--large 300] [--small 20000]

Load generator, receiver and database share the machine, as the figures' table says. Every delivery
is signed; every one that got a 2xx is counted in the store afterwards.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import shutil
import signal
import socket
import sqlite3
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import psycopg
import uvloop
from bench_targets import postgres
from cryptography.hazmat.primitives.asymmetric import ec
from measure import HERE, VENVS, machine, save, table
from sendgrid_simulator import generate_events, sign_delivery
from sendgrid_simulator.signing import public_key_text

COMPARISON = ["fastapi", "uvicorn[standard]", "sqlalchemy", "psycopg[binary]", "cryptography"]
KEY = ec.generate_private_key(ec.SECP256R1())


def deliveries(count: int, events_each: int) -> list[tuple[bytes, dict[str, str]]]:
    """Signed bodies with their headers; made before the clock starts."""
    made, batch = [], []
    # A message has about three events.
    for event in generate_events(messages=count * events_each, seed=1):
        batch.append(event)
        if len(batch) == events_each:
            made.append(sign_delivery(batch, KEY, int(time.time())))
            batch = []
            if len(made) == count:
                return made
    raise RuntimeError("too few events")


class Client(asyncio.Protocol):
    """One keep-alive connection that posts one request after the other."""

    def __init__(self, requests: list[bytes], latencies: list[float], done: asyncio.Future) -> None:
        self.requests = requests
        self.latencies = latencies
        self.done = done
        self.answer = b""

    def connection_made(self, transport) -> None:
        self.transport = transport
        self.send()

    def send(self) -> None:
        if not self.requests:
            self.transport.close()
            if not self.done.done():
                self.done.set_result(None)
            return
        self.start = time.perf_counter()
        self.transport.write(self.requests.pop())

    def data_received(self, data: bytes) -> None:
        self.answer += data
        if b"\r\n\r\n" not in self.answer:
            return
        if not self.answer.startswith((b"HTTP/1.1 204", b"HTTP/1.1 200")):
            self.done.set_exception(RuntimeError(self.answer[:300].decode()))
            self.transport.close()
            return
        self.answer = b""
        self.latencies.append(time.perf_counter() - self.start)
        self.send()

    def connection_lost(self, exc: Exception | None) -> None:
        if not self.done.done():
            self.done.set_exception(exc or RuntimeError("the receiver closed the connection"))


async def post_all(port: int, path: str, made: list, connections: int) -> tuple[float, list[float]]:
    """Post every delivery once; return wall seconds and latencies."""
    requests = []
    for body, headers in made:
        head = f"POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len(body)}\r\n"
        head += "".join(
            f"{k}: {v}\r\n" for k, v in headers.items() if k.lower() != "content-length"
        )
        requests.append(head.encode() + b"\r\n" + body)
    latencies: list[float] = []
    loop = asyncio.get_running_loop()
    start = time.perf_counter()
    futures = []
    for _ in range(connections):
        done = loop.create_future()
        await loop.create_connection(
            lambda done=done: Client(requests, latencies, done), "127.0.0.1", port
        )
        futures.append(done)
    await asyncio.gather(*futures)
    return time.perf_counter() - start, latencies


def free_port() -> int:
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def wait_for(port: int, process: subprocess.Popen) -> None:
    for _ in range(200):
        if process.poll() is not None:
            raise RuntimeError("the receiver did not start")
        with socket.socket() as s:
            if s.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.1)
    raise RuntimeError("the receiver did not listen")


def ours(folder: Path, made: list, connections: int) -> tuple[float, list[float]]:
    port = free_port()
    log = folder / f"log-{len(made)}.db"
    environment = os.environ | {
        "SENDGRID_WEBHOOK_PUBLIC_KEY": public_key_text(KEY),
        "SENDGRID_WEBHOOK_PATH_TOKEN": "benchmark-path-token-0123456789abcdef",
        "TAP_SENDGRID_EVENT_LOG_URL": f"sqlite:///{log}",
    }
    command = [
        str(Path(sys.executable).with_name("sendgrid-webhook")),
        "serve",
        "--host=127.0.0.1",
        f"--port={port}",
    ]
    with (folder / "ours.log").open("wb") as out:
        process = subprocess.Popen(command, env=environment, stdout=out, stderr=out)
    try:
        wait_for(port, process)
        path = "/benchmark-path-token-0123456789abcdef"
        result = uvloop.run(post_all(port, path, made, connections))
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(30)
    from tap_sendgrid.event_log import open_event_log

    stored = sum(1 for _ in open_event_log(f"sqlite:///{log}").read(0))
    if stored != len(made):
        raise SystemExit(f"{len(made)} acknowledged, {stored} in the log")
    return result


def comparison(folder: Path, url: str, made: list, events: int, connections: int):
    venv = VENVS / "comparison-receiver"
    python = venv / "bin" / "python"
    if not python.exists():
        subprocess.run(["uv", "venv", "-q", "--python", "3.11", str(venv)], check=True)
        subprocess.run(
            ["uv", "pip", "install", "-q", "--python", str(python), *COMPARISON], check=True
        )
    port = free_port()
    environment = os.environ | {
        "PUBLIC_KEY": public_key_text(KEY),
        "DATABASE_URL": url.replace("postgresql://", "postgresql+psycopg://"),
    }
    command = [str(python), "-m", "uvicorn", "receiver:app", "--port", str(port)]
    command += ["--app-dir", str(HERE / "comparison"), "--log-level", "warning"]
    with (folder / "comparison.log").open("wb") as out:
        process = subprocess.Popen(command, env=environment, stdout=out, stderr=out)
    try:
        wait_for(port, process)
        result = uvloop.run(post_all(port, "/webhook", made, connections))
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(30)
    with psycopg.connect(url) as connection:
        stored = connection.execute("SELECT count(*) FROM events").fetchone()[0]
    if stored != events:
        raise SystemExit(f"{events} events acknowledged, {stored} in the table")
    return result


def bare_loop(folder: Path, made: list) -> float:
    """Append the same bodies to SQLite, each made durable before the next."""
    with sqlite3.connect(folder / f"bare-{len(made)}.db", isolation_level=None) as connection:
        connection.execute("PRAGMA journal_mode=WAL")
        connection.execute("PRAGMA synchronous=FULL")
        connection.execute("CREATE TABLE delivery (id INTEGER PRIMARY KEY, body BLOB)")
        start = time.perf_counter()
        for body, _ in made:
            connection.execute("INSERT INTO delivery (body) VALUES (?)", [body])
        return time.perf_counter() - start


def main() -> None:
    """Run both works and print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--large", type=int, default=300, help="deliveries of 1,000 events")
    parser.add_argument("--small", type=int, default=20_000, help="deliveries of 1 event")
    options = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="bench-receiver-"))
    rows = []
    try:
        with postgres() as server:
            for count, size, connections in ((options.large, 1000, 8), (options.small, 1, 64)):
                made = deliveries(count, size)
                bare = bare_loop(folder, made)
                our_seconds, our_latency = ours(folder, made, connections)
                url = server.fresh(f"receiver_{size}")
                their_seconds, their_latency = comparison(
                    folder, url, made, count * size, connections
                )
                for name, seconds, latency in (
                    ("bare fsync loop", bare, None),
                    ("sendgrid-webhook", our_seconds, our_latency),
                    ("FastAPI + SQLAlchemy + Postgres", their_seconds, their_latency),
                ):
                    p99 = statistics.quantiles(latency, n=100)[98] * 1000 if latency else None
                    rows.append(
                        {
                            "events_per_delivery": size,
                            "deliveries": count,
                            "connections": connections if latency else 1,
                            "receiver": name,
                            "seconds": round(seconds, 3),
                            "events_per_second": round(count * size / seconds),
                            "p99_ms": round(p99, 1) if p99 else "",
                        }
                    )
                    print(json.dumps(rows[-1]), flush=True)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    save("receiver", {"rows": rows})
    print(f"\n{machine()}\n")
    print(table(list(rows[0]), [[str(v) for v in row.values()] for row in rows]))


if __name__ == "__main__":
    main()
