"""One SendGrid (sub)user as the tap sees it: its client, scopes, generation and custom fields."""

from __future__ import annotations

import threading

import requests

from tap_sendgrid.api import scopes
from tap_sendgrid.api.client import Client, new_session
from tap_sendgrid.api.errors import (
    MISREAD,
    Forbidden,
    IPRestricted,
    RunStopper,
    SendGridError,
    UnexpectedAnswer,
    UnknownSubuser,
    WrongGeneration,
)
from tap_sendgrid.api.generation import (
    DEFINITIONS,
    CustomField,
    Generation,
    fetch_custom_fields,
    probe,
)
from tap_sendgrid.api.settings import ApiSettings


class Account:
    """Everything that is asked once per (sub)user and then known.

    Args:
        settings: How SendGrid is reached.
        subuser: The subuser to act for; None: the account of the key.
        session: Connections to share with other accounts.
    """

    def __init__(
        self,
        settings: ApiSettings,
        subuser: str | None = None,
        session: requests.Session | None = None,
    ) -> None:
        self.settings = settings
        self._session = session or new_session()
        self.client = Client(
            settings.api_key,
            settings.api_url,
            on_behalf_of=subuser,
            user_agent=settings.user_agent,
            session=self._session,
        )
        self._lock = threading.Lock()
        self._scopes: frozenset[str] | None = None
        self._generation: Generation | None = None
        self._fields: tuple[CustomField, ...] | None = None

    def scopes(self) -> frozenset[str]:
        """The key's scopes, asked for at the first use."""
        with self._lock:
            if self._scopes is None:
                self._scopes = self._fetch_scopes()
            return self._scopes

    def _fetch_scopes(self) -> frozenset[str]:
        subuser = self.client.on_behalf_of
        if subuser is None:
            return scopes.fetch(self.client)
        try:
            return scopes.fetch(self.client)
        except IPRestricted:
            Account(self.settings, None, self._session).scopes()  # if the address is at fault
            raise UnknownSubuser(
                f"the API key may not act for the subuser {subuser!r}: check the name in the "
                "setting on_behalf_of, and that the key is the parent account's."
            ) from None

    def generation(self) -> Generation:
        """The generation of Marketing Campaigns: as set, else probed at the first use."""
        if self._generation is None:
            if self.settings.generation == "auto":
                self._generation, self._fields = probe(self.client, self.scopes)
            else:
                self._generation = Generation(self.settings.generation)
        return self._generation

    def custom_fields(self) -> tuple[CustomField, ...]:
        """The custom fields of the account's contacts, asked for until they are known.

        Raises:
            SendGridError: They are not known now: that is not the same as none.
        """
        generation = self.generation()
        if self._fields is None:
            if generation is Generation.NONE:
                return ()
            self._fields = fetch_custom_fields(self.client, generation.value)
        if self._fields is None:
            path = DEFINITIONS[generation.value]
            raise UnexpectedAnswer(f"SendGrid's answer to GET {path} has null for the fields.")
        return self._fields

    def explain(self, problem: Forbidden, needed: tuple[str, ...], what: str) -> SendGridError:
        """The better name of a 403: missing scope, wrong generation, unknown subuser.

        Raises:
            RunStopper: The address is not allowed, or the key is no longer good.
        """
        try:
            held = self.scopes()
        except UnknownSubuser as unknown:
            return unknown
        except RunStopper:
            raise
        except (SendGridError, *MISREAD):  # then the 403 stands as it is: it is what went wrong
            return problem
        better = scopes.explain(problem, held, needed, what)
        chosen = self.settings.generation
        if better is problem and chosen != "auto" and needed in (scopes.MARKETING, scopes.LEGACY):
            return WrongGeneration(
                f"SendGrid refuses {what} although the key has the permission: the account has "
                f"another generation of Marketing Campaigns than api_generation: {chosen}. "
                "Set api_generation to auto."
            )
        return better
