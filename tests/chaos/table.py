"""A run in figures."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from chaos.flushes import Counts
from chaos.run import Options, Result


def figures(options: Options, result: Result) -> dict[str, str]:
    """Everything that is counted, by name."""
    verdict, sent, tally = result.verdict, result.sent, result.tally
    rows: dict[str, str] = {
        "event log": result.log,
        "warehouse": options.engine,
        "seed": f"{options.seed}",
        "seconds under faults, in all": f"{options.seconds:.0f}, {result.seconds:.0f}",
        "deliveries acknowledged": f"{sent.acknowledged:,} of {sent.deliveries:,}",
        "events acknowledged": f"{result.acknowledged_events:,} of {result.events:,}",
        "signed by": "key and bearer token" if options.oauth else "key",
        "retries": f"{sent.retried:,}",
        "answers": ", ".join(f"{n:,} x {k}" for k, n in sorted(sent.statuses.items())),
        "kill -9 in all": f"{tally.of('SIGKILL')}",
    }
    for program in ("receiver", "tap", "target", "meltano", "endpoint"):
        counts: Counter[str] = tally.signals.get(program, Counter())
        rows[f"signals to the {program}"] = (
            ", ".join(f"{n} {name.removeprefix('SIG')}" for name, n in sorted(counts.items()))
            or "none"
        )
    rows["outages"] = (
        ", ".join(f"{n} {name}" for name, n in sorted(tally.outages.items())) or "none"
    )
    return rows | {
        "receivers started": f"{result.receiver_starts}",
        "tap into target": _flushes(result.direct),
        "meltano runs": _flushes(result.meltano),
        "forwarded, to an endpoint started": _forwarded(result),
        "deliveries dropped by retention": f"{verdict.trimmed:,}",
        "bodies that are no JSON, in quarantine": f"{result.spoiled:,}",
        "rows in the event tables": f"{verdict.rows:,}",
        "**lost**": f"{len(verdict.lost)}",
        "**lost from activity**": f"{len(verdict.lost_from_activity)}",
        "**lost from quarantine**": f"{len(verdict.lost_spoiled)}",
        "**forwarded lost**": f"{len(verdict.forwarded_lost)}",
        "**forwarded spoiled**": f"{len(verdict.forwarded_spoiled)}",
        "**twice**": f"{len(verdict.twice)}",
        "**never sent**": f"{len(verdict.unknown)}",
    }


def markdown(columns: Sequence[dict[str, str]]) -> str:
    """Several runs side by side."""
    names = list(dict.fromkeys(name for column in columns for name in column))
    lines = [["", *(f"run {n}" for n in range(1, len(columns) + 1))]]
    lines += [[name, *(column.get(name, "") for column in columns)] for name in names]
    lines.insert(1, ["---"] * (len(columns) + 1))
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _forwarded(result: Result) -> str:
    if result.forwarding is None:
        return "nothing"
    copies = result.forwarding.copies
    again = copies.total() - len(copies)
    return f"{len(copies):,} bodies, {again:,} copies more, {result.forwarding.starts} times"


def _flushes(counts: Counts) -> str:
    return f"{counts.runs}, of which {counts.failed} were broken off"
