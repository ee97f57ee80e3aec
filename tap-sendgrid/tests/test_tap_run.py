"""Whole runs: problems told and counted, and the command line as a process."""

from __future__ import annotations

import io
import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import redirect_stdout, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from sendgrid_simulator import Fault, Simulator, SimulatorOptions
from tap_sendgrid.api.client import default_sleep
from tap_sendgrid.api.errors import InvalidCredentials, InvalidSetting, IPRestricted, MissingApiKey
from tap_sendgrid.event_log import open_event_log
from tap_sendgrid.tap import TapSendGrid

if TYPE_CHECKING:
    from conftest import TapRunner

    Serve = Callable[..., TapRunner]

FOUR = ("lists", "segments", "recipients", "campaigns")


# -- problems of SendGrid ---------------------------------------------------------------------


def test_a_rejected_key_stops_the_run_at_once(serve: Serve) -> None:
    run = serve()
    catalog = run.catalog(*FOUR)
    with pytest.raises(InvalidCredentials, match="Invalid Credentials"):
        run(catalog=catalog, api_key="SG.wrong.key")
    assert len(run.simulator.requests) == 2  # discovery's, and the one that was rejected


def test_a_rejected_key_of_recipients_is_tried_once(serve: Serve) -> None:
    run = serve()
    catalog = run.catalog("recipients")
    before = len(run.simulator.requests)
    with pytest.raises(InvalidCredentials):
        run(catalog=catalog, api_key="SG.wrong.key")
    assert len(run.simulator.requests) == before + 1


def test_a_start_date_that_is_none_is_told(serve: Serve) -> None:
    with pytest.raises(InvalidSetting, match="start_date"):
        serve()("lists", start_date="last week")


def test_a_start_date_may_be_a_day(serve: Serve) -> None:
    assert serve(campaigns=3)("campaigns", start_date="2000-01-01").records("campaigns")


def test_an_address_that_is_not_allowed_stops_the_run(serve: Serve) -> None:
    run = serve(allowed_ips=("10.0.0.1",))
    with pytest.raises(IPRestricted):
        run(*FOUR)


def test_no_key_is_only_missed_when_an_object_stream_is_selected(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'events.db'}"
    open_event_log(url).close()
    catalog = TapSendGrid(config={}).catalog_dict
    with pytest.raises(MissingApiKey, match="campaigns, lists, recipients, segments"):
        TapSendGrid(config={"event_log_url": url}, catalog=catalog | {}).sync_all()
    for stream in catalog["streams"]:
        for entry in stream["metadata"]:
            if not entry["breadcrumb"]:
                entry["metadata"]["selected"] = stream["stream"] == "delivered"
    TapSendGrid(config={"event_log_url": url}, catalog=catalog).sync_all()


