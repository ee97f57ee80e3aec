"""One run from its first event to its verdict."""

from __future__ import annotations

import threading
import time
import uuid
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from pipeline import Pipeline, project_in
from sendgrid_simulator import SendReport, Simulator, SimulatorOptions

from chaos.cluster import NATSLog
from chaos.faults import Chaos, Tally
from chaos.flushes import Counts, DirectFlush, Flushing, MeltanoFlush, settle
from chaos.forwarding import Forwarding
from chaos.load import Load, tokens_of
from chaos.logs import LOGS, SQLiteLog
from chaos.processes import MARK, Processes
from chaos.receivers import Receivers, free_ports
from chaos.verify import Verdict, judge_log, judge_reports, judge_rows
from chaos.warehouses import WAREHOUSES

PROGRESS_SECONDS = 5.0
SETTLE_SECONDS = 180.0
OAUTH = ["--oauth-client-id=sendgrid", "--oauth-client-secret=a secret of this run"]
TOKEN_SECONDS = 2.0
"""How long the sender uses a token, so that many are issued while receivers die."""


@dataclass(frozen=True)
class Options:
    """How a run is.

    Attributes:
        seconds: How long things break.
        seed: What load and faults follow from.
        engine: ``duckdb`` or ``postgres``.
        log: ``sqlite`` or ``nats``.
        rate: Events a second.
        receivers: Processes on the one port.
        meltano_pause: Seconds between two ``meltano run``; None for none.
        fault_pause: Seconds between two faults, on average.
        forward: Whether receivers forward to an endpoint that is killed and ill as well.
        oauth: Whether deliveries carry bearer tokens of the receivers' own issuer too.
    """

    seconds: float
    seed: int
    engine: str = "duckdb"
    log: str = "sqlite"
    rate: float = 500.0
    receivers: int = 2
    meltano_pause: float | None = 10.0
    fault_pause: float = 1.5
    forward: bool = True
    oauth: bool = False


@dataclass(frozen=True)
class Result:
    """What a run came to."""

    verdict: Verdict
    sent: SendReport
    tally: Tally
    events: int
    acknowledged_events: int
    spoiled: int
    receiver_starts: int
    direct: Counts
    meltano: Counts
    forwarding: Forwarding | None
    log: str
    seconds: float


