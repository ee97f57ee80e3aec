"""Columns of the statistics (OpenAPI: stats, mc_stats). All counts grow for days after a send."""

from __future__ import annotations

from tap_sendgrid.schemas.columns import Column, key

_MARKETING = {
    "bounce_drops": "Messages not sent, to addresses that bounced before.",
    "bounces": "Messages that bounced.",
    "clicks": "Clicks.",
    "delivered": "Messages delivered.",
    "invalid_emails": "Messages not sent, to invalid addresses.",
    "opens": "Opens.",
    "requests": "Messages asked to be sent.",
    "spam_report_drops": "Messages not sent, to addresses that reported spam before.",
    "spam_reports": "Spam reports.",
    "unique_clicks": "Recipients who clicked.",
    "unique_opens": "Recipients who opened.",
    "unsubscribes": "Unsubscribes.",
}
_EMAIL = {
    **_MARKETING,
    "blocks": "Messages that were blocked.",
    "deferred": "Deferrals.",
    "processed": "Messages processed.",
    "unsubscribe_drops": "Messages not sent, to addresses that unsubscribed.",
}


def _counts(texts: dict[str, str], native: str) -> tuple[Column, ...]:
    return tuple(Column(name, "integer", texts[name], f"{native}.{name}") for name in sorted(texts))


MARKETING_METRICS = tuple(sorted(_MARKETING))
EMAIL_METRICS = tuple(sorted(_EMAIL))

_AGGREGATION = Column("aggregation", "string", "total, or a day.", "aggregation")

SINGLESEND_STATS = (
    key("Single send, variation, phase and aggregation.", "id:ab_variation:ab_phase:aggregation"),
    Column("singlesend_id", "string", "Id of the single send (campaigns.id).", "id"),
    Column("ab_variation", "string", "Variation of an A/B test, or all.", "ab_variation"),
    Column("ab_phase", "string", "send, test or all.", "ab_phase"),
    _AGGREGATION,
    *_counts(_MARKETING, "stats"),
)

AUTOMATION_STATS = (
    key("Automation, step and aggregation.", "id:step_id:aggregation"),
    Column("automation_id", "string", "Id of the automation; mc_auto_id of events.", "id"),
    Column("step_id", "string", "Step of the automation, or all.", "step_id"),
    _AGGREGATION,
    *_counts(_MARKETING, "stats"),
)

GLOBAL_STATS = (
    key("The day.", "date"),
    Column("date", "date", "Day (UTC).", "date"),
    *_counts(_EMAIL, "stats[].metrics"),
)

CATEGORY_STATS = (
    key("Day and category.", "date:name"),
    Column("date", "date", "Day (UTC).", "date"),
    Column("category", "string", "The category.", "stats[].name"),
    *_counts(_EMAIL, "stats[].metrics"),
)
