"""What all endpoints share: the call, errors, JSON answers, pages, and how they are declared."""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import msgspec
from starlette.responses import Response

from sendgrid_simulator.times import parse_time

if TYPE_CHECKING:
    from starlette.requests import Request

    from sendgrid_simulator.account import Account
    from sendgrid_simulator.server import Simulator

_DATE = re.compile(r"\d{4}-\d\d-\d\d")

Family = Literal["marketing", "legacy", "any"]


class ApiError(Exception):
    """An answer that is an error, with SendGrid's exact body.

    Args:
        status: The HTTP status.
        message: The text of the one error in the body.
        extra: Further members of that error; ``{"field": None}`` by default.
    """

    def __init__(self, status: int, message: str, extra: dict[str, Any] | None = None) -> None:
        super().__init__(message)
        self.status = status
        members = {"field": None} if extra is None else extra
        self.body = {"errors": [{**members, "message": message}]}


def forbidden() -> ApiError:
    """403: a missing scope, the other marketing generation, or an address that is not allowed."""
    return ApiError(403, "access forbidden")


def not_found() -> ApiError:
    """404, as campaigns and most others word it."""
    return ApiError(404, "not found")


def json_response(data: Any, status: int = 200) -> Response:
    """``data`` as compact JSON."""
    return Response(msgspec.json.encode(data), status, media_type="application/json")


@dataclass
class Call:
    """One request that passed the gate, with the account that it acts on.

    Attributes:
        request: Starlette's request.
        body: The raw body.
        account: The account, or the subuser named by ``on-behalf-of``.
        simulator: The server.
        null_result: A fault asks for ``null`` in place of the result array.
    """

    request: Request
    body: bytes
    account: Account
    simulator: Simulator
    null_result: bool = False

    @property
    def base_url(self) -> str:
        """Scheme, host and port that the client called, without a slash at the end."""
        return str(self.request.base_url).rstrip("/")

    def query(self, name: str, default: str = "") -> str:
        """A parameter of the query string."""
        return self.request.query_params.get(name, default)

    def param(self, name: str) -> str:
        """A parameter of the path."""
        return str(self.request.path_params[name])

    def integer(self, name: str, default: int, low: int, high: int | None = None) -> int:
        """A number from the query string; 400 when it is none or out of bounds."""
        text = self.query(name)
        if not text:
            return default
        try:
            value = int(text)
        except ValueError:
            raise ApiError(400, f"{name} must be an integer", {"field": name}) from None
        if value < low or (high is not None and value > high):
            bounds = f"at least {low}" if high is None else f"between {low} and {high}"
            raise ApiError(400, f"{name} must be {bounds}", {"field": name})
        return value

    def date(self, name: str) -> int | None:
        """Midnight UTC of a date from the query string, None when it is not there; else 400."""
        text = self.query(name)
        if not text:
            return None
        try:
            if _DATE.fullmatch(text):
                return int(parse_time(text))
        except ValueError:
            pass  # a day that no month has
        raise ApiError(400, f"{name} must be a date, YYYY-MM-DD", {"field": name})

    def json(self) -> Any:
        """The body as JSON, None when there is none; 400 when it is not JSON."""
        if not self.body.strip():
            return None
        try:
            return msgspec.json.decode(self.body)
        except msgspec.DecodeError:
            raise ApiError(400, "request body is invalid") from None

    def json_object(self) -> dict[str, Any]:
        """The body as a JSON object, empty when there is none; 400 for anything else."""
        data = self.json()
        if data is None:
            return {}
        if not isinstance(data, dict):
            raise ApiError(400, "request body is invalid")
        return data


def ids_in(body: dict[str, Any], name: str) -> list[str | int]:
    """An optional array of ids in a body; 400 for anything else."""
    ids = body.get(name)
    if ids is None:
        return []
    if not isinstance(ids, list) or not all(isinstance(key, str | int) for key in ids):
        raise ApiError(400, f"{name} must be an array of ids", {"field": name})
    return ids


Handler = Callable[[Call], Response | Awaitable[Response]]


@dataclass(frozen=True)
class Endpoint:
    """A method and path of the API, what it takes to call it, and what answers.

    Attributes:
        method: The HTTP method.
        path: The path, with parameters in braces.
        handler: What answers.
        scope: A scope that the key must have (one of them, when there are several).
        family: The marketing generation that the account must have.
        eu: Whether the official spec lists the EU server for it.
    """

    method: str
    path: str
    handler: Handler
    scope: tuple[str, ...] = ()
    family: Family = "any"
    eu: bool = True


class Area:
    """Collects the endpoints of one part of the API, as their functions are defined."""

    def __init__(self, *scope: str, family: Family = "any", eu: bool = True) -> None:
        self.endpoints: list[Endpoint] = []
        self._scope = scope
        self._family: Family = family
        self._eu = eu

    def on(self, method: str, path: str, *scope: str) -> Callable[[Handler], Handler]:
        """Declares the decorated function as the answer to ``method path``."""

        def declare(handler: Handler) -> Handler:
            endpoint = Endpoint(method, path, handler, scope or self._scope, self._family, self._eu)
            self.endpoints.append(endpoint)
            return handler

        return declare


def token_page(
    call: Call,
    rows: Sequence[Any],
    *,
    default: int = 100,
    high: int = 1000,
    count: bool = True,
) -> tuple[Sequence[Any], dict[str, Any]]:
    """One page of the current generation: the rows, and ``_metadata`` with absolute URLs.

    ``next`` is absent on the last page, ``prev`` on the first. The token is opaque to clients.
    """
    size = call.integer("page_size", default, 1, high)
    token = call.query("page_token")
    if token and not re.fullmatch(r"[0-9a-z]{1,12}", token):
        raise ApiError(400, "page_token is invalid", {"field": "page_token"})
    start = int(token or "0", 36)

    def url(offset: int) -> str:
        parameters = [
            (name, value)
            for name, value in call.request.query_params.multi_items()
            if name not in ("page_size", "page_token")
        ]
        parameters += [("page_size", str(size)), ("page_token", _base36(offset) if offset else "")]
        text = "&".join(f"{name}={value}" for name, value in parameters)
        return f"{call.base_url}{call.request.url.path}?{text}"

    metadata: dict[str, Any] = {"self": url(start)}
    if start > 0:
        metadata["prev"] = url(max(0, start - size))
    if start + size < len(rows):
        metadata["next"] = url(start + size)
    if count:
        metadata["count"] = len(rows)
    return rows[start : start + size], metadata


def paged(
    call: Call, rows: Sequence[Any], metadata: dict[str, Any], key: str = "result"
) -> Response:
    """The answer of a paged endpoint; ``null`` in place of the rows when a fault asks for it."""
    return json_response({key: None if call.null_result else list(rows), "_metadata": metadata})


def _base36(number: int) -> str:
    digits = "0123456789abcdefghijklmnopqrstuvwxyz"
    text = ""
    while number:
        number, digit = divmod(number, 36)
        text = digits[digit] + text
    return text
