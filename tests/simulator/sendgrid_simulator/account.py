"""The account: what SendGrid holds for one (sub)user, as a model that tests may alter."""

from __future__ import annotations

import itertools
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any

from sendgrid_simulator import suppressions
from sendgrid_simulator.catalog import initial_senders, initial_templates
from sendgrid_simulator.ids import api_key, stable_uuid
from sendgrid_simulator.messages import MessageBook
from sendgrid_simulator.options import Generation, SimulatorOptions
from sendgrid_simulator.population import ContactBook
from sendgrid_simulator.scopes import FULL_ACCESS
from sendgrid_simulator.signing import new_private_key
from sendgrid_simulator.times import DAY, midnight

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey

    from sendgrid_simulator.contact_writes import WriteJob
    from sendgrid_simulator.exports import ExportJob
    from sendgrid_simulator.stats import Tally
    from sendgrid_simulator.suppressions import Group, Suppressed
    from sendgrid_simulator.webhooks import Webhook


@dataclass
class ContactList:
    """A list. ``id`` is the current generation's, ``number`` the legacy one's."""

    id: str
    number: int
    name: str
    contact_count: int
    every: int = 0  # generated members: every n-th contact; 0 is none


@dataclass
class Segment:
    """A segment of either generation; ``version`` tells 2.0 from v1 in the current one."""

    id: str
    number: int
    name: str
    contacts_count: int
    created_at: int
    updated_at: int
    version: str = "2"
    parent_list: ContactList | None = None
    every: int = 0
    query_dsl: str = "SELECT contact_id, updated_at FROM contact_data WHERE first_name IS NOT NULL"
    conditions: list[dict[str, str]] = field(default_factory=list)
    error_message: str = ""


@dataclass
class Campaign:
    """A single send, or a legacy campaign. ``status`` is draft, scheduled or triggered (sent)."""

    id: str
    number: int
    name: str
    status: str
    created_at: int
    updated_at: int
    send_at: int | None = None
    subject: str = ""
    categories: list[str] = field(default_factory=list)
    list_ids: list[str] = field(default_factory=list)
    segment_ids: list[str] = field(default_factory=list)
    sender_id: int | None = None
    suppression_group_id: int | None = None
    custom_unsubscribe_url: str | None = None
    html_content: str = ""
    plain_content: str = ""
    editor: str = "code"
    abtest: dict[str, Any] | None = None


class Account:
    """One SendGrid (sub)user.

    Attributes:
        generation: The marketing generation; the other answers 403.
        api_keys: Scopes by API key; tests take scopes away or add keys.
        lists, segments, campaigns: In the order in which the API gives them.
        contacts: See `ContactBook`.
        templates, senders, suppressions, groups: As their modules define them.
        messages: What was sent, with all events: see `MessageBook`.
        exports, jobs: Export jobs and writes of contacts by id, oldest first.
        webhooks: The Event Webhooks, oldest first.
    """

    def __init__(self, options: SimulatorOptions, *, username: str = "", number: int = 0) -> None:
        seed = options.seed + number * 7919
        self.options = options
        self.username = username
        self.seed = seed
        self.user_id = 1234567 + number
        self.anchor = midnight() if options.anchor is None else options.anchor
        self.generation: Generation = options.generation
        scopes = FULL_ACCESS if options.scopes is None else options.scopes
        self.api_keys = {api_key(seed): set(scopes)}
        self.lists = [self._list(number) for number in range(options.lists)]
        self.segments = [self._segment(number) for number in range(options.segments)]
        self.segments += [self._segment(n + 500, "1") for n in range(options.segments_v1)]
        self.campaigns = [self._campaign(number) for number in range(options.campaigns)]
        self.contacts = ContactBook(
            options.contacts, seed, self.anchor, options.same_second, self._membership
        )
        days = options.message_days
        self.messages = MessageBook(
            options.messages,
            seed,
            self.anchor - (days + 1) * DAY,
            days * DAY,
            self.user_id,
        )
        self._signing_keys = itertools.count(seed)
        self.templates = initial_templates(self)
        self.senders = initial_senders(self)
        self.tally: Tally | None = None
        self.exports: dict[str, ExportJob] = {}
        self.jobs: dict[str, WriteJob] = {}
        self.webhooks: list[Webhook] = []

    @property
    def api_key(self) -> str:
        """The account's first API key."""
        return next(iter(self.api_keys))

    @cached_property
    def suppressions(self) -> dict[str, dict[str, Suppressed]]:
        """The suppression lists by kind and address, made when first asked for."""
        return suppressions.initial(self)

    @cached_property
    def groups(self) -> list[Group]:
        """The unsubscribe groups with their members, made when first asked for."""
        return suppressions.groups(self)

    def new_signing_key(self) -> EllipticCurvePrivateKey:
        """Another key pair each time; the first is the one that follows from the seed."""
        return new_private_key(next(self._signing_keys))

    def uuid(self, kind: str, number: int) -> str:
        """The id of the so many-th thing of a kind."""
        return stable_uuid(self.seed, kind, number)

    def _list(self, number: int) -> ContactList:
        every = number + 1
        count = -(-self.options.contacts // every)
        name = "All contacts" if number == 0 else f"Every {every}. contact"
        return ContactList(self.uuid("list", number), 9000 + number, name, count, every)

    def _segment(self, number: int, version: str = "2") -> Segment:
        created = self.anchor - 300 * DAY + number * 3600
        every = number % 500 + 5
        name = f"Segment {number}"
        return Segment(
            id=self.uuid("segment", number),
            number=100 + number,
            name=name,
            contacts_count=-(-self.options.contacts // every),
            created_at=created,
            updated_at=created + number % 500 * DAY,
            version=version,
            parent_list=self.lists[0] if number % 2 == 0 and self.lists else None,
            every=every,
            conditions=[
                {"field": "first_name", "value": "Ann", "operator": "eq", "and_or": ""},
                {"field": "plan", "value": "gold", "operator": "ne", "and_or": "and"},
            ],
        )

    def _campaign(self, number: int) -> Campaign:
        status = ("triggered", "draft", "scheduled")[number % 3]
        created = self.anchor - (number + 1) * DAY  # newest first
        draft = status == "draft"
        sent = created + (3600 if status == "triggered" else 30 * DAY)
        ids = [self.lists[0].id] if self.lists else []
        campaign = Campaign(
            id=self.uuid("campaign", number),
            number=23000 - number,
            name=f"News {number}",
            status=status,
            created_at=created,
            updated_at=created + 1800,
            send_at=None if draft else sent,
            subject="" if draft else f"What is new, part {number}",
            categories=[] if draft else ["news", f"part-{number}"],
            list_ids=[] if draft else ids,
            sender_id=None if draft else 1001,
            suppression_group_id=None if draft else 10,
            html_content="" if draft else "<p>Hello, <b>{{first_name}}</b> — café?</p>",
            plain_content="" if draft else "Hello, {{first_name}}",
        )
        if number == 3:
            campaign.abtest = {
                "type": "subject",
                "winner_criteria": "open",
                "test_percentage": 50,
                "duration": "6h",
                "winning_template_id": "",
                "winner_selected_at": None,
                "expiration_date": None,
            }
        return campaign

    def _membership(self, index: int) -> tuple[list[str], list[str]]:
        lists = [item.id for item in self.lists if item.every and index % item.every == 0]
        segments = [item.id for item in self.segments if item.every and index % item.every == 0]
        return lists, segments