def test_an_account_without_marketing_campaigns_syncs_nothing_and_that_is_no_fault(
    serve: Serve, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level("INFO"):
        output = serve(generation="none")(*FOUR)
    assert output.of("RECORD") == []
    assert {message["stream"] for message in output.of("SCHEMA")} == set(FOUR)
    assert "Zero data synced: campaigns, lists, recipients, segments" in caplog.text
    assert not output.incomplete


def test_a_missing_scope_skips_the_collection_names_the_scope_and_goes_on(serve: Serve) -> None:
    run = serve(scopes=("marketing.read", "mail.send"))
    output = run("lists", "suppression_bounces", "templates")
    assert len(output.records("lists")) == 3
    failed = output.tap.report.failed
    assert set(failed) == {"suppression_bounces", "templates"}
    assert "suppression.read or suppression.bounces.read" in failed["suppression_bounces"]
    assert "templates.read" in failed["templates"]
    assert "2 selected collection(s)" in output.incomplete
    assert output.called.count("GET /v3/scopes") == 1


def test_without_any_marketing_scope_the_scope_is_named(serve: Serve) -> None:
    output = serve(scopes=("mail.send",))("lists")
    assert "marketing.read" in output.tap.report.failed["lists"]


def test_a_subuser_that_is_none_holds_up_no_other(serve: Serve) -> None:
    output = serve(subusers=("north",))("suppression_bounces", on_behalf_of=["nort", "north"])
    failed = output.tap.report.failed
    assert set(failed) == {"suppression_bounces of nort"}
    assert "check the name in the setting on_behalf_of" in failed["suppression_bounces of nort"]
    assert {record["subuser"] for record in output.records("suppression_bounces")} == {"north"}
    states = output.bookmark("suppression_bounces")["partitions"]
    moved = [state["context"] for state in states if "replication_key_value" in state]
    assert moved == [{"subuser": "north"}]


@pytest.mark.parametrize("status", [404, 503])
def test_a_403_that_cannot_be_explained_holds_up_no_other(serve: Serve, status: int) -> None:
    run = serve(scopes=("templates.read",), templates=2)
    run.simulator.faults.append(Fault("status", path="/v3/scopes", status=status, times=99))
    output = run("suppression_bounces", "templates")
    assert set(output.tap.report.failed) == {"suppression_bounces"}
    assert "403" in output.tap.report.failed["suppression_bounces"]
    assert output.bookmark("suppression_bounces") == {}
    assert output.records("templates")


def test_the_wrong_generation_by_setting_is_told(serve: Serve) -> None:
    output = serve(generation="legacy")("lists", api_generation="marketing")
    assert "api_generation" in output.tap.report.failed["lists"]


def test_a_collection_that_fails_holds_up_no_other(serve: Serve) -> None:
    run = serve(contacts=5)
    run.simulator.faults.append(Fault("status", path="/v3/marketing/lists", status=500, times=99))
    output = run(*FOUR)
    assert set(output.tap.report.failed) == {"lists"}
    assert all(output.records(stream) for stream in FOUR if stream != "lists")


@pytest.mark.parametrize("generation", ["marketing", "legacy"])
def test_a_generation_that_is_set_is_not_probed(serve: Serve, generation: str) -> None:
    output = serve(generation=generation)("lists", api_generation=generation)
    path = "marketing" if generation == "marketing" else "contactdb"
    assert output.called == [f"GET /v3/{path}/lists"]
    assert len(output.records("lists")) == 3


def test_the_probe_is_made_once_for_all_streams(serve: Serve) -> None:
    output = serve(contacts=5)(*FOUR)
    assert output.called.count("GET /v3/marketing/field_definitions") == 1


def test_a_signal_ends_a_wait_for_the_rate_limit(
    serve: Serve, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    run = serve(campaigns=12, rate_limits={"/v3/marketing/singlesends/{id}": (3, 60)})
    tap = TapSendGrid(config=run.settings(), catalog=run.catalog("campaigns"))
    waits: list[float] = []

    def sleep(seconds: float) -> None:
        waits.append(seconds)
        if len(waits) == 1:
            signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGUSR1)
        default_sleep(seconds)

    monkeypatch.setattr("tap_sendgrid.api.client.default_sleep", sleep)
    before = signal.signal(signal.SIGUSR1, tap._handle_termination)
    started = time.monotonic()
    with redirect_stdout(io.StringIO()), pytest.raises(SystemExit):
        tap.sync_all()
    signal.signal(signal.SIGUSR1, before)
    assert time.monotonic() - started < 10 < waits[0]
    assert "Stopped by a signal while campaigns was read" in caplog.text


def test_normal_lines_avoid_words_that_meltano_takes_for_failure(
    serve: Serve, caplog: pytest.LogCaptureFixture
) -> None:
    run = serve(contacts=50)
    run.simulator.faults.append(Fault("cut", path="/v3/marketing/lists"))
    run.simulator.faults.append(Fault("status", path="/downloads/", status=403))
    with caplog.at_level("INFO"):
        run(*FOUR)
    text = caplog.text.lower()
    assert "trying again" in text
    assert "error" not in text
    assert "exception" not in text


# -- the process ------------------------------------------------------------------------------

TAP = Path(sys.executable).with_name("tap-sendgrid")
CLEAN = {k: v for k, v in os.environ.items() if not k.startswith(("TAP_SENDGRID_", "LOGLEVEL"))}


@pytest.fixture(scope="module")
def simulator() -> Iterator[Simulator]:
    with Simulator(SimulatorOptions(contacts=60_000, seed=3)) as running:
        yield running


def environment(simulator: Simulator, tmp_path: Path, **more: str) -> dict[str, str]:
    return {
        **CLEAN,
        "TAP_SENDGRID_API_KEY": simulator.api_key,
        "TAP_SENDGRID_API_URL": simulator.url,
        "TAP_SENDGRID_EVENT_LOG_URL": f"sqlite:///{tmp_path / 'events.db'}",
        **more,
    }


def command(*arguments: str, env: dict[str, str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [TAP, *arguments], env=env, capture_output=True, text=True, timeout=60, check=False
    )


def test_discovery_works_offline_with_nothing_set(tmp_path: Path) -> None:
    done = command("--discover", env={**CLEAN, "HOME": str(tmp_path)})
    assert done.returncode == 0
    streams = json.loads(done.stdout)["streams"]
    assert len(streams) == 31
    for stream in streams:
        assert stream["key_properties"] == ["id"]
        properties = stream["schema"]["properties"]
        assert all(p.get("description") and (p.get("type")) for p in properties.values())


def test_discovery_with_a_key_and_no_network_is_quick() -> None:
    env = {**CLEAN, "TAP_SENDGRID_API_KEY": "SG.a.b", "TAP_SENDGRID_API_URL": "http://127.0.0.1:9"}
    began = time.monotonic()
    done = command("--config=ENV", "--discover", env=env)
    assert done.returncode == 0
    assert time.monotonic() - began < 10


def test_as_a_module() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "tap_sendgrid", "--help"], capture_output=True, text=True, check=True
    )
    assert done.stdout.startswith("Usage: tap-sendgrid ")


