"""Singer tap for SendGrid: objects from the API, events from the log that its receiver feeds."""
