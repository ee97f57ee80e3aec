"""Records of usual events as lines of JSON, put together from their texts: nothing is encoded.

Events of SendGrid come in some hundred combinations of keys. The first event of each decides what
the record looks like; those after it fill in the gaps. A text goes from the event to the record
as it stands, which is right as long as JSON has nothing to escape in it.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from functools import lru_cache
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
    """The record of events of one word with the same keys.

    Attributes:
        stream: The stream's name.
        pieces: The record; every second piece is a gap, to be filled in from the event.
        values: Gets what goes into the gaps after the head.
        timestamp: The piece that is the timestamp.
        others: The pieces that are no texts, their fields, and what became of their values before.
    """

    stream: str
    pieces: list[str]
    values: Callable[[Event], tuple[Any, ...]]
    timestamp: int
    others: tuple[tuple[int, Field, dict[bytes, str]], ...]


class LineMaker:
    """Makes the lines that the converter's records would make, of usual events only.

    Args:
        converter: Knows what is selected, and what goes where.
    """

    def __init__(self, converter: Converter) -> None:
        self._converter = converter
        self._templates: dict[str, dict[tuple[str, ...], _Template | None]] = {}
        self._learnt = 0
        self._texts: dict[str, dict[bytes, str]] = {}

    def line(self, event: Event, content: bytes, received_at: str) -> tuple[str, bytes] | None:
        """The stream of an event and its record as JSON, without a newline.

        Args:
            event: An event of a delivery; not changed.
            content: What it was read from and would be written as; empty if that is not known.
            received_at: When the delivery came, as :func:`iso` writes it.

        Returns:
            None if this event needs the converter.
        """
        if not content or b"\\" in content:  # some text has to be escaped
            return None
        try:
            template = self._templates[event["event"]][tuple(event)]
        except KeyError:
            template = self._learn(event)
        except TypeError:  # the word is a list or an object
            return None
        if template is None:
            return None
        stream, fixed, values, timestamp, others = template
        moment: Any = event["timestamp"]
        if type(moment) is not int or not 0 <= moment <= MAX_SECONDS or not event["sg_event_id"]:
            return None
        pieces = fixed.copy()
        pieces[1] = event["sg_event_id"]
        pieces[3] = received_at
        pieces[7::2] = values(event)
        pieces[timestamp], pieces[5] = _moment(moment)
        try:
            for index, field, texts in others:
                value: Any = pieces[index]
                if type(value) is int and field.kind == "integer" and fits_64_bits(value):
                    pieces[index] = str(value)
                else:
                    written = _ENCODE(value)
                    pieces[index] = texts.get(written) or _coerced(value, field, written, texts)
            return stream, "".join(pieces).encode()
        except (Misfit, TypeError, RecursionError):  # TypeError: not text where text is expected
            return None

    def _learn(self, event: Event) -> _Template | None:
        """The template of this event and of those with the same word and keys."""
        word, keys = event.get("event"), tuple(event)
        if type(word) is not str or "sg_event_id" not in event:
            return None
        if self._learnt >= _MAX_TEMPLATES:  # somebody sends ever new keys
            self._templates.clear()
            self._learnt = 0
        found = self._converter.plan(word, keys)
        template = None if found is None else self._template(*found, keys)
        self._templates.setdefault(word, {})[keys] = template
        self._learnt += 1
        return template

    def _template(self, stream: str, plan: Plan, keys: tuple[str, ...]) -> _Template | None:
        """The template of a plan; None where something that all records begin with is left out."""
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
        fixed = f"{{{','.join(properties)}}}".split(_GAP)
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
            tuple(
                (place[key], field, self._texts.setdefault(key, {}))
                for key, field in plan.others
                if key in place
            ),
        )


@lru_cache(maxsize=10_000)
def _moment(seconds: int) -> tuple[str, str]:
    """A timestamp in digits and as date-time: many events happen in the same second."""
    return str(seconds), occurred_at(seconds)


def _coerced(value: Any, field: Field, written: bytes, texts: dict[bytes, str]) -> str:
    """The JSON text of a value as its field's kind; ``texts`` keeps it for the next time.

    Categories, pools and the like are few, and come again and again. They are told apart by how
    they are ``written``, since Python takes 1, 1.0 and true for equal.
    """
    text = json_text(coerce_field(value, field))
    if len(texts) >= _MAX_TEXTS:
        texts.clear()
    if len(written) <= _MAX_TEXT_BYTES:
        texts[written] = text
    return text
