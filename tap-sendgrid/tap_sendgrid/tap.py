"""The tap: settings, catalog, command line, and the order of a run."""

from __future__ import annotations

import io
import json
import os
import sys
from dataclasses import replace
from functools import cached_property
from typing import IO, TYPE_CHECKING, Any, ClassVar

import click
from singer_sdk import Stream, Tap
from singer_sdk.helpers.capabilities import PluginCapabilities, TapCapabilities
from singer_sdk.tap_base import CliTestOptionValue

from tap_sendgrid.api.account import Account
from tap_sendgrid.api.client import new_session
from tap_sendgrid.api.errors import MISREAD, InvalidSetting, MissingApiKey, SendGridError
from tap_sendgrid.api.generation import CustomField
from tap_sendgrid.api.settings import ApiSettings
from tap_sendgrid.doctor import examine
from tap_sendgrid.event_log import EventLogError
from tap_sendgrid.events import event_stream_classes, sync_events
from tap_sendgrid.objects import object_stream_classes
from tap_sendgrid.objects.values import instant
from tap_sendgrid.report import SyncReport
from tap_sendgrid.settings import CONFIG_JSONSCHEMA
from tap_sendgrid.writer import MessageWriter

if TYPE_CHECKING:
    from collections.abc import Sequence
    from types import FrameType

    from singer_sdk.helpers.capabilities import CapabilitiesEnum


class _JsonFile(click.File):
    """A file with an object of JSON; one that is none is named, without a traceback."""

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> IO[str]:
        text = super().convert(value, param, ctx).read()
        try:
            found = json.loads(text)
        except ValueError as problem:
            self.fail(f"{value} is not JSON: {problem}", param, ctx)
        if not isinstance(found, dict):
            self.fail(f"{value} has no object of JSON.", param, ctx)
        return io.StringIO(text)


