"""``python -m tap_sendgrid.webhook``: the command ``sendgrid-webhook``."""

from __future__ import annotations

from tap_sendgrid.webhook.cli import main

if __name__ == "__main__":
    main(prog_name="sendgrid-webhook")
