"""Runs the product under load and chaos, and judges what is in the warehouse at the end."""

from __future__ import annotations

import argparse
import random
import shutil
import sys
import tempfile
from pathlib import Path

from chaos.run import Options, Result, Run


def main() -> int:
    """Parse, run, print; 0 if nothing was lost and nothing is twice."""
    options, keep = parse(sys.argv[1:])
    folder = Path(tempfile.mkdtemp(prefix="chaos-"))
    print(f"chaos: {options}\nfolder: {folder}", flush=True)
    result = Run(options, folder, lambda line: print(line, flush=True))()
    print(report(options, result))
    if result.verdict.good and not keep:
        shutil.rmtree(folder, ignore_errors=True)
    else:
        print(f"The diary, the logs and what was stored are in {folder}")
    return 0 if result.verdict.good else 1


def parse(arguments: list[str]) -> tuple[Options, bool]:
    """The options of the command line, and whether to keep the run's folder."""
    parser = argparse.ArgumentParser(
        prog="chaos", description=__doc__, formatter_class=argparse.ArgumentDefaultsHelpFormatter
    )
    parser.add_argument("--seconds", type=float, default=120, help="how long things break")
    parser.add_argument(
        "--seed", type=int, default=random.randrange(10_000), help="load and faults"
    )
    parser.add_argument("--engine", choices=("duckdb", "postgres"), default="duckdb")
    parser.add_argument("--log", choices=("sqlite", "nats"), default="sqlite")
    parser.add_argument("--rate", type=float, default=500, help="events a second")
    parser.add_argument("--receivers", type=int, default=2, help="processes on the one port")
    parser.add_argument(
        "--meltano-pause", type=float, default=10, help="seconds between two meltano runs"
    )
    parser.add_argument("--no-meltano", action="store_true", help="direct flushes only")
    parser.add_argument("--keep", action="store_true", help="leave the run's folder behind")
    given = parser.parse_args(arguments)
    return Options(
        given.seconds,
        given.seed,
        given.engine,
        given.log,
        given.rate,
        given.receivers,
        None if given.no_meltano else given.meltano_pause,
    ), given.keep


def report(options: Options, result: Result) -> str:
    """The figures, one a line, and what is wrong if something is."""
    verdict, sent, tally = result.verdict, result.sent, result.tally
    kills = {
        program: ", ".join(f"{name} {n}" for name, n in sorted(counts.items()))
        for program, counts in sorted(tally.signals.items())
    }
    rows: list[tuple[str, object]] = [
        ("event log, warehouse", f"{result.log}; {options.engine}"),
        ("seed", options.seed),
        ("seconds", f"{result.seconds:.0f}, of which {options.seconds:.0f} under faults"),
        ("deliveries acknowledged", f"{sent.acknowledged:,} of {sent.deliveries:,}"),
        ("events acknowledged", f"{result.acknowledged_events:,} of {result.events:,}"),
        ("attempts / retries", f"{sent.attempts:,} / {sent.retried:,}"),
        ("answers", ", ".join(f"{k}: {n:,}" for k, n in sorted(sent.statuses.items()))),
        *((f"signals to {program}", counts) for program, counts in kills.items()),
        *((f"outage: {name}", n) for name, n in sorted(tally.outages.items())),
        ("receivers started", result.receiver_starts),
        ("direct flushes", _counts(result.direct)),
        ("meltano runs", _counts(result.meltano)),
        ("deliveries dropped by retention meanwhile", f"{verdict.trimmed:,}"),
        ("spoiled bodies acknowledged, in quarantine", f"{result.spoiled:,}"),
        ("rows in the event tables", f"{verdict.rows:,}"),
        ("lost", len(verdict.lost)),
        ("lost from activity", len(verdict.lost_from_activity)),
        ("lost from quarantine", len(verdict.lost_spoiled)),
        ("twice", len(verdict.twice)),
        ("not sent", len(verdict.unknown)),
    ]
    width = max(len(name) for name, _ in rows)
    lines = [f"{name:<{width}}  {value}" for name, value in rows]
    return "\n".join([*lines, *(f"WRONG  {problem}" for problem in verdict.problems())])


def _counts(counts: object) -> str:
    return ", ".join(f"{n} {name.replace('_', ' ')}" for name, n in vars(counts).items())


if __name__ == "__main__":
    sys.exit(main())
