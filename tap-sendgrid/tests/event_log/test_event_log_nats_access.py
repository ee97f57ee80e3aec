"""Who a NATS server lets in: by password, credentials file, certificate; what is said if not."""

from __future__ import annotations

import datetime as dt
import gc
import ipaddress
import logging
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from nats_accounts import Operator, secrets_of
from tap_sendgrid.event_log import Delivery, EventLog, EventLogError

# nats-py leaves the sockets of refused connections to the garbage collector.
pytestmark = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")

MakeServer = Callable[..., Any]
OpenLog = Callable[..., EventLog]


def delivery(text: str) -> Delivery:
    return Delivery(text.encode(), datetime.now(UTC))


def test_user_and_password(
    make_nats_server: MakeServer,
    open_log: OpenLog,
    caplog: pytest.LogCaptureFixture,
) -> None:
    server = make_nats_server('authorization { user: "me", password: "s3cret/pw" }\n')
    open_log(f"nats://me:s3cret%2Fpw@127.0.0.1:{server.port}/events").append([delivery("a")])
    with pytest.raises(EventLogError, match=r"[Aa]uthorization") as caught:
        open_log(f"nats://me:wr0ng@127.0.0.1:{server.port}/events")
    assert "wr0ng" not in str(caught.value) + caplog.text


@pytest.fixture(autouse=True)
def _collect_sockets() -> Iterator[None]:
    """Before another module's tests, which do not expect such sockets."""
    yield
    gc.collect()


# -- credentials files -------------------------------------------------------------------------


@pytest.fixture
def write_creds(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> Iterator[Callable[[str], Path]]:
    """Writes a credentials file; nothing that is secret in it may be logged."""
    secret: list[str] = []

    def write(content: str) -> Path:
        secret.extend(secrets_of(content))
        path = tmp_path / "events.creds"
        path.write_text(content)
        return path

    with caplog.at_level(logging.DEBUG):
        yield write
        assert not [each for each in secret if each in caplog.text]


@pytest.fixture
def operator() -> Operator:
    return Operator()


def creds_url(server: Any, path: Path, more: str = "") -> str:
    return f"nats://127.0.0.1:{server.port}/events?creds={path}{more}"


@pytest.mark.parametrize("line_end", ["\n", "\r\n"])
def test_a_credentials_file_lets_us_in(
    make_nats_server: MakeServer,
    open_log: OpenLog,
    operator: Operator,
    write_creds: Callable[[str], Path],
    line_end: str,
) -> None:
    server = make_nats_server(operator.server_config())
    path = write_creds(operator.credentials())
    path.write_bytes(path.read_text().replace("\n", line_end).encode())
    log = open_log(creds_url(server, path))
    assert log.append([delivery("a"), delivery("b")]) == [1, 2]
    log.commit("tap", 1)
    assert [each.delivery.body for each in log.read(1)] == [b"b"]
    with pytest.raises(EventLogError, match="creds"):
        open_log(f"nats://127.0.0.1:{server.port}/events")


def test_credentials_that_the_server_does_not_know(
    make_nats_server: MakeServer,
    open_log: OpenLog,
    operator: Operator,
    write_creds: Callable[[str], Path],
) -> None:
    server = make_nats_server(operator.server_config())
    for foreign in (Operator().credentials(), operator.credentials(seconds=-60)):
        path = write_creds(foreign)
        with pytest.raises(EventLogError, match=r"Authorization Violation.*`creds`") as caught:
            open_log(creds_url(server, path))
        assert not [each for each in secrets_of(foreign) if each in str(caught.value)]


def test_a_file_that_holds_no_credentials(
    nats_server: Any,
    open_log: OpenLog,
    operator: Operator,
    write_creds: Callable[[str], Path],
) -> None:
    good = operator.credentials()
    token, seed = secrets_of(good)
    for damaged in (
        good.replace(token, ""),
        good.replace(seed, ""),
        good.replace("NATS USER JWT", "SOMETHING"),
        good.replace("USER NKEY SEED", "SOMETHING"),
        good.replace(seed, seed[:-3] + "AAA"),
        good.replace(seed, seed[:-1] + "1"),
        good.replace(seed, "SO" + seed[2:]),
        good.replace(seed, seed[:20]),
        "\xff" * 50,
        "",
    ):
        path = write_creds(good)
        path.write_text(damaged)
        with pytest.raises(EventLogError, match=r"`creds` names") as caught:
            open_log(creds_url(nats_server, path))
        assert str(path) in str(caught.value)
        assert seed[:20] not in str(caught.value)
    for other in (path.with_name("missing.creds"), path.parent):
        with pytest.raises(EventLogError, match=r"`creds` names.*(No such file|Is a directory)"):
            open_log(creds_url(nats_server, other))


def test_credentials_that_run_out_are_read_anew(
    make_nats_server: MakeServer,
    open_log: OpenLog,
    operator: Operator,
    write_creds: Callable[[str], Path],
) -> None:
    server = make_nats_server(operator.server_config())
    path = write_creds(operator.credentials(seconds=3))
    log = open_log(creds_url(server, path, "&timeout=1"))
    log.append([delivery("a")])
    assert "authorization violation" in append_until_refused(log, 10)
    path.write_text("half a fi")  # whoever replaces it may be in the middle
    time.sleep(1.5)
    write_creds(operator.credentials())
    deadline = time.monotonic() + 15
    while True:
        try:
            log.append([delivery("c")])
            break
        except EventLogError:
            assert time.monotonic() < deadline
            time.sleep(0.2)
    assert [each.delivery.body for each in log.read(0)][-1] == b"c"


def append_until_refused(log: EventLog, seconds: float) -> str:
    """Append until the server has thrown us out and does not let us in again; what is said."""
    said, deadline = "", time.monotonic() + seconds
    while "authorization" not in said and time.monotonic() < deadline:
        try:
            log.append([delivery("b")])
        except EventLogError as error:
            said = str(error).lower()
        time.sleep(0.1)
    return said


def test_closing_is_no_trouble_while_the_server_is_away(
    make_nats_server: MakeServer, open_log: OpenLog
) -> None:
    server = make_nats_server()
    log = open_log(f"nats://127.0.0.1:{server.port}/events?timeout=1")
    server.kill()
    with pytest.raises(EventLogError):
        log.append([delivery("a")])
    log.close()


def test_a_user_that_may_not_use_jetstream(
    make_nats_server: MakeServer,
    open_log: OpenLog,
    operator: Operator,
    write_creds: Callable[[str], Path],
) -> None:
    server = make_nats_server(operator.server_config())
    path = write_creds(operator.credentials({"pub": {"allow": ["other.>"]}}))
    with pytest.raises(EventLogError, match=r"(?i)permissions violation.*STREAM\.INFO"):
        open_log(creds_url(server, path, "&timeout=1"))


# -- certificates ------------------------------------------------------------------------------


def certificates(folder: Path) -> None:
    """A certificate authority, and a server and a client certificate of it."""

    def write(name: str, data: bytes) -> None:
        (folder / name).write_bytes(data)

    def name(text: str) -> x509.Name:
        return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)])

    ca_key = ec.generate_private_key(ec.SECP256R1())
    now = datetime.now(dt.UTC)

    def certificate(subject: str, key: ec.EllipticCurvePrivateKey, *, ca: bool) -> None:
        built = (
            x509.CertificateBuilder()
            .subject_name(name(subject))
            .issuer_name(name("ca"))
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - timedelta(days=1))
            .not_valid_after(now + timedelta(days=1))
            .add_extension(x509.BasicConstraints(ca=ca, path_length=None), critical=True)
            .add_extension(
                x509.SubjectAlternativeName(
                    [x509.IPAddress(ipaddress.ip_address("127.0.0.1")), x509.DNSName("localhost")]
                ),
                critical=False,
            )
            .sign(ca_key, hashes.SHA256())
        )
        write(f"{subject}.pem", built.public_bytes(serialization.Encoding.PEM))
        write(
            f"{subject}.key",
            key.private_bytes(
                serialization.Encoding.PEM,
                serialization.PrivateFormat.PKCS8,
                serialization.NoEncryption(),
            ),
        )

    certificate("ca", ca_key, ca=True)
    for subject in ("server", "client"):
        certificate(subject, ec.generate_private_key(ec.SECP256R1()), ca=False)


