"""Days on which the log has less than SendGrid counted."""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta
from typing import Any

from sendgrid_simulator import Simulator
from tap_sendgrid.event_log import EventLog
from tap_sendgrid.history.backfill import as_deliveries
from tap_sendgrid.history.gaps import Gap, count_log, count_statistics, find_gaps

from .conftest import Command, client_of, first_message_at, webhook_events


def fill(log: EventLog, events: list[dict[str, Any]], since: datetime) -> None:
    log.append(list(as_deliveries(events, since + timedelta(hours=1))))


def day_of(event: dict[str, Any]) -> date:
    return datetime.fromtimestamp(event["timestamp"], UTC).date()


def test_a_complete_log_has_no_gap(simulator: Simulator, log: EventLog, command: Command) -> None:
    since = first_message_at(simulator)
    fill(log, webhook_events(simulator), since)
    result = command(simulator, "gaps", "--since", str(since.date()))
    assert result.exit_code == 0, result.output
    assert (
        "day(s) has the event log fewer events of a type than SendGrid counted, " in result.output
    )


def test_repeats_do_not_hide_a_gap(simulator: Simulator, log: EventLog, command: Command) -> None:
    since = first_message_at(simulator)
    events = webhook_events(simulator)
    day = since.date() + timedelta(days=1)
    missing = [e for e in events if e["event"] == "click" and day_of(e) == day]
    assert missing
    rest = [e for e in events if e not in missing]
    fill(log, rest, since)
    fill(log, rest, since)  # every event twice
    result = command(simulator, "gaps", "--since", str(since.date()))
    assert result.exit_code == 1
    count = len({e["sg_event_id"] for e in missing})
    assert f"{day!s:<12}{'click':<14}{count:>12}{0:>12}{count:>12}" in result.output
    assert len([line for line in result.output.splitlines() if line.startswith("20")]) == 1
    assert f"backfill --since {day} --until {day + timedelta(days=1)}" in result.output


def test_a_backfill_closes_the_gap(simulator: Simulator, log: EventLog, command: Command) -> None:
    since = first_message_at(simulator)
    day = since.date() + timedelta(days=2)
    fill(log, [e for e in webhook_events(simulator) if day_of(e) != day], since)
    assert command(simulator, "gaps", "--since", str(since.date())).exit_code == 1
    filled = command(
        simulator, "backfill", "--since", str(day), "--until", str(day + timedelta(days=1))
    )
    assert filled.exit_code == 0, filled.output
    result = command(simulator, "gaps", "--since", str(since.date()))
    assert result.exit_code == 0, result.output


def test_accounts_that_share_a_log_are_compared_together(
    make_simulator: Callable[..., Simulator], log: EventLog, command: Command
) -> None:
    simulator = make_simulator(messages=100, subusers=["north", "south"])
    since = first_message_at(simulator)
    north, south = (
        [event for message in simulator.subusers[name].messages for event in message.events]
        for name in ("north", "south")
    )
    gaps = ("gaps", "--since", str(since.date()), "--on-behalf-of")
    fill(log, north, since)
    short = command(simulator, *gaps, "north,south")
    assert short.exit_code == 1
    for name in ("north", "south"):
        assert re.search(rf"backfill --since \S+ --until \S+ --on-behalf-of {name}\n", short.output)
    fill(log, south, since)
    whole = command(simulator, *gaps, "north,south")
    assert whole.exit_code == 0, whole.output
    assert "than SendGrid counted for north, south, " in whole.output
    # South's events may stand in for some of north's: nothing is said of these being complete.
    one = command(simulator, *gaps, "north")
    assert one.exit_code == 0
    for result in (short, whole, one):
        assert "those of any other account that posts to it are counted too" in result.output


def test_trimmed_days_are_named_and_not_missing(
    simulator: Simulator, log: EventLog, command: Command
) -> None:
    events = webhook_events(simulator)
    first = first_message_at(simulator).date()
    days = [first + timedelta(days=n) for n in range(5)]
    for day in days:
        noon = datetime(day.year, day.month, day.day, 12, tzinfo=UTC)
        fill(log, [e for e in events if day_of(e) == day], noon + timedelta(hours=10))
        if day == days[1]:
            log.commit("tap-sendgrid", log.end())
            assert log.trim(noon).deliveries
    border = days[1]  # of which a part may have been trimmed
    result = command(simulator, "gaps", "--since", str(first))
    assert result.exit_code == 0, result.output
    assert f"{first} to {border}: not compared; deliveries from before" in result.output
    assert f"{days[2]} to " in result.output
    only = command(simulator, "gaps", "--since", str(first), "--until", str(days[2]))
    assert (only.exit_code, len(only.output.splitlines())) == (0, 1)
    log.commit("tap-sendgrid", log.end())
    log.trim(datetime.now(UTC) + timedelta(days=1))  # nothing is left
    none = command(simulator, "gaps", "--since", str(first))
    assert (none.exit_code, len(none.output.splitlines())) == (0, 1)


def test_bounces_and_blocks_are_told_apart(simulator: Simulator, log: EventLog) -> None:
    since = first_message_at(simulator)
    fill(log, webhook_events(simulator), since)
    first, last = since.date(), since.date() + timedelta(days=4)
    ours = count_log(log, first, last)
    theirs = count_statistics(client_of(simulator), first, last)
    for kind in ("bounce", "blocked"):
        assert sum(n for (_, k), n in ours.items() if k == kind) == sum(
            n for (_, k), n in theirs.items() if k == kind
        )
        assert any(k == kind for _, k in ours)


def test_the_tolerance_is_a_share() -> None:
    day = date(2026, 1, 1)
    ours, theirs = {(day, "open"): 990}, {(day, "open"): 1000, (day, "click"): 1}
    assert find_gaps(ours, theirs) == [Gap(day, "click", 1, 0), Gap(day, "open", 1000, 990)]
    assert find_gaps(ours, theirs, 0.01) == [Gap(day, "click", 1, 0)]
    assert find_gaps({(day, "open"): 2000}, {(day, "open"): 1000}) == []


def test_there_must_be_a_whole_day(
    make_simulator: Callable[..., Simulator], log: EventLog, command: Command
) -> None:
    result = command(make_simulator(messages=0), "gaps", "--since", "0h")
    assert result.exit_code == 2
    assert "there is no whole day" in result.output


def test_the_key_must_be_allowed_to_read_statistics(
    make_simulator: Callable[..., Simulator], log: EventLog, command: Command
) -> None:
    result = command(make_simulator(scopes=("mail.send",)), "gaps", "--since", "3d")
    assert result.exit_code == 1
    assert "the permission Stats (stats.read)" in result.output
