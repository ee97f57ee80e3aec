"""Every request to SendGrid goes through here: one session, timeouts, retries, limits, a trace."""

from __future__ import annotations

import logging
import random
import re
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from http.cookiejar import DefaultCookiePolicy
from typing import Any
from urllib.parse import urlsplit

import msgspec
import requests
import urllib3

from tap_sendgrid.api.errors import (
    Forbidden,
    InvalidCredentials,
    IPRestricted,
    NotFound,
    RequestRejected,
    SendGridError,
    ServiceUnavailable,
    UnexpectedAnswer,
)
from tap_sendgrid.api.limits import RateLimits
from tap_sendgrid.api.session import Session
from tap_sendgrid.api.waiting import wait

logger = logging.getLogger("tap-sendgrid.api")
# urllib3 logs whole URLs, and those of export files carry a signature.
logging.getLogger("urllib3").setLevel(logging.INFO)

_ADDRESS = re.compile(r"[^/?&=\s\"'<>(),]+(?:@|%40)[^/?&\s\"'<>(),]+")
#: Links to export files are signed in their query.
_QUERY = re.compile(r"\?[^\s?'\"<>]*=[^\s'\"<>]*")
#: What is tried again: a connection that was cut or not made, an answer that came late or broken.
RETRIED = (
    requests.ConnectionError,
    requests.Timeout,
    requests.exceptions.ChunkedEncodingError,
    requests.exceptions.ContentDecodingError,
)
#: What else they may say: there is no asking such a URL.
_NO_URL = (requests.RequestException, urllib3.exceptions.HTTPError)
TRIES = 6
_TRIES_NULL = 3
_ARRAYS = ("result", "results", "lists", "segments", "recipients", "custom_fields")
_TRIES_429 = 20
_LONGEST_PAUSE_SECONDS = 60.0

Params = Mapping[str, str | int | Sequence[str]]


def default_sleep(seconds: float) -> None:
    """Wait. Tests put something quicker in the place of this function."""
    wait(seconds)


def without_addresses(text: str) -> str:
    """``text`` with every e-mail address replaced: logs and messages hold no personal data."""
    return _ADDRESS.sub("<address>", text)


def without_secrets(text: str) -> str:
    """``text``, which others wrote, without e-mail addresses and without the queries of URLs."""
    return without_addresses(_QUERY.sub("?…", text))


