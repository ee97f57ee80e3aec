"""Several accounts in one project, and what a person sees who sets one up."""

from __future__ import annotations

from pathlib import Path

from pipeline import Pipeline, project_in
from sendgrid_simulator import Simulator, SimulatorOptions

SECOND = ("run", "tap-sendgrid-second", "target-segment-warehouse")


def test_a_second_account_has_its_own_key_and_schema(tmp_path: Path, simulator: Simulator) -> None:
    url = f"duckdb:///{tmp_path / 'warehouse.duckdb'}"
    pipeline = Pipeline(tmp_path, simulator, url, project_in(tmp_path / "project"))
    # Without a key of its own it must not take its parent's: that would be the wrong account.
    failed = pipeline.meltano(*SECOND, check=False)
    assert failed.returncode != 0
    assert "api_key is missing" in failed.stderr
    with Simulator(SimulatorOptions(contacts=12, lists=5, seed=99)) as other:
        pipeline.meltano(
            *SECOND,
            SENDGRID_SECOND_API_KEY=other.api_key,
            TAP_SENDGRID_SECOND_API_URL=other.url,
        )
    pipeline.meltano("run", "sync-objects")
    assert pipeline.count("recipients", "sendgrid_second") == 12
    assert pipeline.count("lists", "sendgrid_second") == 5
    assert pipeline.count("recipients", "sendgrid") == simulator.options.contacts
    assert pipeline.count("lists", "sendgrid") == len(simulator.account.lists)


def test_an_account_without_marketing_campaigns(tmp_path: Path) -> None:
    """Segment: "Zero data synced", and events flow all the same."""
    with Simulator(SimulatorOptions(generation="none", messages=50)) as simulator:
        url = f"duckdb:///{tmp_path / 'warehouse.duckdb'}"
        pipeline = Pipeline(tmp_path, simulator, url, project_in(tmp_path / "project"))
        pipeline.start_receiver()
        try:
            simulator.deliver()
        finally:
            pipeline.stop()
        synced = pipeline.meltano("run", "sync-objects")
        assert "Zero data synced" in synced.stderr
        pipeline.meltano("run", "flush-events")
        sent = sum(len(message.events) for message in simulator.account.messages)
        assert pipeline.count("activity") == sent


def test_doctor_and_status_say_how_things_are(tmp_path: Path, simulator: Simulator) -> None:
    pipeline = Pipeline(tmp_path, simulator, "duckdb:///unused", project_in(tmp_path / "project"))
    pipeline.start_receiver()
    simulator.deliver()
    pipeline.stop()
    doctor = pipeline.meltano("invoke", "tap-sendgrid", "--test")
    assert "FAIL" not in doctor.stdout
    assert "signed" in doctor.stdout
    status = pipeline.meltano("invoke", "sendgrid-webhook", "status")
    assert "posts here, enabled, signed" in status.stdout
    wrong = pipeline.meltano(
        "invoke", "tap-sendgrid", "--test", check=False, TAP_SENDGRID_API_KEY="SG.wrong.key"
    )
    assert wrong.returncode != 0
    assert "Invalid Credentials" in wrong.stdout + wrong.stderr
    assert "SG.wrong.key" not in wrong.stdout + wrong.stderr
