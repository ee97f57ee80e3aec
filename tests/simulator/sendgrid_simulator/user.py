"""``/v3/scopes``: what the key may do. Any valid key may call it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sendgrid_simulator.http import Area, Call, json_response

if TYPE_CHECKING:
    from starlette.responses import Response

area = Area()


@area.on("GET", "/v3/scopes")
def scopes(call: Call) -> Response:
    """The scopes of the key that called."""
    key = call.request.headers["authorization"].partition(" ")[2]
    owner = call.account if key in call.account.api_keys else call.simulator.account
    return json_response({"scopes": sorted(owner.api_keys[key])})
