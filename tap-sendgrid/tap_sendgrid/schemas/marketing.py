"""Columns of lists, segments, recipients and campaigns, in one vocabulary over both generations.

The names are Segment's (``recipient_count``, ``title``). Sources: the official OpenAPI specs
mc_lists, mc_segments, mc_segments_2.0, mc_contacts, mc_singlesends, lmc_contactdb, lmc_campaigns.
"""

from __future__ import annotations

from tap_sendgrid.schemas.columns import NATIVE_ID, Column, key

LISTS = (
    key("Id of the list.", "id", "id"),
    Column("_id", "integer", NATIVE_ID, None, "id"),
    Column("name", "string", "Name of the list.", "name", "name"),
    Column(
        "recipient_count",
        "integer",
        "Number of contacts on the list; SendGrid recounts with a delay.",
        "contact_count",
        "recipient_count",
    ),
)

SEGMENTS = (
    key("Id of the segment.", "id", "id"),
    Column("_id", "integer", NATIVE_ID, None, "id"),
    Column("name", "string", "Name of the segment.", "name", "name"),
    Column(
        "list_id",
        "string",
        "Id of the list that the segment draws from; null: from all contacts.",
        "parent_list_ids[0] (2.0), parent_list_id (v1)",
        "list_id",
    ),
    Column(
        "recipient_count",
        "integer",
        "Number of contacts in the segment when it was last computed.",
        "contacts_count",
        "recipient_count",
    ),
    Column("conditions", "objects", "Conditions of a legacy segment.", None, "conditions"),
    Column(
        "query_dsl",
        "string",
        "The query that defines the segment: SQL (2.0) or SGQL (v1). One request per changed "
        "segment, none when it is deselected.",
        "query_dsl (of the single segment)",
    ),
    Column("query_version", "string", "Version of the query language: 1 or 2.", "query_version"),
    Column(
        "status",
        "object",
        "Whether SendGrid could compute the segment (2.0).",
        "status",
        None,
        (
            Column("query_validation", "string", "PENDING, VALID or INVALID.", "query_validation"),
            Column("error_message", "string", "Why the query is invalid.", "error_message"),
        ),
    ),
    Column("created_at", "timestamp", "When the segment was made.", "created_at"),
    Column("updated_at", "timestamp", "When its definition last changed.", "updated_at"),
    Column(
        "sample_updated_at",
        "timestamp",
        "When the segment was last computed.",
        "sample_updated_at",
    ),
    Column(
        "next_sample_update",
        "timestamp",
        "When the segment is to be computed again.",
        "next_sample_update",
    ),
)

_PROFILE = (
    ("email", "E-mail address, lower case; null when another identifier is used."),
    ("phone_number_id", "Phone number used as an identifier."),
    ("external_id", "Identifier from another system."),
    ("anonymous_id", "Identifier of an anonymous contact."),
    ("first_name", "First name."),
    ("last_name", "Last name."),
    ("unique_name", "Unique name."),
    ("address_line_1", "First line of the address."),
    ("address_line_2", "Second line of the address."),
    ("city", "City."),
    ("state_province_region", "State, province or region."),
    ("postal_code", "Postal code."),
    ("country", "Country."),
    ("phone_number", "Phone number."),
    ("whatsapp", "WhatsApp name or number."),
    ("line", "Line id."),
    ("facebook", "Facebook id."),
)
_PROFILE_LEGACY = {"email", "first_name", "last_name"}

#: The text properties of a contact, in the order in which they are emitted.
PROFILE_NAMES = tuple(name for name, _ in _PROFILE)

CUSTOM_FIELDS = Column(
    "custom_fields",
    "object",
    "The account's custom fields by name; every defined field is present, null when unset.",
    "custom_fields",
    "custom_fields",
)

MEMBERSHIPS = (
    Column("list_ids", "strings", "Ids of the lists that the contact is on.", "list_ids", "lists"),
    Column("segment_ids", "strings", "Ids of the segments that it is in.", "segment_ids"),
)

RECIPIENTS = (
    key("Id of the contact.", "id; contact_id in export files", "id"),
    *(
        Column(name, "string", text, name, name if name in _PROFILE_LEGACY else None)
        for name, text in _PROFILE
    ),
    Column("alternate_emails", "strings", "Further addresses, five at most.", "alternate_emails"),
    Column("created_at", "timestamp", "When the contact was added.", "created_at", "created_at"),
    Column(
        "updated_at",
        "timestamp",
        "When the contact's profile last changed.",
        "updated_at",
        "updated_at",
    ),
    Column("last_emailed", "timestamp", "When last sent an e-mail.", None, "last_emailed"),
    Column("last_opened", "timestamp", "When one was last opened.", None, "last_opened"),
    Column("last_clicked", "timestamp", "When a link was last clicked.", None, "last_clicked"),
    CUSTOM_FIELDS,
)

CAMPAIGNS = (
    key("Id of the single send or campaign; singlesend_id of its events.", "id", "id"),
    Column("_id", "integer", NATIVE_ID, None, "id"),
    Column("title", "string", "Name of the campaign.", "name", "title"),
    Column("subject", "string", "Subject line.", "email_config.subject", "subject"),
    Column(
        "status",
        "string",
        "draft, scheduled or triggered (sent or being sent); legacy: Draft, Scheduled, Sent …",
        "status",
        "status",
    ),
    Column("categories", "strings", "Categories of its messages.", "categories", "categories"),
    Column("list_ids", "strings", "Lists that it goes to.", "send_to.list_ids", "list_ids"),
    Column(
        "segment_ids",
        "strings",
        "Segments that it goes to.",
        "send_to.segment_ids",
        "segment_ids",
    ),
    Column("send_to_all", "boolean", "Whether it goes to all contacts.", "send_to.all"),
    Column("sender_id", "integer", "Id of the sender.", "email_config.sender_id", "sender_id"),
    Column(
        "suppression_group_id",
        "integer",
        "Id of the unsubscribe group.",
        "email_config.suppression_group_id",
        "suppression_group_id",
    ),
    Column(
        "custom_unsubscribe_url",
        "string",
        "Unsubscribe page in place of a group.",
        "email_config.custom_unsubscribe_url",
        "custom_unsubscribe_url",
    ),
    Column("ip_pool", "string", "IP pool it is sent from.", "email_config.ip_pool", "ip_pool"),
    Column("editor", "string", "code or design.", "email_config.editor", "editor"),
    Column("design_id", "string", "Id of the design.", "email_config.design_id"),
    Column("html_content", "string", "HTML body.", "email_config.html_content", "html_content"),
    Column("plain_content", "string", "Text body.", "email_config.plain_content", "plain_content"),
    Column("is_abtest", "boolean", "Whether it is an A/B test.", "is_abtest"),
    Column(
        "abtest",
        "object",
        "The A/B test.",
        "abtest",
        None,
        (
            Column("type", "string", "subject or content.", "type"),
            Column("winner_criteria", "string", "open, click or manual.", "winner_criteria"),
            Column("test_percentage", "integer", "Share of the audience.", "test_percentage"),
            Column("duration", "string", "Length of the test.", "duration"),
            Column("winning_template_id", "string", "The winner.", "winning_template_id"),
            Column("winner_selected_at", "timestamp", "When it won.", "winner_selected_at"),
            Column("expiration_date", "timestamp", "End of the test.", "expiration_date"),
        ),
    ),
    Column("send_at", "timestamp", "When it is or was to be sent.", "send_at", "schedules.send_at"),
    Column("created_at", "timestamp", "When it was made.", "created_at"),
    Column("updated_at", "timestamp", "When it last changed.", "updated_at"),
)
