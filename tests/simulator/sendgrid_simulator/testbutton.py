"""The body of "Test Your Integration": eleven events, in a fixed order, framed as real ones.

Source: the reference, 3.9: captured payloads; ``<`` and ``>`` come as ``\\u003c`` and ``\\u003e``.
"""

from __future__ import annotations

import base64
import json
import os
from typing import Any

_AGENT = "Mozilla/4.0 (compatible; MSIE 6.1; Windows XP; .NET CLR 1.1.4322; .NET CLR 2.0.50727)"
_READER = {"useragent": _AGENT, "ip": "255.255.255.255"}
_LINK = {"url": "http://www.sendgrid.com/"}
_GROUP = _READER | _LINK | {"asm_group_id": 10}
_EVENTS: tuple[tuple[str, dict[str, Any]], ...] = (
    ("processed", {}),
    ("deferred", {"response": "400 try again later", "attempt": "5"}),
    ("delivered", {"response": "250 OK"}),
    ("open", _READER),
    ("click", _READER | _LINK),
    ("bounce", {"reason": "500 unknown recipient", "status": "5.0.0"}),
    ("dropped", {"reason": "Bounced Address", "status": "5.0.0"}),
    ("spamreport", {}),
    ("unsubscribe", {}),
    ("group_unsubscribe", _GROUP),
    ("group_resubscribe", _GROUP),
)


def test_body(timestamp: int) -> bytes:
    """The raw body, with the same ``timestamp`` in every event and fresh event ids."""
    events = []
    for name, members in _EVENTS:
        event = {
            "email": "example@test.com",
            "timestamp": timestamp,
            "smtp-id": "<14c5d75ce93.dfd.64b469@ismtpd-555>",
            "event": name,
            "category": ["cat facts"],
            "sg_event_id": base64.urlsafe_b64encode(os.urandom(16)).decode(),
            "sg_message_id": "14c5d75ce93.dfd.64b469.filter0001.16648.5515E0B88.0",
            **members,
        }
        text = json.dumps(event, separators=(",", ":"), ensure_ascii=False)
        events.append(text.replace("<", "\\u003c").replace(">", "\\u003e"))
    return ("[" + ",\r\n".join(events) + "]\r\n").encode()
