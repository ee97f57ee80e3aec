"""The webhook receiver: SendGrid's deliveries, checked and on disk before they are acknowledged."""
