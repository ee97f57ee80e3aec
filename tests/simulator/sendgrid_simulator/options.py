"""What a simulated SendGrid is like: its size, its generation, the traps that are on."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

Generation = Literal["marketing", "legacy", "none"]
Encoding = Literal["gzip", "plain", "alternate"]


@dataclass
class Fault:
    """A disturbance of some requests, counted down as it strikes.

    Attributes:
        kind: ``status`` answers with ``status``; ``cut`` closes the connection without a byte;
            ``cut_body`` closes it after ``after_bytes`` of the body; ``slow`` waits ``seconds`` and
            then answers as usual; ``null`` answers with ``null`` where the array should be.
        path: The start of the paths that it strikes.
        method: The method that it strikes; every one when empty.
        times: How often it strikes.
        skip: How many requests it lets pass first.
        status: The status of kind ``status``.
        message: The error message of kind ``status``; a usual one for the status when empty.
        seconds: The wait of kind ``slow``.
        after_bytes: Where kind ``cut_body`` cuts.
    """

    kind: Literal["status", "cut", "cut_body", "slow", "null"]
    path: str = "/v3/"
    method: str = ""
    times: int = 1
    skip: int = 0
    status: int = 503
    message: str = ""
    seconds: float = 1.0
    after_bytes: int = 1000

    def strikes(self, method: str, path: str) -> bool:
        """Whether this request is disturbed; counts it."""
        if self.times <= 0 or not path.startswith(self.path):
            return False
        if self.method and method != self.method:
            return False
        if self.skip > 0:
            self.skip -= 1
            return False
        self.times -= 1
        return True


@dataclass
class SimulatorOptions:
    """The account and its behaviour. Everything may be changed while the server runs.

    Attributes:
        contacts: Number of contacts (10 to 1,000,000 and more: they are computed, not stored).
        seed: Everything in the account follows from it (with ``anchor`` for the times).
        anchor: Unix seconds that the account's data end at; midnight UTC of today when None.
        generation: The marketing generation of the account; the other one answers 403.
            ``none``: an account without Marketing Campaigns, both answer 403.
        lists: Number of lists. The first holds all contacts, the n-th every n-th of them.
        segments: Number of segments (2.0, the first of which belongs to a list; legacy: contactdb).
        segments_v1: Number of segments of the deprecated first kind.
        campaigns: Number of single sends (legacy: campaigns).
        fractional_times: Times of contacts come with milliseconds, as in examples of the specs.
        same_second: How many of the newest contacts share one second of ``updated_at`` (a bulk
            upsert, which defeats every bisection by time).
        messages: Number of messages in the account's history (webhook events, logs, statistics).
        message_days: Days over which they were sent, ending a day before ``anchor``.
        suppressions: Generated rows of each suppression list; the messages add theirs.
        templates: Number of templates, every third of the legacy kind.
        automations: Number of automations, which only their statistics show.
        subusers: User names of subusers, each an account of its own behind ``on-behalf-of``.
        scopes: Scopes of the API key; None is full access.
        allowed_ips: IP Access Management: client addresses that may call; None is no restriction.
            The others get 403 on every endpoint (sendgrid-csharp#427).
        region: ``eu`` answers 404 on paths that have no EU server.
        export_polls: How often a new export is still ``pending`` when polled.
        export_failures: How many of the next exports end as ``failure``.
        export_encoding: Whether export files are gzip, plain, or in turn the one and the other.
        export_rows_per_file: Splits exports into files of so many rows, besides max_file_size.
        link_seconds: Life of a presigned download link; each GET of the job makes new ones.
        rate_limit: Calls per window and endpoint, and the window's seconds.
        rate_limits: The same for paths that begin so; the longest match counts.
        empty_webhook: An account without webhooks shows ``[{}]``, as the spec's example does.
        max_webhooks: Number of webhooks that the plan allows.
        email_activity: Whether the account has the add-on for ``/v3/messages``.
        write_seconds: Seconds until written contacts can be read.
        worker_delay_seconds: How late uploads are, as the legacy status says.
        legacy_exports: Whether the account has the upgrade of 2025 with ``/v3/contactdb/exports``.
        fuzzy_pages: Legacy recipients pages a little over and under size, one of them empty.
        moving_offsets: Suppressions that arrive at the top of the list while it is paged: so many
            new rows after each page.
        search_timeout: contacts/search answers 408.
        logs_row_cap: The most rows that ``POST /v3/logs`` gives.
        logs_event_cap: The most events that ``GET /v3/logs/{id}`` gives.
        retention_days: How far back the logs reach.
        faults: Disturbances, see `Fault`.
    """

    contacts: int = 100
    seed: int = 0
    anchor: int | None = None
    generation: Generation = "marketing"
    lists: int = 3
    segments: int = 2
    segments_v1: int = 0
    campaigns: int = 5
    fractional_times: bool = False
    same_second: int = 1
    messages: int = 0
    message_days: int = 7
    suppressions: int = 25
    templates: int = 4
    automations: int = 1
    subusers: tuple[str, ...] = ()
    scopes: tuple[str, ...] | None = None
    allowed_ips: tuple[str, ...] | None = None
    region: Literal["global", "eu"] = "global"
    export_polls: int = 1
    export_failures: int = 0
    export_encoding: Encoding = "gzip"
    export_rows_per_file: int | None = None
    link_seconds: float = 3600.0
    rate_limit: tuple[int, float] = (600, 60.0)
    rate_limits: dict[str, tuple[int, float]] = field(default_factory=dict)
    empty_webhook: bool = False
    max_webhooks: int = 5
    email_activity: bool = False
    write_seconds: float = 0.0
    worker_delay_seconds: float = 0.0
    legacy_exports: bool = False
    fuzzy_pages: bool = True
    moving_offsets: int = 0
    search_timeout: bool = False
    logs_row_cap: int = 1000
    logs_event_cap: int = 100
    retention_days: int = 30
    faults: list[Fault] = field(default_factory=list)
