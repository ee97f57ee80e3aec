"""Connections that take proxies and certificates from the environment, and no credentials."""

from __future__ import annotations

import requests
from requests.auth import HTTPBasicAuth
from requests.utils import get_auth_from_url


class Session(requests.Session):
    """A session for which ``~/.netrc`` does not exist.

    With the settings of the environment, which a proxy needs, `requests` also takes netrc's: they
    replaced the API key, and would go to whoever a delivery is forwarded to.
    """

    def prepare_request(self, request: requests.Request) -> requests.PreparedRequest:
        """The request as it is meant: netrc is looked at only where there is no ``auth``."""
        request.auth = request.auth or _as_it_is
        return super().prepare_request(request)

    def rebuild_auth(
        self, prepared_request: requests.PreparedRequest, response: requests.Response
    ) -> None:
        """Behind a redirect, which only links to files are followed through: none at all."""
        prepared_request.headers.pop("Authorization", None)


def _as_it_is(request: requests.PreparedRequest) -> requests.PreparedRequest:
    """Adds only the user and password that stand in the URL."""
    user, password = get_auth_from_url(str(request.url))
    return HTTPBasicAuth(user, password)(request) if user or password else request
