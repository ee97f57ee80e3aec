"""Writes README.md and the plots from what the benchmarks left in results/.

python benchmarks/report.py
"""

from __future__ import annotations

import statistics
from collections.abc import Callable
from itertools import product

from measure import HERE, RESULTS, saved, table
from plot import bars

OURS = "target-segment-warehouse"
FILES = {"batch": "JSONL, gzip", "parquet": "Parquet"}
PEERS = ("meltanolabs-target-postgres", "pipelinewise-target-postgres")
Claim = tuple[str, str, str, bool]


def claim(work: str, wanted: str, value: float, unit: str, ok: Callable[[float], bool]) -> Claim:
    return work, wanted, f"{value:,.2f}{unit}" if value < 100 else f"{value:,.0f}{unit}", ok(value)


def at_least(limit: float) -> Callable[[float], bool]:
    return lambda value: value >= limit


def at_most(limit: float) -> Callable[[float], bool]:
    return lambda value: value <= limit


def target_claims(rows: list[dict]) -> list[Claim]:
    """Ratios of the target suite, as far as it was run."""
    seconds = {(r["work"], r["loader"]): r["seconds"] for r in rows}
    postgres = f"{OURS}-postgres"
    claims = []
    for work in ("events", "recipients"):
        if (work, "target-duckdb") in seconds:
            ratio = seconds[work, "target-duckdb"] / seconds[work, OURS]
            claims.append(
                claim(f"{work} → DuckDB, against target-duckdb", "≥ 10×", ratio, "×", at_least(10))
            )
        if (work, PEERS[0]) in seconds:
            fastest = min(seconds[work, peer] for peer in PEERS)
            ratio = fastest / seconds[work, postgres]
            claims.append(
                claim(f"{work} → Postgres, fastest peer", "≥ 6×", ratio, "×", at_least(6))
            )
            ratio = seconds[work, "bare COPY"] / seconds[work, postgres]
            claims.append(
                claim(
                    f"{work} → Postgres, of bare COPY's speed", "≥ 0.5×", ratio, "×", at_least(0.5)
                )
            )
        for loader, (suffix, files) in product((OURS, postgres), FILES.items()):
            if (f"{work}-{suffix}", loader) in seconds:
                ratio = seconds[work, loader] / seconds[f"{work}-{suffix}", loader]
                engine = "Postgres" if loader == postgres else "DuckDB"
                claims.append(
                    claim(
                        f"{work} in BATCH files of {files} → {engine}, against RECORD",
                        "≥ 2×",
                        ratio,
                        "×",
                        at_least(2),
                    )
                )
    for loader, engine in ((OURS, "DuckDB"), (postgres, "Postgres")):
        empty = [s for (w, who), s in seconds.items() if w.startswith("1k-empty") and who == loader]
        full = [s for (w, who), s in seconds.items() if w.startswith("1k-full") and who == loader]
        if empty and full:
            ratio = statistics.median(full) / statistics.median(empty)
            claims.append(
                claim(
                    f"1,000 events into full tables → {engine}, against empty",
                    "≤ 1.5×",
                    ratio,
                    "×",
                    at_most(1.5),
                )
            )
    ours = [r for r in rows if r["loader"].startswith(OURS) and "peak_mb" in r]
    if ours:
        peak = max(r["peak_mb"] for r in ours)
        claims.append(claim("peak memory, any load", "≤ 400 MB", peak, " MB", at_most(400)))
    return claims


def receiver_claims(rows: list[dict]) -> list[Claim]:
    """Ratios of the receiver suite."""
    speed = {(r["events_per_delivery"], r["receiver"]): r["events_per_second"] for r in rows}
    theirs, bare, ours = "FastAPI + SQLAlchemy + Postgres", "bare fsync loop", "sendgrid-webhook"
    return [
        claim(
            "deliveries of 1,000 events, of a bare fsync loop",
            "≥ 0.4×",
            speed[1000, ours] / speed[1000, bare],
            "×",
            at_least(0.4),
        ),
        claim(
            "deliveries of 1,000 events, against FastAPI",
            "≥ 5×",
            speed[1000, ours] / speed[1000, theirs],
            "×",
            at_least(5),
        ),
        claim(
            "deliveries of 1 event, against FastAPI",
            "≥ 5×",
            speed[1, ours] / speed[1, theirs],
            "×",
            at_least(5),
        ),
    ]


def tap_claim(result: dict, work: str, limit: float) -> Claim:
    plain = next(v["seconds"] for k, v in result["taps"].items() if k.endswith("plain"))
    ratio = plain / result["taps"]["tap-sendgrid"]["seconds"]
    return claim(work, f"≥ {limit:g}×", ratio, "×", at_least(limit))


