"""What object streams share: schema, subusers, completeness, change, deletes, problems."""

from __future__ import annotations

import time
import traceback
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping
from contextlib import suppress
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, ClassVar, TypeVar

from singer_sdk import Stream
from singer_sdk.helpers._catalog import get_selected_schema
from singer_sdk.helpers.conform import TypeConformanceLevel
from singer_sdk.singerlib import SchemaMessage
from singer_sdk.singerlib.catalog import REPLICATION_FULL_TABLE

from tap_sendgrid.api import scopes
from tap_sendgrid.api.client import without_secrets
from tap_sendgrid.api.errors import (
    MISREAD,
    Forbidden,
    NothingToRead,
    RunStopper,
    SendGridError,
    UnexpectedAnswer,
    UnreadableState,
)
from tap_sendgrid.api.generation import Generation
from tap_sendgrid.objects.content import ContentMemory
from tap_sendgrid.objects.values import LOOKBACK, instant, iso_now, iso_seconds
from tap_sendgrid.schemas.columns import Column, names, object_schema

if TYPE_CHECKING:
    from singer_sdk.helpers.types import Context

    from tap_sendgrid.api.account import Account
    from tap_sendgrid.tap import TapSendGrid

Record = dict[str, Any]
Item = TypeVar("Item")

_ANNOTATION = {"collection": "object"}


