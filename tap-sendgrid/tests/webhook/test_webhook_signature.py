"""The signature check, on a delivery that SendGrid signed and on our own."""

from __future__ import annotations

import base64
from typing import Any

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from hypothesis import given
from hypothesis import strategies as st
from sendgrid_simulator import public_key_text, sign_delivery
from tap_sendgrid.webhook.signature import BadPublicKey, SignedBody, load_public_key

KEY = ec.generate_private_key(ec.SECP256R1())


def is_good(key: str, headers: dict[str, str], body: bytes) -> bool:
    lower = {name.lower(): value.encode() for name, value in headers.items()}
    try:
        signed = SignedBody(
            lower["x-twilio-email-event-webhook-timestamp"],
            lower["x-twilio-email-event-webhook-signature"],
        )
    except ValueError:
        return False
    for start in range(0, len(body), 100):
        signed.update(body[start : start + 100])
    return signed.is_signed_by([load_public_key(key)])


def test_the_real_delivery_is_good(real_delivery: Any) -> None:
    assert is_good(real_delivery.public_key, real_delivery.headers, real_delivery.body)


def test_the_real_delivery_with_any_byte_changed_is_not(real_delivery: Any) -> None:
    for place in range(len(real_delivery.body)):
        body = bytearray(real_delivery.body)
        body[place] ^= 1
        assert not is_good(real_delivery.public_key, real_delivery.headers, bytes(body)), place
    assert not is_good(real_delivery.public_key, real_delivery.headers, real_delivery.body[:-2])


@pytest.mark.parametrize("name", ["Timestamp", "Signature"])
def test_the_real_delivery_with_any_character_of_a_header_changed_is_not(
    real_delivery: Any, name: str
) -> None:
    header = f"X-Twilio-Email-Event-Webhook-{name}"
    value = real_delivery.headers[header]
    for place in range(len(value)):
        changed = value[:place] + ("1" if value[place] != "1" else "2") + value[place + 1 :]
        headers = {**real_delivery.headers, header: changed}
        assert not is_good(real_delivery.public_key, headers, real_delivery.body), place


def test_one_of_several_keys_is_enough() -> None:
    body, headers = sign_delivery([{"event": "open"}], KEY)
    signed = SignedBody(
        headers["X-Twilio-Email-Event-Webhook-Timestamp"].encode(),
        headers["X-Twilio-Email-Event-Webhook-Signature"].encode(),
    )
    signed.update(body)
    others = [ec.generate_private_key(ec.SECP256R1()).public_key() for _ in range(2)]
    assert not signed.is_signed_by(others)
    assert signed.is_signed_by([*others, KEY.public_key()])
    assert not signed.is_signed_by([])


@given(st.binary(max_size=200), st.binary(max_size=200), st.binary(max_size=300))
def test_nothing_made_up_is_good(timestamp: bytes, signature: bytes, body: bytes) -> None:
    for value in (signature, base64.b64encode(signature)):
        try:
            signed = SignedBody(timestamp, value)
        except ValueError:
            continue
        signed.update(body)
        assert not signed.is_signed_by([KEY.public_key()])


def test_keys_are_read_as_sendgrid_shows_them_and_as_pem() -> None:
    text = public_key_text(KEY)
    pem = KEY.public_key().public_bytes(
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    assert len(text) == 124
    for form in (text, f"  {text}\n", pem.decode()):
        assert load_public_key(form) == KEY.public_key()


def rsa_key() -> str:
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048).public_key()
    der = key.public_bytes(
        serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    return base64.b64encode(der).decode()


@pytest.mark.parametrize(
    "text",
    [
        "",
        "SG.abc.def",
        "MFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAE",
        public_key_text(ec.generate_private_key(ec.SECP256R1()))[:-4] + "!!!!",
        public_key_text(ec.generate_private_key(ec.SECP256K1())),
        rsa_key(),
    ],
    ids=["nothing", "an API key", "cut off", "odd characters", "another curve", "RSA"],
)
def test_what_is_no_key_says_what_one_looks_like(text: str) -> None:
    with pytest.raises(BadPublicKey, match="MFkwEwYHKoZIzj0CAQ"):
        load_public_key(text)
