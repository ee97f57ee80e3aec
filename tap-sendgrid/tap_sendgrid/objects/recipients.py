"""Recipients: every contact of the account, and after the first time only what changed."""

from __future__ import annotations

from collections.abc import Generator, Iterable, Iterator, Sequence
from hashlib import blake2b
from typing import TYPE_CHECKING, Any

import msgspec
from singer_sdk.mapper import SameRecordTransform

from tap_sendgrid.api.errors import MISREAD, Forbidden, NothingToRead, RunStopper, SendGridError
from tap_sendgrid.api.generation import CustomField, Generation
from tap_sendgrid.objects.base import MarketingStream, Record
from tap_sendgrid.objects.contact_codec import Body, ContactCodec, custom_field_schema
from tap_sendgrid.objects.contact_state import ContactState
from tap_sendgrid.objects.recipient_reader import ReadOptions, RecipientReader
from tap_sendgrid.objects.values import instant, iso_now
from tap_sendgrid.schemas.columns import object_schema
from tap_sendgrid.schemas.marketing import MEMBERSHIPS, RECIPIENTS

if TYPE_CHECKING:
    from singer_sdk.helpers.types import Context

    from tap_sendgrid.api.account import Account
    from tap_sendgrid.tap import TapSendGrid


class RecipientsStream(MarketingStream):
    """All contacts, with their custom fields, and on request their lists and segments."""

    name = "recipients"
    columns = RECIPIENTS
    replication_key = "updated_at"

    def __init__(self, tap: TapSendGrid) -> None:
        super().__init__(tap)
        self._fields: dict[str, CustomField] = {}

    # Schema: the custom fields are the account's own

    def build_schema(self, tap: TapSendGrid) -> dict[str, Any]:
        """The schema, with the custom fields where they can be asked for at discovery."""
        columns = (*RECIPIENTS, *MEMBERSHIPS) if _memberships_wanted(tap) else RECIPIENTS
        schema = object_schema(columns, subuser=bool(tap.api_settings.subusers))
        return _with_fields(schema, tap.custom_fields_at_discovery())

    def _write_schema_message(self) -> None:
        """SCHEMA with the custom fields as they are now: the catalog may be older."""
        for partition in self.partitions or [{}]:
            try:
                self._learn_fields(self._tap.account(partition.get("subuser")))
            except RunStopper:
                raise
            except (SendGridError, *MISREAD):  # reading asks again, and reports it
                continue
        self._write_schema_of_fields()

    def _write_schema_of_fields(self) -> None:
        self._use_schema(_with_fields(self.effective_schema, self._fields.values()))
        super()._write_schema_message()

    def _learn_fields(self, account: Account) -> bool:
        """Add an account's custom fields to those of all subusers; whether that changed them."""
        before = dict(self._fields)
        for item in account.custom_fields():
            if self._fields.setdefault(item.name, item).kind != item.kind:
                self._fields[item.name] = CustomField(item.name, "text")  # text holds both
        return self._fields != before

    def _selected_fields(self, account: Account) -> list[CustomField]:
        """The selected custom fields, which have to be known before a contact is read.

        Contacts that were emitted without them would count as read for ever.

        Raises:
            SendGridError: They are not known, though they were asked for once more.
        """
        if not self.mask["properties", "custom_fields"]:
            return []
        try:
            if self._learn_fields(account):
                self._write_schema_of_fields()  # that at the beginning lacked them
        except (RunStopper, Forbidden):
            raise
        except SendGridError as problem:
            reason = str(problem).removesuffix(".")
            raise SendGridError(
                f"No contact was read, since their custom fields are not known: {reason}. The next "
                "run asks again; to do without them, deselect the property custom_fields."
            ) from problem
        inside = ("properties", "custom_fields", "properties")
        return [field for field in self._fields.values() if self.mask[*inside, field.name]]

    # Reading

    def changes(self, account: Account, context: Context | None) -> Iterator[Record]:
        """Changed contacts as dictionaries: for stream maps, flattening and tests."""
        for bodies in self._changed_bodies(account, context):
            for body in bodies:
                record = body.record()
                if context:
                    record["subuser"] = context["subuser"]
                yield self.finish(record)

    def _changed_bodies(self, account: Account, context: Context | None) -> Iterator[list[Body]]:
        generation = account.generation()
        if generation is Generation.NONE:
            raise NothingToRead("this account does not use Marketing Campaigns")
        names = [name for name in self.schema["properties"] if self.mask["properties", name]]
        fields = self._selected_fields(account)
        # Fields of other subusers are null here whether they are known or not.
        own = {field.name for field in account.custom_fields()} if fields else set()
        kinds = sorted((field.name, field.kind) for field in fields if field.name in own)
        shape = blake2b(f"{sorted(names)} {kinds}".encode(), digest_size=8).hexdigest()
        start_date = self.config.get("start_date")
        memberships = [column.name for column in MEMBERSHIPS if column.name in names]
        reader = RecipientReader(
            account,
            ContactCodec(fields, names),
            ContactState(
                self.get_context_state(context),
                self.start(context),
                shape,
                instant(start_date) if start_date else None,
            ),
            ReadOptions(
                everything=self.marks_deletes,
                memberships=tuple(memberships),
                export_timeout_seconds=self.config.get("export_timeout_seconds") or 7200,
            ),
        )
        # Legacy ids are made of addresses: two subusers may have the same.
        clash = context is not None and generation is Generation.LEGACY
        prefix = f"{context['subuser']}:".encode() if context is not None and clash else b""
        for bodies in reader.batches():
            if prefix:
                yield [Body(b.updated_at, b'"%b%b' % (prefix, b.json[1:])) for b in bodies]
            else:
                yield bodies
            self.state_manager.is_flushed = False
        self._complete = self._complete and reader.whole

    # The fast way out: bytes instead of dictionaries

    def _sync_records(
        self, context: Context | None = None, *, write_messages: bool = True
    ) -> Generator[Record, Any, Any]:
        if write_messages and self._may_write_bytes():
            self._sync_bytes(context)
        else:
            yield from super()._sync_records(context, write_messages=write_messages)

    def _may_write_bytes(self) -> bool:
        """Whether nothing asks for work on single records."""
        maps = self.stream_maps
        return (
            self.selected
            and self.ABORT_AT_RECORD_COUNT is None
            and len(maps) == 1
            and type(maps[0]) is SameRecordTransform
            and not self.config.get("flattening_enabled")
        )

    def _sync_bytes(self, context: Context | None) -> None:
        """What the SDK's ``_sync_records`` does, for many records at a time."""
        self._begin()
        since_state = 0
        partitions: Sequence[Context | None] = self.partitions or (None,)
        if context:
            partitions = (context,)
        with self.get_record_counter() as counter, self.get_sync_timer():
            for partition in partitions:
                self._write_starting_replication_value(partition)
                for lines, count in self.reported(partition, self._lines):
                    self._tap.message_writer.write_lines(lines)
                    self._tap.report.records[self.name] += count
                    counter.increment(count)
                    since_state += count
                    if since_state >= self.STATE_MSG_FREQUENCY:
                        since_state = 0
                        self._write_state_message()
                if partition:
                    self._finalize_state(self.get_context_state(partition))
        self._finalize_state(self.stream_state)
        self._end()
        self._write_state_message()

    def _lines(self, account: Account, context: Context | None) -> Iterator[tuple[bytes, int]]:
        """RECORD messages, a newline behind each, many at a time, with their number."""
        encode = msgspec.json.encode
        before = b'{"type":"RECORD","stream":%b,"record":{"id":' % encode(self.name)
        added = {"subuser": context["subuser"]} if context else {}
        for bodies in self._changed_bodies(account, context):
            now = iso_now()
            values = {**added, "received_at": now}
            values = {name: v for name, v in values.items() if self.mask["properties", name]}
            rest = encode(values)[1:-1]
            after = (b"," + rest if rest else b"") + b"}"
            if self._stream_version is not None:
                after += b',"version":%d' % self._stream_version
            after += b',"time_extracted":"%b"}\n' % now.encode()
            yield b"".join([b"%b%b%b" % (before, body.json, after) for body in bodies]), len(bodies)


def _memberships_wanted(tap: TapSendGrid) -> bool:
    return bool(tap.config.get("recipient_memberships"))


def _with_fields(schema: dict[str, Any], fields: Iterable[CustomField]) -> dict[str, Any]:
    """The schema with these properties in ``custom_fields``, besides those it has."""
    column = schema["properties"].get("custom_fields")
    if column is None:
        return schema
    properties = {**column.get("properties", {}), **custom_field_schema(fields)}
    column = {**column, "properties": properties}
    return {**schema, "properties": {**schema["properties"], "custom_fields": column}}