class Run:
    """Builds the product in a folder, breaks it, and judges.

    Args:
        options: How.
        folder: Empty; holds everything that the run writes.
        say: Takes lines of progress.
    """

    def __init__(self, options: Options, folder: Path, say: Callable[[str], None]) -> None:
        self._options = options
        self._folder = folder
        self._tell = say
        self._started = time.monotonic()
        self._diary = (folder / "diary.txt").open("a")
        self._lock = threading.Lock()

    def note(self, text: str) -> None:
        """Write a line with its second into the diary."""
        with self._lock:
            self._diary.write(f"{time.monotonic() - self._started:8.2f}  {text}\n")
            self._diary.flush()

    def _say(self, text: str) -> None:
        self._tell(f"{time.monotonic() - self._started:5.0f} s  {text}")

    def __call__(self) -> Result:
        """The whole run."""
        with Simulator(SimulatorOptions(contacts=1, messages=1, seed=1)) as simulator:
            pipeline = Pipeline(self._folder, simulator, "", project_in(self._folder / "project"))
            processes = Processes(self._folder, {MARK: uuid.uuid4().hex})
            try:
                return self._run(pipeline, processes)
            finally:
                processes.end_all()
                self._diary.close()

    def _run(self, pipeline: Pipeline, processes: Processes) -> Result:
        options = self._options
        ports = free_ports(2)
        forwarding = Forwarding(processes, ports[1], options.seed) if options.forward else None
        more = [] if forwarding is None else [f"--forward-to={forwarding.url}"]
        oauth = OAUTH if options.oauth else []
        receivers = Receivers(processes, options.receivers, ports[0], [*oauth, *more])
        with ExitStack() as stack:
            warehouse = WAREHOUSES[options.engine](processes)
            stack.callback(warehouse.stop)
            log = LOGS[options.log](processes, receivers.no_restarts)
            stack.callback(log.stop)
            stack.callback(processes.end_all)
            pipeline.warehouse_url, pipeline.event_log_url = warehouse.url, log.url
            processes.environment |= pipeline.environment()
            pipeline.command("sendgrid-webhook", "register", f"--url={receivers.url}", *oauth)
            webhook = pipeline.simulator.account.webhooks[-1]
            load = Load(
                webhook.url,
                webhook.private_key,
                options.rate,
                options.seed,
                tokens_of(webhook, TOKEN_SECONDS),
            )
            direct = DirectFlush(processes, log.url, warehouse.url)
            meltano = MeltanoFlush(processes, pipeline.project)
            flushing = Flushing(direct, meltano, options.meltano_pause, options.seed)
            outages = log.faults | warehouse.faults
            chaos = Chaos(processes, direct, outages, options.seed, options.fault_pause, self.note)

            receivers.start()
            if forwarding is not None:
                forwarding.start(webhook.public_key)
                stack.callback(forwarding.stop)
            load.start()
            flushing.start()
            chaos.start()
            self._watch(load, chaos, direct, meltano)
            chaos.stop()
            self._say("no more faults; retrying what is not acknowledged, flushing what is left")
            all_acknowledged = load.finish(SETTLE_SECONDS)
            flushing.stop()
            self._say("flushing to the end of the log with nothing else going on")
            verdict = self._settle(processes, log, direct, meltano)
            if not all_acknowledged:
                verdict.odd.append(
                    "some deliveries were not acknowledged long after the last fault"
                )
            verdict.odd += [f"harness: {p!r}" for p in (*chaos.problems, *flushing.problems)]
            if forwarding is not None:
                self._say("forwarding what is left")
                if not forwarding.settle(log.url, log.end, SETTLE_SECONDS):
                    verdict.odd.append("forwarding did not come to the end of the log")
                forwarding.judge(load.ledger, verdict)
            receivers.stop()
            judge_rows(warehouse.query, load.ledger, verdict)
            judge_reports(warehouse.query, verdict)
            judge_log(log.url, direct.state, self._consumers, load.ledger, verdict)
            return Result(
                verdict=verdict,
                sent=load.report,
                tally=chaos.tally,
                events=len(load.ledger.tables),
                acknowledged_events=load.ledger.acknowledged_events,
                spoiled=len(load.ledger.spoiled),
                receiver_starts=receivers.starts,
                direct=direct.counts,
                meltano=meltano.counts,
                forwarding=forwarding,
                log=log.description,
                seconds=time.monotonic() - self._started,
            )

    @property
    def _consumers(self) -> tuple[str, ...]:
        return (
            (DirectFlush.consumer,)
            if self._options.meltano_pause is None
            else (DirectFlush.consumer, MeltanoFlush.consumer)
        )

    def _settle(
        self,
        processes: Processes,
        log: SQLiteLog | NATSLog,
        direct: DirectFlush,
        meltano: MeltanoFlush,
    ) -> Verdict:
        """Flush to the end of the log, both ways, with nothing else going on."""
        verdict = Verdict()
        for program in ("meltano", "tap", "target"):  # those that a kill made orphans
            if not processes.wait_for_none(program, SETTLE_SECONDS):
                verdict.odd.append(f"a {program} that nothing waits for does not end")
        flushes: list[DirectFlush | MeltanoFlush] = [direct]
        if self._options.meltano_pause is not None:
            flushes.append(meltano)
        for flush in flushes:
            if not settle(flush, log.end, SETTLE_SECONDS):
                verdict.odd.append(f"{flush.consumer} did not end well with all faults gone")
        return verdict

    def _watch(self, load: Load, chaos: Chaos, direct: DirectFlush, meltano: MeltanoFlush) -> None:
        """Tell how it goes, until the time is over."""
        end = time.monotonic() + self._options.seconds
        while (left := end - time.monotonic()) > 0:
            time.sleep(min(PROGRESS_SECONDS, left))
            report, tally = load.report, chaos.tally
            self._say(
                f"{report.acknowledged:,} of {report.deliveries:,} deliveries acknowledged, "
                f"{report.retried:,} retries, {tally.of('SIGKILL')} kills, "
                f"{tally.outages.total()} outages, "
                f"flushes: {direct.counts.runs} direct, {meltano.counts.runs} meltano"
            )
