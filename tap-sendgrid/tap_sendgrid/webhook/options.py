"""Options that several commands share, and how their problems are told."""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from typing import Any, TypeVar

import click

from tap_sendgrid.api.client import Client
from tap_sendgrid.api.errors import SendGridError
from tap_sendgrid.api.settings import ApiSettings
from tap_sendgrid.event_log import DEFAULT_EVENT_LOG_URL, EventLogError
from tap_sendgrid.webhook.addresses import web_address
from tap_sendgrid.webhook.forward import UnknownForwardTarget
from tap_sendgrid.webhook.register import RegistrationError
from tap_sendgrid.webhook.signature import BadPublicKey

FORESEEN = (
    EventLogError,
    SendGridError,
    RegistrationError,
    BadPublicKey,
    UnknownForwardTarget,
)

Command = TypeVar("Command", bound=Callable[..., Any])

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
SMALLEST_TOKEN = 16

_UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days"}


ONLY_ON_THE_COMMAND_LINE = {
    *("--since", "--until", "--offset", "--older-than", "--to"),
    *("--replace", "--forward", "--restart", "--allow-doubles", "--force", "--yes"),
}
"""What one command is to do this once: left in the environment it would change others too, or
confirm in advance what is to be confirmed each time."""


class CommandGroup(click.Group):
    """The commands of ``sendgrid-webhook``.

    Their foreseen problems end with a message and status 1, without a traceback. Their options
    are read from the environment too, as SENDGRID_WEBHOOK_<OPTION>.
    """

    def add_command(self, cmd: click.Command, name: str | None = None) -> None:
        """Add a command, or a group of them."""
        _read_from_environment(cmd)
        super().add_command(cmd, name)

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command."""
        try:
            return super().invoke(ctx)
        except FORESEEN as problem:
            raise click.ClickException(str(problem)) from problem


def _read_from_environment(command: click.Command) -> None:
    """Give each option its variable; one that has another name for it keeps that."""
    for below in command.commands.values() if isinstance(command, click.Group) else ():
        _read_from_environment(below)
    for option in command.params:
        if isinstance(option, click.Option) and option.envvar is None:
            name = max(option.opts, key=len)
            if name not in ONLY_ON_THE_COMMAND_LINE:
                option.envvar = "SENDGRID_WEBHOOK_" + name[2:].replace("-", "_").upper()


class Moment(click.ParamType[datetime]):
    """A point in time: ISO 8601 (UTC unless it says otherwise), or how long ago: 90s 30m 2h 7d."""

    name = "time"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> datetime:
        """Read it."""
        if isinstance(value, datetime):
            return value
        moment = EPOCH - timedelta(1)
        if match := re.fullmatch(r"(\d+)([smhd])", str(value).strip(), re.ASCII):
            # More than Python can count is before the epoch all the same.
            with suppress(OverflowError, ValueError):
                moment = datetime.now(UTC) - timedelta(**{_UNITS[match[2]]: int(match[1])})
        else:
            try:
                moment = datetime.fromisoformat(str(value))
                if moment.tzinfo is None:
                    moment = moment.replace(tzinfo=UTC)
                moment = moment.astimezone(UTC)
            except (ValueError, OverflowError):
                self.fail(
                    f"{value!r} is no time: write 2026-11-23T08:00:00, or 2h for two hours ago",
                    param,
                    ctx,
                )
        if moment < EPOCH:
            self.fail(f"{value!r} is before 1970, when there was no event", param, ctx)
        return moment


MOMENT = Moment()


class Number(click.FloatRange):
    """A number within limits; click takes nan to be within any."""

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> float:
        """Read it."""
        number = float(super().convert(value, param, ctx))
        if not math.isfinite(number):
            self.fail(f"{value!r} is no number", param, ctx)
        return number


def path_token_option(command: Command) -> Command:
    """``--path-token``: one part of a path that every sender and proxy leaves as it is."""

    def check(ctx: click.Context, param: click.Parameter, value: str | None) -> str | None:
        if value is None or re.fullmatch(rf"[\w.~-]{{{SMALLEST_TOKEN},}}", value, re.ASCII):
            return value
        raise click.BadParameter(
            f"it needs {SMALLEST_TOKEN} or more letters, digits, or any of - . _ ~", ctx, param
        )

    return click.option(
        "--path-token",
        callback=check,
        help="Secret path that SendGrid posts to, kept in the event log; default: the one there, "
        "made once.",
    )(command)


def status_token_option(command: Command) -> Command:
    """``--status-token``."""
    return click.option(
        "--status-token",
        help="Opens the status page and /metrics, kept in the event log; default: the one there, "
        "made once.",
    )(command)


def log_option(command: Command) -> Command:
    """``--event-log-url``."""
    return click.option(
        "--event-log-url",
        envvar=["SENDGRID_WEBHOOK_EVENT_LOG_URL", "TAP_SENDGRID_EVENT_LOG_URL"],
        default=DEFAULT_EVENT_LOG_URL,
        show_default=True,
        show_envvar=True,
        help="Where deliveries are kept; the tap's setting event_log_url must be the same.",
    )(command)


def api_options(command: Command) -> Command:
    """``--api-key``, ``--api-url``, ``--region``, ``--on-behalf-of``: as the tap has them."""
    for name, text in (
        ("on-behalf-of", "Subuser to act for; `serve` and `gaps` take a list, as the tap does."),
        ("region", "`eu` for EU regional subusers; default: `global`."),
        ("api-url", "SendGrid's address, when it is another than the region's."),
        ("api-key", "SendGrid API key."),
    ):
        variable = name.replace("-", "_").upper()
        command = click.option(
            f"--{name}",
            type=click.Choice(["global", "eu"], case_sensitive=False) if name == "region" else str,
            envvar=[f"SENDGRID_WEBHOOK_{variable}", f"TAP_SENDGRID_{variable}"],
            show_envvar=True,
            help=text,
        )(command)
    return command


def api_settings(options: dict[str, Any]) -> ApiSettings:
    """The options of :func:`api_options` as the HTTP layer wants them."""
    return ApiSettings.from_config({**options, "user_agent": "sendgrid-webhook"})


def make_client(settings: ApiSettings) -> Client:
    """How SendGrid is reached for one account.

    Raises:
        click.UsageError: As :func:`make_clients`, or there are several subusers.
    """
    client, *others = make_clients(settings)
    if others:
        first, *left_out = settings.subusers
        raise click.UsageError(
            f"this is for one subuser: {', '.join(left_out)} would be left out of "
            f"{', '.join(settings.subusers)} (TAP_SENDGRID_ON_BEHALF_OF). Run it once for each, "
            f"with --on-behalf-of {first} and so on"
        )
    return client


def make_clients(settings: ApiSettings) -> list[Client]:
    """How SendGrid is reached for each subuser; for the account itself where none is named.

    Raises:
        click.UsageError: There is no key, or the address is none.
    """
    if not settings.api_key:
        raise click.UsageError(
            "SendGrid's API key is missing: set TAP_SENDGRID_API_KEY, or give --api-key"
        )
    if web_address(settings.api_url) is None:
        raise click.UsageError(
            f"{settings.api_url!r} is no address: write it like https://api.sendgrid.com"
        )
    return [
        Client(
            settings.api_key,
            settings.api_url,
            on_behalf_of=subuser,
            user_agent=settings.user_agent,
        )
        for subuser in settings.subusers or (None,)
    ]
