"""The event log's cost does not grow with the log: append and read, small log against large.

    python benchmarks/bench_log.py [--large 1000000]

Appends 1,000 deliveries one by one (each on disk before the next), then reads the newest 1,000 ten
times, in a log of 1,000 deliveries and in one of ``--large``; best of five, and of fifty: a read
takes milliseconds.
"""

from __future__ import annotations

import argparse
import shutil
import tempfile
import time
from datetime import UTC, datetime
from pathlib import Path

from measure import machine, save, table
from tap_sendgrid.event_log import Delivery, open_event_log

BODY = (
    b"[" + b'{"event":"delivered","email":"person@example.com","timestamp":1760011772}' + b"]\r\n"
)
TURNS = 5
READS = 10


def delivery(number: int) -> Delivery:
    return Delivery(BODY, datetime.now(UTC), {"x-number": str(number)})


def measure(folder: Path, size: int) -> dict[str, float]:
    log = open_event_log(f"sqlite:///{folder / f'{size}.db'}")
    for start in range(0, size, 10_000):
        log.append([delivery(n) for n in range(start, min(start + 10_000, size))])
    appends, reads = [], []
    for _ in range(TURNS):
        start = time.perf_counter()
        for number in range(1000):
            log.append([delivery(number)])
        appends.append(time.perf_counter() - start)
        end = log.end()
        for _ in range(READS):
            start = time.perf_counter()
            found = sum(1 for _ in log.read(end - 1000, end))
            reads.append(time.perf_counter() - start)
            if found != 1000:
                raise SystemExit(f"read {found} deliveries, not 1,000")
    log.close()
    return {"append_seconds": min(appends), "read_seconds": min(reads)}


def main() -> None:
    """Measure both and print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--large", type=int, default=1_000_000)
    options = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="bench-log-"))
    try:
        rows = [{"deliveries": n, **measure(folder, n)} for n in (1000, options.large)]
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    save("log", {"rows": rows})
    print(machine())
    print(
        table(
            list(rows[0]),
            [[f"{v:,.4f}" if isinstance(v, float) else f"{v:,}" for v in r.values()] for r in rows],
        )
    )


if __name__ == "__main__":
    main()
