"""What a receiver is told when it starts; passed whole to every worker process."""

from __future__ import annotations

from dataclasses import dataclass, field

DEFAULT_PORT = 8090
DEFAULT_MAX_BODY_BYTES = 5 << 20
"""SendGrid posts at most 768 KB; the rest is room for what it may come to do."""


@dataclass(frozen=True)
class ReceiverSettings:
    """Everything a worker needs.

    Attributes:
        event_log_url: Address of the event log.
        path_token: Secret path that SendGrid posts to.
        status_token: Secret that opens the status page and the metrics.
        public_keys: Signature keys from the command line, base64 DER; those of ``register`` are
            in the event log and come on top.
        allow_unsigned: Take deliveries whose signature is missing or wrong.
        clock_window: How many seconds the signed timestamp may differ from our clock; None: any.
        max_body_bytes: Longer bodies are refused.
        body_timeout: Seconds within which a body must have arrived.
        oauth_client_id: Client id SendGrid asks for tokens with; None: no tokens needed.
        oauth_client_secret: Its secret.
        api_key: SendGrid key with which a changed signature key is fetched anew; None: never.
        api_url: SendGrid's address.
        subusers: Those whose webhooks post here; empty: the account itself has the webhook.
        forward_to: URLs that get a copy of each delivery.
        retention_days: Deliveries older than this go once every consumer has them; None: never.
        workers: Processes that take requests.
        json_logs: Log lines as JSON objects.
    """

    event_log_url: str
    path_token: str = field(repr=False)
    status_token: str = field(repr=False)
    public_keys: tuple[str, ...] = ()
    allow_unsigned: bool = False
    clock_window: float | None = None
    max_body_bytes: int = DEFAULT_MAX_BODY_BYTES
    body_timeout: float = 30.0
    oauth_client_id: str | None = None
    oauth_client_secret: str | None = field(default=None, repr=False)
    api_key: str | None = field(default=None, repr=False)
    api_url: str = "https://api.sendgrid.com"
    subusers: tuple[str, ...] = ()
    forward_to: tuple[str, ...] = field(default=(), repr=False)
    retention_days: float | None = None
    workers: int = 1
    json_logs: bool = False
