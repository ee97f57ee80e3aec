"""Writes the data dictionary from the schemas: ``python -m tap_sendgrid.data_dictionary``."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from tap_sendgrid.events import event_stream_classes
from tap_sendgrid.events.fields import EVENT_TYPES, fields_of
from tap_sendgrid.events.schema import event_schema
from tap_sendgrid.objects import object_stream_classes
from tap_sendgrid.objects.base import MarketingStream, ObjectStream
from tap_sendgrid.schemas.columns import RECEIVED_AT, SUBUSER, Column
from tap_sendgrid.schemas.marketing import MEMBERSHIPS, RECIPIENTS

_HEAD = """\
# Data dictionary

Every stream of `tap-sendgrid` and every property of its records, with the field of SendGrid's API
or webhook that it comes from. Generated from the schemas by

    python -m tap_sendgrid.data_dictionary > docs/data-dictionary.md

Column names in a warehouse are these in snake case, nested objects flattened with `_`. Every record
has a string `id`, its key. *Current* is the `/v3/marketing` generation of Marketing Campaigns,
*legacy* is `/v3/contactdb` and `/v3/campaigns`; an account has one of them. `-`: the generation has
no such field, and the property is null.
"""

_OBJECTS = """\
## Objects

Read from the API and upserted. The first four are selected by default. With the setting
`on_behalf_of` every record also has `subuser`; where SendGrid's own ids may be the same in two
subusers, `id` begins with the subuser's name and a colon.
"""

_EVENTS = """\
## Events

Read from the event log that the webhook receiver writes, and appended; keyed by `id`, bookmarked by
the offset in the log.
"""


def data_dictionary() -> str:
    """The whole document, as Markdown."""
    objects = ("\n".join(_object_stream(stream)) for stream in object_stream_classes)
    events = ("\n".join(lines) for lines in (_event_types(), _event_properties()))
    return "\n".join([_HEAD, _OBJECTS, *objects, _EVENTS, *events])


def _object_stream(stream: type[ObjectStream]) -> Iterator[str]:
    columns: tuple[Column, ...] = (*stream.columns, RECEIVED_AT)
    if stream.columns is RECIPIENTS:
        columns = (*columns, *MEMBERSHIPS)
    key = getattr(stream, "replication_key", None)
    replication = f"incremental by `{key}`" if isinstance(key, str) else "full"
    both = issubclass(stream, MarketingStream)
    yield f"### {stream.__dict__['name']}"
    yield ""
    yield f"{_sentence(stream.__doc__)} Replication: {replication}. {_scopes(stream)}"
    yield ""
    header = ["property", "type", "meaning", "current", "legacy"]
    rows = [[*_column(column, prefix), *_sources(column)] for column, prefix in _flat(columns)]
    if not both:
        header = [*header[:3], "SendGrid's field"]
        rows = [row[:4] for row in rows]
    yield from _table(header, rows)
    if stream.columns is RECIPIENTS:
        yield "`list_ids` and `segment_ids` come with the setting `recipient_memberships`."
        yield ""


def _scopes(stream: type[ObjectStream]) -> str:
    names = " or ".join(f"`{scope}`" for scope in stream.scopes)
    if issubclass(stream, MarketingStream):
        names += " (legacy: `marketing_campaigns.read`)"
    eu = "" if stream.eu else " No EU host."
    return f"Scope: {names}.{eu}"


def _flat(columns: Iterable[Column], prefix: str = "") -> Iterator[tuple[Column, str]]:
    for column in columns:
        yield column, prefix
        yield from _flat(column.columns, f"{prefix}{column.name}.")


def _column(column: Column, prefix: str) -> list[str]:
    return [f"`{prefix}{column.name}`", _type(column.schema), column.text]


def _sources(column: Column) -> list[str]:
    if column in (RECEIVED_AT, SUBUSER):
        return ["the tap", "the tap"]
    return [_code(column.current), _code(column.legacy)]


def _code(text: str | None) -> str:
    return "-" if text is None else f"`{text}`"


def _event_types() -> Iterator[str]:
    rows = [
        [f"`{kind.stream}`", f"`{kind.word}`" if kind.word else "any other", kind.description]
        for kind in EVENT_TYPES
    ]
    yield from _table(["stream", "SendGrid's event", "meaning"], rows)


def _event_properties() -> Iterator[str]:
    """One table over all event streams: they share most of their properties."""
    found: dict[str, tuple[dict[str, Any], str, list[str]]] = {}
    for kind in EVENT_TYPES:
        keys = {field.name: f"`{field.key}`" for field in fields_of(kind.word).values()}
        for name, schema in event_schema(kind)["properties"].items():
            entry = found.setdefault(name, (schema, keys.get(name, "the tap"), []))
            entry[2].append(kind.stream)
    rows = []
    for name, (schema, source, streams) in found.items():
        where = "all" if len(streams) == len(event_stream_classes) else ", ".join(streams)
        rows.append([f"`{name}`", _type(schema), schema["description"], source, where])
    yield "### Properties of events"
    yield ""
    yield from _table(["property", "type", "meaning", "SendGrid's field", "streams"], rows)


def _type(schema: dict[str, Any]) -> str:
    types = schema["type"] if isinstance(schema["type"], list) else [schema["type"]]
    (name,) = (name for name in types if name != "null")
    if name == "array":
        return f"array of {_type(schema['items'])}"
    return str(schema.get("format", name))


def _table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> Iterator[str]:
    yield "| " + " | ".join(header) + " |"
    yield "|" + "---|" * len(header)
    for row in rows:
        yield "| " + " | ".join(cell.replace("|", "\\|") for cell in row) + " |"
    yield ""


def _sentence(text: str | None) -> str:
    return " ".join((text or "").split("\n\n")[0].split())


if __name__ == "__main__":
    sys.stdout.write(data_dictionary())
