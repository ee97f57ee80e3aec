"""Suppressions: addresses that SendGrid will not send to, and why.

The endpoints answer bare arrays, cut them at 500 rows unless asked otherwise, and page by offset
with the newest first. So each read has a frozen end, a limit is always sent, and pages overlap.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, ClassVar

from tap_sendgrid.api.pages import PagesIgnored, offset_pages, rows_of
from tap_sendgrid.objects.base import ObjectStream, Record
from tap_sendgrid.objects.content import ContentMemory
from tap_sendgrid.objects.values import instant, text_or_none, timestamp
from tap_sendgrid.schemas import suppressions as schemas

if TYPE_CHECKING:
    from singer_sdk.helpers.types import Context

    from tap_sendgrid.api.account import Account

_LIMIT = 500
_OVERLAP = 10
_BOUNDARY_ROWS = 1000


class SuppressionStream(ObjectStream):
    """Addresses on one of SendGrid's lists, from the time of the bookmark on."""

    path: ClassVar[str]
    replication_key = "created_at"
    ids_clash = True
    selected_by_default = False

    def changes(self, account: Account, context: Context | None) -> Iterator[Record]:
        """What was suppressed from the bookmark's second on, up to the second before this one."""
        state = self.get_context_state(context)
        memory = self.remembered(state)
        start = None if self.marks_deletes else self.start(context)
        end = account.client.server_now() - timedelta(seconds=1)
        newest: str | None = state.get("replication_key_value")
        boundary: list[Record] = []
        for found in self.window(account, start, end):
            record = self.complete(found, context)
            created = record["created_at"]
            if created is not None:
                if start is not None and instant(created) < start:
                    continue
                if newest is None or created > newest:
                    newest, boundary = created, []
                if created == newest:
                    boundary.append(record)
            if self.marks_deletes or not memory.has_record(record):
                yield self.finish(dict(record))
        self.remember_boundary(state, newest, boundary)

    def window(self, account: Account, start: datetime | None, end: datetime) -> Iterable[Record]:
        """The rows with ``start <= created <= end``, newest first."""
        params = {"end_time": int(end.timestamp())}
        if start is not None:
            params["start_time"] = int(start.timestamp())
        rows = offset_pages(
            account.client, self.path, limit=_LIMIT, params=params, overlap=_OVERLAP
        )
        for row in rows:
            yield {
                "id": f"{row['email']}:{row['created']}",
                "email": row.get("email"),
                "created_at": timestamp(row.get("created")),
                "reason": text_or_none(row.get("reason")),
                "status": text_or_none(row.get("status")),
                "ip": text_or_none(row.get("ip")),
            }

    def remember_boundary(
        self, state: dict[str, Any], newest: str | None, boundary: list[Record]
    ) -> None:
        """Move the bookmark; remember the rows of its second, which the next run reads again."""
        memory = ContentMemory(None, self.shape())
        if len(boundary) <= _BOUNDARY_ROWS:
            for record in boundary:
                memory.is_known(record)
        self.remember(state, memory, newest)


class BouncesStream(SuppressionStream):
    """Addresses that bounced."""

    name = "suppression_bounces"
    path = "/v3/suppression/bounces"
    columns = schemas.BOUNCES
    scopes = ("suppression.read", "suppression.bounces.read")


class BlocksStream(SuppressionStream):
    """Addresses whose server blocked a message."""

    name = "suppression_blocks"
    path = "/v3/suppression/blocks"
    columns = schemas.BLOCKS
    scopes = ("suppression.read", "suppression.blocks.read")


class InvalidEmailsStream(SuppressionStream):
    """Addresses that do not exist."""

    name = "suppression_invalid_emails"
    path = "/v3/suppression/invalid_emails"
    columns = schemas.INVALID_EMAILS
    scopes = ("suppression.read", "suppression.invalid_emails.read")


class SpamReportsStream(SuppressionStream):
    """Addresses that reported spam."""

    name = "suppression_spam_reports"
    path = "/v3/suppression/spam_reports"
    columns = schemas.SPAM_REPORTS
    scopes = ("suppression.read", "suppression.spam_reports.read")


class GlobalUnsubscribesStream(SuppressionStream):
    """Addresses that unsubscribed from everything."""

    name = "suppression_global_unsubscribes"
    path = "/v3/suppression/unsubscribes"
    columns = schemas.GLOBAL_UNSUBSCRIBES
    scopes = ("suppression.read", "suppression.unsubscribes.read")


class GroupsStream(ObjectStream):
    """Unsubscribe groups, with the number of addresses that left each."""

    name = "suppression_groups"
    columns = schemas.GROUPS
    scopes = ("asm.groups.read",)
    ids_clash = True
    selected_by_default = False

    def read(self, account: Account, context: Context | None) -> Iterator[Record]:
        """``GET /v3/asm/groups``, all at once."""
        for row in rows_of(account.client.get("/v3/asm/groups"), None):
            yield {**row, "id": str(row["id"]), "_id": row["id"]}


class GroupMembersStream(SuppressionStream):
    """Addresses that left an unsubscribe group."""

    name = "suppression_group_members"
    path = "/v3/asm/suppressions"
    columns = schemas.GROUP_MEMBERS
    scopes = ("asm.groups.read", "asm.groups.suppressions.read")

    def window(self, account: Account, start: datetime | None, end: datetime) -> Iterator[Record]:
        """Members of all groups; group by group, without times, when SendGrid does not page.

        The spec knows no parameters here; in practice limit and offset work (sendgrid/docs#5178).
        """
        params = {"end_time": int(end.timestamp())}
        if start is not None:
            params["start_time"] = int(start.timestamp())
        rows = offset_pages(
            account.client, self.path, limit=_LIMIT, params=params, overlap=_OVERLAP
        )
        try:
            for row in rows:
                yield self._member(row["group_id"], row.get("group_name"), row)
        except PagesIgnored:
            for group in rows_of(account.client.get("/v3/asm/groups"), None):
                path = f"/v3/asm/groups/{group['id']}/suppressions"
                for email in rows_of(account.client.get(path), None):
                    yield self._member(group["id"], group.get("name"), {"email": email})

    @staticmethod
    def _member(group_id: Any, group_name: Any, row: dict[str, Any]) -> Record:
        return {
            "id": f"{group_id}:{row['email']}",
            "group_id": group_id,
            "group_name": group_name,
            "email": row.get("email"),
            "created_at": timestamp(row.get("created_at")),
        }
