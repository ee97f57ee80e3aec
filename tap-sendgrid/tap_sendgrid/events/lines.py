"""RECORD messages of usual events, put together from their texts: no record is made or encoded.

Events of SendGrid come in some hundred combinations of keys. The first event of each decides what
the message looks like; those after it fill in the gaps. A text goes from the event to the message
as it stands, which is right as long as JSON has nothing to escape in it.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from operator import itemgetter
from typing import Any, Final, NamedTuple

import msgspec

from tap_sendgrid.events.convert import Converter, Plan
from tap_sendgrid.events.fields import Field
from tap_sendgrid.events.parse import Event
from tap_sendgrid.events.values import (
    MAX_SECONDS,
    Misfit,
    coerce_field,
    fits_64_bits,
    json_text,
    occurred_at,
)

_MAX_TEMPLATES: Final = 10_000
_MAX_TEXTS: Final = 10_000
_MAX_TEXT_BYTES: Final = 500
_ENCODE = msgspec.json.Encoder().encode

# What every record begins with, before what SendGrid sent.
_HEAD: Final = ("id", "received_at", "occurred_at")
_GAP: Final = "\0"  # JSON has it escaped, so no key contains it


class _Template(NamedTuple):
    """The message of events of one word with the same keys.

    Attributes:
        stream: The stream's name.
        pieces: The message; every second piece is a gap, to be filled in from the event.
        values: Gets what goes into the gaps between the head and ``time_extracted``.
        timestamp: The piece that is the timestamp.
        others: The pieces that are no texts, and their fields.
    """

    stream: str
    pieces: list[str]
    values: Callable[[Event], tuple[Any, ...]]
    timestamp: int
    others: tuple[tuple[int, Field], ...]


class LineMaker:
    """Makes the messages that the converter's records would make, of usual events only.

    Args:
        converter: Knows what is selected, and what goes where.
    """

    def __init__(self, converter: Converter) -> None:
        self._converter = converter
        self._templates: dict[tuple[str, ...], _Template | None] = {}
        self._texts: dict[tuple[str, bytes], str] = {}

    def line(
        self, event: Event, content: bytes, received_at: str, time_extracted: str
    ) -> tuple[str, bytes] | None:
        """The stream of an event and its RECORD message with the newline.

        Args:
            event: An event of a delivery; not changed.
            content: What it was read from and would be written as; empty if that is not known.
            received_at: When the delivery came, as :func:`iso` writes it.
            time_extracted: Now, as :func:`iso` writes it.

        Returns:
            None if this event needs the converter.
        """
        if not content or b"\\" in content:  # some text has to be escaped
            return None
        try:
            key = (event["event"], *event)
            template = self._templates[key]
        except KeyError:
            template = self._learn(event)
        except TypeError:  # the word is a list or an object
            return None
        if template is None:
            return None
        stream, fixed, values, timestamp, others = template
        moment = event["timestamp"]
        if type(moment) is not int or not 0 <= moment <= MAX_SECONDS or not event["sg_event_id"]:
            return None
        pieces = fixed.copy()
        pieces[1] = event["sg_event_id"]
        pieces[3] = received_at
        pieces[5] = occurred_at(moment)
        pieces[7:-2:2] = values(event)
        pieces[-2] = time_extracted
        pieces[timestamp] = str(moment)
        try:
            for index, field in others:
                pieces[index] = self._text(pieces[index], field)
            return stream, "".join(pieces).encode()
        except (Misfit, TypeError, RecursionError):  # TypeError: not text where text is expected
            return None

    def _text(self, value: Any, field: Field) -> str:
        """The JSON text of a field that is something other than text."""
        if type(value) is int and field.kind == "integer" and fits_64_bits(value):
            return str(value)
        if type(value) is not list and type(value) is not dict:
            return json_text(coerce_field(value, field))
        # Lists of categories, pools: there are few of them, and they come again and again.
        written = (field.key, _ENCODE(value))
        text = self._texts.get(written)
        if text is None:
            text = json_text(coerce_field(value, field))
            if len(self._texts) >= _MAX_TEXTS:
                self._texts.clear()
            if len(text) <= _MAX_TEXT_BYTES:
                self._texts[written] = text
        return text

    def _learn(self, event: Event) -> _Template | None:
        """The template of this event and of those with the same word and keys."""
        if len(self._templates) >= _MAX_TEMPLATES:  # somebody sends ever new keys
            self._templates.clear()
        word, keys = event.get("event"), tuple(event)
        template = None
        if type(word) is str and "sg_event_id" in event:
            found = self._converter.plan(word, keys)
            if found is not None:
                template = _template(*found, keys)
        if "event" in event:
            self._templates[(event["event"], *keys)] = template
        return template


def _template(stream: str, plan: Plan, keys: tuple[str, ...]) -> _Template | None:
    """The template of a plan; None where something that every message begins with is left out."""
    if not plan.removed.isdisjoint((*_HEAD, "timestamp")):
        return None
    names = {
        key: key
        for key in keys
        if key not in plan.custom and key not in plan.removed and key != "smtp-id"
    }
    if plan.has_smtp_id and "smtp_id" not in plan.removed:
        names["smtp-id"] = "smtp_id"
    custom = () if "custom_args" in plan.removed else plan.custom
    others = dict(plan.others)
    properties = [f'"{name}":"{_GAP}"' for name in _HEAD]
    for key, name in names.items():
        bare = key in others or key == "timestamp"
        properties.append(f'"{name}":{_GAP}' if bare else f'"{name}":"{_GAP}"')
    if custom:
        arguments = ",".join(f'"{key}":"{_GAP}"' for key in custom)
        properties.append(f'"custom_args":{{{arguments}}}')
    fixed = (
        f'{{"type":"RECORD","stream":"{stream}","record":{{{",".join(properties)}}},'
        f'"time_extracted":"{_GAP}"}}\n'
    ).split(_GAP)
    pieces = [""] * (2 * len(fixed) - 1)
    pieces[::2] = map(sys.intern, fixed)
    order = [*names, *custom]
    if len(order) < 2:  # itemgetter gives a tuple from two keys on
        return None
    place = {key: 2 * (len(_HEAD) + index) + 1 for index, key in enumerate(order)}
    return _Template(
        stream,
        pieces,
        itemgetter(*order),
        place["timestamp"],
        tuple((place[key], field) for key, field in plan.others if key in place),
    )
