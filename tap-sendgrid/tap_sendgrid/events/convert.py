"""From an event as SendGrid sent it to the record of its stream. Pure: no state, no I/O."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from operator import itemgetter
from typing import Any, Final, NamedTuple

from tap_sendgrid.events.fields import EVENT_TYPES, EventType, Field, fields_of
from tap_sendgrid.events.values import (
    MAX_SECONDS,
    Misfit,
    coerce_field,
    fits_64_bits,
    hashed_id,
    instant,
    occurred_at,
    plain,
)

Record = dict[str, Any]

Deselected = Mapping[str, Collection[str]]
"""Of each selected stream, the names of the properties that are *not* selected."""

_MAX_PLANS: Final = 10_000
_OWN_NAMES: Final = frozenset({"id", "received_at", "occurred_at", "custom_args", "smtp_id"})


class _Slot(NamedTuple):
    """Where a key of an event goes: its property's name (None: not selected) and its field."""

    name: str | None
    field: Field


class Converter:
    """Converts events to records, of the selected streams only and with what is selected of them.

    Args:
        deselected: The selected streams, and of each the properties that are not.
    """

    def __init__(self, deselected: Deselected) -> None:
        self._by_word: dict[object, _Stream | None] = {}
        self._other: _Stream | None = None
        for event_type in EVENT_TYPES:
            name = event_type.stream
            stream = _Stream(event_type, deselected[name]) if name in deselected else None
            if event_type.word is None:
                self._other = stream
            else:
                self._by_word[event_type.word] = stream

    def convert(self, event: dict[str, Any], received_at: str) -> tuple[str, Record] | None:
        """The stream and the record of any event; None if its stream is not selected.

        Args:
            event: One object of a delivery, as ``parse_body`` gives it; not changed.
            received_at: When the delivery came, as :func:`iso` writes it.

        Returns:
            The stream's name and a record that is valid against the stream's schema. Every key of
            the event is in it: as a property, or in ``custom_args`` if SendGrid does not define
            the key for this event or the value does not fit the field.

        Raises:
            RecursionError: The event is nested too deep to be written.
        """
        word = event.get("event")
        stream = self._by_word.get(word, self._other) if type(word) is str else self._other
        if stream is None:
            return None
        record = stream.usual_record(event, received_at)
        return stream.name, stream.record(event, received_at) if record is None else record

    def plan(self, word: str, keys: tuple[str, ...]) -> tuple[str, Plan] | None:
        """The stream and the plan of events of this word with these keys.

        None if the stream is not selected, or if each such event has to be looked into.
        """
        stream = self._by_word.get(word, self._other)
        plan = stream.plan(keys) if stream is not None else None
        return None if stream is None or plan is None else (stream.name, plan)


class Plan(NamedTuple):
    """How to make the record of events that have the same keys, if their values are as usual.

    Attributes:
        texts: Gets the values that have to be texts.
        others: The keys of the fields that are something other than text.
        custom: The keys of the custom arguments, texts all of them.
        removed: Names of properties that are not selected.
        has_smtp_id: Whether ``smtp-id`` has to be renamed.
    """

    texts: Callable[[Record], tuple[str, ...]]
    others: tuple[tuple[str, Field], ...]
    custom: tuple[str, ...]
    removed: frozenset[str]
    has_smtp_id: bool


class _Stream:
    """The conversion of one stream's events."""

    def __init__(self, event_type: EventType, deselected: Collection[str]) -> None:
        self.name = event_type.stream
        self._slots = {
            field.key: _Slot(None if field.name in deselected else field.name, field)
            for field in fields_of(event_type.word).values()
        }
        known = {slot.field.name for slot in self._slots.values()}
        self._deselected = frozenset(deselected) - known
        self._plans: dict[tuple[str, ...], Plan | None] = {}

    def record(self, event: dict[str, Any], received_at: str) -> Record:
        """The record of any event."""
        given = event.get("sg_event_id")
        record: Record = {
            "id": given if given and type(given) is str else hashed_id(event),
            "received_at": received_at,
        }
        custom: dict[str, Any] = {}
        for key, value in event.items():
            slot = self._slots.get(key)
            try:
                if slot is not None:
                    if slot.name is not None:
                        record[slot.name] = coerce_field(value, slot.field)
                elif key == "timestamp":
                    record["timestamp"], record["occurred_at"] = instant(value)
                else:
                    custom[key] = plain(value)
            except Misfit:
                if key not in self._deselected:
                    custom[key] = plain(value)
        if custom:
            record["custom_args"] = custom
        for name in self._deselected:
            record.pop(name, None)
        return record

    def usual_record(self, event: dict[str, Any], received_at: str) -> Record | None:
        """The same, quicker, for the events that come by the million.

        Events of SendGrid come in some hundred combinations of keys. The first of each decides
        what goes where; then C code copies the event, and only what differs is touched. None if a
        value has to be put elsewhere, or something other than text stands where text is expected.
        """
        keys = tuple(event)
        try:
            plan = self._plans[keys]
        except KeyError:
            if len(self._plans) >= _MAX_PLANS:  # somebody sends ever new keys
                self._plans.clear()
            plan = self._plans[keys] = self.plan(keys)
        if plan is None:
            return None
        timestamp = event["timestamp"]
        if type(timestamp) is not int or not 0 <= timestamp <= MAX_SECONDS:
            return None
        try:
            "".join(plan.texts(event))  # fails if one of them is no text
        except TypeError:
            return None
        record = {
            "id": event.get("sg_event_id") or hashed_id(event),
            "received_at": received_at,
            "occurred_at": occurred_at(timestamp),
            **event,
        }
        for key, field in plan.others:
            value = event[key]
            if type(value) is int and field.kind == "integer" and fits_64_bits(value):
                continue
            try:
                record[key] = coerce_field(value, field)
            except Misfit:
                return None
        if plan.has_smtp_id:
            record["smtp_id"] = record.pop("smtp-id")
        if plan.custom:
            record["custom_args"] = {key: record.pop(key) for key in plan.custom}
        for name in plan.removed:
            record.pop(name, None)
        return record

    def plan(self, keys: tuple[str, ...]) -> Plan | None:
        """The plan for these keys; None where a value would have to be looked into."""
        texts: list[str] = []
        others: list[tuple[str, Field]] = []
        custom: list[str] = []
        removed = set(self._deselected)
        for key in keys:
            slot = self._slots.get(key)
            if slot is None:
                if key in _OWN_NAMES:
                    return None  # a custom argument of the name of what the record has of its own
                if key != "timestamp":
                    custom.append(key)
                    texts.append(key)
                continue
            if slot.name is None:
                removed.add(slot.field.name)
            if slot.field.kind == "string":
                texts.append(key)
            else:
                others.append((key, slot.field))
        if "timestamp" not in keys or len(texts) < 2:  # itemgetter gives a tuple from two keys on
            return None
        return Plan(
            texts=itemgetter(*texts),
            others=tuple(others),
            custom=tuple(custom),
            removed=frozenset(removed),
            has_smtp_id="smtp-id" in keys and "smtp-id" in self._slots,
        )
