"""The commands ``sendgrid-webhook backfill`` and ``sendgrid-webhook gaps``."""

from __future__ import annotations

import sys
from collections import Counter
from datetime import UTC, date, datetime, timedelta
from typing import TYPE_CHECKING, Any, Final

import click

from tap_sendgrid.api.client import Client
from tap_sendgrid.api.errors import Forbidden, NotFound, SendGridError
from tap_sendgrid.event_log import EventLog, open_event_log
from tap_sendgrid.history.backfill import Request, Result, backfill
from tap_sendgrid.history.logs import LogsSource
from tap_sendgrid.history.messages import MessagesSource
from tap_sendgrid.history.source import Source
from tap_sendgrid.webhook.options import (
    MOMENT,
    api_options,
    api_settings,
    log_option,
    make_client,
    make_clients,
)

if TYPE_CHECKING:
    from tap_sendgrid.history.gaps import Gap

RETENTION: Final = timedelta(days=30)


@click.command(name="backfill")
@log_option
@click.option(
    "--since",
    type=MOMENT,
    required=True,
    help="First event wanted: 2026-11-01, 2026-11-01T08:00:00 (UTC), or 7d for a week ago.",
)
@click.option("--until", type=MOMENT, help="Messages sent from then on are left; default: now.")
@click.option(
    "--lookback",
    default=3,
    show_default=True,
    type=click.FloatRange(min=0),
    help="Days before --since: messages sent then are asked for too, since they may have been "
    "opened or clicked later. Their events before --since are left.",
)
@click.option(
    "--source",
    type=click.Choice(["auto", "logs", "messages"]),
    default="auto",
    show_default=True,
    help="/v3/logs (every plan), or /v3/messages (the Email Activity add-on; slow).",
)
@click.option("--concurrency", default=8, show_default=True, type=click.IntRange(1, 8))
@click.option("--restart", is_flag=True, help="Do not go on from an interrupted run.")
@click.option(
    "--allow-doubles",
    is_flag=True,
    help="Fetch also the time that was trimmed from the log, though rows may then stand twice.",
)
@api_options
def backfill_command(
    event_log_url: str,
    since: datetime,
    until: datetime | None,
    lookback: float,
    source: str,
    concurrency: int,
    restart: bool,
    allow_doubles: bool,
    **options: Any,
) -> None:
    """Fetch events from SendGrid's own records into the event log.

    For the time before the webhook was on, or while nobody received it: SendGrid keeps 30 days.
    What the log has already is not doubled, and a time that was trimmed from it is refused; an
    interrupted run goes on where it stopped. Afterwards run the tap as always.
    """
    from tap_sendgrid.history.known import known_events  # brings the SDK, a second to import

    now = datetime.now(UTC)
    until = min(until or now, now)
    if since >= until:
        raise click.UsageError(f"--since ({since:%Y-%m-%d %H:%M:%S}) is not before --until")
    if since < now - RETENTION:
        click.echo(
            f"SendGrid keeps 30 days: little or nothing will be found from before "
            f"{now - RETENTION:%Y-%m-%d}."
        )
    chosen = choose_source(make_client(api_settings(options)), source)
    log = open_event_log(event_log_url)
    try:
        if not allow_doubles:
            _check_is_known(log, since, chosen)
        if not chosen.gives_event_ids:
            # Its messages are found by their last event, which may be later than the span.
            until, lookback = now, 0
        click.echo(
            f"Fetching events from {since:%Y-%m-%d %H:%M:%S} to {until:%Y-%m-%d %H:%M:%S} "
            f"(UTC) out of {chosen.name}"
        )
        result = backfill(
            chosen,
            log,
            Request(since, until, timedelta(days=lookback), concurrency, restart),
            say=click.echo,
            is_known=known_events(log, since, without_id_only=chosen.gives_event_ids),
        )
    finally:
        log.close()
    _tell(result)
    if result.too_many or result.unreadable:
        sys.exit(1)


def _check_is_known(log: EventLog, since: datetime, source: Source) -> None:
    """Refuse a span of which the log cannot tell any more what has come already.

    Raises:
        click.ClickException: Deliveries of it were trimmed.
    """
    from tap_sendgrid.history.known import trimmed_before

    border = trimmed_before(log)
    if border is None or since >= border:
        return
    which = (
        "those that the webhook sends without an id (some unsubscribes)"
        if source.gives_event_ids
        else f"all of them, as {source.name} gives no ids"
    )
    raise click.ClickException(
        f"the event log has no delivery from before {border:%Y-%m-%d %H:%M:%S} (UTC) any more: "
        "they were trimmed. Their events are in the warehouse, and without them it cannot be told "
        f"which of SendGrid's records are the same; {which} would be second rows there, under "
        f"other ids. Give --since {border + timedelta(seconds=1):%Y-%m-%dT%H:%M:%S} or later, or "
        "--allow-doubles to fetch them all the same"
    )


