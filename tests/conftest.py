"""Fixtures of the whole-pipeline tests."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from pipeline import BIN, ROOT, Pipeline, project_in
from sendgrid_simulator import Simulator, SimulatorOptions


@pytest.fixture(scope="session", autouse=True)
def plugins() -> None:
    """Meltano's plugins, installed once: `make test` has done it, a bare `pytest` does it here."""
    if (ROOT / ".meltano" / ".installed").exists():
        return
    environment = os.environ | {"PATH": f"{ROOT / '.tools/bin'}:{BIN}:{os.environ['PATH']}"}
    subprocess.run([str(BIN / "meltano"), "install"], cwd=ROOT, env=environment, check=True)
    (ROOT / ".meltano" / ".installed").touch()


@pytest.fixture
def simulator() -> Iterator[Simulator]:
    """A small account with every kind of event in its history."""
    options = SimulatorOptions(
        contacts=60, lists=3, segments=2, campaigns=4, messages=300, seed=11, export_polls=1
    )
    with Simulator(options) as running:
        yield running


@pytest.fixture(params=["duckdb", "postgres"])
def pipeline(
    request: pytest.FixtureRequest, tmp_path: Path, simulator: Simulator
) -> Iterator[Pipeline]:
    """The product between the simulator and an empty warehouse of each engine."""
    if request.param == "duckdb":
        url = f"duckdb:///{tmp_path / 'warehouse.duckdb'}"
    else:
        url = request.getfixturevalue("postgres_url")
    made = Pipeline(tmp_path, simulator, url, project_in(tmp_path / "project"))
    yield made
    made.stop()
