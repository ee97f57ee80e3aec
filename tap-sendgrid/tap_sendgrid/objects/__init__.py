"""Object streams: what SendGrid holds now, read from its API and upserted by ``id``.

The first four are Segment's collections; the others are off until they are selected.
"""

from __future__ import annotations

from tap_sendgrid.objects.account import SendersStream, SubusersStream, TemplatesStream
from tap_sendgrid.objects.base import ObjectStream
from tap_sendgrid.objects.campaigns import CampaignsStream
from tap_sendgrid.objects.lists import ListsStream
from tap_sendgrid.objects.recipients import RecipientsStream
from tap_sendgrid.objects.segments import SegmentsStream
from tap_sendgrid.objects.stats import (
    AutomationStatsStream,
    CategoryStatsStream,
    GlobalStatsStream,
    SingleSendStatsStream,
)
from tap_sendgrid.objects.suppressions import (
    BlocksStream,
    BouncesStream,
    GlobalUnsubscribesStream,
    GroupMembersStream,
    GroupsStream,
    InvalidEmailsStream,
    SpamReportsStream,
)

object_stream_classes: tuple[type[ObjectStream], ...] = (
    ListsStream,
    SegmentsStream,
    RecipientsStream,
    CampaignsStream,
    BouncesStream,
    BlocksStream,
    InvalidEmailsStream,
    SpamReportsStream,
    GlobalUnsubscribesStream,
    GroupsStream,
    GroupMembersStream,
    TemplatesStream,
    SendersStream,
    SingleSendStatsStream,
    AutomationStatsStream,
    GlobalStatsStream,
    CategoryStatsStream,
    SubusersStream,
)
