"""Columns of the suppressions (OpenAPI: suppressions). They are current state: rows vanish."""

from __future__ import annotations

from tap_sendgrid.schemas.columns import NATIVE_ID, Column, key

_EMAIL = Column("email", "string", "The suppressed address.", "email")
_CREATED = Column("created_at", "timestamp", "When it was suppressed.", "created")
_REASON = Column("reason", "string", "What the receiving server said.", "reason")
_STATUS = Column("status", "string", "Enhanced SMTP status code, such as 5.1.1.", "status")
_KEY = key("Address and time: an address suppressed anew is a new row.", "email:created")

BOUNCES = (_KEY, _EMAIL, _CREATED, _REASON, _STATUS)
BLOCKS = (_KEY, _EMAIL, _CREATED, _REASON, _STATUS)
INVALID_EMAILS = (_KEY, _EMAIL, _CREATED, _REASON)
SPAM_REPORTS = (
    _KEY,
    _EMAIL,
    _CREATED,
    Column("ip", "string", "Address that the message was sent from.", "ip"),
)
GLOBAL_UNSUBSCRIBES = (_KEY, _EMAIL, _CREATED)

GROUPS = (
    key("Id of the unsubscribe group; asm_group_id of events."),
    Column("_id", "integer", NATIVE_ID, "id"),
    Column("name", "string", "Name of the group.", "name"),
    Column("description", "string", "What recipients read about it.", "description"),
    Column("is_default", "boolean", "Whether it is the default group.", "is_default"),
    Column("unsubscribes", "integer", "Number of addresses that left it.", "unsubscribes"),
)

GROUP_MEMBERS = (
    key("Group and address.", "group_id:email"),
    Column("group_id", "integer", "Id of the unsubscribe group.", "group_id"),
    Column("group_name", "string", "Name of the group.", "group_name"),
    Column("email", "string", "The address that left it.", "email"),
    Column("created_at", "timestamp", "When it left.", "created_at"),
)
