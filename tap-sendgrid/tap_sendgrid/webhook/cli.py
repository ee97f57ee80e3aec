"""The command ``sendgrid-webhook``: receive, register, look at what is there."""

from __future__ import annotations

import signal
import sys
from contextlib import closing
from pathlib import Path
from typing import Any
from urllib.parse import quote

import click

from tap_sendgrid.event_log import EventLog, open_event_log
from tap_sendgrid.history import cli as history
from tap_sendgrid.webhook import cli_log
from tap_sendgrid.webhook.forward import begin
from tap_sendgrid.webhook.keys import stored_keys
from tap_sendgrid.webhook.options import (
    CommandGroup,
    Number,
    api_options,
    api_settings,
    log_option,
    make_client,
    path_token_option,
    status_token_option,
)
from tap_sendgrid.webhook.register import (
    FORWARD_SETTING,
    PATH_TOKEN_SETTING,
    STATUS_TOKEN_SETTING,
    Registration,
    delivery_url,
    register,
    shared_token,
    stored_list,
    token_to_come,
)
from tap_sendgrid.webhook.report import Report, duration, make_report, size
from tap_sendgrid.webhook.settings import (
    DEFAULT_MAX_BODY_BYTES,
    DEFAULT_PORT,
    ReceiverSettings,
)
from tap_sendgrid.webhook.settings_api import WebhookSettingsApi
from tap_sendgrid.webhook.signature import load_public_key

_LONGEST_RETENTION_DAYS = 36_500


@click.group(
    cls=CommandGroup,
    context_settings={
        "help_option_names": ["-h", "--help"],
        "max_content_width": 100,
    },
)
@click.version_option(package_name="tap-sendgrid")
def main() -> None:
    """Receives SendGrid's Event Webhook into a durable log, from which tap-sendgrid reads.

    Every option may also be given as environment variable SENDGRID_WEBHOOK_<OPTION>, except those
    that say what a command is to do this once: --since, --until, --offset, --older-than, --to,
    --replace and --forward of `register`, --restart, --allow-doubles, --force, --yes.
    """


@main.command()
@log_option
@click.option("--host", default="127.0.0.1", show_default=True)
@click.option(
    "--port",
    type=click.IntRange(0, 65535),
    default=DEFAULT_PORT,
    show_default=True,
    help="0 takes any free one.",
)
@click.option(
    "--fd",
    type=click.IntRange(min=0),
    help="Number of a listening socket that a supervisor holds (3 under systemd).",
)
@click.option("--reuse-port", is_flag=True, help="Let other processes listen on the port as well.")
@click.option("--workers", default=1, show_default=True)
@path_token_option
@status_token_option
@click.option(
    "--public-key",
    multiple=True,
    help="Verification key as SendGrid shows it; repeat for several. `register` stores its own.",
)
@click.option(
    "--public-key-file",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="File with one key a line, or PEM.",
)
@click.option(
    "--allow-unsigned",
    is_flag=True,
    help="Do not check signatures. Whoever learns the path can then write into your log.",
)
@click.option(
    "--clock-window",
    type=Number(min=1),
    help="Refuse deliveries signed more than so many seconds from now; default: take all.",
)
@click.option(
    "--max-body-bytes",
    type=click.IntRange(min=1000),
    default=DEFAULT_MAX_BODY_BYTES,
    show_default=True,
)
@click.option("--oauth-client-id")
@click.option("--oauth-client-secret")
@click.option(
    "--forward-to",
    multiple=True,
    help="URL that gets a copy of each delivery from now on; repeat for several. Those that "
    "`register` took over from come on top.",
)
@click.option("--no-forward", is_flag=True, help="Leave forwarding to another process.")
@click.option(
    "--retention-days",
    type=Number(min=0, min_open=True, max=_LONGEST_RETENTION_DAYS),
    help="Drop deliveries older than this once every consumer has them; default: keep all.",
)
@click.option("--json-logs", is_flag=True)
@api_options
def serve(
    event_log_url: str,
    host: str,
    port: int,
    fd: int | None,
    public_key_file: Path | None,
    reuse_port: bool,
    forward_to: tuple[str, ...],
    no_forward: bool,
    **options: Any,
) -> None:
    """Receive deliveries until stopped (SIGTERM)."""
    from tap_sendgrid.webhook import server

    api = api_settings({name: options.pop(name) for name in _API})
    if bool(options["oauth_client_id"]) != bool(options["oauth_client_secret"]):
        raise click.UsageError("--oauth-client-id and --oauth-client-secret belong together")
    keys = (*options.pop("public_key"), *_keys_in(public_key_file))
    for key in keys:
        load_public_key(key)
    path_token, status_token = options.pop("path_token"), options.pop("status_token")

    def stored() -> tuple[str, str, tuple[str, ...]]:
        with closing(open_event_log(event_log_url)) as log:
            if not keys and not options["allow_unsigned"] and not stored_keys(log):
                raise click.ClickException(
                    "no signature key is known, so nothing could be told from a forgery. Run\n"
                    "  sendgrid-webhook register --url https://your.public.address\n"
                    "which turns signing on and fetches the key, or give --public-key "
                    "(or --allow-unsigned to try things out)"
                )
            urls = () if no_forward else (*forward_to, *stored_list(log, FORWARD_SETTING))
            for url in urls:
                begin(log, url)
            return (
                shared_token(log, PATH_TOKEN_SETTING, path_token),
                shared_token(log, STATUS_TOKEN_SETTING, status_token),
                urls,
            )

    path_token, status_token, forward_to = server.when_reachable(stored)
    settings = ReceiverSettings(
        event_log_url,
        path_token,
        status_token,
        keys,
        forward_to=forward_to,
        api_key=api.api_key or None,
        api_url=api.api_url,
        subusers=api.subusers,
        **options,
    )
    try:
        listener = (
            server.listen(host, port, reuse_port=reuse_port)
            if fd is None
            else server.inherited_socket(fd)
        )
    except OSError as error:
        where = f"{host}:{port}" if fd is None else f"file descriptor {fd}"
        raise click.ClickException(
            f"cannot listen on {where}: {error.strerror or error}"
        ) from error
    _say_where(listener.getsockname(), settings)
    server.run(settings, listener)


