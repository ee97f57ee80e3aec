"""Runs the product under load and chaos, and judges what is in the warehouse at the end."""

from __future__ import annotations

import argparse
import itertools
import random
import shutil
import sys
import tempfile
from dataclasses import replace
from pathlib import Path

from chaos.run import Options, Run
from chaos.table import figures, markdown

ENGINES = ("duckdb", "postgres")
LOGS = ("sqlite", "nats")


def main() -> int:
    """Run each combination that was asked for; 0 if nothing was lost and nothing is twice."""
    options, engines, logs, keep = parse(sys.argv[1:])
    columns = []
    all_good = True
    for log, engine in itertools.product(logs, engines):
        one = replace(options, engine=engine, log=log)
        folder = Path(tempfile.mkdtemp(prefix="chaos-"))
        print(f"{one}\nfolder: {folder}", flush=True)
        result = Run(one, folder, lambda line: print(line, flush=True))()
        rows = figures(one, result)
        columns.append(rows)
        width = max(map(len, rows))
        print("\n".join(f"{name:<{width}}  {value}" for name, value in rows.items()), flush=True)
        for problem in result.verdict.problems():
            print(f"WRONG  {problem}")
        all_good = all_good and result.verdict.good
        if result.verdict.good and not keep:
            shutil.rmtree(folder, ignore_errors=True)
        else:
            print(f"The diary, the logs and what was stored are in {folder}")
    if len(columns) > 1:
        print(f"\n{markdown(columns)}")
    return 0 if all_good else 1


def parse(arguments: list[str]) -> tuple[Options, tuple[str, ...], tuple[str, ...], bool]:
    """The options, the engines, the logs, and whether to keep the folders of good runs."""
    parser = argparse.ArgumentParser(
        prog="chaos", description=__doc__, formatter_class=argparse.ArgumentDefaultsHelpFormatter
    )
    parser.add_argument("--seconds", type=float, default=120, help="how long things break")
    parser.add_argument(
        "--seed", type=int, default=random.randrange(10_000), help="load and faults"
    )
    parser.add_argument("--engine", choices=(*ENGINES, "all"), default="duckdb")
    parser.add_argument("--log", choices=(*LOGS, "all"), default="sqlite")
    parser.add_argument("--rate", type=float, default=500, help="events a second")
    parser.add_argument("--receivers", type=int, default=2, help="processes on the one port")
    parser.add_argument("--fault-pause", type=float, default=1.5, help="seconds between faults")
    parser.add_argument(
        "--meltano-pause", type=float, default=10, help="seconds between two meltano runs"
    )
    parser.add_argument("--no-meltano", action="store_true", help="direct flushes only")
    parser.add_argument(
        "--no-forward", action="store_true", help="do not forward to an endpoint that breaks too"
    )
    parser.add_argument(
        "--oauth", action="store_true", help="deliveries carry bearer tokens beside signatures"
    )
    parser.add_argument("--keep", action="store_true", help="leave the folders of good runs behind")
    given = parser.parse_args(arguments)
    options = Options(
        seconds=given.seconds,
        seed=given.seed,
        rate=given.rate,
        receivers=given.receivers,
        meltano_pause=None if given.no_meltano else given.meltano_pause,
        fault_pause=given.fault_pause,
        forward=not given.no_forward,
        oauth=given.oauth,
    )
    engines = ENGINES if given.engine == "all" else (given.engine,)
    logs = LOGS if given.log == "all" else (given.log,)
    return options, engines, logs, given.keep


if __name__ == "__main__":
    sys.exit(main())
