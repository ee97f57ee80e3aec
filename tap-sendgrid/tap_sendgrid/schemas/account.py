"""Columns of templates, senders and subusers (OpenAPI: templates, mc_senders; Subusers API)."""

from __future__ import annotations

from tap_sendgrid.schemas.columns import NATIVE_ID, Column, key

TEMPLATES = (
    key("Id of the template; dynamic ones begin with d-."),
    Column("name", "string", "Name of the template.", "name"),
    Column("generation", "string", "legacy or dynamic.", "generation"),
    Column("updated_at", "timestamp", "When it last changed.", "updated_at"),
    Column("versions", "objects", "Its versions, without their content.", "versions"),
)

_MAILBOX = (
    Column("email", "string", "Address.", "email"),
    Column("name", "string", "Name beside the address.", "name"),
)

SENDERS = (
    key("Id of the sender; sender_id of campaigns."),
    Column("_id", "integer", NATIVE_ID, "id"),
    Column("nickname", "string", "Name of the sender inside SendGrid.", "nickname"),
    Column("from", "object", "Who messages come from.", "from", None, _MAILBOX),
    Column("reply_to", "object", "Who answers go to.", "reply_to", None, _MAILBOX),
    Column("address", "string", "Postal address.", "address"),
    Column("address_2", "string", "Its second line.", "address_2"),
    Column("city", "string", "City.", "city"),
    Column("state", "string", "State.", "state"),
    Column("zip", "string", "Postal code.", "zip"),
    Column("country", "string", "Country.", "country"),
    Column("verified", "boolean", "Whether the sender is verified.", "verified"),
    Column("locked", "boolean", "Whether a campaign in use locks it.", "locked"),
    Column("created_at", "timestamp", "When it was made.", "created_at"),
    Column("updated_at", "timestamp", "When it last changed.", "updated_at"),
)

SUBUSERS = (
    key("Id of the subuser."),
    Column("_id", "integer", NATIVE_ID, "id"),
    Column("username", "string", "Name, as in on_behalf_of.", "username"),
    Column("email", "string", "Address of the subuser.", "email"),
    Column("disabled", "boolean", "Whether it is switched off.", "disabled"),
    Column("region", "string", "global or eu, where SendGrid tells.", "region"),
)
