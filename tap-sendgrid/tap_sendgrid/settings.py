"""The settings of the tap, as users see them (``--about``, Meltano, environment TAP_SENDGRID_*)."""

from __future__ import annotations

from typing import Any

from singer_sdk import typing as th

from tap_sendgrid.event_log import DEFAULT_EVENT_LOG_URL

CONFIG_JSONSCHEMA: dict[str, Any] = th.PropertiesList(
    th.Property(
        "api_key",
        th.StringType,
        secret=True,
        title="API key",
        description="SendGrid API key with read access to what is selected (marketing.read for "
        "lists, segments, recipients and campaigns). Not needed when only event streams are "
        "selected.",
    ),
    th.Property(
        "api_url",
        th.StringType,
        title="API URL",
        description="Base URL of the API. Without it, the region decides: "
        "https://api.sendgrid.com or https://api.eu.sendgrid.com.",
    ),
    th.Property(
        "region",
        th.StringType,
        default="global",
        allowed_values=["global", "eu"],
        title="Region",
        description="eu for EU regional subusers. SendGrid has no EU host for Marketing Campaigns: "
        "those streams are then empty.",
    ),
    th.Property(
        "api_generation",
        th.StringType,
        default="auto",
        allowed_values=["auto", "marketing", "legacy"],
        title="Marketing Campaigns generation",
        description="Which marketing API the account has: marketing (current), legacy (contactdb), "
        "or auto to find out.",
    ),
    th.Property(
        "on_behalf_of",
        th.CustomType(
            {"type": ["array", "string", "null"], "items": {"type": "string"}},
        ),
        title="Subusers",
        description="Subuser to read, or a list of them, with the parent account's key. Each "
        "record then carries its subuser.",
    ),
    th.Property(
        "start_date",
        th.DateTimeType,
        title="Start date",
        description="Incremental streams begin with what changed at this instant; without it they "
        "begin with everything.",
    ),
    th.Property(
        "event_log_url",
        th.StringType,
        default=DEFAULT_EVENT_LOG_URL,
        title="Event log",
        description=f"Where the webhook receiver keeps the events: {DEFAULT_EVENT_LOG_URL}, "
        "sqlite:////absolute/path.db or nats://host:4222/stream.",
    ),
    th.Property(
        "event_log_consumer",
        th.StringType,
        default="tap-sendgrid",
        title="Event log consumer",
        description="Name under which the event log keeps this pipeline's position, so that "
        "nothing is trimmed that it has not read. Give each pipeline its own.",
    ),
    th.Property(
        "follow",
        th.BooleanType,
        default=False,
        title="Follow",
        description="Keep reading the event log until stopped, instead of ending at its present "
        "end.",
    ),
    th.Property(
        "recipient_memberships",
        th.BooleanType,
        default=False,
        title="Recipient memberships",
        description="Add list_ids and segment_ids to recipients. Costs one request per hundred "
        "changed contacts.",
    ),
    th.Property(
        "detect_deletes",
        th.BooleanType,
        default=False,
        title="Detect deletes",
        description="Emit object streams whole, with a version, and activate the version after a "
        "complete read, so that targets can mark or delete what vanished from SendGrid. start_date "
        "does not limit such reads.",
    ),
    th.Property(
        "export_timeout_seconds",
        th.IntegerType(minimum=1),
        default=7200,
        title="Export timeout",
        description="How long to wait for SendGrid to finish a contact export.",
    ),
    th.Property(
        "webhook_url",
        th.StringType,
        title="Webhook URL",
        description="Public URL of the webhook receiver; --test checks that SendGrid posts there.",
    ),
    th.Property(
        "user_agent",
        th.StringType,
        title="User agent",
        description="User-Agent header of all requests; default: tap-sendgrid and its version.",
    ),
).to_dict()