@main.command()
@log_option
@click.option("--to", "urls", multiple=True, help="URL; default: those register took over from.")
@click.option("--json-logs", is_flag=True)
def forward(event_log_url: str, urls: tuple[str, ...], json_logs: bool) -> None:
    """Pass deliveries on to other URLs, in a process of its own, until stopped (SIGTERM)."""
    from tap_sendgrid.webhook.housekeeping import housekeeping
    from tap_sendgrid.webhook.logs import configure_logging

    configure_logging(as_json=json_logs)
    log = open_event_log(event_log_url)
    urls = urls or tuple(stored_list(log, FORWARD_SETTING))
    log.close()
    if not urls:
        raise click.UsageError("no URL is stored in the event log: give --to")
    with housekeeping(event_log_url, urls, None) as stop:
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: stop.set())
        click.echo(f"Forwarding to {len(urls)} URL(s)")
        stop.wait()


@main.command()
@log_option
@click.option("--base", help="Public address, to print whole URLs.")
@path_token_option
@status_token_option
def url(
    event_log_url: str, base: str | None, path_token: str | None, status_token: str | None
) -> None:
    """Print the secret paths: where SendGrid posts to, and the status page."""
    log = open_event_log(event_log_url)
    base = (base or "").rstrip("/")
    click.echo(f"deliveries  {base}/{shared_token(log, PATH_TOKEN_SETTING, path_token)}")
    status_token = shared_token(log, STATUS_TOKEN_SETTING, status_token)
    click.echo(f"status      {_status_url(base, status_token)}")
    log.close()


@main.command(name="register")
@log_option
@click.option(
    "--url",
    required=True,
    help="Public address of this receiver, e.g. https://events.example.com.",
)
@path_token_option
@click.option("--replace", help="Id of a webhook to take over when all places are taken.")
@click.option(
    "--forward/--no-forward",
    default=True,
    help="Pass deliveries on to the URL that is replaced (default), or not.",
)
@click.option("--oauth-client-id")
@click.option("--oauth-client-secret")
@click.option("--dry-run", is_flag=True, help="Only say what would be done.")
@api_options
def register_command(
    event_log_url: str,
    url: str,
    path_token: str | None,
    replace: str | None,
    forward: bool,
    oauth_client_id: str | None,
    oauth_client_secret: str | None,
    dry_run: bool,
    **options: Any,
) -> None:
    """Create or update the webhook in SendGrid: all event types, signed, posting to us."""
    if bool(oauth_client_id) != bool(oauth_client_secret):
        raise click.UsageError("--oauth-client-id and --oauth-client-secret belong together")
    client = make_client(api_settings(options))
    log = None if dry_run else open_event_log(event_log_url)
    if path_token is None:
        path_token = shared_token(log, PATH_TOKEN_SETTING) if log else token_to_come(event_log_url)
    address = delivery_url(url, path_token)
    oauth = {}
    if oauth_client_id and oauth_client_secret:
        oauth = {
            "oauth_client_id": oauth_client_id,
            "oauth_client_secret": oauth_client_secret,
            "oauth_token_url": f"{address}/oauth/token",
        }
    wish = Registration(address, replace, forward, oauth)
    register(WebhookSettingsApi(client), log, wish, click.echo)
    if log is not None:
        # Not sooner: until SendGrid has it, the receiver must answer at the path it had.
        before = log.get(PATH_TOKEN_SETTING)
        shared_token(log, PATH_TOKEN_SETTING, path_token)
        moved = before not in (None, path_token)
        step = "start sendgrid-webhook serve again, it is another path"
        click.echo(f"SendGrid posts to {address}")
        click.echo(f"Next: {step if moved else 'sendgrid-webhook serve'}")
        log.close()