def choose_source(client: Client, wish: str = "auto") -> Source:
    """The source that was wished for, or the first that SendGrid gives to this key.

    Raises:
        SendGridError: It gives neither.
    """
    candidates = [kind for kind in (LogsSource, MessagesSource) if wish in ("auto", kind.name[4:])]
    refusals = []
    now = datetime.now(UTC)
    for candidate in candidates:
        source: Source = candidate(client)
        try:
            source.list(now - timedelta(seconds=1), now)
        except (Forbidden, NotFound) as problem:
            refusals.append(str(problem))
        else:
            return source
    raise SendGridError(
        f"this API key gets no history ({'; '.join(refusals)}). Give it the permission Email "
        "Activity (messages.read) in SendGrid under Settings > API Keys."
    )


def _tell(result: Result) -> None:
    click.echo(f"{result.messages:,} messages, {result.events.total():,} events:")
    for word, count in sorted(result.events.items()):
        click.echo(f"  {word:<20}{count:>12,}")
    if result.known:
        click.echo(f"{result.known:,} more are in the log already, under other ids.")
    if result.vanished:
        click.echo(f"{result.vanished:,} messages grew too old while this ran.")
    if result.truncated:
        click.echo(
            f"{len(result.truncated):,} messages have 100 events or more, of which SendGrid gives "
            f"the newest 100: {', '.join(result.truncated[:3])} …"
        )
    for problem in result.unreadable[:10]:
        click.echo(f"INCOMPLETE: {problem}")
    if len(result.unreadable) > 10:
        click.echo(f"INCOMPLETE: {len(result.unreadable) - 10:,} more such messages")
    for moment in result.too_many:
        click.echo(
            f"INCOMPLETE: more messages of one status were sent at {moment:%Y-%m-%d %H:%M:%S} than "
            "SendGrid lists (1000 a query); the rest cannot be had."
        )


@click.command()
@log_option
@click.option(
    "--since",
    type=MOMENT,
    required=True,
    help="First day (UTC): 2026-11-01, or 7d for a week ago.",
)
@click.option(
    "--until",
    type=MOMENT,
    help="First day not compared any more; default: today, which is not over.",
)
@click.option(
    "--tolerance",
    default=0.0,
    show_default=True,
    type=click.FloatRange(0, 100),
    help="Percent that may be missing before a day counts as short.",
)
@api_options
def gaps(
    event_log_url: str,
    since: datetime,
    until: datetime | None,
    tolerance: float,
    **options: Any,
) -> None:
    """Name the days on which the event log has fewer events than SendGrid's statistics.

    Compares counts by UTC day and type. Exit status 1 if a day falls short. The log's counts are
    of every account that posts to it: name all of its subusers in --on-behalf-of. Days of which
    deliveries were trimmed are left out.
    """
    from tap_sendgrid.history.gaps import count_log, count_statistics, find_gaps
    from tap_sendgrid.history.known import trimmed_before

    first = since.astimezone(UTC).date()
    last = (until or datetime.now(UTC)).astimezone(UTC).date() - timedelta(days=1)
    if first > last:
        raise click.UsageError(f"there is no whole day from {first} on")
    settings = api_settings(options)
    clients = make_clients(settings)
    log = open_event_log(event_log_url, create=False)
    try:
        if (border := trimmed_before(log)) and border.date() >= first:
            click.echo(
                f"{first} to {min(border.date(), last)}: not compared; deliveries from before "
                f"{border:%Y-%m-%d %H:%M:%S} (UTC) were trimmed from the event log."
            )
            first = border.date() + timedelta(days=1)
            if first > last:
                return
        theirs: Counter[tuple[date, str]] = Counter()
        for client in clients:
            theirs.update(count_statistics(client, first, last))
        found = find_gaps(count_log(log, first, last), theirs, tolerance / 100)
    finally:
        log.close()
    if found:
        _tell_gaps(found, settings.subusers)
    else:
        whose = f" for {', '.join(settings.subusers)}" if settings.subusers else ""
        click.echo(
            f"{first} to {last}: on none of {(last - first).days + 1} day(s) has the event log "
            f"fewer events of a type than SendGrid counted{whose}, {theirs.total():,} in all."
        )
    click.echo(
        "The log's events do not say whose they are: those of any other account that posts to it "
        "are counted too, and may hide what is missing."
    )
    if found:
        sys.exit(1)


def _tell_gaps(found: list[Gap], subusers: tuple[str, ...]) -> None:
    click.echo(f"{'day':<12}{'event':<14}{'SendGrid':>12}{'event log':>12}{'missing':>12}")
    for gap in found:
        click.echo(
            f"{gap.day!s:<12}{gap.kind:<14}{gap.sendgrid:>12,}{gap.log:>12,}{gap.missing:>12,}"
        )
    first, last = found[0].day, found[-1].day + timedelta(days=1)
    click.echo("\nTo fill them:")
    for whose in [f" --on-behalf-of {subuser}" for subuser in subusers] or [""]:
        click.echo(f"  sendgrid-webhook backfill --since {first} --until {last}{whose}")


COMMANDS = (backfill_command, gaps)
