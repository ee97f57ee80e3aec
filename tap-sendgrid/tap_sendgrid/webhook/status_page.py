"""The status page: one HTML document without script, and without anything from another address."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from html import escape

from tap_sendgrid.event_log import EventLog
from tap_sendgrid.webhook.report import Report, duration, make_report, size

REFRESH_SECONDS = 15

COLORS = {
    "processed": "#9aa5b1",
    "delivered": "#3f9142",
    "open": "#2186eb",
    "click": "#0c6b58",
    "deferred": "#f0b429",
    "bounce": "#e12d39",
    "dropped": "#ab091e",
    "spamreport": "#a368fc",
    "unsubscribe": "#da127d",
    "group_unsubscribe": "#f364a2",
    "group_resubscribe": "#54d1db",
    "account_status_change": "#5a3e2b",
    "other": "#52606d",
}

_CHART_WIDTH = 900
_CHART_HEIGHT = 200
_LEFT = 50
_BOTTOM = 20

_STYLE = """
body{font:15px/1.5 system-ui,sans-serif;max-width:60rem;margin:2rem auto;padding:0 1rem;
color:#1f2933;background:#fff}
h1{font-size:1.4rem}h2{font-size:1.1rem;margin-top:2rem}
table{border-collapse:collapse;width:100%}
th,td{text-align:left;padding:.3rem .6rem;border-bottom:1px solid #cbd2d9}
td.n,th.n{text-align:right;font-variant-numeric:tabular-nums}
dl{display:flex;flex-wrap:wrap;gap:1rem 2.5rem;margin:1rem 0}
dt{font-size:.85rem;color:#616e7c}dd{margin:0;font-size:1.3rem}
.legend span{white-space:nowrap;margin-right:1rem}
.legend i{display:inline-block;width:.8em;height:.8em;margin-right:.3em}
svg{width:100%;height:auto}svg text{font:11px system-ui,sans-serif;fill:#616e7c}
footer{margin-top:2rem;font-size:.85rem;color:#616e7c}
@media(prefers-color-scheme:dark){body{color:#e4e7eb;background:#1f2933}
th,td{border-color:#3e4c59}dt,footer,svg text{color:#9aa5b1;fill:#9aa5b1}}
"""


def render_status_page(log: EventLog) -> str:
    """The page as it is now.

    Raises:
        EventLogError: The log cannot be read.
    """
    return render(make_report(log))


def render(report: Report) -> str:
    """The page of a report."""
    log = report.log
    waiting = max((c.waiting for c in report.consumers), default=log.end - log.first + 1)
    figures = (
        ("Last delivery", _ago(report.quiet_seconds)),
        ("Events in the last hour", f"{sum(report.events.values()):,}"),
        ("Deliveries in the log", f"{log.end - log.first + 1:,}"),
        ("Log on disk", size(log.size_bytes)),
        ("Waiting to be flushed", f"{waiting:,}"),
        ("Refused today", f"{sum(n for _, _, n in report.refused()):,}"),
        ("In quarantine", f"{log.quarantined:,}"),
    )
    return f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="refresh" content="{REFRESH_SECONDS}">
<title>{escape(_headline(report))} | sendgrid-webhook</title>
<style>{_STYLE}</style>
</head>
<body>
<h1>{escape(_headline(report))}</h1>
<dl>{"".join(f"<div><dt>{escape(k)}</dt><dd>{escape(v)}</dd></div>" for k, v in figures)}</dl>
<h2>Events per minute, last hour</h2>
{_chart(report)}
{_legend(report)}
<h2>Consumers</h2>
{_consumers(report)}
<h2>Refused</h2>
{_refused(report)}
<h2>Quarantine</h2>
{_quarantine(report)}
<footer>{_time(report.now)} · a new look every {REFRESH_SECONDS} seconds</footer>
</body>
</html>
"""


def _headline(report: Report) -> str:
    quiet = report.quiet_seconds
    if quiet is None:
        return "Nothing has arrived yet" if report.log.end == 0 else "Nothing is waiting in the log"
    if quiet < 300:
        return "SendGrid is sending"
    return f"Quiet for {duration(quiet)}"


def _chart(report: Report) -> str:
    """Stacked bars, one per minute; each has its numbers as a tooltip."""
    top = _round_up(max((sum(events.values()) for _, events in report.minutes), default=0))
    width = (_CHART_WIDTH - _LEFT) / max(1, len(report.minutes))
    height = _CHART_HEIGHT - _BOTTOM
    parts = []
    for share in (0, 0.5, 1):
        y = height * (1 - share) + 5
        parts.append(
            f'<line x1="{_LEFT}" x2="{_CHART_WIDTH}" y1="{y:g}" y2="{y:g}" stroke="#cbd2d9"/>'
            f'<text x="{_LEFT - 6}" y="{y + 4:g}" text-anchor="end">{top * share:,g}</text>'
        )
    for number, (minute, events) in enumerate(report.minutes):
        x = _LEFT + number * width
        clock = datetime.fromtimestamp(minute * 60, UTC).strftime("%H:%M")
        if minute % 10 == 0:
            parts.append(f'<text x="{x:.1f}" y="{_CHART_HEIGHT + 5}">{clock}</text>')
        y = height + 5.0
        for event in COLORS:
            if count := events.get(event):
                bar = height * count / top
                y -= bar
                parts.append(
                    f'<rect x="{x:.1f}" y="{y:.2f}" width="{width * 0.85:.1f}" '
                    f'height="{bar:.2f}" fill="{COLORS[event]}">'
                    f"<title>{clock} {event}: {count:,}</title></rect>"
                )
    return (
        f'<svg viewBox="0 0 {_CHART_WIDTH} {_CHART_HEIGHT + 10}" role="img" '
        f'aria-label="Events per minute by type">{"".join(parts)}</svg>'
    )


def _round_up(value: int) -> int:
    """The next number of the kind 1, 2, 5, 10, 20, …: the top of the scale."""
    step = 1
    while True:
        for factor in (1, 2, 5):
            if value <= factor * step:
                return factor * step
        step *= 10


def _legend(report: Report) -> str:
    if not report.events:
        return "<p>No events in the last hour.</p>"
    entries = (
        f'<span><i style="background:{COLORS.get(event, COLORS["other"])}"></i>'
        f"{escape(event)} {count:,}</span>"
        for event, count in report.events.items()
    )
    return f'<p class="legend">{" ".join(entries)}</p>'


def _consumers(report: Report) -> str:
    if not report.consumers:
        return "<p>No consumer has committed yet: nothing has been flushed to a warehouse.</p>"
    rows = [
        (
            c.name,
            f"{c.waiting:,}",
            duration(c.oldest_waiting_seconds),
            _time(c.committed_at),
            c.problem or "none",
        )
        for c in report.consumers
    ]
    return _table(
        ("Consumer", "#Waiting deliveries", "#Oldest waiting", "Last commit", "Trouble"), rows
    )


def _refused(report: Report) -> str:
    rows = [(reason, f"{hour:,}", f"{day:,}") for reason, hour, day in report.refused()]
    if not rows:
        return "<p>Nothing in the last 24 hours.</p>"
    return _table(("Reason", "#Last hour", "#Last 24 hours"), rows)


def _quarantine(report: Report) -> str:
    if not report.quarantine:
        return "<p>Empty.</p>"
    rows = [
        (
            str(q.id),
            "none" if q.offset is None else str(q.offset),
            q.reason,
            size(q.size),
            _time(q.received_at),
        )
        for q in report.quarantine
    ]
    table = _table(("#Id", "#Offset", "Reason", "#Size", "Arrived"), rows)
    more = report.log.quarantined - len(rows)
    return table + (
        f"<p>and {more:,} more: sendgrid-webhook quarantine list</p>" if more > 0 else ""
    )


def _table(head: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> str:
    """A table; a heading that begins with # is that of a column of numbers."""
    kinds = [' class="n"' if name.startswith("#") else "" for name in head]
    top = "".join(
        f"<th{kind}>{escape(name.removeprefix('#'))}</th>"
        for kind, name in zip(kinds, head, strict=True)
    )
    body = "".join(
        "<tr>"
        + "".join(f"<td{kind}>{escape(cell)}</td>" for kind, cell in zip(kinds, row, strict=True))
        + "</tr>"
        for row in rows
    )
    return f"<table><thead><tr>{top}</tr></thead><tbody>{body}</tbody></table>"


def _time(moment: datetime) -> str:
    return moment.astimezone(UTC).strftime("%Y-%m-%d %H:%M:%S UTC")


def _ago(seconds: float | None) -> str:
    return "none stored" if seconds is None else f"{duration(seconds)} ago"
