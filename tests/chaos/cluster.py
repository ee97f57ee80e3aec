"""A JetStream cluster of three nodes with the configuration that we ship, and how it fails."""

from __future__ import annotations

import random
import signal
import subprocess
import threading
import time
from collections.abc import Sequence
from contextlib import closing

from pipeline import BIN, ROOT
from tap_sendgrid.event_log import EventLogError, open_event_log

from chaos.disks import Disk
from chaos.processes import Processes, send
from chaos.receivers import Frozen, free_ports
from chaos.warehouses import Fault, one_by_one

SHIPPED = ROOT / "docs" / "nats" / "events.conf"
PATIENCE = 60.0


class NATSLog:
    """Three nodes on this machine, all on one small disk where one can be mounted.

    Args:
        processes: Of the run.
        frozen: Unused: receivers may start at any time.
    """

    description = "NATS JetStream, three nodes"

    def __init__(self, processes: Processes, frozen: Frozen) -> None:
        self._processes = processes
        self._disk = Disk(processes.folder / "disk.img", processes.folder / "disk")
        ports = free_ports(6)
        self._nodes: dict[str, subprocess.Popen[bytes]] = {}
        lock = threading.Lock()
        routes = ", ".join(f'"nats://127.0.0.1:{port}"' for port in ports[3:])
        for number, name in enumerate(("n0", "n1", "n2")):
            store = self._disk.folder / name
            shipped = SHIPPED.read_text().replace("/var/lib/nats", str(store))
            (processes.folder / f"{name}-events.conf").write_text(shipped)
            (processes.folder / f"{name}.conf").write_text(
                f'include "{name}-events.conf"\nserver_name: {name}\n'
                f'listen: "127.0.0.1:{ports[number]}"\n'
                f'cluster {{ name: events, listen: "127.0.0.1:{ports[3 + number]}", '
                f"routes: [{routes}] }}\n"
            )
            self._start(name)
        hosts = ",".join(f"127.0.0.1:{port}" for port in ports[:3])
        self.url = f"nats://{hosts}/events"
        self.faults: dict[str, Fault] = {
            "log node killed": one_by_one(lock, self.kill_node),
            "log leader killed": one_by_one(lock, self.kill_leader),
            "log leader frozen": one_by_one(lock, self.freeze_leader),
            "log without majority": one_by_one(lock, self.kill_majority),
            "log killed whole": one_by_one(lock, self.kill_all),
        }
        if self._disk.mounted:
            self.faults["log disk full"] = one_by_one(lock, self.fill)
        self._wait_until_open()

    def end(self) -> int:
        """The log's present end."""
        deadline = time.monotonic() + PATIENCE
        while True:
            try:
                with closing(open_event_log(self.url, create=False)) as log:
                    return log.end()
            except EventLogError:
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.5)

    def kill_node(self, rng: random.Random) -> str:
        """SIGKILL for one node, which comes back after a while."""
        return self._kill([rng.choice(sorted(self._nodes))], rng.uniform(1, 5))

    def kill_leader(self, rng: random.Random) -> str:
        """SIGKILL for the node that leads the stream."""
        return self._kill([self._leader(rng)], rng.uniform(1, 5))

    def freeze_leader(self, rng: random.Random) -> str:
        """The leader does nothing for a while, then goes on as if nothing had been."""
        name, seconds = self._leader(rng), rng.uniform(1, 8)
        send(self._nodes[name].pid, signal.SIGSTOP)
        time.sleep(seconds)
        send(self._nodes[name].pid, signal.SIGCONT)
        return f"{name} for {seconds:.1f} s"

    def kill_majority(self, rng: random.Random) -> str:
        """SIGKILL for two nodes: nothing can be acknowledged until one is back."""
        return self._kill(rng.sample(sorted(self._nodes), 2), rng.uniform(1, 6))

    def kill_all(self, rng: random.Random) -> str:
        """SIGKILL for every node."""
        return self._kill(sorted(self._nodes), rng.uniform(0.1, 3))

    def fill(self, rng: random.Random) -> str:
        """No node can write; a node that gave its storage up then has to be started again."""
        said = self._disk.fill_for_a_while(rng)
        for name in sorted(self._nodes):
            self._nodes[name].terminate()
            self._nodes[name].wait(60)
            self._start(name)
        return f"{said}, then a restart of each node"

    def stop(self) -> None:
        """End the nodes."""
        for node in self._nodes.values():
            node.kill()
            node.wait(30)
        self._disk.unmount()

    def _kill(self, names: Sequence[str], seconds: float) -> str:
        for name in names:
            self._nodes[name].kill()
        for name in names:
            self._nodes[name].wait(30)
        time.sleep(seconds)
        for name in names:
            self._start(name)
        return f"{', '.join(names)} away for {seconds:.1f} s"

    def _leader(self, rng: random.Random) -> str:
        """The stream's leader; any node while there is none."""
        try:
            with closing(open_event_log(f"{self.url}?timeout=1", create=False)) as log:
                return str(log._info().cluster.leader)  # type: ignore[attr-defined]
        except EventLogError:
            return rng.choice(sorted(self._nodes))

    def _start(self, name: str) -> None:
        config = self._processes.folder / f"{name}.conf"
        self._nodes[name] = self._processes.start(
            [str(BIN / "nats-server"), "-c", str(config)], f"{name}.log"
        )

    def _wait_until_open(self) -> None:
        deadline = time.monotonic() + PATIENCE
        while True:
            try:
                open_event_log(self.url).close()
            except EventLogError:
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.3)
            else:
                return
