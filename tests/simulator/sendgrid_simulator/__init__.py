"""A SendGrid on localhost: API and Event Webhook, built from its public documentation."""

from __future__ import annotations

from sendgrid_simulator.account import Account
from sendgrid_simulator.options import Fault, SimulatorOptions
from sendgrid_simulator.server import SeenRequest, Simulator
from sendgrid_simulator.signing import frame, new_private_key, public_key_text, sign_delivery

__all__ = [
    "Account",
    "Fault",
    "SeenRequest",
    "Simulator",
    "SimulatorOptions",
    "frame",
    "new_private_key",
    "public_key_text",
    "sign_delivery",
]
