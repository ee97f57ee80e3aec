"""``register`` and ``status`` against a simulated SendGrid."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from typing import Any

import pytest
import requests
from click.testing import CliRunner, Result
from sendgrid_simulator import Simulator, SimulatorOptions
from sendgrid_simulator.webhooks import FLAGS, Webhook
from tap_sendgrid.api.client import Client
from tap_sendgrid.event_log import Delivery, open_event_log, sqlite_path
from tap_sendgrid.webhook.cli import main
from tap_sendgrid.webhook.forward import consumer_name
from tap_sendgrid.webhook.keys import stored_keys
from tap_sendgrid.webhook.register import (
    FORWARD_SETTING,
    PATH_TOKEN_SETTING,
    fetch_keys,
    ids_setting,
    stored_list,
)
from tap_sendgrid.webhook.server import ReceiverFactory
from tap_sendgrid.webhook.settings import ReceiverSettings
from tap_sendgrid.webhook.settings_api import WebhookSettingsApi

BASE = "https://events.example.com"
Run = Callable[..., Result]


@pytest.fixture
def sim() -> Iterator[Simulator]:
    with Simulator(SimulatorOptions(contacts=1, seed=1)) as simulator:
        simulator.account.webhooks.clear()
        yield simulator


@pytest.fixture
def run(sim: Simulator, log_url: str) -> Run:
    def invoke(*arguments: str, **environment: str) -> Result:
        return CliRunner().invoke(
            main,
            arguments,
            env={
                "TAP_SENDGRID_API_KEY": sim.api_key,
                "TAP_SENDGRID_API_URL": sim.url,
                "TAP_SENDGRID_EVENT_LOG_URL": log_url,
                **environment,
            },
        )

    return invoke


def foreign(sim: Simulator, url: str = "https://user:p.w@old.example.com/hook?key=1") -> Webhook:
    webhook = Webhook(f"id-{len(sim.account.webhooks)}", url, enabled=True)
    sim.account.webhooks.append(webhook)
    return webhook


def test_register_creates_a_signed_webhook_with_every_event(
    sim: Simulator, run: Run, log_url: str
) -> None:
    other = foreign(sim)
    result = run("register", "--url", BASE)
    assert result.exit_code == 0, result.output
    [_, webhook] = sim.account.webhooks
    assert webhook.enabled
    assert set(webhook.flags) == set(FLAGS)
    assert all(webhook.flags.values())
    assert webhook.private_key is not None
    log = open_event_log(log_url)
    assert stored_keys(log) == {webhook.id: [webhook.public_key]}
    token = log.get("webhook.path_token")
    assert webhook.url == f"{BASE}/{token}"
    assert webhook.url in result.output
    assert "p.w" not in result.output
    assert "key=1" not in result.output
    assert sim.account.webhooks[0] is other
    assert other.url.endswith("key=1"), "the other webhook is as it was"
    log.close()


def test_register_again_changes_nothing_and_repairs_what_was_switched_off(
    sim: Simulator, run: Run, log_url: str
) -> None:
    run("register", "--url", BASE)
    [webhook] = sim.account.webhooks
    key = webhook.public_key
    sim.requests.clear()
    again = run("register", "--url", BASE + "/")
    assert again.exit_code == 0
    assert {request.method for request in sim.requests} == {"GET"}
    assert "posts to us, enabled, signed" in again.output

    webhook.enabled = False
    webhook.flags["open"] = False
    mended = run("register", "--url", BASE)
    assert "it was off; it did not send open" in mended.output
    assert webhook.enabled
    assert webhook.flags["open"]
    assert webhook.public_key == key

    moved = run("register", "--url", BASE + "/hooks")
    assert moved.exit_code == 0
    assert len(sim.account.webhooks) == 1, "ours moved, no second one was made"
    assert webhook.url.startswith(BASE + "/hooks/")
    log = open_event_log(log_url)
    assert stored_list(log, FORWARD_SETTING) == [], "our own old address gets no copies"
    log.close()


def test_dry_run_only_looks(sim: Simulator, run: Run, log_url: str) -> None:
    result = run("register", "--url", BASE, "--dry-run")
    assert "Would create a webhook with all 12 event types, signed" in result.output
    assert sim.account.webhooks == []
    webhook = foreign(sim)
    result = run("register", "--url", BASE, "--replace", webhook.id, "--dry-run")
    assert "Would update webhook id-0: its URL was https://old.example.com/…" in result.output
    assert "Would pass every delivery on to https://old.example.com/…" in result.output
    assert {request.method for request in sim.requests} == {"GET"}
    assert list(sqlite_path(log_url).parent.iterdir()) == []


def test_dry_run_knows_the_webhook_of_a_log_that_is_there_and_leaves_the_log_as_it_is(
    sim: Simulator, run: Run, log_url: str
) -> None:
    open_event_log(log_url).close()
    assert run("register", "--url", BASE, "--dry-run").exit_code == 0
    log = open_event_log(log_url)
    assert log.get(PATH_TOKEN_SETTING) is None
    assert stored_keys(log) == {}
    log.close()
    assert run("register", "--url", BASE).exit_code == 0
    result = run("register", "--url", BASE, "--dry-run")
    assert "posts to us, enabled, signed" in result.output
    assert "Would" not in result.output


def test_a_path_that_is_given_is_the_log_s_from_then_on(
    sim: Simulator, run: Run, log_url: str
) -> None:
    first = run("register", "--url", BASE, "--path-token", "a-path-of-my-own-1")
    assert first.output.endswith("Next: sendgrid-webhook serve\n")
    [webhook] = sim.account.webhooks
    assert webhook.url == f"{BASE}/a-path-of-my-own-1"
    assert f"deliveries  {webhook.url}\n" in run("url", "--base", BASE).output
    assert "posts here, enabled" in run("status").output
    assert "it is another path" not in run("register", "--url", BASE).output
    assert webhook.url == f"{BASE}/a-path-of-my-own-1"

    dry = run("register", "--url", BASE, "--path-token", "a-path-of-my-own-2", "--dry-run")
    assert "its URL was" in dry.output
    scopes = sim.account.api_keys[sim.api_key]
    sim.account.api_keys[sim.api_key] = frozenset({"user.webhooks.event.settings.read"})
    refused = run("register", "--url", BASE, "--path-token", "a-path-of-my-own-2")
    assert refused.exit_code == 1
    assert "posts here, enabled" in run("status").output, "as SendGrid has the path it had"
    sim.account.api_keys[sim.api_key] = scopes
    moved = run("register", "--url", BASE, "--path-token", "a-path-of-my-own-2")
    assert "Next: start sendgrid-webhook serve again, it is another path" in moved.output
    assert f"deliveries  {webhook.url}\n" in run("url", "--base", BASE).output


def test_a_path_in_the_environment_is_that_of_every_command(sim: Simulator, run: Run) -> None:
    environment = {"SENDGRID_WEBHOOK_PATH_TOKEN": "a-path-of-my-own-1"}
    assert f"{BASE}/a-path-of-my-own-1\n" in run("url", "--base", BASE, **environment).output
    run("register", "--url", BASE, **environment)
    assert "posts here, enabled" in run("status", **environment).output
    other = run("status", "--path-token", "a-path-of-my-own-2")
    assert "posts elsewhere" in other.output
    assert "posts here, enabled" in run("status").output, "status leaves the log as it is"


def test_dry_run_tells_of_a_log_that_is_none(sim: Simulator, run: Run, log_url: str) -> None:
    sqlite_path(log_url).write_text("something else")
    assert run("register", "--url", BASE, "--dry-run").exit_code == 1


def test_a_full_plan_offers_to_take_over_and_keeps_the_old_url(
    sim: Simulator, run: Run, log_url: str
) -> None:
    webhook = foreign(sim)
    object.__setattr__(sim.account.options, "max_webhooks", 1)
    full = run("register", "--url", BASE)
    assert full.exit_code == 1
    assert "allows 1 webhook(s)" in full.output
    assert "id-0  https://old.example.com/…" in full.output
    assert "--replace ID" in full.output
    assert webhook.url.startswith("https://user:p.w@old")

    old = webhook.url
    log = open_event_log(log_url)
    log.append([Delivery(b"[]", datetime.now(UTC))])
    log.close()
    taken = run("register", "--url", BASE, "--replace", "id-0")
    assert taken.exit_code == 0, taken.output
    assert webhook.url.startswith(BASE)
    log = open_event_log(log_url)
    assert stored_list(log, FORWARD_SETTING) == [old]
    assert stored_keys(log)["id-0"] == [webhook.public_key]
    positions = {known.consumer: known.offset for known in log.positions()}
    assert positions == {consumer_name(old): 1}, "what a running receiver takes from now on counts"
    log.close()
    unknown = run("register", "--url", BASE, "--replace", "nobody")
    assert "SendGrid has no webhook 'nobody'" in unknown.output


def test_no_forward_drops_the_old_url(sim: Simulator, run: Run, log_url: str) -> None:
    foreign(sim)
    assert run("register", "--url", BASE, "--replace", "id-0", "--no-forward").exit_code == 0
    log = open_event_log(log_url)
    assert stored_list(log, FORWARD_SETTING) == []
    log.close()


def test_oauth_is_set_up_with_our_token_endpoint(sim: Simulator, run: Run) -> None:
    one = run("register", "--url", BASE, "--oauth-client-id", "me")
    assert one.exit_code == 2
    assert "belong together" in one.output
    both = run(
        "register", "--url", BASE, "--oauth-client-id", "me", "--oauth-client-secret", "s3cret"
    )
    assert both.exit_code == 0, both.output
    assert "s3cret" not in both.output
    [webhook] = sim.account.webhooks
    assert webhook.oauth_client_id == "me"
    assert webhook.oauth_client_secret == "s3cret"
    assert webhook.oauth_token_url == webhook.url + "/oauth/token"


@pytest.mark.parametrize("url", ["events.example.com", "ftp://x", "https://", "https://x/?a=b"])
def test_addresses_sendgrid_could_not_reach_are_refused(run: Run, url: str) -> None:
    result = run("register", "--url", url)
    assert result.exit_code == 1
    assert "is no public address" in result.output


def test_a_missing_permission_is_named(sim: Simulator, run: Run) -> None:
    sim.account.api_keys[sim.api_key] = frozenset({"user.webhooks.event.settings.read"})
    result = run("register", "--url", BASE)
    assert result.exit_code == 1
    assert "lacks the permission user.webhooks.event.settings.create" in result.output
    sim.account.api_keys[sim.api_key] = frozenset({"mail.send"})
    result = run("status")
    assert result.output.startswith("Event log: "), "our own side needs no permission"
    assert "lacks the permission user.webhooks.event.settings.read" in result.output


def test_a_missing_or_wrong_key_is_told(run: Run) -> None:
    none = run("register", "--url", BASE, TAP_SENDGRID_API_KEY="")
    assert none.exit_code == 2
    assert "TAP_SENDGRID_API_KEY" in none.output
    wrong = run("register", "--url", BASE, TAP_SENDGRID_API_KEY="SG.wrong.key")
    assert wrong.exit_code == 1
    assert "Invalid Credentials" in wrong.output


@pytest.mark.parametrize(
    "command",
    [f"register --url {BASE}", "status", "backfill --since 1d"],
)
def test_of_several_subusers_none_is_left_out_silently(
    sim: Simulator, run: Run, log_url: str, command: str
) -> None:
    open_event_log(log_url).close()
    result = run(*command.split(), TAP_SENDGRID_ON_BEHALF_OF="north, south,west")
    assert result.exit_code == 2
    assert "south, west would be left out" in " ".join(result.output.split())
    assert "--on-behalf-of north" in " ".join(result.output.split())
    assert sim.requests == []


def test_the_receiver_fetches_the_keys_of_every_subuser(log_url: str) -> None:
    names = ("north", "south")
    with Simulator(SimulatorOptions(contacts=1, seed=1, subusers=names)) as sim:
        access = ("--event-log-url", log_url, "--api-key", sim.api_key, "--api-url", sim.url)
        for name in names:
            sim.subusers[name].webhooks.clear()
            command = ["register", "--url", BASE, "--on-behalf-of", name, *access]
            assert CliRunner().invoke(main, command).exit_code == 0
        webhooks = [sim.subusers[name].webhooks[0] for name in names]
        for webhook in webhooks:
            webhook.private_key = sim.account.new_signing_key()
        settings = ReceiverSettings(
            log_url, "path", "status", api_key=sim.api_key, api_url=sim.url, subusers=names
        )
        receiver = ReceiverFactory(settings)._receiver()
        assert receiver.keys.refresh()
        keys = stored_keys(receiver.log)
        assert [keys[each.id][0] for each in webhooks] == [each.public_key for each in webhooks]
        receiver.log.close()


def test_status_shows_both_sides(sim: Simulator, run: Run) -> None:
    foreign(sim)
    run("register", "--url", BASE)
    result = run("status")
    assert result.exit_code == 0, result.output
    assert "Consumers: none has committed yet" in result.output
    assert "SendGrid: 2 webhook(s) of 5" in result.output
    assert "posts elsewhere, enabled, NOT SIGNED, without processed" in result.output
    assert "posts here, enabled, signed\n" in result.output
    ours = sim.account.webhooks[1]
    ours.enabled = False
    ours.private_key = sim.account.new_signing_key()
    result = run("status")
    assert "posts here, OFF, signed, its key is not known: run `register`" in result.output
    no_key = run("status", TAP_SENDGRID_API_KEY="")
    assert "SendGrid: not asked" in no_key.output


def test_sendgrids_test_button_reaches_a_registered_receiver(
    sim: Simulator, run: Run, log_url: str, start_receiver: Any
) -> None:
    receiver = start_receiver(public_keys=())
    registered = run(
        "register", "--url", receiver.base, "--path-token", receiver.url.rpartition("/")[2]
    )
    assert registered.exit_code == 0, registered.output
    [webhook] = sim.account.webhooks
    answer = requests.post(
        f"{sim.url}/v3/user/webhooks/event/test",
        json={"id": webhook.id, "url": webhook.url},
        headers={"Authorization": f"Bearer {sim.api_key}"},
        timeout=10,
    )
    assert answer.status_code == 204
    [body] = receiver.bodies
    assert len(json.loads(body)) == 11
    [report] = sim.deliver([{"event": "open", "email": "a@example.com"}] * 3)
    assert report.acknowledged_events == 3


def test_a_key_that_sendgrid_changed_is_fetched_by_the_receiver(
    sim: Simulator, run: Run, log_url: str, start_receiver: Any
) -> None:
    log = open_event_log(log_url)
    client = Client(sim.api_key, sim.url)
    receiver = start_receiver(public_keys=(), fetch=lambda: fetch_keys(client, log))
    token = receiver.url.rpartition("/")[2]
    assert run("register", "--url", receiver.base, "--path-token", token).exit_code == 0
    [webhook] = sim.account.webhooks
    event = {"event": "open", "email": "a@example.com"}
    assert sim.deliver([event])[0].acknowledged == 1
    old = webhook.public_key
    webhook.private_key = sim.account.new_signing_key()
    assert sim.deliver([event])[0].acknowledged == 1
    assert stored_keys(log) == {webhook.id: [webhook.public_key, old]}
    log.close()


def test_a_webhook_that_is_gone_does_not_keep_the_keys_of_others_from_being_fetched(
    sim: Simulator, run: Run, log_url: str, caplog: pytest.LogCaptureFixture
) -> None:
    client = Client(sim.api_key, sim.url)
    run("register", "--url", BASE)
    log = open_event_log(log_url)
    [gone] = sim.account.webhooks
    sim.account.webhooks.clear()
    fetch_keys(client, log)
    assert stored_list(log, ids_setting(None)) == [gone.id], "it may be the address that is wrong"
    run("register", "--url", BASE)
    [webhook] = sim.account.webhooks
    assert stored_list(log, ids_setting(None)) == [gone.id, webhook.id]
    webhook.private_key = sim.account.new_signing_key()
    fetch_keys(client, log)
    assert stored_keys(log)[webhook.id][0] == webhook.public_key
    assert stored_list(log, ids_setting(None)) == [webhook.id], "the one that is gone is forgotten"
    assert gone.id in caplog.text
    assert sim.api_key not in caplog.text
    log.close()


def test_a_key_that_is_none_does_not_keep_others_from_being_fetched(
    sim: Simulator, run: Run, log_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    run("register", "--url", BASE)
    [webhook] = sim.account.webhooks
    log = open_event_log(log_url)
    log.put(ids_setting(None), json.dumps(["odd", webhook.id]))
    webhook.private_key = sim.account.new_signing_key()
    real = WebhookSettingsApi.public_key
    monkeypatch.setattr(
        WebhookSettingsApi,
        "public_key",
        lambda api, webhook_id: "nonsense" if webhook_id == "odd" else real(api, webhook_id),
    )
    fetch_keys(Client(sim.api_key, sim.url), log)
    assert stored_keys(log)[webhook.id][0] == webhook.public_key
    assert stored_list(log, ids_setting(None)) == ["odd", webhook.id]
    log.close()
