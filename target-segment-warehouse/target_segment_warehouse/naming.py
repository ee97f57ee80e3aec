"""Names of tables and columns: what Segment would call them, and never one name for two things.

Segment snake-cases each part of a property's path and joins them with ``_``; where two properties
come out alike, one of them is lost. Here the one whose value Segment would have kept gets the plain
name and the other the same name with a short hash of its own path, so that nothing is lost and
Segment's SQL still reads what it read before.

A name once given must stay: the owner of each column (its property path) is kept in the warehouse
by whoever uses a ``Namer``, and handed back to the next run's. Columns without a known owner (a
table that Segment itself made) go to the first property that wants their name.

No name given here begins with two underscores: those are free for the target's own columns.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain

Path = tuple[str, ...]
"""A property's place in a record: its key, preceded by the keys of the objects that hold it."""

META_COLUMNS = ("id", "received_at", "uuid_ts")
"""Columns that every table has and no property may take (W12-W14)."""

SDC_COLUMNS = frozenset(
    {
        "_sdc_batched_at",
        "_sdc_deleted_at",
        "_sdc_extracted_at",
        "_sdc_received_at",
        "_sdc_sequence",
        "_sdc_sync_started_at",
    }
)
"""The SDK's metadata properties: they keep their names, as everybody who asks for them expects.

But for ``_sdc_table_version``: by what is in that column rows are removed.
"""

# Postgres keeps these for itself in every table; as a user's column they would be refused.
_SYSTEM_COLUMNS = frozenset({"cmax", "cmin", "ctid", "tableoid", "xmax", "xmin"})
# `open` is reserved on Redshift, where most users of Segment met it: one name for all (W25).
_RESERVED_TABLES = frozenset({"activity", "open", "sync_reports"})
_HASH_LENGTH = 8

_GOOD_PREFIX = re.compile(r"[a-z0-9]+(?:_[a-z0-9]+)*")
_WORD = re.compile(r"[A-Z0-9]+[a-z0-9]*|[a-z0-9]+")


def snake_case(name: str) -> str:
    """Return ``name`` as segmentio/go-snakecase writes it (rule W4).

    ASCII only: every other character is a separator, so that the result can be empty. A name that
    is good already comes back unchanged; leading and trailing separators vanish (``_id`` becomes
    ``id``).
    """
    match = _GOOD_PREFIX.match(name)
    prefix = match.group() if match else ""
    end = len(prefix)
    if end == len(name):
        return prefix
    words = [prefix] if prefix else []
    if "A" <= name[end] <= "Z" and not _has_lower(prefix.rpartition("_")[2]):
        # The word that the prefix broke off in goes on: `f_3X` is one word after the `_`.
        word = _WORD.match(name, end)
        assert word is not None  # noqa: S101 (it begins with an upper-case letter)
        words = [prefix + word.group().lower()]
        end = word.end()
    words += [word.lower() for word in _WORD.findall(name, end)]
    return "_".join(words)


def _has_lower(text: str) -> bool:
    return any("a" <= character <= "z" for character in text)


def _segment(key: str) -> str:
    """One key's part of a column name; code points where Segment's rule would leave nothing.

    A key without any ASCII letter or digit still gets a usable name, the same on every machine and
    apart from other such keys: ``氏名`` becomes ``u6c0f_u540d``.
    """
    return snake_case(key) or "_".join(f"u{ord(character):04x}" for character in key) or "empty"


def _byte_order(path: Path) -> tuple[bytes, ...]:
    return tuple(key.encode("utf-8", "surrogatepass") for key in path)


@dataclass(frozen=True, slots=True)
class Owner:
    """What a name stands for.

    Attributes:
        path: The property's path, or for a table the stream's name alone.
        variant: Empty, or what sets this column apart from the property's first one: the logical
            type of the values that the first one could not hold.
    """

    path: Path
    variant: str = ""

    def to_text(self) -> str:
        """The path as JSON text (ASCII, lone surrogates escaped), for storing beside the name."""
        return json.dumps(self.path, separators=(",", ":"))

    @staticmethod
    def from_text(path: str, variant: str = "") -> Owner:
        """The inverse of ``to_text``."""
        return Owner(tuple(json.loads(path)), variant)


