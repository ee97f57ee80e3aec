"""Events from before the webhook was on, and from while it was down: from SendGrid's own logs."""