def all_claims() -> list[Claim]:
    """Every claim for which there is a result."""
    claims: list[Claim] = []
    if result := saved("targets"):
        claims += target_claims(result["rows"])
    if result := saved("receiver"):
        claims += receiver_claims(result["rows"])
    if result := saved("tap_events"):
        claims.append(
            tap_claim(result, f"tap, {result['events']:,} logged events, plain SDK streams", 8)
        )
    if result := saved("tap_contacts"):
        claims.append(
            tap_claim(result, f"tap, {result['contacts']:,} contacts, plain SDK stream", 5)
        )
    if result := saved("pipeline"):
        *ours, theirs = result["rows"]
        claims += [
            claim(
                f"meltano run over logged events → DuckDB, {messages}, target-duckdb",
                "≥ 6×",
                theirs["seconds"] / row["seconds"],
                "×",
                at_least(6),
            )
            for row, messages in zip(ours, ("as lines", "in files (`batch_config`)"), strict=True)
        ]
    if result := saved("log"):
        small, large = result["rows"]
        for part in ("append", "read"):
            ratio = large[f"{part}_seconds"] / small[f"{part}_seconds"]
            claims.append(
                claim(
                    f"log of {large['deliveries']:,} deliveries, {part}, against 1,000",
                    "≤ 1.2×",
                    ratio,
                    "×",
                    at_most(1.2),
                )
            )
    if result := saved("follow"):
        claims.append(
            claim(
                "posted → visible in DuckDB with follow, p99",
                "< 10 s",
                result["p99_seconds"],
                " s",
                at_most(10),
            )
        )
    return claims


def target_plots(rows: list[dict]) -> list[str]:
    """One picture a work and engine; returns their file names."""
    names = []
    for work in ("events", "recipients"):
        for engine in ("duckdb", "postgres"):
            chosen = [r for r in rows if r["work"] == work and r["engine"] == engine]
            if not chosen:
                continue
            name = f"{work}-{engine}.svg"
            values = [
                (r["loader"], r["records_per_second"], r["loader"].startswith(OURS)) for r in chosen
            ]
            bars(
                HERE / name,
                f"{chosen[0]['records']:,} {work} into {engine}: records per second",
                values,
                "/s",
            )
            names.append(name)
    return names


def details(name: str, result: dict) -> str:
    """The raw rows of one suite."""
    rows = result.get("rows") or [{"tap": k, **v} for k, v in result.get("taps", {}).items()]
    if not rows:
        rows = [{k: v for k, v in result.items() if k != "machine"}]
    keys = list(dict.fromkeys(k for r in rows for k in r))
    cells = [
        [f"{r.get(k, ''):,.2f}" if isinstance(r.get(k), float) else str(r.get(k, "")) for k in keys]
        for r in rows
    ]
    return f"### {name}\n\n{table(keys, cells)}\n"


def main() -> None:
    """Write benchmarks/README.md."""
    results = {p.stem: saved(p.stem) for p in sorted(RESULTS.glob("*.json"))}
    machine = next(iter(results.values()))["machine"]
    claims = [[w, wanted, got, "yes" if ok else "**no**"] for w, wanted, got, ok in all_claims()]
    plots = target_plots(results["targets"]["rows"]) if "targets" in results else []
    versions = results.get("targets", {}).get("versions", {})
    parts = [
        "# Benchmarks",
        "",
        "`make bench` runs all of them, one after another, and writes this page. Whole processes,",
        "wall time, start-up included; peers in environments of their own with their fastest",
        "documented settings; the same files; one Postgres server for all. **Ratios are the claim,",
        "not the times**: they were measured on",
        f"{machine['cores']} cores ({machine['cpu']}, {machine['system']},",
        f"Python {machine['python']}), {machine['date']}.",
        "",
        "## Claims",
        "",
        table(["work", "wanted", "measured", "reached"], claims),
        "",
        *[f"![{name}]({name})" for name in plots],
        "",
        (HERE / "NOTES.md").read_text().strip() if (HERE / "NOTES.md").exists() else "",
        "",
        "## Versions",
        "",
        table(["loader", "version and settings"], [[k, v] for k, v in versions.items()]),
        "",
        "## Figures",
        "",
        *[details(name, result) for name, result in results.items()],
    ]
    (HERE / "README.md").write_text("\n".join(parts).replace("\n\n\n", "\n\n").rstrip() + "\n")
    print(table(["work", "wanted", "measured", "reached"], claims))


if __name__ == "__main__":
    main()