@dataclass(frozen=True, slots=True)
class Naming:
    """A name just given.

    Attributes:
        name: The column's or table's name.
        owner: What it stands for.
        wanted: The name that the rules ask for; differs from ``name`` when another owner holds it
            or it is too long.
    """

    name: str
    owner: Owner
    wanted: str


class Namer:
    """The names of one space, a table's columns or a schema's tables, each with one owner.

    Args:
        max_bytes: The longest name that the engine takes, in bytes.
        existing: Names that are there already, with their owners; None for those whose owner is not
            known.

    Attributes:
        new: Names given since the caller last stored and cleared this list.
    """

    def __init__(
        self, max_bytes: int = 63, existing: Mapping[str, Owner | None] | None = None
    ) -> None:
        self.max_bytes = max_bytes
        self.new: list[Naming] = []
        self._names: dict[Owner, str] = {}
        # By lower-case name, since engines compare without case: the name as it is written there,
        # and its owner.
        self._taken: dict[str, tuple[str, Owner | None]] = {}
        # Quoted twins that differ in case only (Postgres): the lower-case one comes last and stays.
        for name, owner in sorted((existing or {}).items(), key=lambda item: item[0]):
            self._taken[name.lower()] = (name, owner)
            if owner is not None:
                self._names[owner] = name

    def give(self, owner: Owner, wishes: Sequence[str], *, claim: bool = True) -> str:
        """Return the owner's name: what it has, else its first free wish, else one with a hash.

        Args:
            owner: What is to be named.
            wishes: Names in order of preference, ASCII, at least one.
            claim: Whether an existing name without a known owner counts as free.
        """
        name = self._names.get(owner)
        if name is None:
            candidates = (wish for wish in wishes if len(wish) <= self.max_bytes)
            hashed = self._hashed(owner, wishes[-1])
            wish = next(c for c in chain(candidates, hashed) if self._is_free(c, claim=claim))
            name = self._taken.get(wish, (wish, None))[0]
            self._taken[wish] = (name, owner)
            self._names[owner] = name
            self.new.append(Naming(name, owner, wishes[0]))
        return name

    def _is_free(self, name: str, *, claim: bool) -> bool:
        return name not in self._taken or (claim and self._taken[name][1] is None)

    def _hashed(self, owner: Owner, name: str) -> Iterator[str]:
        """The name cut to length with ever more of a hash of its owner."""
        digest = hashlib.sha256((owner.to_text() + owner.variant).encode()).hexdigest()
        for length in range(_HASH_LENGTH, min(len(digest) + 1, self.max_bytes)):
            yield f"{name[: self.max_bytes - length - 1]}_{digest[:length]}"


