"""Singer tap for SendGrid: objects from the API, events from the event log that the webhook receiver feeds."""
