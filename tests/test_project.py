"""What must hold for the repository itself, whatever its parts do."""

from __future__ import annotations

import json
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import yaml
from pipeline import Pipeline, project_in
from sendgrid_simulator import Simulator, SimulatorOptions
from tap_sendgrid.api.settings import ApiSettings

ROOT = Path(__file__).resolve().parent.parent
SOURCES = [
    "tap-sendgrid/tap_sendgrid",
    "target-segment-warehouse/target_segment_warehouse",
    "tests/simulator/sendgrid_simulator",
]
NUMBERS = ("integer", "decimal")
# Settings that the SDK adds to every plugin: Meltano passes them on without a declaration.
SDK_SETTINGS = ("stream_map", "faker_config", "flattening_", "batch_config")


def meltano_yml() -> dict:
    return yaml.safe_load((ROOT / "meltano.yml").read_text())


def plugin(kind: str, name: str) -> dict:
    return next(p for p in meltano_yml()["plugins"][kind] if p["name"] == name)


def about(executable: str) -> dict:
    command = [str(Path(sys.executable).with_name(executable)), "--about", "--format=json"]
    return json.loads(subprocess.run(command, check=True, capture_output=True).stdout)


@pytest.mark.parametrize(
    ("kind", "name"),
    [("extractors", "tap-sendgrid"), ("loaders", "target-segment-warehouse")],
)
def test_meltano_yml_declares_what_the_plugin_has(kind: str, name: str) -> None:
    declared = plugin(kind, name)
    has = about(name)
    settings = set(has["settings"]["properties"])
    own = {s for s in settings if not s.startswith(SDK_SETTINGS)}
    assert own <= {s["name"] for s in declared["settings"]} <= settings
    secret = {k for k, v in has["settings"]["properties"].items() if v.get("secret")}
    assert {s["name"] for s in declared["settings"] if s.get("sensitive")} == secret
    assert set(declared["capabilities"]) == set(has["capabilities"])


@pytest.mark.parametrize(
    ("kind", "name"),
    [("extractors", "tap-sendgrid"), ("loaders", "target-segment-warehouse")],
)
def test_meltano_passes_numbers_on_from_the_environment(
    kind: str, name: str, tmp_path: Path
) -> None:
    """Those of `kind: decimal` end Meltano: it cannot write them as JSON."""
    numbers = [s["name"] for s in plugin(kind, name)["settings"] if s["kind"] in NUMBERS]
    prefix = name.replace("-", "_").upper()
    with Simulator(SimulatorOptions(contacts=1, messages=1)) as simulator:
        pipeline = Pipeline(tmp_path, simulator, "", project_in(tmp_path / "project"))
        settings = {f"{prefix}_{number}".upper(): "7" for number in numbers}
        printed = pipeline.meltano("invoke", "--dump=config", name, **settings).stdout
    config = json.loads(printed)
    assert {number: config[number] for number in numbers} == dict.fromkeys(numbers, 7)
    assert numbers


@pytest.mark.parametrize("given", ["north,south", '["north","south"]'])
def test_meltano_passes_subusers_on_from_the_environment(given: str, tmp_path: Path) -> None:
    """With `kind: array` names that are no JSON would end Meltano."""
    with Simulator(SimulatorOptions(contacts=1, messages=1)) as simulator:
        pipeline = Pipeline(tmp_path, simulator, "", project_in(tmp_path / "project"))
        dump = ("invoke", "--dump=config", "tap-sendgrid")
        printed = pipeline.meltano(*dump, TAP_SENDGRID_ON_BEHALF_OF=given).stdout
    assert ApiSettings.from_config(json.loads(printed)).subusers == ("north", "south")


@pytest.mark.parametrize("source", SOURCES)
def test_no_module_over_400_lines(source: str) -> None:
    long = {
        str(path.relative_to(ROOT)): lines
        for path in (ROOT / source).rglob("*.py")
        if (lines := len(path.read_text().splitlines())) > 400
    }
    assert long == {}


def test_plugins_are_installed_with_the_versions_of_the_lock_file() -> None:
    """`make lock` writes both; Meltano's environments take constraints.txt."""
    locked = {
        (p["name"], p["version"]) for p in tomllib.loads((ROOT / "uv.lock").read_text())["package"]
    }
    constraints = [
        line.split(";")[0].strip() for line in (ROOT / "constraints.txt").read_text().splitlines()
    ]
    pinned = {tuple(line.split("==")) for line in constraints if line}
    assert pinned
    assert pinned <= locked
    for kind, name in [
        ("extractors", "tap-sendgrid"),
        ("loaders", "target-segment-warehouse"),
        ("utilities", "sendgrid-webhook"),
    ]:
        assert plugin(kind, name)["pip_url"].startswith("-c constraints.txt ")


def test_both_packages_have_one_version() -> None:
    versions = {
        tomllib.loads((ROOT / folder / "pyproject.toml").read_text())["project"]["version"]
        for folder in ("tap-sendgrid", "target-segment-warehouse")
    }
    assert len(versions) == 1
