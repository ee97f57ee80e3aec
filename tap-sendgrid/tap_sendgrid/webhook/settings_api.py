"""SendGrid's webhook settings API: ``/v3/user/webhooks/event``."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from tap_sendgrid.api.client import Client
from tap_sendgrid.api.errors import Forbidden, NotFound, SendGridError

BASE = "/v3/user/webhooks/event/settings"

EVENT_FLAGS = (
    "processed",
    "dropped",
    "delivered",
    "deferred",
    "bounce",
    "open",
    "click",
    "spam_report",
    "unsubscribe",
    "group_unsubscribe",
    "group_resubscribe",
    "account_status_change",
)
"""Every kind of event that SendGrid can be told to send."""


class PermissionMissing(SendGridError):
    """The key may not see or change webhook settings."""


@dataclass(frozen=True)
class Webhook:
    """One webhook as SendGrid has it.

    Attributes:
        id: Its id; empty for the single webhook of an account that knows no ids.
        url: Where it posts to.
        enabled: Whether it posts at all.
        events_off: The kinds of events that it does not send.
        public_key: The signature key; empty when signing is off or the answer leaves it out.
        friendly_name: The name that people gave it.
    """

    id: str
    url: str
    enabled: bool
    events_off: tuple[str, ...]
    public_key: str
    friendly_name: str

    @classmethod
    def parse(cls, data: dict[str, Any]) -> Webhook:
        """Read SendGrid's JSON; ``account_status_change`` may be missing, the others not."""
        return cls(
            id=str(data.get("id") or ""),
            url=str(data.get("url") or ""),
            enabled=bool(data.get("enabled")),
            events_off=tuple(flag for flag in EVENT_FLAGS if not data.get(flag)),
            public_key=str(data.get("public_key") or ""),
            friendly_name=str(data.get("friendly_name") or ""),
        )


class WebhookSettingsApi:
    """Reads and changes the webhooks of an account.

    Args:
        client: How SendGrid is reached.

    Raises:
        PermissionMissing: (every method) The key lacks the scope; it is named.
        SendGridError: (every method) Anything else that SendGrid or the network has against it.
    """

    def __init__(self, client: Client) -> None:
        self.subuser = client.on_behalf_of
        self._client = client

    def all(self) -> tuple[list[Webhook], int | None]:
        """Every webhook, and how many the plan allows (None: not told)."""
        try:
            answer = self._call("GET", f"{BASE}/all?include=account_status_change")
        except NotFound:
            # An account, or a proxy of the API, that has the single webhook of old only.
            answer = {"webhooks": [self._call("GET", BASE)]}
        found = [Webhook.parse(item) for item in answer.get("webhooks") or [] if item]
        allowed = answer.get("max_allowed")
        return [webhook for webhook in found if webhook.url or webhook.id], allowed

    def create(self, settings: dict[str, Any]) -> Webhook:
        """A new webhook."""
        return Webhook.parse(self._call("POST", BASE, settings))

    def update(self, webhook_id: str, settings: dict[str, Any]) -> Webhook:
        """A changed webhook; an empty id is that of the oldest one."""
        return Webhook.parse(self._call("PATCH", _path(BASE, webhook_id), settings))

    def public_key(self, webhook_id: str) -> str:
        """The signature key; empty when signing is off."""
        answer = self._call("GET", _path(f"{BASE}/signed", webhook_id)) or {}
        return str(answer.get("public_key") or "")

    def enable_signing(self, webhook_id: str) -> str:
        """Turn signing on; return the key."""
        answer = self._call("PATCH", _path(f"{BASE}/signed", webhook_id), {"enabled": True})
        return str((answer or {}).get("public_key") or "")

    def _call(self, method: str, path: str, body: dict[str, Any] | None = None) -> Any:
        try:
            response = self._client.request(method, path, body=body)
        except Forbidden as refusal:
            right = {"GET": "read", "POST": "create"}.get(method, "update")
            scope = f"user.webhooks.event.settings.{right}"
            raise PermissionMissing(
                f"the API key lacks the permission {scope} ({refusal.answer}): give it to the key "
                "under Settings > API Keys > Mail Settings > Event Notification, or use a Full "
                "Access key"
            ) from refusal
        return response.json() if response.content else {}


def _path(base: str, webhook_id: str) -> str:
    return f"{base}/{webhook_id}" if webhook_id else base
