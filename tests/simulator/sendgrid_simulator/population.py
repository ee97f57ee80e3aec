"""The contacts of an account, computed from seed and number instead of stored.

A million contacts cost no memory: contact ``i`` is one of 1,024 profiles plus an id, an address and
two times that follow from ``i`` by arithmetic, in both directions. What tests change lies on top.
"""

from __future__ import annotations

import bisect
import copy
import random
import re
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

from sendgrid_simulator.times import DAY, iso

PROFILES = 1024
#: Members of a contact that are plain text, in the order of SendGrid's CSV export.
TEXT_FIELDS = (
    "first_name",
    "last_name",
    "address_line_1",
    "address_line_2",
    "city",
    "state_province_region",
    "postal_code",
    "country",
    "phone_number",
    "whatsapp",
    "line",
    "facebook",
    "unique_name",
    "phone_number_id",
    "external_id",
    "anonymous_id",
)

_FIRST = [
    "Ann",
    "Bob",
    "Zoë",
    "José",
    "Li",
    "Mía",
    "Søren",
    "Łucja",
    "Chloé",
    "Dmitri",
    "Aoife",
    "Björn",
    "Nour",
    "明",
    "Ömer",
    "Kim",
]
_LAST = ("O'Brien", "Müller", "Smith-Jones", "García", "Nguyễn", "d'Arc", 'de "la" Cruz', "Ng")
_CITY = ("Paris", "São Paulo", "Denver", "東京", "Zürich", "Saint-Rémy, Provence", "Oslo", "Cork")
_COUNTRY = ("France", "Brasil", "USA", "日本", "Schweiz", "France", "Norge", "Ireland")
_DOMAIN = ("example.com", "example.org", "mail.example.net")
_PLAN = ("free", "gold", 'silver, "plated"', "line one\nline two", "naïve ☕", "0012")
_NUMBER = re.compile(r"\.(\d+)@")
_ODD = 2654435761  # Knuth's multiplier: odd, so it permutes the 32-bit numbers
_ODD_INVERSE = pow(_ODD, -1, 1 << 32)


@dataclass
class FieldDefinition:
    """A custom field: ``id`` is the current generation's, ``number`` the legacy one's."""

    number: int
    name: str
    field_type: str  # Text, Number or Date

    @property
    def id(self) -> str:
        """The field's id in the current generation, as ``e1_T``."""
        return f"e{self.number}_{self.field_type[0]}"


def default_fields() -> list[FieldDefinition]:
    """The custom fields that generated contacts have values of."""
    return [
        FieldDefinition(1, "plan", "Text"),
        FieldDefinition(2, "num_orders", "Number"),
        FieldDefinition(3, "birthday", "Date"),
        FieldDefinition(4, "Favourite Colour", "Text"),
    ]


@dataclass
class Contact:
    """One contact, in neither generation's form: times are unix seconds, unset text is ``""``."""

    index: int
    id: str
    email: str
    created_at: int
    updated_at: int
    text: dict[str, str] = field(default_factory=dict)
    alternate_emails: list[str] = field(default_factory=list)
    custom_fields: dict[str, Any] = field(default_factory=dict)
    list_ids: list[str] = field(default_factory=list)
    segment_ids: list[str] = field(default_factory=list)
    last_emailed: int | None = None
    last_opened: int | None = None
    last_clicked: int | None = None


Membership = Callable[[int], tuple[list[str], list[str]]]


