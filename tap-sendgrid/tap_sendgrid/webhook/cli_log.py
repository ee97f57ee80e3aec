"""The commands of ``sendgrid-webhook`` that work on the event log itself."""

from __future__ import annotations

import base64
import json
import sys
from collections import Counter
from collections.abc import Collection, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import urlsplit

import click
import msgspec

from tap_sendgrid.api.session import Session
from tap_sendgrid.event_log import EventLog, LoggedDelivery, open_event_log, sqlite_path
from tap_sendgrid.webhook.forward import consumer_name, post
from tap_sendgrid.webhook.options import EPOCH, MOMENT, log_option
from tap_sendgrid.webhook.report import size

APPEND_BYTES = 8 << 20
QUARANTINE_ID = click.IntRange(1, (1 << 63) - 1)  # SQLite takes no greater number
_raw_events = msgspec.json.Decoder(list[msgspec.Raw])

range_options = (
    click.option("--since", type=MOMENT, help="First arrival: ISO 8601, or 2h for two hours ago."),
    click.option("--until", type=MOMENT, help="First arrival that is not meant any more."),
    click.option("--offset", help="One offset, or a range FIRST-LAST, instead of times."),
)


def _with_range(command: Any) -> Any:
    for option in reversed(range_options):
        command = option(command)
    return command


def _select(
    log: EventLog, since: datetime | None, until: datetime | None, offset: str | None
) -> Iterator[LoggedDelivery]:
    """The deliveries that the range options mean; the end is that of now."""
    if offset is not None:
        if since or until:
            raise click.UsageError("give --offset, or --since and --until")
        first, dash, last = offset.partition("-")
        try:
            low, high = int(first), int(last) if dash else int(first)
        except ValueError:
            low, high = 1, 0
        if low > high:
            raise click.UsageError(f"{offset!r} is no offset: write 17, or 17-42")
        held = log.status()
        if high < held.first or low > held.end:
            held_ones = f"holds offsets {held.first} to {held.end}, none of {offset}"
            raise click.ClickException(
                f"the log {held_ones if held.first <= held.end else 'is empty'}"
            )
        return log.read(low - 1, min(high, held.end))
    if since and until and since >= until:
        raise click.UsageError(f"--since ({since:%Y-%m-%d %H:%M:%S}) is not before --until")
    if since is None and until is None:
        return log.read(0, log.end())
    return log.find(since or EPOCH, until or datetime.now(UTC) + timedelta(days=1))


@click.command()
@log_option
@_with_range
@click.option("--dry-run", is_flag=True, help="Only count.")
@click.option("--to", "url", help="Post them to this URL instead of appending them.")
def replay(
    event_log_url: str,
    since: datetime | None,
    until: datetime | None,
    offset: str | None,
    dry_run: bool,
    url: str | None,
) -> None:
    """Append old deliveries to the log once more, so that every consumer reads them again.

    Events that are in the warehouse already change nothing there: they have the same id.
    """
    log = open_event_log(event_log_url, create=False)
    if not (since or until or offset):
        raise click.UsageError("say which deliveries: --since, --until or --offset")
    if url is not None and not dry_run:
        _post_again(_select(log, since, until, offset), url)
        return
    # All that is meant must be known before the first is appended: copies are not to be copied.
    end = log.end()
    count = waiting = 0
    batch = []
    for logged in _select(log, since, until, offset):
        if logged.offset > end:
            break
        count += 1
        batch.append(logged.delivery)
        waiting += len(logged.delivery.body)
        if waiting >= APPEND_BYTES and not dry_run:
            log.append(batch, repeats=True)
            batch, waiting = [], 0
    if not dry_run:
        log.append(batch, repeats=True)
    click.echo(f"{'Would replay' if dry_run else 'Replayed'} {count:,} deliveries")
    log.close()


def _post_again(deliveries: Iterator[LoggedDelivery], url: str) -> None:
    """Post deliveries to a URL, in order; stop at the first that is not taken."""
    consumer_name(url)
    count = 0
    with Session() as session:
        for logged in deliveries:
            status = post(session, url, logged.delivery)
            if status is None or not 200 <= status < 300:
                said = "no answer" if status is None else f"answer {status}"
                raise click.ClickException(
                    f"{said} to delivery {logged.offset}, after {count:,} were taken; to go on "
                    f"from there: --offset {logged.offset}-LAST"
                )
            count += 1
    click.echo(f"Posted {count:,} deliveries")


