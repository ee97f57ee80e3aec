"""The whole product as processes (simulator, receiver, Meltano), for the demo and the tests."""

from __future__ import annotations

import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import duckdb
import psycopg
import requests
from sendgrid_simulator import Simulator

ROOT = Path(__file__).resolve().parent.parent
BIN = Path(sys.executable).parent
# Settings of the machine or of a developer's shell must not reach a run against the simulator.
FOREIGN = re.compile(r"^(MELTANO_|TAP_|TARGET_|SENDGRID_|WAREHOUSE_URL)")


def project_in(folder: Path) -> Path:
    """A Meltano project of its own with our meltano.yml and the plugins as installed.

    Two runs of one plugin in one project at the same time share its run folder, and disturb
    each other.
    """
    (folder / ".meltano").mkdir(parents=True)
    # Meltano refuses a meltano.yml that is a link to outside of the project.
    shutil.copy(ROOT / "meltano.yml", folder)
    for name in ("constraints.txt", "tap-sendgrid", "target-segment-warehouse"):
        (folder / name).symlink_to(ROOT / name)
    for kind in ("extractors", "loaders", "utilities"):
        (folder / ".meltano" / kind).symlink_to(ROOT / ".meltano" / kind)
    return folder


class Pipeline:
    """One SendGrid account on its way into one warehouse, in a folder of its own.

    Attributes:
        folder: Holds the event log, Meltano's state and everything that the run writes.
        simulator: The running SendGrid.
        warehouse_url: Where the target writes (``duckdb:///…`` or ``postgresql://…``).
        project: The Meltano project; tests that run side by side need one each, see ``project_in``.
    """

    def __init__(
        self, folder: Path, simulator: Simulator, warehouse_url: str, project: Path = ROOT
    ) -> None:
        self.folder = folder
        self.project = project
        self.simulator = simulator
        self.warehouse_url = warehouse_url
        self.event_log_url = f"sqlite:///{folder / 'events.db'}"
        self.receiver: subprocess.Popen[bytes] | None = None

    def environment(self, **more: str) -> dict[str, str]:
        """What every process of this pipeline sees."""
        clean = {k: v for k, v in os.environ.items() if not FOREIGN.match(k)}
        return clean | {
            # Meltano makes its plugins' environments with the workspace's uv.
            "PATH": f"{ROOT / '.tools' / 'bin'}:{BIN}:{os.environ['PATH']}",
            "MELTANO_PROJECT_ROOT": str(self.project),
            "MELTANO_DATABASE_URI": f"sqlite:///{self.folder / 'meltano.db'}",
            "MELTANO_ENVIRONMENT": "duckdb",
            "MELTANO_CLI_LOG_FORMAT": "uncolored",
            "TAP_SENDGRID_API_KEY": self.simulator.api_key,
            "TAP_SENDGRID_API_URL": self.simulator.url,
            "TAP_SENDGRID_EVENT_LOG_URL": self.event_log_url,
            "SENDGRID_WEBHOOK_EVENT_LOG_URL": self.event_log_url,
            "TARGET_SEGMENT_WAREHOUSE_WAREHOUSE_URL": self.warehouse_url,
            **more,
        }

    def command(
        self, *arguments: str, check: bool = True, **environment: str
    ) -> subprocess.CompletedProcess[str]:
        """Run a console command of the workspace to its end and return what it printed."""
        result = subprocess.run(
            [str(BIN / arguments[0]), *arguments[1:]],
            cwd=self.project,
            env=self.environment(**environment),
            capture_output=True,
            text=True,
            timeout=300,
        )
        if check and result.returncode:
            raise AssertionError(
                f"{' '.join(arguments)} exited with {result.returncode}\n"
                f"{result.stdout[-3000:]}\n{result.stderr[-6000:]}"
            )
        return result

    def meltano(
        self, *arguments: str, check: bool = True, **environment: str
    ) -> subprocess.CompletedProcess[str]:
        """Run ``meltano`` in the project."""
        return self.command("meltano", *arguments, check=check, **environment)

    def start_receiver(self) -> None:
        """Register the webhook with the simulator and serve it on a free port until ready."""
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        url = f"http://127.0.0.1:{port}"
        self.command("sendgrid-webhook", "register", "--url", url)
        with (self.folder / "receiver.log").open("ab") as log:
            self.receiver = subprocess.Popen(
                [str(BIN / "sendgrid-webhook"), "serve", "--host=127.0.0.1", f"--port={port}"],
                cwd=self.project,
                env=self.environment(),
                stdout=log,
                stderr=subprocess.STDOUT,
            )
        self._wait_ready(url)

    def query(self, sql: str) -> list[tuple]:
        """Rows of a query on the warehouse."""
        if self.warehouse_url.startswith("duckdb:///"):
            path = self.warehouse_url.removeprefix("duckdb:///")
            with duckdb.connect(path, read_only=True) as connection:
                return connection.execute(sql).fetchall()
        with psycopg.connect(self.warehouse_url) as connection:
            return connection.execute(sql).fetchall()

    def columns(self, table: str, schema: str = "sendgrid") -> dict[str, str]:
        """Column names of a table or view with their types as the engine calls them."""
        rows = self.query(
            "SELECT column_name, data_type FROM information_schema.columns"
            f" WHERE table_schema = '{schema}' AND table_name = '{table}'"
        )
        return dict(rows)

    def count(self, table: str, schema: str = "sendgrid") -> int:
        """Rows of a table."""
        return self.query(f'SELECT count(*) FROM {schema}."{table}"')[0][0]

    def tables(self, schema: str = "sendgrid") -> set[str]:
        """Names of tables and views."""
        rows = self.query(
            f"SELECT table_name FROM information_schema.tables WHERE table_schema = '{schema}'"
        )
        return {name for (name,) in rows}

    def stop(self) -> None:
        """Stop the receiver the way a service manager does."""
        if self.receiver and self.receiver.poll() is None:
            self.receiver.send_signal(signal.SIGTERM)
            self.receiver.wait(30)

    def _wait_ready(self, url: str, seconds: float = 30) -> None:
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            if self.receiver is None or self.receiver.poll() is not None:
                break
            try:
                if requests.get(f"{url}/readyz", timeout=2).ok:
                    return
            except requests.RequestException:
                time.sleep(0.05)
        raise AssertionError((self.folder / "receiver.log").read_text())
