"""The command ``sendgrid-webhook``, also as ``python -m tap_sendgrid.webhook``."""

from __future__ import annotations

import sys

_OF_THE_EXTRA = {"cryptography", "httptools", "prometheus_client", "uvicorn"}


def main() -> None:
    """Run it; without the packages of the extra, say how they are installed."""
    try:
        from tap_sendgrid.webhook import cli  # not above: it imports some of them

        cli.main(prog_name="sendgrid-webhook")
    except ModuleNotFoundError as missing:
        if (missing.name or "").partition(".")[0] not in _OF_THE_EXTRA:
            raise
        sys.exit(
            f"Error: the receiver needs the extra `webhook` ({missing.name} is not installed): "
            "pip install 'tap-sendgrid[webhook]'"
        )


if __name__ == "__main__":
    main()
