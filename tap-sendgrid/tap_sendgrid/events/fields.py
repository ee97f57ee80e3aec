"""What SendGrid defines: every field of every event. One table drives schemas and splitting.

A key that is not listed here *for its event* is a custom argument: SendGrid flattens custom
arguments into the top level of the event, and a custom ``type`` is visible on ``delivered`` while
``bounce`` has a ``type`` of its own.

Sources, by the marks in ``Field.source``:

- ``docs``: Twilio's Event Webhook reference (for-developers/tracking-events/event).
- ``logs``: the event schemas of the official OpenAPI document of ``/v3/logs`` (tsg_logs_v3).
- ``wire``: public captures of real deliveries, SendGrid's own SDK test data and its test button.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

Kind = Literal["string", "integer", "boolean", "object", "category"]

DELIVERY = ("processed", "deferred", "delivered", "bounce", "dropped")
GROUP = ("group_unsubscribe", "group_resubscribe")
ENGAGEMENT = ("open", "click", "spamreport", "unsubscribe", *GROUP)
MESSAGE = (*DELIVERY, *ENGAGEMENT)
ACCOUNT = ("account_status_change",)
EVERY = (*MESSAGE, *ACCOUNT)


@dataclass(frozen=True, slots=True)
class Field:
    """One field that SendGrid defines.

    Attributes:
        key: SendGrid's name on the wire.
        kind: What the record holds; a value of another type is converted if nothing is lost.
        events: SendGrid's words for the events that define it.
        description: For the catalog and the data dictionary.
        source: Where the fact comes from (``docs``, ``logs``, ``wire``).
        parts: The kinds of the members of an ``object``.
    """

    key: str
    kind: Kind
    events: tuple[str, ...]
    description: str
    source: str
    parts: dict[str, Kind] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """The property's name in the record: the key, with the hyphen of ``smtp-id`` mended."""
        return self.key.replace("-", "_")


@dataclass(frozen=True, slots=True)
class EventType:
    """One event stream.

    Attributes:
        stream: The stream's name: Segment's collection.
        word: SendGrid's word in ``event``; None for the stream of all words not known yet.
        description: For the catalog.
    """

    stream: str
    word: str | None
    description: str


EVENT_TYPES = (
    EventType("processed", "processed", "SendGrid accepted the message and can deliver it."),
    EventType("deferred", "deferred", "The receiving server put it off; SendGrid tries again."),
    EventType("delivered", "delivered", "The receiving server accepted the message."),
    EventType("bounce", "bounce", "The receiving server refused the message, for good or for now."),
    EventType("dropped", "dropped", "SendGrid did not send the message at all."),
    EventType("_open", "open", "The recipient (or a machine) loaded the message."),
    EventType("click", "click", "The recipient clicked on a link of the message."),
    EventType("spam_report", "spamreport", "The recipient marked the message as spam."),
    EventType("unsubscribe", "unsubscribe", "The recipient unsubscribed from all mail."),
    EventType("group_unsubscribe", "group_unsubscribe", "The recipient left an unsubscribe group."),
    EventType("group_resubscribe", "group_resubscribe", "The recipient came back to a group."),
    EventType("account_status_change", "account_status_change", "SendGrid changed the account."),
    EventType("other_event", None, "Events of a name that this tap does not know yet."),
)

_MARKETING: tuple[tuple[str, Kind, str], ...] = (
    ("marketing_campaign_id", "integer", "Legacy Marketing Campaigns: the campaign."),
    ("marketing_campaign_name", "string", "Legacy Marketing Campaigns: the campaign's name."),
    ("marketing_campaign_version", "string", "Legacy A/B campaign: the variation, such as `A`."),
    ("marketing_campaign_split_id", "integer", "Legacy A/B campaign: the split."),
    ("post_type", "string", "Legacy Marketing Campaigns: always `event`."),
    ("sg_user_id", "integer", "SendGrid's id of the account."),
    ("nlvx_campaign_id", "integer", "Legacy newsletter: the campaign."),
    ("nlvx_user_id", "integer", "Legacy newsletter: the user."),
    ("singlesend_id", "string", "Single Send: its id."),
    ("singlesend_name", "string", "Single Send: its name."),
    ("mc_stats", "string", "Marketing Campaigns: what the statistics belong to."),
    ("phase_id", "string", "Single Send: the phase of an A/B test, or `send`."),
    ("sg_template_id", "string", "Marketing Campaigns: the template."),
    ("sg_template_name", "string", "Marketing Campaigns: the template's name."),
    ("template_id", "string", "Marketing Campaigns: the template."),
    ("template_version_id", "string", "Marketing Campaigns: the template's version."),
    ("template_hash", "string", "Marketing Campaigns: hash of the template's content."),
    ("mc_auto_id", "string", "Automation: its id."),
    ("mc_auto_name", "string", "Automation: its name."),
    ("mc_auto_unique_id", "string", "Automation: id of this run for this contact."),
    ("mc_auto_msg_id", "string", "Automation: the message of the step."),
    ("mc_auto_step_id", "string", "Automation: the step."),
    ("mc_pod_id", "string", "Marketing Campaigns: the sending pod."),
)