def test_about_describes_every_setting() -> None:
    done = command("--about", "--format=json", env=CLEAN)
    about = json.loads(done.stdout)
    settings = about["settings"]["properties"]
    assert settings["api_key"]["secret"] is True
    ours = set(TapSendGrid.config_jsonschema["properties"])
    assert {"api_key", "region", "start_date", "follow", "event_log_url"} <= ours
    assert all(settings[name].get("title") and settings[name].get("description") for name in ours)


@pytest.mark.parametrize("text", ['{"a": 1,}', "[1]", None])
@pytest.mark.parametrize("option", ["--config", "--catalog", "--state"])
def test_a_file_that_is_no_json_is_named(tmp_path: Path, option: str, text: str | None) -> None:
    file = tmp_path / "given.json"
    if text is not None:
        file.write_text(text)
    done = command("--config=ENV", option, str(file), env=CLEAN)
    assert done.returncode == 2
    assert option in done.stderr
    assert str(file) in done.stderr
    assert "Traceback" not in done.stderr


def test_a_rejected_key_exits_1_without_a_traceback(simulator: Simulator, tmp_path: Path) -> None:
    env = environment(simulator, tmp_path, TAP_SENDGRID_API_KEY="SG.no.secretpart")
    done = command("--config=ENV", env=env)
    assert done.returncode == 1
    assert "Invalid Credentials" in done.stderr
    assert "Traceback" not in done.stderr
    assert "secretpart" not in done.stderr + done.stdout


def test_test_is_the_doctor(simulator: Simulator, tmp_path: Path) -> None:
    good = command("--config=ENV", "--test", env=environment(simulator, tmp_path))
    assert (good.returncode, good.stdout[:11]) == (0, "ok    API k")
    bad = command(
        "--config=ENV", "--test", env=environment(simulator, tmp_path, TAP_SENDGRID_API_KEY="x")
    )
    assert bad.returncode == 1
    assert bad.stdout.startswith("FAIL  API key")


