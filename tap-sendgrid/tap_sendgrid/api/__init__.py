"""The one HTTP layer to SendGrid: client, errors, rate limits, scopes, generation."""
