"""target-segment-warehouse: settings and command line."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
from types import FrameType
from typing import Any, ClassVar

import click
from singer_sdk import Target
from singer_sdk import typing as th
from singer_sdk.exceptions import ConfigValidationError, SingerSDKError
from singer_sdk.helpers._classproperty import classproperty
from singer_sdk.helpers.capabilities import (
    CapabilitiesEnum,
    PluginCapabilities,
    TargetCapabilities,
)

from target_segment_warehouse.files import BatchFileError
from target_segment_warehouse.history import format_history, read_history
from target_segment_warehouse.loader import BatchLoader, Settings
from target_segment_warehouse.maps import RecordMapper
from target_segment_warehouse.messages import InvalidMessageError
from target_segment_warehouse.metadata import Options
from target_segment_warehouse.naming import schema_name
from target_segment_warehouse.pipeline import Limits, Pipeline
from target_segment_warehouse.reader import LineReader
from target_segment_warehouse.staging import InvalidRecordError
from target_segment_warehouse.state import Watermark
from target_segment_warehouse.streams import InvalidSchemaError, Stream, stream_from_schema
from target_segment_warehouse.warehouses import open_warehouse
from target_segment_warehouse.warehouses.base import Warehouse, WarehouseError
from target_segment_warehouse.workbench import Workbench

SWITCH_SECONDS = 0.0002
"""How long Python keeps its other threads waiting. Loading is many short statements, and the loader
has to get the interpreter back after each, beside a thread that reads."""

EXPECTED = (
    WarehouseError,
    InvalidMessageError,
    InvalidRecordError,
    InvalidSchemaError,
    BatchFileError,
    SingerSDKError,
)
"""Failures whose text says what happened and what to do."""


class TargetSegmentWarehouse(Target):
    """Loads any Singer tap into a warehouse, laid out the way Segment lays out its sources."""

    name = "target-segment-warehouse"
    capabilities: ClassVar[list[CapabilitiesEnum]] = [
        PluginCapabilities.ABOUT,
        PluginCapabilities.STREAM_MAPS,
        PluginCapabilities.FLATTENING,
        PluginCapabilities.ACTIVATE_VERSION,
        PluginCapabilities.BATCH,
        PluginCapabilities.STRUCTURED_LOGGING,
        TargetCapabilities.TARGET_SCHEMA,
        TargetCapabilities.HARD_DELETE,
        TargetCapabilities.VALIDATE_RECORDS,
    ]
    config_jsonschema: ClassVar[dict[str, Any]] = th.PropertiesList(
        th.Property(
            "warehouse_url",
            th.StringType,
            secret=True,
            default="duckdb:///output/warehouse.duckdb",
            title="Warehouse URL",
            description="duckdb:///path/to/file.duckdb (four slashes for an absolute path) or "
            "postgresql://user:password@host:port/database.",
        ),
        th.Property(
            "default_target_schema",
            th.StringType,
            title="Schema",
            description="The schema that everything is put in: one per source. Default: Meltano's "
            "load_schema, else the tap's name without 'tap-' where Meltano gives it, else "
            "'sendgrid'.",
        ),
        th.Property(
            "load_method",
            th.StringType,
            allowed_values=["upsert", "append-only", "overwrite"],
            title="Load method",
            description="By default each collection has its own: objects are upserted, events "
            "appended. 'upsert' upserts every stream that has a key; 'append-only' appends every "
            "record of every stream as a row of its own; 'overwrite' upserts and, when the input "
            "has come to its end, removes rows that this run did not bring.",
        ),
        th.Property(
            "collections",
            th.ObjectType(additional_properties=th.StringType(allowed_values=["object", "event"])),
            title="Collections",
            description="Stream name to 'object' (upserted by id) or 'event' (appended). Without "
            "it the tap's x-segment annotation counts; without either, streams with a key are "
            "objects and streams without are events.",
        ),
        th.Property(
            "activity",
            th.StringType,
            allowed_values=["view", "table", "off"],
            default="view",
            title="Activity",
            description="How the union of all event collections is kept.",
        ),
        th.Property(
            "segment_aliases",
            th.BooleanType,
            default=False,
            title="Segment's aliases",
            description="Also keep a view 'spamreport' of spam_report, as Segment's own tables "
            "are called.",
        ),
        th.Property(
            "max_columns",
            th.IntegerType(minimum=10),
            title="Columns of a table",
            description="The most columns that a table is given; further properties share the "
            "JSON column _overflow. Default: what the engine can hold.",
        ),
        th.Property(
            "max_batch_rows",
            th.IntegerType(minimum=1),
            default=500_000,
            title="Batch rows",
            description="Commit a flush when it has this many records.",
        ),
        th.Property(
            "max_batch_bytes",
            th.IntegerType(minimum=1),
            default=256 << 20,
            title="Batch bytes",
            description="Commit a flush when its records came in this many bytes of input; far "
            "fewer are in memory at a time.",
        ),
        th.Property(
            "max_batch_age_seconds",
            th.NumberType(minimum=0),
            default=60,
            title="Batch age",
            description="Flush when a record was held for this long, also while the input is "
            "quiet.",
        ),
        th.Property(
            "lock_timeout_seconds",
            th.NumberType(minimum=0),
            default=300,
            title="Lock timeout",
            description="How long to wait for what others hold: a DuckDB file that another process "
            "has open; on Postgres a table that a session uses, or a run into the same schema.",
        ),
        th.Property(
            "hard_delete",
            th.BooleanType,
            default=False,
            title="Hard delete",
            description="Delete objects that the tap marks as deleted (_sdc_deleted_at) or that "
            "an ACTIVATE_VERSION message makes obsolete, instead of marking them.",
        ),
        th.Property(
            "add_record_metadata",
            th.BooleanType,
            default=False,
            title="Add record metadata",
            description="Give every table the SDK's _sdc_* columns.",
        ),
        th.Property(
            "clean_up_batch_files",
            th.BooleanType,
            default=False,
            title="Clean up batch files",
            description="Remove the files of BATCH messages once they are committed. For files "
            "that the tap wrote for this target alone.",
        ),
        th.Property(
            "validate_records",
            th.BooleanType,
            default=False,
            title="Validate records",
            description="Check every record against its stream's JSON schema, one at a time: "
            "many times slower. Values that do not match their declared type are kept either way.",
        ),
    ).to_dict()

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs, setup_mapper=False)
        watermark = Watermark(_write_state)
        loader = BatchLoader(self._open_warehouse, self._loader_settings())
        mapper = RecordMapper(self.config, self._make_stream, self.logger)
        limits = Limits(
            rows=self.config.get("batch_size_rows") or self.config["max_batch_rows"],
            bytes=self.config["max_batch_bytes"],
            age_seconds=self.config["max_batch_age_seconds"],
        )
        self._pipeline = Pipeline(
            loader,
            mapper,
            watermark,
            limits,
            clean_up=self.config["clean_up_batch_files"],
        )
        self.message_reader = LineReader(
            self._pipeline.receive,
            self._pipeline.idle,
            self._pipeline.break_off,
            self._pipeline.abort,
        )

    @classmethod
    def get_singer_command(cls) -> click.Command:
        """The SDK's command line, and ``--report``."""
        command = super().get_singer_command()
        command.params.append(
            click.Option(
                ["--report"],
                type=click.IntRange(min=1),
                metavar="RUNS",
                help="Print what the latest runs did to each collection, and load nothing.",
            )
        )
        return command

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
    def invoke(cls, *, report: int | None = None, **options: Any) -> None:
        """Run; what can go wrong is told in a line, without the code that it passed through."""
        sys.setswitchinterval(SWITCH_SECONDS)
        try:
            if report is None:
                super().invoke(**options)
            else:
                config = options["config"]
                target = cls(config=config.config, parse_env_config=config.parse_env)
                warehouse = target._open_warehouse(Workbench())
                for line in format_history(read_history(warehouse, report)):
                    click.echo(line)
                warehouse.close()
        except ConfigValidationError:
            raise  # the SDK tells of each setting that is wrong
        except EXPECTED as error:
            cls.logger.error("%s", error)  # noqa: TRY400
            cls.logger.debug("Where it came up", exc_info=True)
            sys.exit(1)

    @classproperty
    def _env_var_config(cls) -> dict[str, Any]:
        """Settings from the environment. The SDK leaves numbers as text, and then refuses them."""
        config: dict[str, Any] = super()._env_var_config
        for name, schema in cls.config_jsonschema["properties"].items():
            if name in config and "number" in schema.get("type", ()):
                with contextlib.suppress(ValueError):
                    config[name] = float(config[name])
        return config

    def process_endofpipe(self) -> None:
        """Load what is left; then tell of what ended reading early, if something did.

        Raises:
            TornInputError: If the input ended in the middle of a line.
            SystemExit: With 128 + the signal's number, if one ended it.
        """
        self._pipeline.finish()
        if self._pipeline.torn is not None:
            raise self._pipeline.torn
        if self._pipeline.stop_signal is not None:
            sys.exit(128 + self._pipeline.stop_signal)

    def _handle_termination(self, signum: int, frame: FrameType | None) -> None:
        """End reading; what was received is loaded, and its states are emitted, as at the end."""
        if self._pipeline.stop_signal is None:
            self.logger.info(
                "Received %s: loading what was received, then stopping.",
                signal.Signals(signum).name,
            )
            self._pipeline.stop_signal = signum

    def _loader_settings(self) -> Settings:
        config = self.config
        return Settings(
            options=Options(
                metadata=bool(config.get("add_record_metadata")),
                hard_delete=bool(config.get("hard_delete")),
                max_columns=config.get("max_columns") or sys.maxsize,
            ),
            activity=config["activity"],
            aliases=config["segment_aliases"],
            activate=config["process_activate_version_messages"],
            overwrite=config.get("load_method") == "overwrite",
        )

    def _make_stream(self, name: str, schema: Any, key_properties: list[str] | None) -> Stream:
        return stream_from_schema(
            name,
            schema,
            key_properties,
            self.config.get("collections"),
            self.config.get("load_method"),
        )

    def _open_warehouse(self, workbench: Workbench) -> Warehouse:
        return open_warehouse(
            self.config["warehouse_url"],
            schema_name(self.config.get("default_target_schema") or _schema_of_meltano()),
            workbench,
            self.config["lock_timeout_seconds"],
        )


def _schema_of_meltano() -> str:
    """The schema that Meltano's environment suggests."""
    extractor = os.environ.get("MELTANO_EXTRACTOR_NAME", "").removeprefix("tap-")
    return os.environ.get("MELTANO_EXTRACT__LOAD_SCHEMA") or extractor or "sendgrid"


def _write_state(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()