class TapSendGrid(Tap):
    """SendGrid: marketing objects from the API, every webhook event from a durable log."""

    name = "tap-sendgrid"
    package_name = "tap-sendgrid"
    config_jsonschema: ClassVar[dict[str, Any]] = CONFIG_JSONSCHEMA
    message_writer_class = MessageWriter
    message_writer: MessageWriter

    capabilities: ClassVar[list[CapabilitiesEnum]] = [
        TapCapabilities.CATALOG,
        TapCapabilities.STATE,
        TapCapabilities.DISCOVER,
        TapCapabilities.TEST,
        TapCapabilities.ACTIVATE_VERSION,
        PluginCapabilities.ABOUT,
        PluginCapabilities.STREAM_MAPS,
        PluginCapabilities.FLATTENING,
        PluginCapabilities.BATCH,
        PluginCapabilities.STRUCTURED_LOGGING,
    ]

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        self.report = SyncReport()
        self._accounts: dict[str | None, Account] = {}
        super().__init__(*args, **kwargs)

    # SendGrid

    @cached_property
    def api_settings(self) -> ApiSettings:
        """How SendGrid is reached."""
        settings = ApiSettings.from_config(self.config)
        if not self.config.get("user_agent"):
            settings = replace(settings, user_agent=f"{self.name}/{self.plugin_version}")
        return settings

    @cached_property
    def session(self) -> Any:
        """The connections that all accounts share."""
        return new_session()

    def account(self, subuser: str | None = None) -> Account:
        """The account of the key, or one of its subusers; what it learns is kept for the run."""
        if subuser not in self._accounts:
            self._accounts[subuser] = Account(self.api_settings, subuser, self.session)
        return self._accounts[subuser]

    # Catalog

    def discover_streams(self) -> Sequence[Stream]:
        """All streams: objects, then events. Works offline and without a key."""
        return [
            *(stream_class(self) for stream_class in object_stream_classes),
            *(stream_class(self) for stream_class in event_stream_classes),
        ]

    def custom_fields_at_discovery(self) -> tuple[CustomField, ...]:
        """The custom fields for a new catalog; none without a key, or when SendGrid does not tell.

        A given catalog is not added to here: the sync itself asks for the fields as they are then.
        """
        settings = self.api_settings
        if self.input_catalog is not None or not settings.api_key or settings.region == "eu":
            return ()
        try:
            account = self.account(next(iter(settings.subusers), None))
            with account.client.impatient():
                return account.custom_fields()
        except (SendGridError, *MISREAD) as problem:
            self.logger.info("The catalog is without custom fields: %s", problem)
            return ()

    # Run

    def sync_all(self) -> None:  # type: ignore[misc]  # final in the SDK, which feeds each stream alone
        """Sync the selected object streams one after the other, then all event streams at once.

        Raises:
            RunStopper: SendGrid refuses every request.
            IncompleteSync: Some selected collection could not be read; the others were.
        """
        events = [s for s in self.streams.values() if isinstance(s, event_stream_classes)]
        objects = [s for s in self.streams.values() if s.selected and s not in events]
        self._reset_state_progress_markers()
        try:
            if self.state:
                self.state_writer.write_state(self.state)
            self._sync_objects(objects)
            self.message_writer.flush()
            if chosen := [stream for stream in events if stream.selected]:
                sync_events(self, chosen)
        except SystemExit:
            self.message_writer.flush()
            self.state_writer.write_state(self.state)
            raise
        finally:
            self.message_writer.flush()
        self.report.log(self.logger)

    def _sync_objects(self, streams: Sequence[Stream]) -> None:
        if not streams:
            return
        if not self.api_settings.api_key:
            raise MissingApiKey([stream.name for stream in streams])
        self.check_start_date()
        settings = self.api_settings
        self.logger.info(
            "Reading %s with the API key whose id is %s%s",
            settings.api_url,
            settings.key_id,
            f", for {', '.join(settings.subusers)}" if settings.subusers else "",
        )
        for stream in streams:
            try:
                stream.sync()
            except SystemExit:
                self.logger.warning(
                    "Stopped by a signal while %s was read: the next run goes on from the state "
                    "that was written last.",
                    stream.name,
                )
                raise
            stream.finalize_state_progress_markers()

    def check_start_date(self) -> None:
        """Whether the setting start_date is one.

        Raises:
            InvalidSetting: It is not.
        """
        try:
            instant(self.config.get("start_date") or "2000-01-01")
        except ValueError:
            raise InvalidSetting(
                f"The setting start_date is no date-time: {self.config['start_date']!r}. Write it "
                "as 2024-05-06T00:00:00Z."
            ) from None

    def _handle_termination(self, signum: int, frame: FrameType | None) -> None:
        """End the run at the next whole line; `sync_all` then writes the state that is true."""
        stop = SystemExit(0)
        if not self.message_writer.stop_after_write(stop):
            raise stop

    # Command line

    @classmethod
    def cb_config(cls, ctx: click.Context, param: click.Option, value: tuple[str, ...]) -> Any:
        """``--config``: a file that cannot be read is named, without a traceback."""
        for path in value:
            try:
                super().cb_config(ctx, param, (path,))
            except (OSError, ValueError, TypeError) as problem:
                text = f"{path} cannot be read as an object of JSON: {problem}"
                raise click.BadParameter(text, ctx, param) from None
        return super().cb_config(ctx, param, value)

    @classmethod
    def cb_test(cls, ctx: click.Context, param: click.Option, value: str) -> None:
        """``--test``: the doctor; exit code 1 when something keeps a sync from doing its work."""
        if value != CliTestOptionValue.All.value:
            super().cb_test(ctx, param, value)
            return
        catalog = ctx.params.get("catalog")
        config = ctx.params.get("config")
        tap = cls(
            config=dict(config.config) if config else {},
            catalog=json.load(catalog) if catalog else None,
            parse_env_config=bool(config and config.parse_env),
            validate_config=True,
        )
        findings = list(examine(tap))
        for finding in findings:
            click.echo(str(finding))
        ctx.exit(1 if any(finding.level == "FAIL" for finding in findings) else 0)

    @classmethod
    def get_singer_command(cls) -> click.Command:
        """The SDK's command; ``--catalog`` is read first: ``--test`` looks at the selection."""
        command = super().get_singer_command()
        for option in command.params:
            option.is_eager = option.is_eager or option.name == "catalog"
            if option.name in {"catalog", "state"}:
                option.type = _JsonFile()
        return command

    @classmethod
    def invoke(cls, **kwargs: Any) -> None:
        """Run the command line; problems that have a name are told without a traceback."""
        try:
            super().invoke(**kwargs)
        except (SendGridError, EventLogError) as problem:
            cls.logger.error("%s", problem)  # noqa: TRY400 - the message says what to do
            sys.exit(1)
        except BrokenPipeError:
            cls.logger.error("The target closed the pipe before the end: see what it says.")  # noqa: TRY400
            # Python flushes stdout once more as it exits.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            sys.exit(1)
