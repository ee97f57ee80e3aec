"""A JetStream connection for threads: its event loop, its address, and what its errors mean."""

from __future__ import annotations

import asyncio
import json
import re
import ssl
import threading
from collections.abc import Callable, Coroutine
from concurrent.futures import CancelledError
from dataclasses import dataclass, field
from typing import Any, TypeVar
from urllib.parse import parse_qs, unquote, urlsplit

import nats.errors
from nats.aio.msg import Msg
from nats.js.api import KeyValueConfig, StorageType
from nats.js.client import JetStreamContext
from nats.js.errors import (
    APIError,
    BucketNotFoundError,
    KeyNotFoundError,
    KeyWrongLastSequenceError,
    NotFoundError,
)
from nats.js.kv import KeyValue

from tap_sendgrid.event_log.base import EventLogError
from tap_sendgrid.event_log.nats_access import Credentials, GuardedClient, tls_context

DEFAULT_REPLICAS = 3
DEFAULT_TIMEOUT_SECONDS = 5.0
CONNECT_SECONDS = 10.0
CLOSE_SECONDS = 2.0
OLDEST_SERVER = (2, 11)
"""From here on many messages can be had with one request."""

_OPTIONS = {"replicas", "timeout", "creds", "tls_ca", "tls_cert", "tls_key", "max_bytes"}
_FULL = {10047, 10023, 10077, 10122}
"""Server error codes: no storage left in the account, the server, the stream."""
_CHANGED = 50
"""Tries to change a value that others change at the same time."""

Result = TypeVar("Result")


@dataclass(frozen=True)
class NatsAddress:
    """What an event log URL of the kind ``nats://`` says.

    ``nats://user:password@one:4222,two:4222,three:4222/events?replicas=3&creds=/path`` names the
    servers, the stream, and as options: ``replicas`` (default: 3 on a cluster, 1 on a single
    server), ``timeout`` (seconds, default 5), ``creds`` (credentials file), ``tls_ca``,
    ``tls_cert``, ``tls_key`` (PEM files; ``tls://`` uses the system's authorities without them),
    ``max_bytes`` (bound on the stream).

    Attributes:
        servers: Addresses of the servers.
        stream: Name of the stream.
        options: The options.
        login: ``user`` and ``password``, or ``token`` (``nats://token@host``), or nothing.
    """

    servers: tuple[str, ...]
    stream: str
    options: dict[str, str]
    login: dict[str, str] = field(default_factory=dict, repr=False)

    @classmethod
    def parse(cls, url: str) -> NatsAddress:
        """Read a URL.

        Raises:
            EventLogError: It cannot be understood; the message does not repeat its password.
        """
        parts = urlsplit(url)
        identity, _, hosts = parts.netloc.rpartition("@")
        user, colon, password = identity.partition(":")
        stream = parts.path.strip("/")
        options = {name: values[-1] for name, values in parse_qs(parts.query).items()}
        if not hosts or not re.fullmatch(r"[A-Za-z0-9_-]+", stream):
            raise EventLogError(
                "unavailable", "write nats://host:4222/stream, the stream of letters, digits, _ -"
            )
        if unknown := set(options) - _OPTIONS:
            raise EventLogError(
                "unavailable", f"unknown option {sorted(unknown)}: known are {sorted(_OPTIONS)}"
            )
        servers = tuple(f"{parts.scheme}://{host}" for host in hosts.split(","))
        login = {"user": unquote(user), "password": unquote(password)} if colon else {}
        if user and not colon:
            login = {"token": unquote(user)}
        return cls(servers, stream, options, login)

    def tls(self) -> ssl.SSLContext | None:
        """How the servers are authenticated; None for plain connections.

        Raises:
            EventLogError: A file that an option names cannot be used.
        """
        wanted = any(name.startswith("tls_") for name in self.options)
        if not wanted and not self.servers[0].startswith("tls://"):
            return None
        return tls_context(self.options)


