"""The command line, as processes."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
import requests
from cryptography.hazmat.primitives import serialization
from sendgrid_simulator import new_private_key, public_key_text

COMMAND = [sys.executable, "-m", "sendgrid_simulator"]


@contextmanager
def served(*options: str) -> Iterator[dict[str, str]]:
    """A served account; what the command printed about it."""
    with subprocess.Popen([*COMMAND, "serve", *options], stdout=subprocess.PIPE, text=True) as run:
        assert run.stdout is not None
        try:
            yield json.loads(run.stdout.readline())
        finally:
            run.send_signal(signal.SIGTERM)
            assert run.wait(10) in (0, -signal.SIGTERM)


def send(*options):
    return subprocess.run(
        [*COMMAND, "send", *options], capture_output=True, text=True, timeout=60, check=False
    )


def test_serve_prints_how_to_reach_it_and_send_signs_with_its_key(receiver, verify):
    with served("--contacts", "12", "--seed", "6", "--messages", "40") as told:
        auth = {"Authorization": f"Bearer {told['api_key']}"}
        count = requests.get(f"{told['url']}/v3/marketing/contacts/count", headers=auth, timeout=10)
        assert count.json()["contact_count"] == 12
        settings = f"{told['url']}/v3/user/webhooks/event/settings"
        webhook = requests.post(settings, json={"url": receiver.url}, headers=auth, timeout=10)
        signing = f"{settings}/signed/{webhook.json()['id']}"
        key = requests.patch(signing, json={"enabled": True}, headers=auth, timeout=10).json()
        assert key["public_key"] == told["public_key"]
        done = send("--to", receiver.url, "--seed", "6", "--messages", "40")
        assert done.returncode == 0, done.stderr
        found = requests.post(
            f"{told['url']}/v3/logs", json={"limit": 1000}, headers=auth, timeout=10
        )
        logged = {row["sg_message_id"] for row in found.json()["messages"]}
    report = json.loads(done.stdout)
    assert report["acknowledged"] == report["deliveries"] == len(receiver.got)
    posted = set()
    for body, headers in receiver.got:
        verify(told["public_key"], body, headers)
        posted |= {event.get("sg_message_id") for event in json.loads(body)}
    assert posted - {None} == logged


def test_any_option_can_be_set(receiver):
    fault = json.dumps([{"kind": "status", "path": "/v3/scopes", "status": 502}])
    options = ("--set", "worker_delay_seconds=75", "--set", f"faults={fault}")
    with served("--generation", "legacy", *options) as told:
        auth = {"Authorization": f"Bearer {told['api_key']}"}
        status = requests.get(f"{told['url']}/v3/contactdb/status", headers=auth, timeout=10)
        assert status.json()["status"][1]["value"] == "75.0"
        codes = [
            requests.get(f"{told['url']}/v3/scopes", headers=auth, timeout=10).status_code
            for _ in range(2)
        ]
        assert codes == [502, 200]
    refused = subprocess.run(
        [*COMMAND, "serve", "--set", "nothing=1"], capture_output=True, text=True, check=False
    )
    assert refused.returncode == 2
    assert "export_polls" in refused.stderr


def test_send_repeats_shuffles_retries_and_reports(receiver):
    receiver.statuses = [503] * 3
    plain = json.loads(
        send("--to", receiver.url, "--messages", "200", "--retry", "--retry-first", "0.02").stdout
    )
    assert (plain["retried"], plain["failed"], plain["statuses"]["503"]) == (3, 0, 3)
    receiver.got.clear()
    options = ["--repeat-share", "0.1", "--disorder", "--batch", "20", "--unsigned"]
    mixed = json.loads(send("--to", receiver.url, "--messages", "200", *options).stdout)
    assert plain["events"] < mixed["events"] < plain["events"] * 1.2
    assert all("x-twilio-email-event-webhook-signature" not in h for _, h in receiver.got)
    assert max(len(json.loads(body)) for body, _ in receiver.got) == 20


def test_send_signs_with_a_key_of_ones_own(receiver, verify, tmp_path):
    key = new_private_key(99)
    file = tmp_path / "key.pem"
    file.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
    )
    done = send("--to", receiver.url, "--messages", "3", "--key", str(file))
    assert done.returncode == 0, done.stderr
    verify(public_key_text(key), *receiver.got[0])
    file.write_text("no key")
    refused = send("--to", receiver.url, "--key", str(file))
    assert refused.returncode == 2
    assert "is not a private key in PEM form" in refused.stderr


def test_send_fails_when_something_was_not_acknowledged(receiver):
    receiver.statuses = [500]
    done = send("--to", receiver.url, "--messages", "2")
    assert done.returncode == 1
    assert json.loads(done.stdout)["failed"] == 1


@pytest.mark.parametrize("command", ["serve", "send"])
def test_help_names_every_option(command):
    done = subprocess.run([*COMMAND, command, "--help"], capture_output=True, text=True, check=True)
    for option in {"serve": ("--contacts", "--generation", "--seed"), "send": ("--to", "--retry")}[
        command
    ]:
        assert option in done.stdout
