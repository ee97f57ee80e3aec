"""The console script ends as any Python program does, only sooner."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

STUB = """
import sys
from unittest import mock
from target_segment_warehouse.__main__ import main
from target_segment_warehouse.target import TargetSegmentWarehouse

def cli(**_):
    sys.stdout.write("written")
    {ending}

with mock.patch.object(TargetSegmentWarehouse, "cli", cli):
    main()
"""


@pytest.mark.parametrize(
    ("ending", "status", "told"),
    [
        ("sys.exit()", 0, ""),
        ("sys.exit(3)", 3, ""),
        ("sys.exit('a reason')", 1, "a reason\n"),
        ("raise RuntimeError('a fault')", 1, "RuntimeError: a fault\n"),
    ],
)
def test_endings(ending: str, status: int, told: str) -> None:
    code = STUB.format(ending=ending)
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == status
    assert done.stdout == "written"
    assert done.stderr.endswith(told)
    assert bool(done.stderr) == bool(told)


def test_what_nobody_reads_is_no_success() -> None:
    code = STUB.format(ending="sys.exit(0)")
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.close()
        assert process.wait(timeout=60) == 1


def test_as_a_module(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "target_segment_warehouse"]
    shown = subprocess.run([*command, "--help"], capture_output=True, text=True, check=True)
    assert shown.stdout.startswith("Usage: target-segment-warehouse ")
    config = tmp_path / "config.json"
    config.write_text('{"activity": "nonsense"}')
    refused = subprocess.run(
        [*command, "--config", str(config)], input="", capture_output=True, text=True
    )
    assert refused.returncode == 1
    assert "nonsense" in refused.stderr
    assert "Traceback" not in refused.stderr


@pytest.mark.parametrize("text", ['{"a": 1,}', "[1]", None])
def test_a_config_that_is_no_json_is_named(tmp_path: Path, text: str | None) -> None:
    file = tmp_path / "config.json"
    if text is not None:
        file.write_text(text)
    command = [sys.executable, "-m", "target_segment_warehouse", "--config", str(file)]
    done = subprocess.run(command, input="", capture_output=True, text=True)
    assert done.returncode == 2
    assert str(file) in done.stderr
    assert "Traceback" not in done.stderr