class JetStream:
    """A connection whose coroutines are run for callers in other threads.

    Args:
        address: Where the servers are.

    Raises:
        EventLogError: No server answers, or it is too old.
    """

    def __init__(self, address: NatsAddress) -> None:
        self.address = address
        self.timeout = float(address.options.get("timeout", DEFAULT_TIMEOUT_SECONDS))
        self._loop = asyncio.new_event_loop()
        self._closing = False
        self._submitting = threading.Lock()
        self._thread = threading.Thread(target=self._loop.run_forever, name="nats", daemon=True)
        self._thread.start()
        self._client = GuardedClient()
        self._first_problem: Exception | None = None
        self._last_problem: Exception | None = None
        self.js: JetStreamContext
        try:
            self.run(self._connect())
        except BaseException:
            self._stop_loop()
            raise

    def run(self, work: Coroutine[Any, Any, Result]) -> Result:
        """The result of a coroutine, from any thread.

        Raises:
            EventLogError: The cluster cannot do it, or the connection is closed meanwhile.
        """
        with self._submitting:
            if self._closing:
                work.close()
                raise self._closed()
            future = asyncio.run_coroutine_threadsafe(work, self._loop)
        try:
            return future.result()
        except EventLogError:
            raise
        except CancelledError:
            raise self._closed() from None
        except (TimeoutError, nats.errors.Error, OSError, RuntimeError) as error:
            work.close()
            raise self._as_log_error(error) from error

    def close(self) -> None:
        """Close the connection and end the thread; once is enough.

        What other threads still wait for ends with an ``EventLogError``.
        """
        if self._closing:
            return
        try:
            self.run(self._client.close())
        finally:
            self._stop_loop()

    def check_connected(self) -> None:
        """Fail at once while the connection is lost, instead of waiting for the timeout."""
        if not self._client.is_connected:
            raise EventLogError(
                "unavailable",
                f"the connection to the NATS cluster is lost ({self._last_problem!r})",
            )

    @property
    def max_payload(self) -> int:
        """The longest message that the servers take, in bytes."""
        return int(self._client.max_payload)

    async def read(
        self, stream: str, subject: str, after: int, count: int, max_bytes: int
    ) -> list[Msg]:
        """Messages after a sequence number, in one request to whichever replica answers.

        It may be a replica that lags, and answers may be lost on the way to us when servers lose
        each other: fewer messages than there are is no proof of the end, but there is no gap.
        """
        inbox = self._client.new_inbox()
        subscription = await self._client.subscribe(inbox)
        request = {
            "seq": after + 1,
            "batch": count,
            "max_bytes": max_bytes,
            "next_by_subj": subject,
        }
        found: list[Msg] = []
        sent_before = "0"
        try:
            await self._client.publish(
                f"$JS.API.DIRECT.GET.{stream}", json.dumps(request).encode(), reply=inbox
            )
            while True:
                message = await subscription.next_msg(self.timeout)
                heads = message.headers or {}
                if heads.get("Status"):
                    return found  # 204: the end of the batch; 404: nothing there; 503: no replica
                if heads["Nats-Last-Sequence"] != sent_before:
                    return found  # what was sent before this one did not arrive
                sent_before = heads["Nats-Sequence"]
                found.append(message)
        except nats.errors.TimeoutError:
            return found  # a server that went away in the middle
        finally:
            await subscription.unsubscribe()

    async def bucket(self, name: str, replicas: int, ttl: float | None = None) -> KeyValue:
        """A key-value bucket, made if it is missing; read from its leader only."""
        try:
            return await self.js.key_value(name)
        except BucketNotFoundError:
            config = KeyValueConfig(
                bucket=name, replicas=replicas, ttl=ttl, storage=StorageType.FILE, direct=False
            )
            return await self.js.create_key_value(config)

    async def value(self, bucket: KeyValue, key: str) -> bytes | None:
        """The value of a key."""
        try:
            return (await bucket.get(key)).value or b""
        except KeyNotFoundError:
            return None

    async def change(
        self, bucket: KeyValue, key: str, change: Callable[[bytes | None], bytes | None]
    ) -> bytes | None:
        """Replace a value by what ``change`` makes of it, whoever else changes it meanwhile.

        Args:
            bucket: The bucket.
            key: The key.
            change: Takes the present value (None: there is none) and returns the new one, or
                None to leave it. May be called several times.

        Returns:
            The value that stands.
        """
        for number in range(_CHANGED):
            try:
                entry = await bucket.get(key)
                old, revision = entry.value or b"", entry.revision
            except KeyNotFoundError:
                old, revision = None, 0
            new = change(old)
            if new is None:
                return old
            try:
                if revision:
                    await bucket.update(key, new, last=revision)
                else:
                    await bucket.create(key, new)
            except KeyWrongLastSequenceError:
                await asyncio.sleep(0.002 * (number + 1))
            else:
                return new
        raise EventLogError("locked", f"too many processes change {key!r} at the same time")

    async def _connect(self) -> None:
        tls, path = self.address.tls(), self.address.options.get("creds")
        credentials = Credentials(path) if path else None
        self._client.needs_tls = tls is not None
        connecting = self._client.connect(
            list(self.address.servers),
            name="tap-sendgrid event log",
            tls=tls,
            user_jwt_cb=credentials.token if credentials else None,
            signature_cb=credentials.sign if credentials else None,
            connect_timeout=2,
            reconnect_time_wait=1,
            max_reconnect_attempts=1,
            error_cb=self._remember,
            **self.address.login,  # type: ignore[arg-type]
        )
        try:
            # A failing TLS handshake would be tried for ever.
            await asyncio.wait_for(connecting, CONNECT_SECONDS)
        except (OSError, TimeoutError, nats.errors.Error) as error:
            raise EventLogError(
                "unavailable",
                f"no NATS server lets us use stream {self.address.stream} "
                f"({self._first_problem or error!r}): {self._advice()}",
            ) from error
        # From now on an outage is waited out: whatever is asked meanwhile fails by its timeout.
        self._client.options["max_reconnect_attempts"] = -1
        version = self._client.connected_server_version
        if (version.major, version.minor) < OLDEST_SERVER:
            await self._client.close()
            raise EventLogError(
                "unavailable",
                f"the NATS server is {version.major}.{version.minor}; the event log needs "
                f"{OLDEST_SERVER[0]}.{OLDEST_SERVER[1]} or newer",
            )
        self.js = self._client.jetstream(timeout=self.timeout)

    def _as_log_error(self, error: Exception) -> EventLogError:
        where = f"the NATS stream {self.address.stream}"
        if isinstance(error, APIError) and error.err_code in _FULL:
            return EventLogError(
                "full", f"{where} is full ({error.description}): run `sendgrid-webhook trim`"
            )
        if isinstance(error, NotFoundError):
            return EventLogError(
                "missing", f"{where} is not there: start `sendgrid-webhook serve`, which makes it"
            )
        if isinstance(error, nats.errors.MaxPayloadError):
            return EventLogError(
                "unavailable", f"{where} takes no message of this size: raise max_payload"
            )
        if isinstance(error, APIError) and error.description:
            return EventLogError("unavailable", f"{where}: {error.description}")
        if "permissions violation" in str(self._last_problem).lower():
            return EventLogError(
                "unavailable",
                f"{where} does not answer ({self._last_problem}): look at what the user of "
                "event_log_url may do",
            )
        return EventLogError(
            "unavailable",
            f"{where} does not answer ({error!r}): a majority of its servers must be up",
        )

    async def _remember(self, error: Exception) -> None:
        """Keep a connection's first problem: those after it say less. And its latest, for later."""
        self._first_problem = self._first_problem or error
        self._last_problem = error

    def _advice(self) -> str:
        """What to look at when no server lets us in."""
        problem = self._first_problem
        if isinstance(problem, nats.errors.SecureConnWantedError):
            return "the address asks for TLS, the server has none"
        if "authorization" in str(problem).lower():
            given = "`creds`" if "creds" in self.address.options else "name and password"
            return f"look at {given} in event_log_url (a cluster may want a `creds` file)"
        return "look at event_log_url, and whether the cluster runs"

    def _closed(self) -> EventLogError:
        return EventLogError(
            "unavailable", f"the connection to the NATS stream {self.address.stream} is closed"
        )

    def _stop_loop(self) -> None:
        # Whoever submitted before this waits for a task that the loop has; nobody comes after.
        with self._submitting:
            self._closing = True
            ending = asyncio.run_coroutine_threadsafe(self._cancel_all(), self._loop)
        ending.result()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    async def _cancel_all(self) -> None:
        """End every task: a thread that waits for one would wait for ever when the loop stops."""
        tasks = asyncio.all_tasks() - {asyncio.current_task()}
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks, timeout=CLOSE_SECONDS)
