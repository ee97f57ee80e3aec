"""What can happen to a message: one function per course of events, with all documented oddities.

The table `LIVES` gives how often each comes. Field by field: the reference, 3.2 to 3.7.
"""

from __future__ import annotations

import base64
from collections.abc import Callable
from typing import Any

from sendgrid_simulator.ids import stable_uuid
from sendgrid_simulator.life import Life

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


def automation(life: Life) -> None:
    """Marks the message as one of an automation: connectors list the names, values are made up."""
    life.category, life.custom_args = {"category": []}, {}
    key = stable_uuid(life.seed, "automation", 0)
    life.marketing = {
        "mc_auto_id": key,
        "mc_auto_msg_id": f"{life.index}",
        "mc_auto_name": "Welcome series",
        "mc_auto_step_id": stable_uuid(life.seed, f"step {key}", 0),
        "mc_pod_id": "0",
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
        if life.index % 40 == 0:
            machine |= {"sg_content_type": "amp", "url": "https://amp.example/"}
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
    members: dict[str, Any] = {"status": status} if status else {}
    if life.index % 5 == 0:
        members["pool"] = {"id": "210", "name": "transactional"}
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
    *[read] * 29,
    _marked(automation, read),
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