class Client:
    """Talks to one SendGrid (sub)user. Safe for several threads.

    Args:
        api_key: The key; it appears in no log, message or representation.
        api_url: Scheme and host, without a slash at the end.
        on_behalf_of: A subuser's name to act for, with the parent's key.
        user_agent: Value of the User-Agent header.
        session: A session to share connections with other clients; a new one when None.
        timeout: Seconds to connect, seconds between two bytes.
        sleep: Waits so many seconds; `default_sleep` when None.
    """

    def __init__(
        self,
        api_key: str,
        api_url: str,
        *,
        on_behalf_of: str | None = None,
        user_agent: str = "tap-sendgrid",
        session: requests.Session | None = None,
        timeout: tuple[float, float] = (10.0, 60.0),
        sleep: Callable[[float], None] | None = None,
    ) -> None:
        self.api_url = api_url
        self.on_behalf_of = on_behalf_of
        self.tries = TRIES
        self._patient = True
        #: Answers that had null in place of their rows however often they were asked for. They
        #: count as no rows, and are no proof that there are none.
        self.null_arrays = 0
        # Headers take no others; a key pasted with an ellipsis or a space in it is a usual slip.
        self._key_is_plain = api_key.isascii() and api_key.isprintable() and " " not in api_key
        self._headers = {
            "Authorization": f"Bearer {api_key}",
            "Accept": "application/json",  # GET /v3/suppression/bounces insists on it
            "User-Agent": user_agent,
        }
        if on_behalf_of:
            self._headers["on-behalf-of"] = on_behalf_of
        self._session = session or new_session()
        self._timeout = timeout
        self.sleep = sleep or default_sleep
        self._clock_offset = timedelta(0)
        # Resets are told in SendGrid's time, and clocks of machines are off by minutes.
        self._limits = RateLimits(self._sleep_for_limit, lambda: self.server_now().timestamp())

    def __repr__(self) -> str:
        return f"Client({self.api_url!r}, on_behalf_of={self.on_behalf_of!r})"

    @contextmanager
    def impatient(self) -> Iterator[None]:
        """Ask once and wait little: for what is good to know and not needed."""
        patience = self.tries, self._timeout
        self._patient, self.tries, self._timeout = False, 1, (3.0, 5.0)
        try:
            yield
        finally:
            self._patient, (self.tries, self._timeout) = True, patience

    def server_now(self) -> datetime:
        """The present moment by SendGrid's clock, as its last answer told it."""
        return datetime.now(UTC) + self._clock_offset

    def get(self, path: str, params: Params | None = None) -> Any:
        """The JSON answer to ``GET path``.

        Args:
            path: Path below the host, or an absolute URL out of ``_metadata.next``, of which the
                path and query are taken: the key goes to no other host than the configured one.
            params: Query parameters.

        Raises:
            SendGridError: One of its kinds, see `tap_sendgrid.api.errors`.
        """
        return self._json("GET", path, params, None)

    def post(self, path: str, body: Any, params: Params | None = None) -> Any:
        """The JSON answer to ``POST path`` with a JSON body; raises as `get` does."""
        return self._json("POST", path, params, body)

    def _json(self, method: str, path: str, params: Params | None, body: Any) -> Any:
        """The decoded answer; asked for again while it has null in place of its rows."""
        for attempt in range(1, _TRIES_NULL + 1):
            response = self.request(method, path, params=params, body=body)
            if not response.content:
                # Taken for no rows, it would have the target mark everything as deleted.
                raise UnexpectedAnswer(
                    f"SendGrid answered {response.status_code} with nothing to {method} "
                    f"{without_addresses(urlsplit(path).path)}, where JSON should be."
                )
            data = self._decode(response)
            if not _lacks_rows(data):
                return data
            if attempt < _TRIES_NULL:
                self.sleep(1.0)
        self.null_arrays += 1
        return data

    def request(
        self, method: str, path: str, *, params: Params | None = None, body: Any = None
    ) -> requests.Response:
        """One request, repeated until it is answered; raises as `get` does."""
        if path.startswith("http"):
            parts = urlsplit(path)
            path = f"{parts.path}?{parts.query}" if parts.query else parts.path
        endpoint = RateLimits.endpoint(method, path.partition("?")[0])
        label = f"{method} {without_addresses(path)}"
        failures, throttled = 0, 0
        while True:
            self._limits.acquire(endpoint, wait=self._patient)
            try:
                response = self._send(method, path, params, body)
            except BaseException as problem:
                self._limits.settle(endpoint, {})
                if not isinstance(problem, RETRIED):
                    if isinstance(problem, _NO_URL):
                        reason = without_secrets(str(problem))
                        raise SendGridError(f"{reason}. Is api_url right?") from None
                    raise
                failures += 1
                late = isinstance(problem, requests.Timeout)
                self._pause(failures, label, "no answer in time" if late else "connection lost")
                continue
            self._limits.settle(endpoint, response.headers)
            if response.status_code == requests.codes.too_many_requests:
                throttled += 1
                if throttled >= _TRIES_429 or not self._patient:
                    raise ServiceUnavailable(f"SendGrid keeps answering 429 to {label}.")
                self._limits.wait_after_429(response.headers, throttled)
            elif response.status_code >= requests.codes.internal_server_error:
                failures += 1
                asked = self._limits.retry_after(response.headers)
                self._pause(failures, label, f"status {response.status_code}", asked)
            elif response.status_code < requests.codes.multiple_choices:
                return response
            else:
                self._raise(response, label)

    @contextmanager
    def download(self, url: str) -> Iterator[requests.Response]:
        """An export file as a stream of raw bytes, once, without retry.

        The request carries no Authorization: S3 refuses a presigned URL together with it.

        Raises:
            RequestRejected: The link has expired or is wrong.
            requests.RequestException: The connection failed.
        """
        started = time.monotonic()
        host = urlsplit(url).netloc
        headers = {"User-Agent": self._headers["User-Agent"], "Accept-Encoding": "identity"}
        with self._session.get(url, headers=headers, stream=True, timeout=self._timeout) as answer:
            milliseconds = (time.monotonic() - started) * 1000
            logger.debug("GET file at %s -> %d in %.0f ms", host, answer.status_code, milliseconds)
            if answer.status_code >= requests.codes.multiple_choices:
                raise RequestRejected(answer.status_code, f"GET file at {host}", answer.reason)
            yield answer

    def _send(self, method: str, path: str, params: Params | None, body: Any) -> requests.Response:
        if not self._key_is_plain:
            raise InvalidCredentials(self.api_url, "it has characters that no key has")
        asked_at, started = datetime.now(UTC), time.monotonic()
        headers = dict(self._headers)
        data: bytes | None = None
        if body is not None:
            data = msgspec.json.encode(body)
            headers["Content-Type"] = "application/json"
        response = self._session.request(
            method,
            self.api_url + path,
            params=dict(params) if params else None,
            data=data,
            headers=headers,
            timeout=self._timeout,
            allow_redirects=False,
        )
        self._read_clock(response.headers.get("Date"), asked_at + response.elapsed)
        logger.debug(
            "%s %s -> %d in %.0f ms, %d bytes, limit %s/%s",
            method,
            without_addresses(str(response.request.path_url)),
            response.status_code,
            (time.monotonic() - started) * 1000,
            len(response.content),
            response.headers.get("X-RateLimit-Remaining", "?"),
            response.headers.get("X-RateLimit-Limit", "?"),
        )
        return response

    def _sleep_for_limit(self, seconds: float) -> None:
        logger.info("SendGrid's rate limit is reached: waiting %.0f s", seconds)
        self.sleep(seconds)

    def _read_clock(self, date: str | None, answered_at: datetime) -> None:
        """Compare the clocks at the time of the headers: the body may have taken long."""
        if date:
            with suppress(ValueError, TypeError):
                self._clock_offset = parsedate_to_datetime(date) - answered_at

    def _pause(self, failures: int, label: str, reason: str, asked: float | None = None) -> None:
        """Wait 1, 2, 4 … seconds, up to half of it by chance so that clients drift apart.

        An answer may have asked for a longer wait.
        """
        if failures >= self.tries:
            raise ServiceUnavailable(
                f"SendGrid did not answer {label} (tried {failures} times; last: {reason}). "
                "See https://status.sendgrid.com; the next run goes on from here."
            )
        delay = min(2.0 ** (failures - 1), _LONGEST_PAUSE_SECONDS)
        delay *= random.uniform(0.5, 1.0)  # noqa: S311 - no secret depends on it
        delay = max(delay, asked or 0.0)
        logger.info("%s: %s; trying again in %.1f s", label, reason, delay)
        self.sleep(delay)

    def _raise(self, response: requests.Response, label: str) -> None:
        answer = without_addresses(error_text(response))
        status = response.status_code
        lowered = answer.lower()
        if "ip address" in lowered and ("whitelist" in lowered or "allow" in lowered):
            raise IPRestricted(answer)  # seen with 401 and with 403
        if status == requests.codes.unauthorized:
            raise InvalidCredentials(self.api_url, f"HTTP 401: {answer}")
        if status == requests.codes.forbidden:
            raise Forbidden(status, label, answer)
        if status == requests.codes.not_found:
            raise NotFound(status, label, answer)
        raise RequestRejected(status, label, answer)

    @staticmethod
    def _decode(response: requests.Response) -> Any:
        try:
            return msgspec.json.decode(response.content)
        except msgspec.DecodeError:
            request = f"{response.request.method} {urlsplit(str(response.url)).path}"
            raise RequestRejected(
                response.status_code,
                without_addresses(request),
                f"a body that is no JSON ({len(response.content)} bytes); is api_url right?",
            ) from None


def _lacks_rows(data: Any) -> bool:
    """Whether an answer has null in place of its array, as SendGrid's happen to."""
    if isinstance(data, dict):
        return any(data.get(key, ()) is None for key in _ARRAYS)
    return data is None


def new_session() -> requests.Session:
    """A session with enough connections for concurrent reads, and no cookies."""
    session = Session()
    session.cookies.set_policy(DefaultCookiePolicy(allowed_domains=[]))
    adapter = requests.adapters.HTTPAdapter(pool_maxsize=8)
    session.mount("https://", adapter)
    session.mount("http://", adapter)
    return session


def error_text(response: requests.Response) -> str:
    """The messages of an answer's ``errors`` list, or the reason phrase when there is none."""
    try:
        data = msgspec.json.decode(response.content)
    except msgspec.DecodeError:
        return response.reason or f"HTTP {response.status_code}"
    errors = data.get("errors") if isinstance(data, dict) else data
    texts = [
        str(item.get("message"))
        for item in (errors if isinstance(errors, list) else [])
        if isinstance(item, dict) and item.get("message")
    ]
    return "; ".join(texts) or response.reason or f"HTTP {response.status_code}"
