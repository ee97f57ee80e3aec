"""The event log: every webhook delivery, durable and in order. Receivers append, taps read.

>>> log = open_event_log("sqlite:///events.db")
"""