FIELDS: tuple[Field, ...] = (
    Field("event", "string", EVERY, "SendGrid's own word, such as `open` or `spamreport`.", "docs"),
    Field("email", "string", MESSAGE, "The recipient, in the case as sent.", "docs"),
    Field("sg_event_id", "string", EVERY, "SendGrid's id of the event.", "docs"),
    Field(
        "sg_message_id",
        "string",
        MESSAGE,
        "SendGrid's id of the message to this recipient; up to the first dot it is the "
        "X-Message-Id that Mail Send answered.",
        "docs",
    ),
    Field("smtp-id", "string", MESSAGE, "The Message-ID header: `<id@host>`.", "docs, wire"),
    Field(
        "category",
        "category",
        MESSAGE,
        "The categories: one as plain text, a list as compact JSON text.",
        "docs",
    ),
    Field(
        "asm_group_id",
        "integer",
        (*DELIVERY, "open", "click", *GROUP),
        "The unsubscribe group that the message belongs to.",
        "docs, logs",
    ),
    Field(
        "ip",
        "string",
        ("deferred", "delivered", "bounce", "open", "click", "unsubscribe", *GROUP),
        "Delivery events: the sending address; engagement events: the reader's address.",
        "docs, logs",
    ),
    Field(
        "tls",
        "integer",
        ("deferred", "delivered", "bounce"),
        "1 if the connection to the receiving server was encrypted.",
        "docs, logs",
    ),
    Field(
        "cert_err",
        "string",
        ("deferred", "delivered", "bounce"),
        "`1` if the receiving server's certificate was not valid.",
        "docs, logs",
    ),
    Field(
        "pool",
        "object",
        ("processed", "dropped"),
        "The IP pool of the message: `name` and `id`.",
        "docs, logs",
        {"name": "string", "id": "string"},
    ),
    Field(
        "send_at",
        "integer",
        ("processed", *ENGAGEMENT),
        "When the message was due: epoch seconds (0: at once); milliseconds on events of Single "
        "Sends, as SendGrid sends it.",
        "logs, wire",
    ),
    Field(
        "attempt",
        "string",
        ("deferred",),
        "How often SendGrid has tried: digits, counted from zero.",
        "docs, logs",
    ),
    Field(
        "response",
        "string",
        ("deferred", "delivered"),
        "The receiving server's answer, or SendGrid's own reason for a deferral.",
        "docs, logs",
    ),
    Field("domain", "string", ("deferred",), "The recipient's domain.", "logs"),
    Field("from", "string", ("deferred",), "The sender's address.", "logs"),
    Field(
        "reason",
        "string",
        ("deferred", "bounce", "dropped"),
        "Why: the receiving server's text (bounce), or SendGrid's (dropped).",
        "docs, logs",
    ),
    Field("message", "string", ("dropped",), "In detail why SendGrid dropped the message.", "logs"),
    Field(
        "status",
        "string",
        ("bounce", "dropped"),
        "Enhanced SMTP status code such as `5.1.1`.",
        "docs, logs",
    ),
    Field(
        "type",
        "string",
        ("bounce", *ACCOUNT),
        "Bounce: `bounce` (for good) or `blocked` (for now). Account: what became of it, such as "
        "`compliance_suspend`.",
        "docs, logs",
    ),
    Field(
        "bounce_classification",
        "string",
        ("bounce",),
        "SendGrid's class of the bounce, such as `Invalid Address`.",
        "docs, logs",
    ),
    Field(
        "useragent",
        "string",
        ("open", "click", "unsubscribe", *GROUP),
        "The reader's browser or mail program.",
        "docs, logs",
    ),
    Field("url", "string", ("open", "click", *GROUP), "The link that was followed.", "docs, logs"),
    Field(
        "url_offset",
        "object",
        ("click",),
        "Which of several equal links it was: `index`, and `type` (the part of the mail).",
        "docs, logs",
        {"index": "integer", "type": "string"},
    ),
    Field(
        "sg_machine_open",
        "boolean",
        ("open",),
        "True if a machine loaded the message (Apple Mail Privacy Protection).",
        "docs, logs",
    ),
    Field(
        "sg_content_type",
        "string",
        MESSAGE,
        "The part of the mail that was read: html, text, header or amp.",
        "docs, logs, wire",
    ),
    Field("reseller_id", "string", ("unsubscribe",), "The account's reseller.", "logs"),
    Field("date", "string", ("unsubscribe",), "The day, in the account's time zone.", "logs"),
    Field(
        "newsletter",
        "object",
        MESSAGE,
        "Legacy newsletter: its ids.",
        "docs",
        {
            "newsletter_user_list_id": "string",
            "newsletter_id": "string",
            "newsletter_send_id": "string",
        },
    ),
    *(Field(key, kind, MESSAGE, text, "docs, wire") for key, kind, text in _MARKETING),
)

# What convert.py makes. The timestamp of the record is SendGrid's, normalised.
RESERVED = {
    "id": "The event's id for ever: `sg_event_id`, else the SHA-256 of its canonical JSON.",
    "received_at": "When the receiver got the delivery (UTC).",
    "occurred_at": "When it happened: `timestamp` as date-time (UTC).",
    "timestamp": "When it happened: SendGrid's epoch seconds.",
    "custom_args": "Every key of the event that SendGrid does not define for it: custom arguments, "
    "unique arguments, and values that do not fit their field.",
}

# An event of an unknown name has at least what all e-mail events share.
_COMMON = ("event", "email", "sg_event_id", "sg_message_id", "smtp-id", "category")


def fields_of(word: str | None) -> dict[str, Field]:
    """The fields that SendGrid defines for an event word (None: any unknown word), by key."""
    if word is None:
        return {field.key: field for field in FIELDS if field.key in _COMMON}
    return {field.key: field for field in FIELDS if word in field.events}
