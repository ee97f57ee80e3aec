"""One message's life: its identity, and the events that happened to it, as the webhook posts them.

Ids and members by kind of event: the reference, 3.2, 3.4 and 3.5.
"""

from __future__ import annotations

import base64
from typing import Any

_AGENTS = (
    "Mozilla/5.0 (Macintosh; Intel Mac OS X 10_15_7) AppleWebKit/605.1.15 (KHTML, like Gecko) "
    "Version/26.0.1 Safari/605.1.15",
    "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) "
    "Chrome/142.0.0.0 Safari/537.36",
    "Mozilla/5.0 (iPhone; CPU iPhone OS 18_6 like Mac OS X)",
    "Mozilla/5.0 (Windows NT 5.1; rv:11.0) Gecko Firefox/11.0 (via ggpht.com GoogleImageProxy)",
)


class Noise:
    """Sixty-four random-looking bytes, read by position."""

    def __init__(self, data: bytes) -> None:
        self._data = data

    def byte(self, position: int) -> int:
        """0 to 255."""
        return self._data[position]

    def chance(self, position: int, percent: int) -> bool:
        """True for about so many of a hundred."""
        return self._data[position] * 100 < percent * 256

    def engagement_id(self, number: int) -> str:
        """An id as engagement events have it: 22 characters that decode to 16 bytes."""
        start = 16 + number % 3 * 16
        raw = bytes(b ^ (number * 37 & 255) for b in self._data[start : start + 16])
        return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()


class Life:
    """The events of one message, as they are added.

    Attributes:
        events: What happened so far.
        email: The recipient.
        ids: The id of each event, also of those that the webhook sends without.
        category, custom_args, marketing: Members that every event of the message carries.
    """

    def __init__(
        self,
        index: int,
        at: int,
        user_id: int,
        head: str,
        message_id: str,
        noise: Noise,
        seed: int,
    ) -> None:
        self.index = index
        self.seed = seed
        self.now = at
        self.user_id = user_id
        self.head = head
        self.message_id = message_id
        self.noise = noise
        self.events: list[dict[str, Any]] = []
        self.ids: list[str] = []
        name = "Ann" if index % 7 == 0 else "person"  # case as sent
        self.email = f"{name}.{index}@example.com"
        self.smtp_id = f"<{head}@geopod-ismtpd-{noise.byte(2) % 30}>"
        self.sender_ip = f"192.0.2.{noise.byte(3)}"
        self.reader = {
            "ip": f"198.51.100.{noise.byte(4)}" if index % 9 else "2001:db8::7",
            "useragent": _AGENTS[noise.byte(5) % len(_AGENTS)],
        }
        self.category: dict[str, Any] = self._category()
        self.custom_args: dict[str, str] = self._custom_args()
        self.marketing: dict[str, Any] = {}
        self.group = 10 if noise.chance(6, 30) else None

    def _category(self) -> dict[str, Any]:
        kind = self.noise.byte(7) % 4
        if kind == 0:
            return {}
        if kind == 1:
            return {"category": "welcome"}
        return {"category": ["news", "café"] if kind == 2 else ["welcome"]}

    def _custom_args(self) -> dict[str, str]:
        args = {"order_id": f"A-{self.index}"}
        if self.noise.chance(8, 25):
            args["New Argument 1"] = "a value with spaces"
        if self.noise.chance(9, 10):
            args["type"] = "email"  # a reserved word: shows on events that do not define it
        if self.noise.chance(10, 10):
            args["userId"] = "0042"
        return args

    def _delivery_id(self, kind: str) -> str:
        text = f"{kind}-{self.user_id}-{self.head}-0"
        return base64.urlsafe_b64encode(text.encode()).rstrip(b"=").decode()

    def add(self, event: str, event_id: str, after: int, **members: Any) -> None:
        """Adds an event ``after`` seconds; what it defines itself wins over custom args."""
        self.now += after
        body = {
            **self.custom_args,
            **self.category,
            **self.marketing,
            "email": self.email,
            "event": event,
            "sg_event_id": event_id,
            "sg_message_id": self.message_id,
            "timestamp": self.now,
            **members,
        }
        self.events.append(body)
        self.ids.append(event_id)

    def delivery(self, event: str, kind: str, after: int, **members: Any) -> None:
        """A delivery event: its id is a readable string in base64url, the same in every retry."""
        more = {"smtp-id": self.smtp_id} | self._in_group() | members
        self.add(event, self._delivery_id(kind), after, **more)

    def _in_group(self) -> dict[str, int]:
        return {"asm_group_id": self.group} if self.group else {}

    def engagement(self, event: str, after: int, **members: Any) -> None:
        """An event of the reader: its id is random."""
        number = len(self.events)
        extra: dict[str, Any] = self._in_group() if event in ("open", "click") else {}
        if "mc_stats" in self.marketing:
            extra["send_at"] = f"{(self.events[0]['timestamp'] - 5) * 1000}"
        self.add(event, self.noise.engagement_id(number), after, **(extra | members))

    def processed(self) -> None:
        """SendGrid took the message."""
        pool = {}
        if self.noise.chance(11, 40):
            pool["pool"] = {"id": "210", "name": "transactional"}
        if self.noise.chance(12, 50):
            pool["send_at"] = 0  # type: ignore[assignment]
        if self.marketing and self.noise.chance(13, 50):
            self.smtp_id = ""
        self.delivery("processed", "processed", 0, **pool)
        self.smtp_id = self.smtp_id or f"<{self.head}@geopod-ismtpd-1>"

    def delivered(self) -> None:
        """The receiving server took it."""
        tls: dict[str, Any] = {"tls": 1} if self.noise.chance(14, 80) else {"cert_err": "1"}
        self.delivery(
            "delivered",
            "delivered-0",
            2 + self.noise.byte(15) % 50,
            ip=self.sender_ip,
            response="250 2.0.0 OK",
            **tls,
        )