@main.command()
@log_option
@path_token_option
@api_options
def status(event_log_url: str, path_token: str | None, **options: Any) -> None:
    """How the log and its consumers are, beside what SendGrid is set to."""
    log = open_event_log(event_log_url, create=False)
    _print_report(make_report(log))
    _print_setup(log)
    settings = api_settings(options)
    if not settings.api_key:
        click.echo("\nSendGrid: not asked (set TAP_SENDGRID_API_KEY)")
    else:
        path_token = path_token or log.get(PATH_TOKEN_SETTING)
        _print_sendgrid(log, WebhookSettingsApi(make_client(settings)), path_token)
    log.close()


for _command in (*cli_log.COMMANDS, *history.COMMANDS):
    main.add_command(_command)

_API = ("api_key", "api_url", "region", "on_behalf_of")


def _keys_in(file: Path | None) -> list[str]:
    """The keys of a file: PEM blocks, or one a line."""
    if file is None:
        return []
    text = file.read_text("utf-8", "replace")  # a file that is none of keys is told as that
    if "-----BEGIN" in text:
        return [block for block in text.split("-----END PUBLIC KEY-----") if "BEGIN" in block]
    return text.split()


def _say_where(address: Any, settings: ReceiverSettings) -> None:
    """Print where we listen; the secret parts to a terminal only, not into a supervisor's log."""
    if not isinstance(address, tuple):
        click.echo(f"Listening on {address}")
        return
    host = f"[{address[0]}]" if ":" in address[0] else address[0]
    base = f"http://{host}:{address[1]}"
    click.echo(f"Listening on {base}")
    if sys.stdout.isatty():
        click.echo(f"  deliveries   {base}/{settings.path_token}")
        click.echo(f"  status page  {_status_url(base, settings.status_token)}")
    else:
        click.echo("  the secret paths: sendgrid-webhook url")
    sys.stdout.flush()


def _status_url(base: str, token: str) -> str:
    """Where the status page is; a token may have any characters."""
    return f"{base}/?token={quote(token, safe='')}"


def _print_report(report: Report) -> None:
    log = report.log
    quiet = report.quiet_seconds
    click.echo(
        f"Event log: offsets {log.first} to {log.end}, {size(log.size_bytes)}, last delivery "
        + ("none stored" if quiet is None else f"{duration(quiet)} ago")
    )
    events = ", ".join(f"{name} {count:,}" for name, count in report.events.items())
    click.echo(f"Events in the last hour: {events or 'none'}")
    if not report.consumers:
        click.echo("Consumers: none has committed yet")
    for consumer in report.consumers:
        click.echo(
            f"Consumer {consumer.name}: at {consumer.offset}, {consumer.waiting:,} deliveries wait "
            f"(oldest {duration(consumer.oldest_waiting_seconds)}), last commit "
            f"{duration((report.now - consumer.committed_at).total_seconds())} ago"
            + (f"; {consumer.problem}" if consumer.problem else "")
        )
    for reason, hour, day in report.refused():
        click.echo(f"Refused ({reason}): {hour:,} in the last hour, {day:,} in the last day")
    click.echo(f"Quarantine: {log.quarantined:,}")
    for item in report.quarantine:
        click.echo(f"  {item.id}  {item.received_at:%Y-%m-%d %H:%M:%S}  {item.reason}")


def _print_setup(log: EventLog) -> None:
    keys = sum(len(found) for found in stored_keys(log).values())
    click.echo(f"Signature keys stored by register: {keys}")
    forwards = len(stored_list(log, FORWARD_SETTING))
    if forwards:
        click.echo(f"URLs that get copies (taken over by register): {forwards}")


def _print_sendgrid(log: EventLog, api: WebhookSettingsApi, path_token: str | None) -> None:
    webhooks, allowed = api.all()
    click.echo(f"\nSendGrid: {len(webhooks)} webhook(s)" + (f" of {allowed}" if allowed else ""))
    for webhook in webhooks:
        ours = bool(path_token) and webhook.url.endswith(f"/{path_token}")
        key = webhook.public_key or api.public_key(webhook.id)
        known = any(key in found for found in stored_keys(log).values())
        click.echo(
            f"  {webhook.id or '(the oldest)'}: {'posts here' if ours else 'posts elsewhere'}, "
            f"{'enabled' if webhook.enabled else 'OFF'}, "
            + ("signed" if key else "NOT SIGNED")
            + (", its key is not known: run `register`" if ours and key and not known else "")
            + (f", without {', '.join(webhook.events_off)}" if webhook.events_off else "")
        )