class ContactBook:
    """All contacts of an account.

    Args:
        size: Number of generated contacts.
        seed: What they follow from.
        anchor: Unix seconds before which they were all updated.
        same_second: How many of the newest share one second of ``updated_at``.
        membership: Ids of the lists and segments that generated contact ``i`` is in.
    """

    def __init__(
        self, size: int, seed: int, anchor: int, same_second: int, membership: Membership
    ) -> None:
        self.size = size
        self.fields = default_fields()
        #: Contacts that tests changed or added, by index; added ones follow after ``size``.
        self.changed: dict[int, Contact] = {}
        self.deleted: set[int] = set()
        self.profiles = _profiles(random.Random(seed))
        self._next = size
        self._membership = membership
        self._shift = random.Random(seed + 1).getrandbits(32)
        node = random.Random(seed + 2).getrandbits(48)
        self._tail = f"-5e4d-4{seed & 0xFFF:03x}-8{self._shift & 0xFFF:03x}-{node:012x}"
        self._created_from = anchor - 730 * DAY
        self._updated_from = anchor - 365 * DAY
        self._span = 365 * DAY - 3600
        self._last_updated = max(0, size - same_second)
        # Rows of an export are in no order of date: a stride that shares no factor with the size.
        self._stride = next((p for p in (514229, 28657, 1597) if size % p), 1)

    # -- generated contacts, by arithmetic ----------------------------------------------------

    def mixed(self, index: int) -> int:
        """A number that looks random and is another for every index."""
        return (index * _ODD + self._shift) & 0xFFFFFFFF

    def id_of(self, index: int) -> str:
        """The UUID of contact ``index``."""
        return f"{self.mixed(index):08x}{self._tail}"

    def email_of(self, index: int) -> str:
        """The address of contact ``index``, lower case."""
        return f"person.{index}@{_DOMAIN[index % 3]}"

    def created_at(self, index: int) -> int:
        """When contact ``index`` was made; never decreases with the index."""
        return self._created_from + index * self._span // max(1, self.size)

    def updated_at(self, index: int) -> int:
        """When generated contact ``index`` was last changed; never decreases with the index."""
        index = min(index, self._last_updated)
        return self._updated_from + index * self._span // max(1, self.size)

    def profile_of(self, index: int) -> dict[str, Any]:
        """The names, addresses and custom fields of generated contact ``index``."""
        return self.profiles[self.mixed(index) % PROFILES]

    def order(self) -> Iterator[int]:
        """The indexes of all contacts, in the order of an export."""
        size, stride, deleted = self.size, self._stride, self.deleted
        for k in range(size):
            index = k * stride % size
            if index not in deleted:
                yield index
        yield from sorted(i for i in self.changed if i >= size)

    # -- reading --------------------------------------------------------------------------

    def __len__(self) -> int:
        added = sum(1 for index in self.changed if index >= self.size)
        return self.size - len(self.deleted) + added

    def get(self, index: int) -> Contact:
        """Contact ``index``, changed or as generated; a new object each time unless changed."""
        if index in self.changed:
            return self.changed[index]
        profile = self.profile_of(index)
        lists, segments = self._membership(index)
        mixed = self.mixed(index)
        updated = self.updated_at(index)
        known = {definition.name for definition in self.fields}
        return Contact(
            index=index,
            id=self.id_of(index),
            email=self.email_of(index),
            created_at=self.created_at(index),
            updated_at=updated,
            text={name: profile[name] for name in TEXT_FIELDS if name in profile},
            alternate_emails=list(profile.get("alternate_emails", ())),
            custom_fields={k: v for k, v in profile["custom_fields"].items() if k in known},
            list_ids=lists,
            segment_ids=segments,
            last_emailed=updated - 100 if mixed & 1 else None,
            last_opened=updated - 50 if mixed & 3 == 3 else None,
            last_clicked=updated - 10 if mixed & 7 == 7 else None,
        )

    def find(self, *, id: str = "", email: str = "") -> Contact | None:  # noqa: A002
        """The contact with this id or address, or None."""
        for contact in self.changed.values():
            if contact.id == id or (email and contact.email == email):
                return contact
        index = self._index_of_id(id) if id else self._index_of_email(email)
        if index is None or index >= self.size or index in self.deleted or index in self.changed:
            return None
        return self.get(index)

    def _index_of_id(self, contact_id: str) -> int | None:
        try:
            text = str(uuid.UUID(contact_id))
        except ValueError:
            return None
        index = (int(text[:8], 16) - self._shift) * _ODD_INVERSE & 0xFFFFFFFF
        return index if text[8:] == self._tail else None

    def _index_of_email(self, email: str) -> int | None:
        match = _NUMBER.search(email)
        if match is None or self.email_of(int(match[1])) != email:
            return None
        return int(match[1])

    def updated_between(self, low: float, high: float) -> range:
        """Indexes of generated contacts with ``low <= updated_at <= high`` (changed ones too)."""
        first = bisect.bisect_left(range(self.size), low, key=self.updated_at)
        last = bisect.bisect_right(range(self.size), high, key=self.updated_at)
        return range(first, last)

    def created_between(self, low: float, high: float) -> range:
        """The same by ``created_at``."""
        first = bisect.bisect_left(range(self.size), low, key=self.created_at)
        return range(first, bisect.bisect_right(range(self.size), high, key=self.created_at))

    @property
    def slots(self) -> int:
        """Places of contacts in page order; those of deleted ones stay empty."""
        return self._next

    def at(self, slot: int) -> Contact | None:
        """The contact at a place of the page order, None when it was deleted."""
        index = slot * self._stride % self.size if slot < self.size else slot
        if index in self.deleted or (index >= self.size and index not in self.changed):
            return None
        return self.get(index)

    def newest(self, limit: int) -> list[Contact]:
        """The contacts that were added last, newest first."""
        added = sorted((i for i in self.changed if i >= self.size), reverse=True)[:limit]
        contacts = [self.changed[index] for index in added]
        for index in range(self.size - 1, -1, -1):
            if len(contacts) >= limit:
                break
            if index not in self.deleted:
                contacts.append(self.get(index))
        return contacts

    # -- changing -------------------------------------------------------------------------

    def add(self, email: str, at: int, **members: Any) -> Contact:
        """Adds a contact, made and updated at second ``at``. Members as in `update`."""
        index = self._next
        self._next += 1
        self.changed[index] = Contact(index, self.id_of(index), email.lower(), at, at)
        return self.update(index, at, **members)

    def update(self, index: int, at: int, **members: Any) -> Contact:
        """Changes contact ``index`` at second ``at``.

        Args:
            index: The contact's number.
            at: Its new ``updated_at``, unix seconds.
            members: New values: names of `TEXT_FIELDS`, ``email``, ``custom_fields`` (merged;
                None clears one), ``list_ids``, ``segment_ids``, ``alternate_emails``.
        """
        # A copy: exports that were taken before keep the contact as it was.
        contact = copy.deepcopy(self.get(index))
        for name, value in members.items():
            if name in TEXT_FIELDS:
                contact.text[name] = value
            elif name == "custom_fields":
                merged = {**contact.custom_fields, **value}
                contact.custom_fields = {k: v for k, v in merged.items() if v is not None}
            elif name in ("email", "list_ids", "segment_ids", "alternate_emails"):
                setattr(contact, name, value)
            else:
                raise TypeError(f"a contact has no {name!r}")
        contact.updated_at = at
        self.changed[index] = contact
        return contact

    def delete(self, index: int) -> None:
        """Removes contact ``index``."""
        self.changed.pop(index, None)
        if index < self.size:
            self.deleted.add(index)