class ObjectStream(Stream):
    """A collection of objects from the API; its key is the string ``id``.

    Subclasses give ``name``, ``columns`` and `read`; a record need only carry what is set.
    """

    columns: ClassVar[tuple[Column, ...]]
    #: The scopes one of which the collection needs.
    scopes: ClassVar[tuple[str, ...]]
    #: Whether native ids may be the same in two subusers; then ``id`` begins with the subuser.
    ids_clash: ClassVar[bool] = False
    #: Whether objects can vanish, and a read gives all that there are.
    vanishes: ClassVar[bool] = True
    #: Whether each subuser has its own; if not, the parent account is read.
    per_subuser: ClassVar[bool] = True
    #: Whether SendGrid serves the collection from its EU host.
    eu: ClassVar[bool] = True

    primary_keys = ("id",)
    TYPE_CONFORMANCE_LEVEL = TypeConformanceLevel.NONE  # records are made of JSON types

    _tap: TapSendGrid

    def __init__(self, tap: TapSendGrid) -> None:
        super().__init__(tap, schema=self.build_schema(tap))
        self._complete = True

    def build_schema(self, tap: TapSendGrid) -> dict[str, Any]:
        """The JSON schema of the records."""
        subuser = self.per_subuser and bool(tap.api_settings.subusers)
        return object_schema(self.columns, subuser=subuser)

    def read(self, account: Account, context: Context | None) -> Iterable[Record]:
        """The objects of one (sub)user, in full; unset properties may be left out.

        Raises:
            NothingToRead: The account has no such collection.
            SendGridError: They could not be read.
        """
        raise NotImplementedError

    # What the SDK calls

    @property
    def partitions(self) -> list[dict[str, Any]] | None:
        """One partition per subuser; None: the account itself."""
        names = self._tap.api_settings.subusers if self.per_subuser else ()
        return [{"subuser": name} for name in names] or None

    def get_batch_config(self, config: Mapping[str, Any]) -> None:
        """None: objects pass as records. Files, which events pass in, know no versions."""

    def get_records(self, context: Context | None) -> Iterator[Record]:
        """Complete, changed records of one (sub)user."""
        for record in self.reported(context, self.changes):
            self._tap.report.records[self.name] += 1
            yield record

    def reported(
        self, context: Context | None, reader: Callable[[Account, Context | None], Iterable[Item]]
    ) -> Iterator[Item]:
        """What ``reader`` gives for one (sub)user; problems go into the run's report.

        Raises:
            RunStopper: SendGrid refuses everything: the run ends.
        """
        subuser = str(context["subuser"]) if context else None
        report = self._tap.report
        where = f"{self.name} of {subuser}" if subuser else self.name
        report.records.setdefault(self.name, 0)
        account = self._tap.account(subuser)
        if self._tap.api_settings.region == "eu" and not self.eu:
            report.empty[where] = "SendGrid serves this collection only from its global host"
            self._complete = False
            return
        nulls = account.client.null_arrays
        try:
            self._check_state(context, where)
            yield from reader(account, context)
            if self.marks_deletes and account.client.null_arrays > nulls:
                self.logger.warning("SendGrid sent null for rows: nothing is marked as deleted")
                self._complete = False
        except RunStopper:
            raise
        except NothingToRead as reason:
            report.empty[where] = str(reason)
        except Forbidden as problem:
            needed = self.needed_scopes(account)
            report.failed[where] = str(account.explain(problem, needed, f"the stream {self.name}"))
        except SendGridError as problem:
            report.failed[where] = str(problem)
        except MISREAD as problem:
            trace = "".join(traceback.format_exception(problem))
            self.logger.warning("An answer could not be read:\n%s", without_secrets(trace))
            report.failed[where] = (
                "SendGrid's answer has an unexpected form "
                f"({type(problem).__name__}: {without_secrets(str(problem))})"
            )
        else:
            return
        self._complete = False

    def _check_state(self, context: Context | None, where: str) -> None:
        """Whether the state can be read, before it is taken for SendGrid's fault that it cannot.

        Raises:
            UnreadableState: It has been edited, or is of something else.
        """
        state = self.get_context_state(context)
        kept = ("content", "complete", "export")
        odd = [name for name in kept if not isinstance(state.get(name) or {}, dict)]
        if self._bookmarked(state):
            try:
                instant(state["replication_key_value"])
            except (TypeError, ValueError):
                odd.append("replication_key_value")
        if odd:
            value = without_secrets(repr(state[odd[0]]))[:60]
            raise UnreadableState(self.name, where, f"{odd[0]} is {value}")

    def _write_starting_replication_value(self, context: Context | None) -> None:
        """The moment to read from; a state that has none is told by `reported`."""
        with suppress(UnreadableState):
            self._check_state(context, self.name)
            super()._write_starting_replication_value(context)

    def needed_scopes(self, account: Account) -> tuple[str, ...]:
        """The scopes one of which reading needs."""
        return self.scopes

    def changes(self, account: Account, context: Context | None) -> Iterator[Record]:
        """Complete records that are new or changed since the last run; then moves the state."""
        began = time.monotonic()
        state = self.get_context_state(context)
        memory = self.remembered(state)
        times: list[str] = [state["replication_key_value"]] if self._bookmarked(state) else []
        changed = self._changed(self.read(account, context), memory, times, context)
        yield from self.enrich(account, changed)
        # SendGrid's clock is known for sure only after its answers.
        start = account.client.server_now() - timedelta(seconds=time.monotonic() - began)
        self.remember(state, memory, self._mark(state, times, start))

    def _mark(self, state: dict[str, Any], times: list[str], start: datetime) -> str | None:
        """The new bookmark: the newest time seen, but none after the start of the read.

        What changes on a page that is read already, while later pages are read, is not seen; and
        where there are too many objects to remember, the bookmark alone decides about it.
        """
        marks = [min(times[0], iso_seconds(start - LOOKBACK), key=instant)] if times else []
        if self._bookmarked(state):
            marks.append(state["replication_key_value"])
        return max(marks, default=None, key=instant)

    def _changed(
        self,
        found: Iterable[Record],
        memory: ContentMemory,
        times: list[str],
        context: Context | None,
    ) -> Iterator[Record]:
        """Those of the found records that are to be emitted; keeps the newest time in ``times``."""
        since = None if self.marks_deletes else self.since(context, memory)
        for raw in found:
            record = self.complete(raw, context)
            updated = record.get(self.replication_key) if self.replication_key else None
            if updated:
                if since and instant(updated) < since:
                    continue  # without a trace: what is remembered counts as emitted
                times[:] = [max(*times, updated, key=instant) if times else updated]
            if not memory.is_known(record) or self.marks_deletes:
                yield self.finish(record)

    def since(self, context: Context | None, memory: ContentMemory) -> datetime | None:
        """The aware moment before which objects are left out; None: none are."""
        # What is remembered tells changes better than a time; start_date holds always.
        if self.replication_key and memory.is_empty:
            return self.start(context)
        return instant(self.config["start_date"]) if self.config.get("start_date") else None

    def enrich(self, account: Account, records: Iterator[Record]) -> Iterator[Record]:
        """The changed records with what only further requests tell."""
        return records

    def _bookmarked(self, state: dict[str, Any]) -> bool:
        return bool(self.replication_key and state.get("replication_key_value"))

    def _sync_records(
        self, context: Context | None = None, *, write_messages: bool = True
    ) -> Generator[Record, Any, Any]:
        self._begin()
        yield from super()._sync_records(context, write_messages=write_messages)
        if write_messages:
            self._end()

    def _begin(self) -> None:
        self._complete = True
        if self.marks_deletes:
            self._stream_version = self._initialized_at // 1000

    def _end(self) -> None:
        """After a complete read: what older versions have and this one lacks is gone."""
        if self._stream_version is not None and self._complete and self.selected:
            self._write_activate_version_message(self._stream_version)

    # Completeness, change, state

    @property
    def marks_deletes(self) -> bool:
        """Whether vanished objects are to be marked, which takes a whole, versioned emission."""
        return self.vanishes and bool(self.config.get("detect_deletes"))

    @property
    def emit_activate_version_messages(self) -> bool:
        """Never the SDK's way, which activates a version before its records are out."""
        return False

    def complete(self, found: Record, context: Context | None) -> Record:
        """The record with every property of the schema: null where unset, ``subuser`` added."""
        record = {name: found.get(name) for name in names(self.columns)}
        if not record["id"]:
            raise UnexpectedAnswer(f"SendGrid sent one of the {self.name} without an id")
        if context:
            record["subuser"] = subuser = context["subuser"]
            if self.ids_clash or found.get("_id") is not None:  # numbers are given anew elsewhere
                record["id"] = f"{subuser}:{record['id']}"
        return record

    def finish(self, record: Record) -> Record:
        """The record with the time of its extraction."""
        record["received_at"] = iso_now()
        return record

    def start(self, context: Context | None) -> datetime | None:
        """The aware moment to read from: the later of bookmark and start_date; None: all."""
        value = self.get_starting_replication_key_value(context)
        return instant(value) if value else None

    def remembered(self, state: dict[str, Any]) -> ContentMemory:
        """What earlier runs emitted, if it belongs to the bookmark (people edit bookmarks)."""
        content = state.get("content") or {}
        refresh = self.replication_key and self.replication_method == REPLICATION_FULL_TABLE
        valid = content.get("at") == state.get("replication_key_value")
        hashes = content.get("hashes") if valid and not refresh else None
        return ContentMemory(hashes, self.shape())

    def shape(self) -> str:
        """Something that changes with the selection of properties: records then count as new."""
        return ",".join(sorted("/".join(crumb) for crumb, on in self.mask.items() if on))

    def remember(self, state: dict[str, Any], memory: ContentMemory, newest: str | None) -> None:
        """Move the state forward after a whole read."""
        if self.replication_key and newest:
            state["replication_key"] = self.replication_key
            state["replication_key_value"] = newest
        hashes = memory.text()
        if hashes is None:
            state.pop("content", None)
        else:
            state["content"] = {"at": state.get("replication_key_value"), "hashes": hashes}
        self.state_manager.is_flushed = False

    def get_replication_key_signpost(self, context: Context | None = None) -> None:
        """No signpost: the streams cap their bookmarks themselves."""
        return

    def _increment_stream_state(
        self, latest_record: Record, *, context: Context | None = None
    ) -> None:
        """No bookmark moves record by record: `changes` moves it when the read is whole."""

    # Schema messages

    def _write_schema_message(self) -> None:
        """SCHEMA with every property of the records: the catalog may be older than a setting."""
        schema = self.effective_schema
        properties = {**self.schema["properties"], **schema["properties"]}
        self._use_schema({**schema, "properties": properties})
        super()._write_schema_message()

    def _use_schema(self, schema: dict[str, Any]) -> None:
        """Take another schema than the catalog's, less what is deselected."""
        if schema != self.effective_schema:
            self._input_schema = schema
            self._stream_maps = None
            self._tap.mapper.register_raw_stream_schema(
                self.name, get_selected_schema(self.name, schema, self.mask), self.primary_keys
            )

    def _generate_schema_messages(self) -> Generator[SchemaMessage, None, None]:
        """SCHEMA messages that say that this is an object collection (design: x-segment)."""
        for message in super()._generate_schema_messages():
            message.schema = {**message.schema, "x-segment": _ANNOTATION}
            yield message


class MarketingStream(ObjectStream):
    """A collection of Marketing Campaigns: current or legacy, whichever the account has."""

    scopes = scopes.MARKETING
    eu = False

    def read(self, account: Account, context: Context | None) -> Iterable[Record]:
        """The objects, from the generation that the account has."""
        generation = account.generation()
        if generation is Generation.MARKETING:
            return self.read_current(account, context)
        if generation is Generation.LEGACY:
            return self.read_legacy(account, context)
        raise NothingToRead("this account does not use Marketing Campaigns")

    def read_current(self, account: Account, context: Context | None) -> Iterable[Record]:
        """The objects of the current generation, in Segment's vocabulary."""
        raise NotImplementedError

    def read_legacy(self, account: Account, context: Context | None) -> Iterable[Record]:
        """The objects of the legacy generation, in Segment's vocabulary."""
        raise NothingToRead("the legacy generation has no such collection")

    def needed_scopes(self, account: Account) -> tuple[str, ...]:
        """The scope of the account's generation."""
        if account.generation() is Generation.LEGACY:
            return scopes.LEGACY
        return scopes.MARKETING
