"""A SendGrid on localhost: API and Event Webhook, built from its public documentation."""

from __future__ import annotations

from sendgrid_simulator.account import Account
from sendgrid_simulator.messages import MessageBook, generate_events
from sendgrid_simulator.mixing import disorder, drift, repeat
from sendgrid_simulator.options import Fault, SimulatorOptions
from sendgrid_simulator.sender import RetryPolicy, SendReport, WebhookSender
from sendgrid_simulator.server import SeenRequest, Simulator
from sendgrid_simulator.signing import frame, new_private_key, public_key_text, sign_delivery

__all__ = [
    "Account",
    "Fault",
    "MessageBook",
    "RetryPolicy",
    "SeenRequest",
    "SendReport",
    "Simulator",
    "SimulatorOptions",
    "WebhookSender",
    "disorder",
    "drift",
    "frame",
    "generate_events",
    "new_private_key",
    "public_key_text",
    "repeat",
    "sign_delivery",
]