@click.command()
@log_option
@click.option("--older-than", type=MOMENT, required=True, help="E.g. 30d, or ISO 8601.")
def trim(event_log_url: str, older_than: datetime) -> None:
    """Drop old deliveries that every consumer has committed, and give their space back."""
    log = open_event_log(event_log_url, create=False)
    before = log.status().size_bytes
    result = log.trim(older_than)
    after = log.status().size_bytes
    click.echo(f"Dropped {result.deliveries:,} deliveries; {size(before)} became {size(after)}")
    if result.held_by:
        click.echo(
            f"Older ones are kept for {', '.join(result.held_by)}. "
            "If a consumer will not come back: sendgrid-webhook forget NAME"
        )
    log.close()


@click.command()
@log_option
@click.argument("consumer")
def forget(event_log_url: str, consumer: str) -> None:
    """Drop a consumer that will not come back, so that trimming waits for it no longer."""
    log = open_event_log(event_log_url, create=False)
    if not log.forget(consumer):
        known = ", ".join(p.consumer for p in log.positions()) or "none"
        raise click.ClickException(f"no consumer is called {consumer!r}; known: {known}")
    click.echo(f"Forgot {consumer}")
    log.close()


@click.command()
@log_option
@_with_range
@click.option(
    "--deliveries", is_flag=True, help="Whole deliveries with headers, instead of their events."
)
def export(
    event_log_url: str,
    since: datetime | None,
    until: datetime | None,
    offset: str | None,
    deliveries: bool,
) -> None:
    """Write events as JSON lines to standard output, each exactly as SendGrid sent it.

    Those are the events that the tap makes records of. What it reads of a body that is no JSON is
    written as the tap reads it.
    """
    log = open_event_log(event_log_url, create=False)
    out = sys.stdout.buffer
    for logged in _select(log, since, until, offset):
        if deliveries:
            out.write(_delivery_line(logged))
            continue
        rejected: list[str] = []
        for line in _event_lines(logged.delivery.body, rejected):
            out.write(line + b"\n")
        if rejected:
            reasons = "; ".join(rejected[:10]) + (" ..." if len(rejected) > 10 else "")
            click.echo(f"Left out of delivery {logged.offset}: {reasons}", err=True)
    out.flush()
    log.close()


def _event_lines(body: bytes, rejected: list[str]) -> Iterator[bytes]:
    """The events of a body that the tap takes; ``rejected`` takes the reasons for what is none."""
    from tap_sendgrid.events.parse import events_of  # brings the SDK, a second to import

    events = [event for event, _ in events_of(body, rejected)]
    try:
        raws = [raw for raw in map(bytes, _raw_events.decode(body)) if raw[:1] == b"{"]
    except (ValueError, RecursionError):
        raws = []
    if len(raws) == len(events):
        for raw in raws:
            # Line breaks can only stand between the tokens of JSON, never within.
            yield raw.replace(b"\r", b"").replace(b"\n", b"")
        return
    for event in events:
        try:
            yield json.dumps(event, ensure_ascii=False).encode()
        except RecursionError:
            rejected.append(f"event {str(event.get('sg_event_id'))[:200]} is nested too deep")


def _delivery_line(logged: LoggedDelivery) -> bytes:
    """A delivery as a JSON line; its body as text, or base64 where it is no UTF-8."""
    line: dict[str, Any] = {
        "offset": logged.offset,
        "received_at": logged.delivery.received_at.isoformat(),
        "headers": dict(logged.delivery.headers),
    }
    try:
        line["body"] = logged.delivery.body.decode()
    except UnicodeDecodeError:
        line["body_base64"] = base64.b64encode(logged.delivery.body).decode()
    return json.dumps(line, ensure_ascii=False).encode() + b"\n"


@click.group()
def quarantine() -> None:
    """Deliveries whose body could not be read as events."""


