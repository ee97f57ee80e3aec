"""The commands on the log, and the settings that `serve` refuses to start with."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import click
import pytest
from click.testing import CliRunner, Result
from tap_sendgrid.api.settings import ApiSettings
from tap_sendgrid.event_log import Delivery, EventLog, open_event_log
from tap_sendgrid.events.convert import Converter
from tap_sendgrid.events.fields import EVENT_TYPES
from tap_sendgrid.events.reader import convert_delivery
from tap_sendgrid.webhook.cli import main

NOW = datetime.now(UTC)
PATH_TOKEN = "a-path-token-of-these-tests"
SERVE = ["serve", "--allow-unsigned", "--port", "0"]
Run = Callable[..., Result]


@pytest.fixture
def run(log_url: str) -> Run:
    return lambda *arguments: CliRunner().invoke(
        main, arguments, env={"SENDGRID_WEBHOOK_EVENT_LOG_URL": log_url}
    )


@pytest.fixture
def log(log_url: str) -> Iterator[EventLog]:
    event_log = open_event_log(log_url)
    yield event_log
    event_log.close()


def fill(log: EventLog) -> None:
    """Five deliveries, one an hour, the newest an hour old."""
    for number in range(5):
        body = b'[{"event": "open", "n": %d},\r\n{"event": "click",\n "n": %d}]\r\n'
        log.append([Delivery(body % (number, number), NOW - timedelta(hours=5 - number))])


# -- the environment ---------------------------------------------------------------------------


def options_of(command: click.Command) -> Iterator[click.Option]:
    for below in command.commands.values() if isinstance(command, click.Group) else ():
        yield from options_of(below)
    yield from (o for o in command.params if isinstance(o, click.Option) and o.name != "version")


def test_every_option_is_read_from_the_environment_or_named_as_one_that_is_not() -> None:
    assert main.help
    named = set(re.findall(r"--[\w-]+", main.help.partition("except")[2]))
    seen = set()
    for option in options_of(main):
        name = max(option.opts, key=len)
        variables = [option.envvar] if isinstance(option.envvar, str) else option.envvar or []
        expected = f"SENDGRID_WEBHOOK_{name.strip('-').replace('-', '_').upper()}"
        assert (expected in variables) != (name in named), name
        seen.add(name)
    assert named <= seen
    assert {"--dry-run", "--reuse-port", "--no-forward", "--base", "--show", "--yes"} <= seen


def test_a_dry_run_is_asked_for_in_the_environment(
    run: Run, log: EventLog, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill(log)
    monkeypatch.setenv("SENDGRID_WEBHOOK_DRY_RUN", "1")
    assert run("replay", "--offset", "2").output == "Would replay 1 deliveries\n"
    assert log.end() == 5


def test_what_a_command_does_once_is_not_taken_from_the_environment(
    run: Run, log: EventLog, monkeypatch: pytest.MonkeyPatch
) -> None:
    log.quarantine(Delivery(b"x", NOW), "no JSON")
    for name in ("YES", "QUARANTINE_DISCARD_YES", "SINCE", "REPLAY_SINCE"):
        monkeypatch.setenv(f"SENDGRID_WEBHOOK_{name}", "1d" if "SINCE" in name else "1")
    assert run("quarantine", "discard", "1").exit_code == 1
    assert len(log.quarantined()) == 1
    assert "say which deliveries" in run("replay").output


@pytest.mark.parametrize("package", ["cryptography", "uvicorn"])
def test_without_the_extra_its_installation_is_told(package: str, tmp_path: Path) -> None:
    code = f"import sys; sys.modules[{package!r}] = None; sys.argv[1:] = {SERVE}; import runpy; "
    code += "runpy.run_module('tap_sendgrid.webhook', run_name='__main__')"
    ended = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, timeout=60
    )
    assert ended.returncode == 1
    assert "pip install 'tap-sendgrid[webhook]'" in ended.stderr
    assert "Traceback" not in ended.stderr


# -- commands on the log -----------------------------------------------------------------------


def test_replay_appends_what_is_meant_once_more(run: Run, log: EventLog) -> None:
    fill(log)
    assert "Would replay 2 deliveries" in run("replay", "--offset", "2-3", "--dry-run").output
    assert log.end() == 5
    assert run("replay", "--offset", "2-3").output == "Replayed 2 deliveries\n"
    new = list(log.read(5))
    assert [logged.delivery for logged in new] == [logged.delivery for logged in log.read(1, 3)], (
        "with their old time of arrival"
    )
    assert "Replayed 1 " in run("replay", "--offset", "5").output
    since = run("replay", "--since", "90m")
    assert since.output == "Replayed 2 deliveries\n", "the newest and its copy"
    everything = run("replay", "--since", "1970-01-01", "--until", NOW.isoformat())
    assert everything.output == "Replayed 10 deliveries\n"
    assert log.end() == 20
    assert run("replay").exit_code == 2
    assert "no offset" in run("replay", "--offset", "first").output
    assert "no time" in run("replay", "--since", "yesterday").output


def test_export_writes_each_event_as_it_came(log_url: str, log: EventLog) -> None:
    fill(log)
    log.append([Delivery(b"\xff", NOW, {"content-type": "x"})])

    def export(*arguments: str) -> tuple[list[bytes], str]:
        done = subprocess.run(
            [sys.executable, "-m", "tap_sendgrid.webhook", "export", *arguments],
            env={**os.environ, "TAP_SENDGRID_EVENT_LOG_URL": log_url},
            capture_output=True,
            check=True,
        )
        return done.stdout.splitlines(), done.stderr.decode()

    lines, said = export()
    assert lines[:2] == [b'{"event": "open", "n": 0}', b'{"event": "click", "n": 0}']
    assert len(lines) == 10
    assert said.startswith("Left out of delivery 6: not JSON")
    assert said.count("\n") == 1
    lines, _ = export("--offset", "5-6", "--deliveries")
    first, second = map(json.loads, lines)
    assert (first["offset"], second["offset"]) == (5, 6)
    assert first["body"].endswith("]\r\n")
    assert second["body_base64"] == "/w=="
    assert second["headers"] == {"content-type": "x"}


# What the tap makes of a body: how many records, and whether something of it is rejected.
STRANGE = {
    b'{"event": "open"}': (1, False),
    b'\xef\xbb\xbf[{"event":"open"}]': (1, False),
    b'[{"event":"open","n":NaN}]': (1, False),
    b'[{"event":"open","n":"a\nb"}]': (1, False),
    b'[1,{"event":"open"}]': (1, True),
    b'[{"event":"open","n":' + b"[" * 5000 + b"]" * 5000 + b"}]": (0, True),
    b"hello": (0, True),
    b"[]": (0, False),
}


@pytest.mark.parametrize(("body", "outcome"), STRANGE.items())
def test_export_and_retry_agree_with_the_tap(
    run: Run, log: EventLog, body: bytes, outcome: tuple[int, bool]
) -> None:
    converter = Converter({event_type.stream: () for event_type in EVENT_TYPES})
    tap = convert_delivery(converter, Delivery(body, NOW))
    assert (len(tap.records), bool(tap.rejected)) == outcome
    count, is_rejected = outcome
    log.append([Delivery(body, NOW)])
    log.quarantine(Delivery(body, NOW), "why", 1)
    exported = run("export")
    assert len(exported.stdout.splitlines()) == count
    assert all(json.loads(line)["event"] == "open" for line in exported.stdout.splitlines())
    assert ("Left out of delivery 1: " in exported.stderr) is is_rejected
    assert f"Put back {0 if is_rejected else 1} " in run("quarantine", "retry").output
    assert log.status().quarantined == int(is_rejected)


def test_trim_and_forget(run: Run, log: EventLog) -> None:
    fill(log)
    assert "no tap has committed yet" in run("trim", "--older-than", "150m").output
    log.commit("tap-sendgrid", 5)
    log.commit("gone", 1)
    held = run("trim", "--older-than", "150m").output
    assert held.startswith("Dropped 1 deliveries")
    assert "kept for gone" in held
    assert "known: gone, tap-sendgrid" in run("forget", "nobody").output
    assert run("forget", "gone").output == "Forgot gone\n"
    assert run("trim", "--older-than", "150m").output.startswith("Dropped 2 deliveries")
    assert log.status().first == 4


def test_quarantine_commands(run: Run, log: EventLog) -> None:
    assert run("quarantine", "list").output == "Quarantine is empty\n"
    log.quarantine(Delivery(b"hello", NOW), "not a JSON list of events", 1)
    log.quarantine(Delivery(b"[]", NOW), "an old release could not read it", 2)
    log.quarantine(Delivery(b"bye", NOW), "not a JSON list of events", 3)
    listed = run("quarantine", "list", "--show").output
    assert "hello" in listed
    assert "hello" not in run("quarantine", "list").output
    retried = run("quarantine", "retry").output
    assert "Put back 1 deliveries" in retried
    assert "2 still cannot be read" in retried
    assert [logged.delivery.body for logged in log.read(0)] == [b"[]"]
    assert "Put back 1 deliveries" in run("quarantine", "retry", "1", "--force").output
    assert run("quarantine", "discard", "3", "--yes").output == "Deleted 1\n"
    assert log.status().quarantined == 0


def test_quarantine_names_the_ids_it_has_not_got(run: Run, log: EventLog) -> None:
    for number in (1, 2):
        log.quarantine(Delivery(b"[]", NOW), "an old release could not read it", number)
    retried = run("quarantine", "retry", "1", "98", "99")
    assert retried.exit_code == 1
    assert "Put back 1 deliveries" in retried.output, "what is there all the same"
    assert "not in quarantine: 98, 99" in retried.output
    discarded = run("quarantine", "discard", "--yes", "1", "2", "2")
    assert discarded.exit_code == 1
    assert discarded.output == "Deleted 1\nError: not in quarantine: 1\n"
    assert log.status().quarantined == 0
    assert run("quarantine", "retry").exit_code == 0, "all there are may be none"


def test_check_and_repair(run: Run, log: EventLog, tmp_path: Path) -> None:
    fill(log)
    assert run("check").output == "All is well\n"
    assert "is in use" in run("repair").output
    log.close()
    path = tmp_path / "events.db"
    path.write_bytes(path.read_bytes().replace(b'"open", "n": 3', b'"OPEN", "n": 3'))
    bad = run("check")
    assert bad.exit_code == 1
    assert "delivery 4 does not match" in bad.output
    repaired = run("repair").output
    assert "Saved 4 deliveries" in repaired
    assert "1 whose checksum was wrong" in repaired
    assert run("check").output == "All is well\n"


def test_repair_of_an_address_without_a_file(run: Run) -> None:
    for url in ("sqlite:///", "sqlite://events.db", "sqlite:///nowhere.db"):
        result = run("repair", "--event-log-url", url)
        assert result.exit_code == 1
        assert re.search(r"is no SQLite address|there is no event log", result.output)


@pytest.mark.parametrize(
    ("command", "status", "text"),
    [
        ("replay --since 99999999999d", 2, "is before 1970"),
        ("export --since 100000d", 2, "is before 1970"),
        ("trim --older-than 99999999999d", 2, "is before 1970"),
        ("gaps --since 9999-12-31T23:59:59-10:00", 2, "is no time"),
        ("gaps --since 7d --until 0001-01-01", 2, "is before 1970"),
        ("gaps --since 0001-01-01T00:00:00+10:00", 2, "is no time"),
        ("export --since 1d --until 2d", 2, "is not before --until"),
        ("quarantine discard --yes 99999999999999999999999", 2, "is not in the range"),
        ("quarantine retry 99999999999999999999999", 2, "is not in the range"),
        ("status --api-key SG.a.b --api-url api.sendgrid.com", 2, "https://api.sendgrid.com"),
        ("status --api-key SG.a.b --api-url http://[", 2, "https://api.sendgrid.com"),
        ("status --region us", 2, "is not one of 'global', 'eu'"),
        ("replay --offset 500-600", 1, "holds offsets 1 to 5, none of 500-600"),
        ("replay --offset 6 --dry-run", 1, "holds offsets 1 to 5, none of 6"),
        ("export --offset 99999999999999999999999", 1, "holds offsets 1 to 5"),
        ("export --offset 0", 1, "holds offsets 1 to 5, none of 0"),
        ("export --offset 10-5", 2, "write 17, or 17-42"),
    ],
)
def test_what_cannot_be_meant_is_told(
    run: Run, log: EventLog, command: str, status: int, text: str
) -> None:
    fill(log)
    result = run(*command.split())
    assert (result.exit_code, text in " ".join(result.output.split())) == (status, True), (
        result.output
    )
    assert log.end() == 5


@pytest.mark.parametrize(
    ("region", "host"),
    [("EU", "api.eu.sendgrid.com"), ("Global", "api.sendgrid.com"), ("", "api.sendgrid.com")],
)
def test_a_region_is_one_whatever_its_case(
    run: Run, log: EventLog, monkeypatch: pytest.MonkeyPatch, region: str, host: str
) -> None:
    hosts = []

    def settings(found: ApiSettings) -> None:
        hosts.append(found.api_url)
        raise click.UsageError("seen")

    monkeypatch.setattr("tap_sendgrid.webhook.cli.make_client", settings)
    monkeypatch.setenv("TAP_SENDGRID_REGION", region)
    assert run("status", "--api-key", "SG.a.b").exit_code == 2
    assert hosts == [f"https://{host}"]


def test_no_offset_is_held_by_an_empty_log(run: Run, log: EventLog) -> None:
    assert log.end() == 0
    assert "the log is empty" in run("export", "--offset", "1").output


def test_url_prints_the_same_secret_paths_each_time(run: Run) -> None:
    first = run("url", "--base", "https://x.example.com/").output
    assert first == run("url", "--base", "https://x.example.com").output
    assert re.fullmatch(
        r"deliveries  https://x.example.com/[\w-]{43}\n"
        r"status      https://x.example.com/\?token=[\w-]{43}\n",
        first,
    )


@pytest.mark.parametrize("command", ["trim --older-than 1d", "status", "check", "export"])
def test_commands_on_a_log_that_is_not_there(run: Run, command: str) -> None:
    result = run(*command.split())
    assert result.exit_code == 1
    assert "there is no event log at" in result.output


# -- serve: what it refuses to start with ------------------------------------------------------


def test_serve_without_a_key_says_what_to_do(run: Run) -> None:
    result = run("serve", "--port", "0")
    assert result.exit_code == 1
    assert "sendgrid-webhook register --url" in result.output


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (["--public-key", "nonsense"], "MFkwEwYHKoZIzj0CAQ"),
        (["--allow-unsigned", "--oauth-client-id", "x"], "belong together"),
        (["--allow-unsigned", "--host", "256.0.0.1"], "cannot listen"),
        (["--allow-unsigned", "--fd", "99"], "cannot listen on file descriptor 99"),
        (["--allow-unsigned", "--fd", "-1"], "'--fd'"),
        (["--allow-unsigned", "--port", "99999"], "'--port'"),
        (["--allow-unsigned", "--retention-days", "1000000"], "'--retention-days'"),
        (["--allow-unsigned", "--retention-days", "nan"], "'--retention-days'"),
        (["--allow-unsigned", "--clock-window", "nan"], "'--clock-window'"),
    ],
)
def test_serve_refuses_bad_settings(run: Run, arguments: list[str], text: str) -> None:
    result = run("serve", "--port", "0", *arguments)
    assert result.exit_code != 0
    assert text in result.output


@pytest.mark.parametrize(
    "token",
    [
        "short",
        "",
        "with/a/slash/inside",
        "has?query#fragment-xx",
        "with%41percent-sign",
        "with a blank inside",
        "with-an-umlaut-\xe4-in-it",
        "ends-with-a-newline\n",
    ],
)
@pytest.mark.parametrize(
    "command",
    [
        "serve --port 0 --allow-unsigned",
        "register --api-key SG.x --api-url http://127.0.0.1:9 --url https://x.example.com",
    ],
)
def test_a_path_token_is_one_plain_part_of_a_path(
    run: Run, command: str, token: str, tmp_path: Path
) -> None:
    result = run(*command.split(), "--path-token", token)
    assert result.exit_code == 2
    assert "needs 16 or more letters, digits" in result.output
    assert not list(tmp_path.iterdir()), "before the log is made"


def test_a_binary_file_is_no_key_and_half_an_address_none(run: Run, tmp_path: Path) -> None:
    (tmp_path / "key").write_bytes(b"\x00\xff\xfe")
    result = run("serve", "--port", "0", "--public-key-file", str(tmp_path / "key"))
    assert result.exit_code == 1
    assert "MFkwEwYHKoZIzj0CAQ" in result.output
    result = run("register", "--api-key", "SG.x", "--url", "http://[::1")
    assert result.exit_code == 1
    assert "is no public address" in result.output