class ColumnNamer(Namer):
    """The columns of one table.

    Args:
        max_bytes: The longest name that the engine takes, in bytes.
        existing: The table's columns with their owners; None for those whose owner is not known.
        hoist: Top-level properties whose content is named as if it stood at the top level itself.
        fixed: Properties that fill a given column, whatever the rules say: ``{("received_at",):
            "received_at"}``.

    Attributes:
        hoist: As given; another SCHEMA may change it.
    """

    def __init__(
        self,
        max_bytes: int = 63,
        existing: Mapping[str, Owner | None] | None = None,
        hoist: Collection[str] = (),
        fixed: Mapping[Path, str] | None = None,
    ) -> None:
        super().__init__(max_bytes, existing)
        self.hoist = frozenset(hoist)
        self._fixed = dict(fixed or {})

    def columns(self, paths: Iterable[Path]) -> dict[Path, str]:
        """Name several properties at once, so that their order does not matter.

        Properties that already have a column keep it. Of new ones that want the same name, a
        property of the record itself goes before a hoisted one, and then the one whose value
        Segment would keep: the last in byte order of its path (W6).
        """
        ordered = sorted(paths, key=_byte_order, reverse=True)
        ordered.sort(key=self._is_hoisted)
        return {path: self.column(path) for path in ordered}

    def column(self, path: Path) -> str:
        """The column of one property; see ``columns`` where there are several new ones."""
        if path in self._fixed:
            return self._fixed[path]
        full = column_name(path)
        return self.give(
            Owner(path), [column_name(path[1:]), full] if self._is_hoisted(path) else [full]
        )

    def variant(self, path: Path, variant: str) -> str:
        """The sibling column for values of ``path`` that its own column cannot hold.

        Args:
            path: The property's path.
            variant: What the sibling holds, for instance ``text``; becomes the end of its name.
        """
        return self.give(Owner(path, variant), [f"{self.column(path)}_{variant}"], claim=False)

    def _is_hoisted(self, path: Path) -> bool:
        return len(path) > 1 and path[0] in self.hoist


class TableNamer(Namer):
    """The tables of one schema.

    Args:
        max_bytes: The longest name that the engine takes, in bytes.
        existing: The schema's tables with their owners (``Owner((stream,))``); None for those whose
            owner is not known: a table that Segment made, which the first stream of that name takes
            over.
        unusable: Names of what no stream can write to: views, indexes, sequences.
    """

    def __init__(
        self,
        max_bytes: int = 63,
        existing: Mapping[str, Owner | None] | None = None,
        unusable: Iterable[str] = (),
    ) -> None:
        blocked: dict[str, Owner | None] = {name: Owner((name,), "unusable") for name in unusable}
        super().__init__(max_bytes, {**blocked, **(existing or {})})

    def knows(self, stream: str) -> bool:
        """Whether the stream has a table's name already."""
        return Owner((stream,)) in self._names

    def block(self, unusable: Iterable[str]) -> None:
        """Note further names of what no stream can write to; those that are given stay."""
        for name in unusable:
            self._taken.setdefault(name.lower(), (name, Owner((name,), "unusable")))

    def tables(self, streams: Iterable[str]) -> dict[str, str]:
        """Name several streams at once, so that their order does not matter."""
        ordered = sorted(((stream,) for stream in streams), key=_byte_order, reverse=True)
        return {stream: self.table(stream) for (stream,) in ordered}

    def table(self, stream: str) -> str:
        """The table of one stream."""
        return self.give(Owner((stream,)), [table_name(stream)])


def column_name(path: Path) -> str:
    """The column of a property if no other is called so (W4, W5, W15, W26)."""
    if len(path) == 1 and path[0] in SDC_COLUMNS:
        return path[0]
    name = "_".join(map(_segment, path))
    reserved = name in META_COLUMNS or name in _SYSTEM_COLUMNS
    return f"_{name}" if reserved or name[0].isdigit() else name


def table_name(stream: str) -> str:
    """The table of a stream if no other is called so (W1, W4, W25, W26)."""
    name = _segment(stream)
    return f"_{name}" if name in _RESERVED_TABLES or name[0].isdigit() else name


def schema_name(name: str, max_bytes: int = 63) -> str:
    """A schema from the user's setting or the tap's name (W2).

    Postgres keeps schemas that begin with ``pg_`` for itself, so these get a ``_`` as well.
    """
    wanted = _segment(name)
    if wanted[0].isdigit() or wanted.startswith("pg_"):
        wanted = f"_{wanted}"
    return Namer(max_bytes).give(Owner((name,)), [wanted])


def quote(identifier: str) -> str:
    """An identifier for SQL text on every engine that follows the standard.

    Raises:
        ValueError: If it holds a NUL character, which no engine takes.
    """
    if "\0" in identifier:
        raise ValueError("A name cannot hold a NUL character")
    return '"' + identifier.replace('"', '""') + '"'