@quarantine.command(name="list")
@log_option
@click.option("--show", is_flag=True, help="Show the first bytes of each body too.")
def quarantine_list(event_log_url: str, show: bool) -> None:
    """What is in quarantine, and why."""
    log = open_event_log(event_log_url, create=False)
    last = 0
    while items := log.quarantined(last):
        for item in items:
            last = item.id
            body = item.delivery.body
            click.echo(
                f"{item.id}  {item.delivery.received_at:%Y-%m-%d %H:%M:%S}  {size(len(body))}  "
                f"{item.reason}"
            )
            if show:
                click.echo(f"    {body[:200]!r}")
    if not last:
        click.echo("Quarantine is empty")
    log.close()


@quarantine.command(name="retry")
@log_option
@click.argument("ids", type=QUARANTINE_ID, nargs=-1)
@click.option("--force", is_flag=True, help="Also those that still cannot be read.")
def quarantine_retry(event_log_url: str, ids: tuple[int, ...], force: bool) -> None:
    """Put deliveries back at the end of the log: those given, or all that can be read by now.

    What the tap would set aside again, whole or in part, stays.
    """
    # They bring the SDK, a second to import.
    from tap_sendgrid.events.convert import Converter
    from tap_sendgrid.events.fields import EVENT_TYPES
    from tap_sendgrid.events.records import QuickRecords

    log = open_event_log(event_log_url, create=False)
    records = QuickRecords(Converter({event_type.stream: () for event_type in EVENT_TYPES}))
    good, bad, last = [], 0, 0
    missing = dict.fromkeys(ids)
    while items := log.quarantined(last):
        for item in items:
            last = item.id
            if ids and item.id not in ids:
                continue
            missing.pop(item.id, None)
            rejected: list[str] = []
            if not force:
                for _ in records.records(item.delivery, (), rejected, Counter()):
                    pass  # only the reasons count: with one, the tap would set it aside again
            if not rejected:
                good.append(item.id)
            else:
                bad += 1
    offsets = log.release(good)
    click.echo(f"Put back {len(offsets):,} deliveries")
    if bad:
        click.echo(f"{bad:,} still cannot be read and stay (--force puts them back all the same)")
    log.close()
    _tell_missing(missing)


@quarantine.command(name="discard")
@log_option
@click.argument("ids", type=QUARANTINE_ID, nargs=-1, required=True)
@click.confirmation_option(prompt="Delete them for good?")
def quarantine_discard(event_log_url: str, ids: tuple[int, ...]) -> None:
    """Delete deliveries from quarantine for good."""
    log = open_event_log(event_log_url, create=False)
    wanted = dict.fromkeys(ids)
    missing = [number for number in wanted if not log.discard([number])]
    click.echo(f"Deleted {len(wanted) - len(missing):,}")
    log.close()
    _tell_missing(missing)


def _tell_missing(ids: Collection[int]) -> None:
    """End with status 1 if there are any."""
    if ids:
        raise click.ClickException(f"not in quarantine: {', '.join(map(str, ids))}")


@click.command()
@log_option
def check(event_log_url: str) -> None:
    """Read the whole log and say what is wrong with it; status 1 if anything is."""
    log = open_event_log(event_log_url, create=False)
    problems = log.check()
    log.close()
    if problems:
        raise click.ClickException(
            "\n".join([*problems, "Stop the receiver and run: sendgrid-webhook repair"])
        )
    click.echo("All is well")


@click.command()
@log_option
def repair(event_log_url: str) -> None:
    """Save what can be read of a damaged SQLite log into a new file; the receiver must be off."""
    from tap_sendgrid.event_log.sqlite_repair import repair_log

    if urlsplit(event_log_url).scheme != "sqlite":
        raise click.UsageError(
            "only a SQLite log has a file to repair; a NATS cluster heals itself"
        )
    result = repair_log(sqlite_path(event_log_url))
    click.echo(
        f"Saved {result.deliveries:,} deliveries; the damaged file is kept as {result.damaged_file}"
    )
    for first, last in result.lost:
        click.echo(f"Lost: offsets {first} to {last}" if last > first else f"Lost: offset {first}")
    if result.mended:
        click.echo(
            f"{result.mended:,} of the saved have their body only: their headers, or the time of "
            "their arrival, could not be read"
        )
    if result.quarantined:
        click.echo(f"{result.quarantined:,} whose checksum was wrong are in quarantine")


COMMANDS = (replay, trim, forget, export, quarantine, check, repair)