def _profiles(rng: random.Random) -> list[dict[str, Any]]:
    """The 1,024 profiles. Members that are unset are not there."""
    profiles: list[dict[str, Any]] = []
    for number in range(PROFILES):
        place = rng.randrange(len(_CITY))
        profile: dict[str, Any] = {
            "first_name": rng.choice(_FIRST),
            "last_name": rng.choice(_LAST),
            "city": _CITY[place],
            "country": _COUNTRY[place],
            "postal_code": f"{rng.randrange(100000):05d}",
            "address_line_1": f"{rng.randrange(1, 99)} Main St, Flat {number}",
            "phone_number": f"+1555{rng.randrange(10**7):07d}",
            "unique_name": f"user-{number}",
            "external_id": f"crm-{number:04d}",
            "alternate_emails": [f"other.{number}@example.com"],
        }
        # Each member is unset for some: so exports have rows with hardly anything in them.
        for name in list(profile):
            if rng.random() < (0.15 if name.endswith("_name") else 0.5):
                del profile[name]
        day = rng.randrange(0, 20000) * DAY
        custom = {
            "plan": rng.choice(_PLAN),
            "num_orders": rng.choice((rng.randrange(100), rng.randrange(10000) / 100)),
            "birthday": iso(day),
            "Favourite Colour": rng.choice(("red", "grün", "bleu")),
        }
        keep = {name: value for name, value in custom.items() if rng.random() < 0.6}
        profile["custom_fields"] = keep
        profiles.append(profile)
    return profiles
