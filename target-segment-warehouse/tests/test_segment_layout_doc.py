"""docs/segment-layout.md has every rule once, and every test that it names exists."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
TEXT = (ROOT / "docs" / "segment-layout.md").read_text(encoding="utf-8")


def test_every_rule_has_one_row() -> None:
    rules = re.findall(r"^\| (W\d+) \|", TEXT, re.MULTILINE)
    assert sorted(rules, key=lambda rule: int(rule[1:])) == [f"W{n}" for n in range(1, 45)]


def test_every_row_names_tests_that_exist() -> None:
    defined = {
        name
        for path in Path(__file__).parent.rglob("test_*.py")
        for name in re.findall(r"^def (test_\w+)\(", path.read_text(encoding="utf-8"), re.MULTILINE)
    }
    for row in re.findall(r"^\| W.*$", TEXT, re.MULTILINE):
        assert re.search(r"`test_\w+`", row.rpartition("|")[0].rpartition("|")[2]), row
    named = set(re.findall(r"`(test_\w+)`", TEXT))
    assert named <= defined, named - defined
