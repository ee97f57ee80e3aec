"""The loaders compared: each in its own environment, with its fastest documented settings."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

from measure import VENVS

OURS = "target-segment-warehouse"
SCHEMA = "bench"


@dataclass(frozen=True)
class Loader:
    """A Singer target: what to install, what to run, which engines it writes to."""

    name: str
    requirement: str | None
    executable: str
    engine: str
    settings: str

    def install(self) -> str:
        """Make the environment when it is not there; return the path of the executable."""
        if self.requirement is None:
            return str(Path(sys.executable).with_name(self.executable))
        venv = VENVS / self.name
        binary = venv / "bin" / self.executable
        if not binary.exists():
            subprocess.run(["uv", "venv", "--quiet", "--python", "3.11", str(venv)], check=True)
            python = str(venv / "bin" / "python")
            # pipelinewise-singer-python imports pkg_resources, which newer setuptools dropped.
            subprocess.run(
                [
                    "uv",
                    "pip",
                    "install",
                    "--quiet",
                    "--compile-bytecode",
                    "--python",
                    python,
                    self.requirement,
                    "setuptools<81",
                ],
                check=True,
            )
        return str(binary)

    def version(self) -> str:
        """What was installed."""
        return self.requirement or "this repository"

    def command(self, config_file: Path, warehouse: str) -> list[str]:
        """The command line, after writing the config file for this warehouse."""
        config_file.parent.mkdir(parents=True, exist_ok=True)
        config_file.write_text(json.dumps(self.config(warehouse)))
        return [self.install(), "--config", str(config_file)]

    def config(self, warehouse: str) -> dict[str, object]:
        """Settings for a DuckDB path or a postgresql:// URL."""
        if self.name.startswith(OURS):
            url = warehouse if self.engine == "postgres" else f"duckdb:///{warehouse}"
            return {"warehouse_url": url, "default_target_schema": SCHEMA}
        if self.name == "target-duckdb":
            return {"path": warehouse, "default_target_schema": SCHEMA}
        if self.name == "meltanolabs-target-postgres":
            return {
                "sqlalchemy_url": warehouse.replace("postgresql://", "postgresql+psycopg://"),
                "default_target_schema": SCHEMA,
                "use_copy": True,
                "validate_records": False,
            }
        parts = urlsplit(warehouse)
        return {
            "host": parse_qs(parts.query).get("host", [parts.hostname])[0],
            "port": parts.port or 5432,
            "user": parts.username or "postgres",
            "password": parts.password or "none",
            "dbname": parts.path.lstrip("/"),
            "default_target_schema": SCHEMA,
        }


LOADERS = (
    Loader(OURS, None, OURS, "duckdb", "defaults"),
    Loader(
        "target-duckdb",
        "target-duckdb==0.8.0",
        "target-duckdb",
        "duckdb",
        "defaults: CSV and COPY, validation off",
    ),
    Loader(f"{OURS}-postgres", None, OURS, "postgres", "defaults"),
    Loader(
        "meltanolabs-target-postgres",
        "meltanolabs-target-postgres==0.8.1",
        "target-postgres",
        "postgres",
        "use_copy: true, validate_records: false",
    ),
    Loader(
        "pipelinewise-target-postgres",
        "pipelinewise-target-postgres==2.1.2",
        "target-postgres",
        "postgres",
        "defaults: CSV and COPY, validation off",
    ),
)
