"""Event streams: every event of every delivery in the log, to exactly one stream, in log order."""

from tap_sendgrid.events.streams import event_stream_classes
from tap_sendgrid.events.sync import sync_events

__all__ = ["event_stream_classes", "sync_events"]
