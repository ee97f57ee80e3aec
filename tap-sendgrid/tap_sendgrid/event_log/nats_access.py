"""How a NATS server lets us in: certificates, a credentials file, and a connection that goes on.

nats-py can do all of it, but it reads a damaged credentials file for ever, goes on without TLS when
a server offers none, and gives up for good when credentials run out.
"""

from __future__ import annotations

import base64
import binascii
import logging
import re
import ssl
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, NoReturn

import nats.errors
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from nats.aio.client import Client

from tap_sendgrid.event_log.base import EventLogError

logger = logging.getLogger("tap-sendgrid.event-log")

_BLOCK = r"-----BEGIN {}-----\s+(\S+)\s+-+END {}-+"
_TOKEN = re.compile(_BLOCK.format("NATS USER JWT", "NATS USER JWT"))
_SEED = re.compile(_BLOCK.format("USER NKEY SEED", "USER NKEY SEED"))
_SEED_BYTES = 36
"""A prefix of two, the key's 32, and a CRC-16 of two."""


class Credentials:
    """A file with a user's JWT and the seed of its key, as ``nsc generate creds`` writes it.

    It is read again for each connection, so that it can be replaced before its JWT runs out.
    https://docs.nats.io/running-a-nats-service/nats_admin/security/jwt

    Args:
        path: The file.

    Raises:
        EventLogError: It cannot be read, or holds no credentials; what it holds is not shown.
    """

    def __init__(self, path: str) -> None:
        self._path = path
        self._token, self._key = self._read()

    def token(self) -> bytes:
        """The JWT; of the file as it was if somebody is just replacing it."""
        try:
            self._token, self._key = self._read()
        except EventLogError as error:
            logger.warning("Still using the credentials as they were: %s", error)
        return self._token

    def sign(self, nonce: str) -> bytes:
        """A server's challenge, signed; nats-py asks for this first, and for the JWT then."""
        self.token()
        return base64.b64encode(self._key.sign(nonce.encode()))

    def _read(self) -> tuple[bytes, Ed25519PrivateKey]:
        try:
            text = Path(self._path).read_text(encoding="latin-1")
        except OSError as error:
            self._refuse(error.strerror or repr(error))
        token, seed = _TOKEN.search(text), _SEED.search(text)
        if token is None or seed is None:
            self._refuse("it has no block NATS USER JWT, or none USER NKEY SEED")
        try:
            raw = base64.b32decode(seed[1] + "=" * (-len(seed[1]) % 8))
        except binascii.Error:
            raw = b""
        checksum = binascii.crc_hqx(raw[:-2], 0).to_bytes(2, "little")
        if not seed[1].startswith("SU") or len(raw) != _SEED_BYTES or raw[-2:] != checksum:
            self._refuse("its seed is damaged, or not a user's")
        return token[1].encode(), Ed25519PrivateKey.from_private_bytes(raw[2:-2])

    def _refuse(self, problem: str) -> NoReturn:
        raise EventLogError(
            "unavailable",
            f"the option `creds` names {self._path}, which is no NATS credentials file "
            f"({problem}): make one with `nsc generate creds`",
        )


def tls_context(options: Mapping[str, str]) -> ssl.SSLContext:
    """How servers are authenticated, and we to them.

    Args:
        options: ``tls_ca`` (default: the system's authorities), ``tls_cert`` and ``tls_key``.

    Raises:
        EventLogError: A file cannot be used.
    """
    ca, cert, key = (options.get(f"tls_{name}") for name in ("ca", "cert", "key"))
    try:
        context = ssl.create_default_context(cafile=ca)
    except OSError as error:
        raise _unusable(f"the option `tls_ca` names {ca}", error) from error
    if key and not cert:
        raise EventLogError("unavailable", "the option `tls_key` needs `tls_cert` beside it")
    if cert:
        try:
            context.load_cert_chain(cert, key, password=_no_password)
        except (OSError, _NoPasswordError) as error:
            where = f"the options `tls_cert` and `tls_key` name {cert} and {key or 'no key'}"
            raise _unusable(where, error) from error
    return context


class _NoPasswordError(Exception):
    strerror = "the key has a password: give one without"


def _no_password() -> str:
    """Instead of a question on the terminal, which nobody sees."""
    raise _NoPasswordError


def _unusable(where: str, error: OSError | _NoPasswordError) -> EventLogError:
    return EventLogError("unavailable", f"{where}, which cannot be used: {error.strerror or error}")


class GuardedClient(Client):
    """nats-py's connection, without its surprises.

    Attributes:
        needs_tls: Refuse a server that does not ask for TLS: whoever stands between could take that
            out of the server's greeting, and be given the password.
    """

    needs_tls = False

    async def _process_info(self, info: dict[str, Any], initial_connection: bool = False) -> None:
        """Look at the greeting, before anything is answered to it."""
        if initial_connection and self.needs_tls and not info.get("tls_required"):
            raise nats.errors.SecureConnWantedError
        await super()._process_info(info, initial_connection=initial_connection)

    async def _process_err(self, err_msg: str) -> None:
        """Take a connection that the server ended as lost, not as closed for ever.

        It ends one whose credentials ran out, were revoked, or changed in its configuration.
        """
        if self.is_connected and "permissions violation" not in err_msg.lower():
            error = nats.errors.Error(f"nats: {err_msg.strip(chr(39))}")
            await self._error_cb(error)
            await self._process_op_err(error)
        else:
            await super()._process_err(err_msg)

    async def _close(self, status: int, do_cbs: bool = True) -> None:
        """Close the socket even if what was still to be sent cannot be."""
        try:
            await super()._close(status, do_cbs)
        except OSError:
            transport: Any = self._transport
            if transport is not None:
                transport.close()
                with suppress(OSError):
                    await transport.wait_closed()
