"""Object streams: what SendGrid holds now, read from its API and upserted by ``id``."""

from __future__ import annotations

from tap_sendgrid.objects.base import ObjectStream
from tap_sendgrid.objects.campaigns import CampaignsStream
from tap_sendgrid.objects.lists import ListsStream
from tap_sendgrid.objects.recipients import RecipientsStream
from tap_sendgrid.objects.segments import SegmentsStream

object_stream_classes: tuple[type[ObjectStream], ...] = (
    ListsStream,
    SegmentsStream,
    RecipientsStream,
    CampaignsStream,
)
