"""What can happen to a message: one function per course of events, with all documented oddities.

The table `LIVES` gives how often each comes. Field by field: the reference, 3.2 to 3.7.
"""

from __future__ import annotations

import base64
from collections.abc import Callable
from typing import Any

from sendgrid_simulator.ids import stable_uuid

_AGENTS = (
    "Mozilla/5.0 (Macintosh; Intel Mac OS X 10_15_7) AppleWebKit/605.1.15 (KHTML, like Gecko) "
    "Version/26.0.1 Safari/605.1.15",
    "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) "
    "Chrome/142.0.0.0 Safari/537.36",
    "Mozilla/5.0 (iPhone; CPU iPhone OS 18_6 like Mac OS X)",
    "Mozilla/5.0 (Windows NT 5.1; rv:11.0) Gecko Firefox/11.0 (via ggpht.com GoogleImageProxy)",
)
_URLS = (
    "https://shop.example/?p=café&x=1",
    "https://shop.example/sale?utm_source=news&utm_campaign=<spring>",
    "http://www.example.com/",
    "https://example.org/a,b/},{/c",
)
_BOUNCES = (
    ("550 5.1.1 user unknown", "5.1.1", "Invalid Address", "bounce"),
    ("552 5.2.2 mailbox full", "5.2.2", "Mailbox Unavailable", "blocked"),
    ("554 5.7.1 listed by Spamhaus", "5.7.1", "Reputation", "blocked"),
    ("550 5.7.509 DMARC policy", "550", "Technical", "blocked"),
    ("452 too many messages", "4.5.3", "Frequency or Volume Too High", "blocked"),
)
_DROPS = (
    ("Bounced Address", "5.0.0"),
    ("Unsubscribed Address", "5.0.0"),
    ("Spam Reporting Address", None),
    ("Invalid SMTPAPI header", None),
)
_DEFERRALS = (
    "421 4.7.0 try again later",
    "Email was deferred due to the following reason(s): [IPs were throttled by recipient server]",
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
        group = {"asm_group_id": self.group} if self.group and event != "bounce" else {}
        self.add(
            event, self._delivery_id(kind), after, **{"smtp-id": self.smtp_id}, **group, **members
        )

    def engagement(self, event: str, after: int, **members: Any) -> None:
        """An event of the reader: its id is random."""
        number = len(self.events)
        extra: dict[str, Any] = {}
        if "mc_stats" in self.marketing:
            extra["send_at"] = f"{(self.events[0]['timestamp'] - 5) * 1000}"
        self.add(event, self.noise.engagement_id(number), after, **extra, **members)

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


def single_send(life: Life) -> None:
    """Marks the message as one of a Single Send: category is an empty array."""
    life.category, life.custom_args = {"category": []}, {}
    campaign = life.index % 2 * 3  # the first two of an account that went out
    life.marketing = {
        "mc_stats": "singlesend",
        "phase_id": "send",
        "sg_template_id": "d-0a1b",
        "sg_template_name": "March v2",
        "singlesend_id": stable_uuid(life.seed, "campaign", campaign),
        "singlesend_name": f"News {campaign}",
        "template_hash": "5f3e",
        "template_id": "d-0a1b",
        "template_version_id": "9c1e",
    }


def legacy_campaign(life: Life) -> None:
    """Marks the message as one of a legacy A/B campaign."""
    life.category, life.custom_args = {"category": []}, {}
    life.marketing = {
        "marketing_campaign_id": 23314,
        "marketing_campaign_name": "spring",
        "marketing_campaign_split_id": 13471,
        "marketing_campaign_version": "B" if life.index % 2 else "A",
        "post_type": "event",
        "sg_user_id": 939115,
    }


def newsletter(life: Life) -> None:
    """Marks the message as one of the newsletters of old: an object of strings."""
    life.marketing = {
        "newsletter": {
            "newsletter_id": "1943530",
            "newsletter_send_id": "2308608",
            "newsletter_user_list_id": "10557865",
        }
    }


def read(life: Life) -> None:
    """Delivered and perhaps opened; a machine opens before people do."""
    life.processed()
    life.delivered()
    if life.noise.chance(20, 60):
        machine: dict[str, Any] = {}
        if life.noise.chance(21, 50):
            machine["sg_machine_open"] = life.noise.chance(22, 50)
        if life.noise.chance(23, 60):
            machine["sg_content_type"] = "html"
        life.engagement("open", 60 + life.noise.byte(24) * 20, **machine, **life.reader)


def clicked(life: Life) -> None:
    """Opened and clicked, twice on the same link: only the id tells the clicks apart."""
    read(life)
    link = {"url": _URLS[life.index % len(_URLS)]}
    offset = {"url_offset": {"index": life.index % 3, "type": "html"}}
    life.engagement("click", 10, **link, **offset, **life.reader)
    life.engagement("click", 0, **link, **offset, **life.reader)


def deferred(life: Life) -> None:
    """Deferred, then delivered; an internal deferral has no ip."""
    life.processed()
    for attempt in range(1 + life.noise.byte(25) % 2):
        response = _DEFERRALS[attempt % 2]
        members: dict[str, Any] = {"attempt": str(attempt), "response": response}
        if attempt == 0:
            members |= {"ip": life.sender_ip, "tls": 1, "domain": "example.com"}
            members["from"] = "news@sender.example"
        life.delivery("deferred", f"deferred-{attempt}", 60, **members)
    life.delivered()


def bounced(life: Life) -> None:
    """Refused by the receiving server: for good (bounce) or for now (blocked)."""
    life.processed()
    reason, status, classification, kind = _BOUNCES[life.index % len(_BOUNCES)]
    life.delivery(
        "bounce",
        "bounce-0",
        3,
        ip=life.sender_ip,
        reason=reason,
        status=status,
        tls=1,
        type=kind,
        bounce_classification=classification,
    )


def bounced_late(life: Life) -> None:
    """Refused after acceptance: a bounce without sg_message_id, ip and tls, a day later."""
    life.processed()
    life.delivered()
    life.delivery(
        "bounce",
        "bounce-0",
        86340,
        reason="550 5.7.1 rejected after acceptance",
        status="5.7.1",
        type="bounce",
        bounce_classification="Unclassified",
    )
    del life.events[-1]["sg_message_id"]


def dropped(life: Life) -> None:
    """Never tried: dropped by SendGrid; the address may be empty."""
    reason, status = _DROPS[life.index % len(_DROPS)]
    if reason.startswith("Invalid"):
        life.email = ""
    members = {"status": status} if status else {}
    life.delivery("dropped", "drop", 0, reason=reason, **members)


def complained(life: Life) -> None:
    """Reported as spam."""
    read(life)
    life.engagement("spamreport", 90)


def unsubscribed(life: Life) -> None:
    """Left everything; for some of these SendGrid sends no id."""
    read(life)
    life.engagement("unsubscribe", 100, **(life.reader if life.index % 2 else {}))
    if life.index % 3 == 0:
        del life.events[-1]["sg_event_id"]
        life.events[-1].pop("sg_message_id")
        life.events[-1] |= {"reseller_id": 1, "date": "2026-01-01"}


def left_group(life: Life) -> None:
    """Left an unsubscribe group, and for some came back."""
    read(life)
    life.group = life.group or 10
    members = {"asm_group_id": life.group, "url": "http://www.example.com/", **life.reader}
    life.engagement("group_unsubscribe", 100, **members)
    if life.index % 2:
        life.engagement("group_resubscribe", 100, **members)


def account_changed(life: Life) -> None:
    """Delivered; meanwhile the account's status changed: an event with no mail in it."""
    read(life)
    life.now += 5
    text = f"{life.user_id}-terminate-{life.now}"
    kinds = ("compliance_suspend", "compliance_deactivate", "compliance_ban", "reactivate")
    event_id = base64.urlsafe_b64encode(text.encode()).rstrip(b"=").decode()
    kind = kinds[life.index % len(kinds)]
    life.events.append(
        {
            "event": "account_status_change",
            "sg_event_id": event_id,
            "timestamp": life.now,
            "type": kind,
        }
    )
    life.ids.append(event_id)


Course = Callable[[Life], None]


def _marked(mark: Course, course: Course) -> Course:
    def marked(life: Life) -> None:
        mark(life)
        course(life)

    return marked


#: What happens how often, in parts of the table's length.
LIVES: tuple[Course, ...] = (
    *[read] * 30,
    *[clicked] * 12,
    *[deferred] * 8,
    *[bounced] * 6,
    *[bounced_late] * 2,
    *[dropped] * 6,
    *[complained] * 2,
    *[unsubscribed] * 4,
    *[left_group] * 4,
    *[account_changed] * 1,
    *[_marked(single_send, read)] * 8,
    *[_marked(single_send, clicked)] * 6,
    *[_marked(single_send, unsubscribed)] * 2,
    *[_marked(legacy_campaign, clicked)] * 4,
    *[_marked(newsletter, read)] * 2,
)
