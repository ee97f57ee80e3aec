"""What the user may ask to be done to records on their way: stream maps, flattening, validation.

The work is the SDK's, one Python dictionary at a time; streams for which nothing is asked never
come here with a record.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, cast

import simplejson  # type: ignore[import-untyped]
from msgspec import Raw
from singer_sdk.exceptions import InvalidRecord
from singer_sdk.mapper import PluginMapper, RemoveRecordTransform, SameRecordTransform, StreamMap
from singer_sdk.singerlib.json import deserialize_json, serialize_json
from singer_sdk.sinks.core import JSONSchemaValidator

from target_segment_warehouse.messages import Record, Schema
from target_segment_warehouse.streams import Stream

if TYPE_CHECKING:
    from jsonschema import ValidationError

MakeStream = Callable[[str, Mapping[str, Any], list[str] | None], Stream]


class _Encoder(simplejson.JSONEncoder):  # type: ignore[misc]
    """Leaves NaN and the infinities what they are, of which the SDK makes nulls."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**{**options, "ignore_nan": False, "allow_nan": True})


class RecordMapper:
    """Applies stream maps, the SDK's flattening and validation.

    Args:
        config: The target's settings.
        make_stream: Makes a stream of its name, schema and key.
        logger: Where the SDK's mapper logs.
    """

    def __init__(
        self, config: Mapping[str, Any], make_stream: MakeStream, logger: logging.Logger
    ) -> None:
        self._mapper = PluginMapper(plugin_config=dict(config), logger=logger)
        self._make_stream = make_stream
        self._validate = bool(config.get("validate_records"))
        self._validators: dict[str, JSONSchemaValidator] = {}
        self._changed: dict[str, bool] = {}

    def register(self, message: Schema) -> list[Stream]:
        """The streams that a SCHEMA message stands for, after maps."""
        annotation = message.schema.get("x-segment")
        if not isinstance(message.schema.get("properties"), Mapping):
            # The SDK's mapper expects properties; what is wrong is told where streams are made.
            return [self._make_stream(message.stream, message.schema, message.key_properties)]
        self._mapper.register_raw_stream_schema(
            message.stream, message.schema, message.key_properties
        )
        streams = []
        for stream_map in self._maps(message.stream):
            schema = dict(stream_map.transformed_schema)
            if annotation is not None:
                schema["x-segment"] = annotation
            key = stream_map.transformed_key_properties
            streams.append(
                self._make_stream(stream_map.stream_alias, schema, None if key is None else [*key])
            )
            if self._validate:
                self._validators[stream_map.stream_alias] = JSONSchemaValidator(schema)
        self._changed[message.stream] = not all(
            type(stream_map) is SameRecordTransform and not stream_map.flattening_enabled
            for stream_map in self._mapper.stream_maps[message.stream]
        )
        return streams

    def aliases(self, name: str) -> list[str] | None:
        """Names that a stream has after maps; None if it has had no SCHEMA."""
        if name not in self._mapper.stream_maps:
            return None
        return [stream_map.stream_alias for stream_map in self._maps(name)]

    def is_mapped(self, name: str) -> bool:
        """Whether the stream's records have to pass through ``transform``."""
        return self._validate or self._changed[name]

    def changes(self, name: str) -> bool:
        """Whether the stream's records come out of ``transform`` other than they went in."""
        return self._changed[name]

    def transform(self, message: Record, line: int) -> Iterator[tuple[str, Raw]]:
        """The records, each with its stream, that a record becomes.

        Raises:
            InvalidRecord: If it is to be validated and is not valid, or is too deep for Python.
        """
        try:
            yield from self._transform(message, line)
        except RecursionError:
            raise InvalidRecord(
                f"Line {line} of the input: a record of stream '{message.stream}' is nested too "
                "deeply for 'stream_maps', 'flattening_enabled' and 'validate_records': do without "
                "them for this stream.",
                {},
            ) from None

    def _transform(self, message: Record, line: int) -> Iterator[tuple[str, Raw]]:
        for stream_map in self._maps(message.stream):
            record = stream_map.transform(deserialize_json(bytes(message.record).decode()))
            if record is None:
                continue
            if self._validate:
                try:
                    self._validators[stream_map.stream_alias].validate(record)
                except InvalidRecord as error:
                    raise InvalidRecord(
                        f"Line {line} of the input: a record of stream '{message.stream}' does not "
                        f"match its schema{_where(error)}.",
                        {},
                    ) from None
            yield stream_map.stream_alias, Raw(serialize_json(record, cls=_Encoder).encode())

    def _maps(self, name: str) -> list[StreamMap]:
        return [
            stream_map
            for stream_map in self._mapper.stream_maps[name]
            if not isinstance(stream_map, RemoveRecordTransform)
        ]


def _where(error: InvalidRecord) -> str:
    """Which property breaks which rule of the schema; not its value, which may be anybody's."""
    cause = cast("ValidationError", error.__cause__)
    rule = f"{cause.validator}: {json.dumps(cause.validator_value, default=str)[:200]}"
    return f": {cause.json_path} breaks the rule {rule}"