def test_debug_traces_each_request_without_secrets(simulator: Simulator, tmp_path: Path) -> None:
    catalog = only("recipients", tmp_path)
    env = environment(simulator, tmp_path, TAP_SENDGRID_LOGLEVEL="DEBUG")
    done = command("--config=ENV", "--catalog", str(catalog), env=env)
    assert "GET /v3/marketing/field_definitions -> 200" in done.stderr
    assert simulator.api_key not in done.stderr
    assert "X-Amz-Signature" not in done.stderr
    assert "@" not in done.stderr


def only(stream: str, tmp_path: Path) -> Path:
    catalog = TapSendGrid(config={}).catalog_dict
    for entry in catalog["streams"]:
        for item in entry["metadata"]:
            if not item["breadcrumb"]:
                item["metadata"]["selected"] = entry["stream"] == stream
    path = tmp_path / "catalog.json"
    path.write_text(json.dumps(catalog))
    return path


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_a_run_that_is_stopped_is_finished_by_the_next(
    simulator: Simulator, tmp_path: Path, number: int
) -> None:
    """The reader keeps what came before the last STATE that it got, as a target does."""
    env = environment(simulator, tmp_path)
    catalog = only("recipients", tmp_path)
    process = subprocess.Popen(
        [TAP, "--config=ENV", "--catalog", catalog],
        env=env,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    )
    assert process.stdout is not None
    ids: set[str] = set()
    pending: set[str] = set()
    state: dict[str, Any] = {}
    states = 0
    for raw in process.stdout:
        try:
            message = json.loads(raw)
        except ValueError:
            assert number == signal.SIGKILL  # only a kill may tear a line
            break
        if message["type"] == "RECORD":
            pending.add(message["record"]["id"])
        elif message["type"] == "STATE":
            ids |= pending
            pending, state = set(), message["value"]
            states += 1
            if states == 2:
                process.send_signal(number)
    process.stdout.close()
    assert process.wait(30) == (0 if number == signal.SIGTERM else -9)
    assert 0 < len(ids) < 60_000
    before = tmp_path / "state.json"
    before.write_text(json.dumps(state))
    rest = command("--config=ENV", "--catalog", str(catalog), "--state", str(before), env=env)
    messages = [json.loads(text) for text in rest.stdout.splitlines()]
    got = {m["record"]["id"] for m in messages if m["type"] == "RECORD"}
    assert len(got) < 60_000
    assert len(ids | got) == 60_000


def test_a_target_that_goes_away_is_told_without_a_traceback(
    simulator: Simulator, tmp_path: Path
) -> None:
    process = subprocess.Popen(
        [TAP, "--config=ENV", "--catalog", only("recipients", tmp_path)],
        env=environment(simulator, tmp_path),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    assert process.stdout is not None
    assert process.stderr is not None
    process.stdout.readline()
    process.stdout.close()
    told = process.stderr.read().decode()
    process.stderr.close()
    assert process.wait(30) == 1
    assert "The target closed the pipe" in told
    assert "Traceback" not in told


def test_memory_stays_flat(simulator: Simulator, tmp_path: Path) -> None:
    """60,000 contacts are about 50 MB of messages; the process itself takes about 65 MB."""
    process = subprocess.Popen(
        [TAP, "--config=ENV", "--catalog", only("recipients", tmp_path)],
        env=environment(simulator, tmp_path),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    peak = 0
    while process.poll() is None:
        with suppress(OSError):
            status = Path(f"/proc/{process.pid}/status").read_text()
            peak = max([peak, *(int(n) for n in re.findall(r"VmHWM:\s+(\d+) kB", status))])
        time.sleep(0.02)
    assert process.returncode == 0
    assert peak < 120_000


def test_a_partial_run_exits_1_and_says_what_was_not_synced(tmp_path: Path) -> None:
    with Simulator(SimulatorOptions(scopes=("marketing.read",))) as simulator:
        env = environment(simulator, tmp_path)
        done = command("--config=ENV", "--catalog", str(only("templates", tmp_path)), env=env)
    assert done.returncode == 1
    assert "Not synced: templates: the API key lacks the permission templates.read" in done.stderr
    assert "Traceback" not in done.stderr
