"""The status page: well-formed, complete, escaped, and without anything from elsewhere."""

from __future__ import annotations

import re
import time
import xml.etree.ElementTree as ET
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from html.parser import HTMLParser

import pytest
from tap_sendgrid.event_log import Delivery, EventLog, open_event_log
from tap_sendgrid.webhook.body import KNOWN_EVENTS, OTHER
from tap_sendgrid.webhook.report import duration, make_report, size
from tap_sendgrid.webhook.status_page import COLORS, render, render_status_page

VOID = {"meta", "link", "br", "img", "input", "hr"}
EVIL = "<script>alert(1)</script>\"'&{{7*7}}"


class Page(HTMLParser):
    """Checks that every element is closed in its order, and collects what is shown."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.texts: list[str] = []
        self.rows: list[list[str]] = []
        self.feed(html)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)
        if tag == "tr":
            self.rows.append([])
        elif tag in {"td", "th"}:
            self.rows[-1].append("")

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.texts.append(data)
        if self.open and self.open[-1] in {"td", "th"}:
            self.rows[-1][-1] += data

    @property
    def text(self) -> str:
        return " ".join(self.texts)


@pytest.fixture
def log(log_url: str) -> Iterator[EventLog]:
    event_log = open_event_log(log_url)
    yield event_log
    event_log.close()


def test_an_empty_log(log: EventLog) -> None:
    page = Page(render_status_page(log))
    assert "Nothing has arrived yet" in page.text
    assert "No events in the last hour." in page.text
    assert "No consumer has committed yet" in page.text
    assert "Empty." in page.text


def fill(log: EventLog) -> None:
    now = datetime.now(UTC)
    minute = int(time.time()) // 60
    log.append([Delivery(b"[]", now - timedelta(seconds=90 - n)) for n in range(5)])
    log.commit("tap-sendgrid", 2)
    log.commit("forward:example.com#1", 5)
    log.put("problem.forward:example.com#1", "answers 500")
    log.add_counts(minute, {"event:open": 1200, "event:click": 30, "deliveries": 5, "bytes": 10})
    log.add_counts(minute - 7, {"event:open": 800, "event:other": 3, "refused:signature": 4})
    log.add_counts(minute - 100, {"event:open": 999, "refused:signature": 6})
    log.quarantine(Delivery(b"secret@example.com", now), "not a JSON list of events", 3)


def test_everything_is_shown(log: EventLog) -> None:
    fill(log)
    page = Page(render_status_page(log))
    assert "SendGrid is sending" in page.text
    for text in ("2,033", "open 2,000", "click 30", "other 3"):
        assert text in page.text, text
    assert page.rows[1][:3] == ["forward:example.com#1", "0", "none"]
    assert page.rows[1][4] == "answers 500"
    assert page.rows[2][:2] == ["tap-sendgrid", "3"]
    assert re.fullmatch(r"8\d s", page.rows[2][2])
    assert ["signature", "4", "10"] in page.rows
    assert page.rows[-1][:4] == ["1", "3", "not a JSON list of events", "18 B"]
    assert "secret@example.com" not in page.text


def test_the_chart_is_drawn_to_scale(log: EventLog) -> None:
    fill(log)
    html = render_status_page(log)
    svg = ET.fromstring(re.search(r"<svg.*</svg>", html, re.S)[0])  # type: ignore[index]
    bars = {}
    for bar in svg.iter("rect"):
        title = bar.find("title")
        assert title is not None
        assert title.text is not None
        bars[title.text.split(" ", 1)[1]] = bar
    assert set(bars) == {"open: 1,200", "click: 30", "open: 800", "other: 3"}
    heights = {name: float(bar.attrib["height"]) for name, bar in bars.items()}
    assert heights["open: 1,200"] == pytest.approx(heights["open: 800"] * 1.5, rel=0.01)
    labels = [element.text for element in svg.iter("text")]
    assert {"0", "1,000", "2,000"} <= set(labels)
    _, _, width, height = map(float, svg.attrib["viewBox"].split())
    for bar in bars.values():
        x, y, w, h = (float(bar.attrib[name]) for name in ("x", "y", "width", "height"))
        assert x >= 0
        assert x + w <= width
        assert y >= 0
        assert y + h <= height
    stack = [bars["open: 1,200"], bars["click: 30"]]
    lower, upper = (float(bar.attrib["y"]) for bar in stack)
    assert upper == pytest.approx(lower - heights["click: 30"], abs=0.02), "on top of each other"


def test_nothing_comes_from_elsewhere_and_nothing_runs(log: EventLog) -> None:
    fill(log)
    page = Page(render_status_page(log))
    for tag, attributes in page.elements:
        assert tag not in {"script", "link", "img", "iframe", "object", "form", "a"}
        for name, value in attributes.items():
            assert not name.startswith("on")
            assert name not in {"src", "href"}
            assert "url(" not in (value or "")


def test_whatever_is_stored_is_shown_as_text(log: EventLog) -> None:
    log.commit(EVIL, 0)
    log.put(f"problem.{EVIL}", EVIL)
    log.quarantine(Delivery(b"x", datetime.now(UTC)), EVIL)
    log.add_counts(int(time.time()) // 60, {f"event:{EVIL}": 3, f"refused:{EVIL}": 1})
    page = Page(render_status_page(log))
    assert all(tag != "script" for tag, _ in page.elements)
    assert page.text.count(EVIL) == 5


def test_a_long_quarantine_is_cut(log: EventLog) -> None:
    for _ in range(25):
        log.quarantine(Delivery(b"x", datetime.now(UTC)), "why")
    assert "and 5 more" in Page(render(make_report(log))).text


@pytest.mark.parametrize(
    ("age", "headline"), [(10, "SendGrid is sending"), (3600, "Quiet for 60 min")]
)
def test_the_headline_says_whether_sendgrid_sends(log: EventLog, age: int, headline: str) -> None:
    log.append([Delivery(b"[]", datetime.now(UTC) - timedelta(seconds=age))])
    assert headline in Page(render_status_page(log)).texts


def test_every_event_type_has_a_colour_of_its_own() -> None:
    assert set(COLORS) == KNOWN_EVENTS | {OTHER}
    assert len(set(COLORS.values())) == len(COLORS)


def test_words_for_times_and_sizes() -> None:
    assert [duration(s) for s in (None, 5, 300, 9000, 200_000)] == [
        "none",
        "5 s",
        "5 min",
        "2.5 h",
        "2.3 days",
    ]
    assert [size(n) for n in (5, 1500, 2_500_000, 3e9, 4e12)] == [  # type: ignore[arg-type]
        "5 B",
        "1.5 KB",
        "2.5 MB",
        "3.0 GB",
        "4.0 TB",
    ]
