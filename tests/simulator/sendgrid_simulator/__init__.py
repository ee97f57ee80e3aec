"""A SendGrid on localhost: API and Event Webhook, built from its public documentation."""
