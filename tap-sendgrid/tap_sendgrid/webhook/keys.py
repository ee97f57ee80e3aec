"""The keys a signature may be made with, and where they come from when they change."""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Callable, Iterable, Sequence

from cryptography.hazmat.primitives.asymmetric import ec

from tap_sendgrid.event_log import EventLog
from tap_sendgrid.webhook.signature import BadPublicKey, load_public_key

logger = logging.getLogger("sendgrid-webhook.keys")

KEYS_SETTING = "webhook.public_keys"
KEPT_PER_WEBHOOK = 2
"""Switching signing off and on makes a new key; deliveries signed with the old may still come."""

RELOAD_SECONDS = 5.0
FETCH_SECONDS = 60.0


def stored_keys(log: EventLog) -> dict[str, list[str]]:
    """The keys in the log by webhook id, newest first."""
    found = json.loads(log.get(KEYS_SETTING) or "{}")
    return {str(name): [str(key) for key in keys] for name, keys in found.items()}


def store_key(log: EventLog, webhook_id: str, key: str) -> bool:
    """Remember a webhook's key as its newest; False if it was that already.

    Raises:
        BadPublicKey: SendGrid gave something that is no key.
    """
    load_public_key(key)
    keys = stored_keys(log)
    known = keys.get(webhook_id, [])
    if known[:1] == [key]:
        return False
    keys[webhook_id] = [key, *(old for old in known if old != key)][:KEPT_PER_WEBHOOK]
    log.put(KEYS_SETTING, json.dumps(keys))
    return True


class KeyRing:
    """The keys in force: those given at the start, and those in the log, which may change.

    Args:
        log: Where ``register`` leaves keys.
        given: Keys from the command line.
        fetch: Asks SendGrid for the present keys and stores them in the log; None if we cannot.
        clock: Seconds that only grow.
    """

    def __init__(
        self,
        log: EventLog,
        given: Iterable[str] = (),
        fetch: Callable[[], object] | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._log = log
        self._given = tuple(dict.fromkeys(given))
        self._fetch = fetch
        self._clock = clock
        self._last_reload = self._last_fetch = float("-inf")
        self.keys: Sequence[ec.EllipticCurvePublicKey] = ()
        self._texts: tuple[str, ...] = ()
        self._load()

    def refresh(self) -> bool:
        """Look for new keys after a signature fitted none; True if there are some.

        Asks the log and SendGrid at most so often whatever the number of calls, and blocks while it
        asks. For one caller at a time.
        """
        try:
            return self._look()
        except Exception as problem:  # noqa: BLE001 - the present keys stay good
            logger.warning("Could not look for new signature keys: %s", problem)
            return False

    def _look(self) -> bool:
        """Look into the log, then at SendGrid, unless it is too soon for that."""
        now = self._clock()
        if now - self._last_reload >= RELOAD_SECONDS:
            self._last_reload = now
            if self._load():
                return True
        if self._fetch and now - self._last_fetch >= FETCH_SECONDS:
            self._last_fetch = now
            self._fetch()
            return self._load()
        return False

    def _load(self) -> bool:
        """Take the keys as they are now; True if they changed."""
        stored = [key for keys in stored_keys(self._log).values() for key in keys]
        texts = tuple(dict.fromkeys((*self._given, *stored)))
        if texts == self._texts:
            return False
        keys = []
        for text in texts:
            try:
                keys.append(load_public_key(text))
            except BadPublicKey as problem:
                if text in self._given:
                    raise
                logger.warning("Left out a stored key: %s", problem)
        self._texts, self.keys = texts, tuple(keys)
        return True
