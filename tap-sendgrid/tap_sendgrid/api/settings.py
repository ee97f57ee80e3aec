"""The settings that the HTTP layer lives by, read once from the tap's configuration."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import msgspec

_HOSTS = {"global": "https://api.sendgrid.com", "eu": "https://api.eu.sendgrid.com"}

GenerationSetting = Literal["auto", "marketing", "legacy"]


@dataclass(frozen=True)
class ApiSettings:
    """How SendGrid is reached.

    Attributes:
        api_key: The key; empty when there is none.
        api_url: Scheme and host, without a slash at the end.
        region: ``global`` or ``eu``; some collections have no EU host.
        generation: Which Marketing Campaigns generation; ``auto`` probes.
        subusers: Names to act for, one after the other; empty: the account itself.
        user_agent: Value of the User-Agent header.
    """

    api_key: str = field(repr=False)
    api_url: str = _HOSTS["global"]
    region: Literal["global", "eu"] = "global"
    generation: GenerationSetting = "auto"
    subusers: tuple[str, ...] = ()
    user_agent: str = "tap-sendgrid"

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> ApiSettings:
        """Read the tap's configuration.

        ``on_behalf_of`` is a list, or a text: names with commas, or a JSON array.
        """
        region: Literal["global", "eu"] = "eu" if config.get("region") == "eu" else "global"
        given = config.get("on_behalf_of") or ()
        names: Iterable[str] = _names(given) if isinstance(given, str) else given
        subusers = dict.fromkeys(name.strip() for name in names if name and name.strip())
        return cls(
            api_key=str(config.get("api_key") or "").strip(),
            api_url=str(config.get("api_url") or _HOSTS[region]).rstrip("/"),
            region=region,
            generation=config.get("api_generation") or "auto",
            subusers=tuple(subusers),
            user_agent=config.get("user_agent") or "tap-sendgrid",
        )

    @property
    def key_id(self) -> str:
        """The middle part of the key, which SendGrid itself shows as ``api_key_id``: no secret."""
        parts = self.api_key.split(".")
        return parts[1] if len(parts) == 3 else "(not of the form SG.id.secret)"


def _names(text: str) -> list[str]:
    try:  # the SDK does this for the tap, and nobody for `sendgrid-webhook`
        return msgspec.json.decode(text, type=list[str])
    except msgspec.DecodeError:
        return text.split(",")
