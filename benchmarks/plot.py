"""Bars as SVG: small enough to read in a diff, and no plotting library to install."""

from __future__ import annotations

from html import escape
from pathlib import Path

BAR, GAP, LABEL, WIDTH = 18, 8, 330, 860
OURS, OTHERS = "#1a82e2", "#b6bec9"


def bars(path: Path, title: str, values: list[tuple[str, float, bool]], unit: str) -> None:
    """Write one bar a value: (label, value, whether it is ours)."""
    height = 40 + len(values) * (BAR + GAP)
    most = max(value for _, value, _ in values)
    room = WIDTH - LABEL - 110
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{height}"'
        f' font-family="sans-serif" font-size="12" role="img" aria-label="{escape(title)}">',
        f'<rect width="{WIDTH}" height="{height}" fill="white"/>',
        f'<text x="8" y="20" font-size="14" font-weight="bold">{escape(title)}</text>',
    ]
    for number, (label, value, ours) in enumerate(values):
        y = 34 + number * (BAR + GAP)
        length = max(1.0, room * value / most)
        parts += [
            f'<text x="{LABEL - 8}" y="{y + 13}" text-anchor="end">{escape(label)}</text>',
            f'<rect x="{LABEL}" y="{y}" width="{length:.1f}" height="{BAR}"'
            f' fill="{OURS if ours else OTHERS}"/>',
            f'<text x="{LABEL + length + 6:.1f}" y="{y + 13}">{value:,.0f} {escape(unit)}</text>',
        ]
    path.write_text("\n".join([*parts, "</svg>"]) + "\n")