def test_tls_with_client_certificates(
    tmp_path: Path,
    make_nats_server: MakeServer,
    open_log: OpenLog,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("tap_sendgrid.event_log.nats_client.CONNECT_SECONDS", 2.0)
    certificates(tmp_path)
    server = make_nats_server(
        f'tls {{ cert_file: "{tmp_path}/server.pem", key_file: "{tmp_path}/server.key", '
        f'ca_file: "{tmp_path}/ca.pem", verify: true }}\n'
    )
    base = f"tls://127.0.0.1:{server.port}/events?tls_ca={tmp_path}/ca.pem"
    client = f"&tls_cert={tmp_path}/client.pem&tls_key={tmp_path}/client.key"
    log = open_log(base + client)
    assert log.append([delivery("a")]) == [1]
    with pytest.raises(EventLogError):
        open_log(base)
    with pytest.raises(EventLogError):
        open_log(f"tls://127.0.0.1:{server.port}/events")


def test_tls_is_not_given_up_for_a_server_that_has_none(
    tmp_path: Path, make_nats_server: MakeServer, open_log: OpenLog
) -> None:
    """Whoever stands between could take TLS out of the server's greeting, and read the password."""
    certificates(tmp_path)
    server = make_nats_server('authorization { user: "me", password: "pw" }\ndebug: true\n')
    for options in ("", f"?tls_ca={tmp_path}/ca.pem"):
        with pytest.raises(EventLogError, match="TLS"):
            open_log(f"tls://me:pw@127.0.0.1:{server.port}/events{options}")


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ("?tls_ca={0}/missing.pem", "tls_ca"),
        ("?tls_ca={0}/no.pem", "tls_ca"),
        ("?tls_cert={0}/missing.pem", "tls_cert"),
        ("?tls_cert={0}/client.pem&tls_key={0}/missing.key", "tls_key"),
        ("?tls_cert={0}/client.pem&tls_key={0}/server.key", "tls_key"),
        ("?tls_cert={0}/client.pem&tls_key={0}/locked.key", "tls_key"),
        ("?tls_key={0}/client.key", "tls_cert"),
    ],
)
def test_files_that_hold_no_certificates(
    tmp_path: Path, nats_server: Any, open_log: OpenLog, options: str, says: str
) -> None:
    certificates(tmp_path)
    (tmp_path / "no.pem").write_text("not a certificate")
    key = serialization.load_pem_private_key((tmp_path / "client.key").read_bytes(), None)
    locked = serialization.BestAvailableEncryption(b"pw")
    pem = serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8
    (tmp_path / "locked.key").write_bytes(key.private_bytes(*pem, locked))
    with pytest.raises(EventLogError, match=f"`{says}`"):
        open_log(f"tls://127.0.0.1:{nats_server.port}/events{options.format(tmp_path)}")
