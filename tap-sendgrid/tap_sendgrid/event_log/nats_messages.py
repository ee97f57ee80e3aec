"""A delivery as a NATS message: the body as it is, the rest as headers."""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import datetime

from tap_sendgrid.event_log.base import Delivery
from tap_sendgrid.event_log.micros import from_micros, to_micros

_RECEIVED, _HEADERS = "Received-At", "Delivery-Headers"


def heads_of(delivery: Delivery) -> dict[str, str]:
    """A delivery without its body, as message headers."""
    return {
        _RECEIVED: str(to_micros(delivery.received_at)),
        _HEADERS: json.dumps(dict(delivery.headers)),
    }


def delivery_of(body: bytes, heads: Mapping[str, str]) -> Delivery:
    """The delivery of a message."""
    return Delivery(body, received_at(heads), json.loads(heads[_HEADERS]))


def received_at(heads: Mapping[str, str]) -> datetime:
    """When the delivery of a message arrived."""
    return from_micros(int(heads[_RECEIVED]))
