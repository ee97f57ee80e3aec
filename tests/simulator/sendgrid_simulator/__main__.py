"""``python -m sendgrid_simulator``."""

from __future__ import annotations

from sendgrid_simulator.cli import main

main(prog_name="sendgrid-simulator")
