"""What breaks, when and how often: drawn from the seed."""

from __future__ import annotations

import random
import signal
import threading
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field

from pipeline import BIN

from chaos.flushes import DirectFlush
from chaos.processes import Processes, send
from chaos.warehouses import Fault

# How often each process is hit, and how.
KILLS = {"receiver": 5, "tap": 6, "target": 8, "meltano": 2, "endpoint": 2}
SIGNALS = (
    (signal.SIGKILL, 6),
    (signal.SIGTERM, 2),
    (signal.SIGSTOP, 1),
)
OUTAGES_EVERY = 5
"""One of so many faults is one of log, warehouse or state keeper."""

CALM_EVERY = 24
CALM_SECONDS = 20.0


@dataclass
class Tally:
    """What was done, by kind."""

    signals: dict[str, Counter[str]] = field(default_factory=dict)
    outages: Counter[str] = field(default_factory=Counter)

    def signalled(self, program: str, name: str) -> None:
        """Count a signal."""
        self.signals.setdefault(program, Counter())[name] += 1

    def of(self, name: str) -> int:
        """How often a signal was sent."""
        return sum(counts[name] for counts in self.signals.values())


class Chaos:
    """Breaks things from a thread until stopped, and mends them.

    Args:
        processes: What is killed.
        direct: Whose state keeper is lost at times.
        outages: The faults of log and warehouse.
        seed: What everything follows from.
        pause: Seconds between two faults, on average.
        diary: Told of each fault in a line.
    """

    def __init__(
        self,
        processes: Processes,
        direct: DirectFlush,
        outages: dict[str, Fault],
        seed: int,
        pause: float,
        diary: Callable[[str], None],
    ) -> None:
        self.tally = Tally()
        self.problems: list[BaseException] = []
        self._processes = processes
        self._direct = direct
        self._outages = outages | {
            "state lost": self._lose_state,
            "log trimmed": self._trim,
        }
        self._rng = random.Random(seed + 3)
        self._diary = diary
        self._pause = pause
        self._stop = threading.Event()
        self._busy: dict[str, threading.Thread] = {}
        self._frozen: list[int] = []
        self._thread = threading.Thread(target=self._run, name="chaos", daemon=True)

    def start(self) -> None:
        """Begin to break things."""
        self._thread.start()

    def stop(self) -> None:
        """Break nothing more; wait until all outages are over and nothing is frozen."""
        self._stop.set()
        self._thread.join()
        for thread in self._busy.values():
            thread.join()
        for process in self._frozen:
            send(process, signal.SIGCONT)

    def _run(self) -> None:
        number = 0
        while not self._stop.wait(self._rng.expovariate(1 / self._pause)):
            number += 1
            if number % CALM_EVERY == 0:
                # Time for each consumer to come to an end and say so: only then is there
                # anything that retention may drop.
                self._stop.wait(CALM_SECONDS)
            elif number % OUTAGES_EVERY == 0:
                self._begin_outage()
            else:
                self._signal()

    def _signal(self) -> None:
        program = self._rng.choices(list(KILLS), list(KILLS.values()))[0]
        number = self._rng.choices([s for s, _ in SIGNALS], [w for _, w in SIGNALS])[0]
        choice = self._rng.random()
        seconds = self._rng.uniform(0.5, 5)
        found = sorted(self._processes.find(program))
        if not found:
            return
        process = found[int(choice * len(found))]
        if not send(process, number):
            return
        self.tally.signalled(program, number.name)
        self._diary(f"{number.name} {program}")
        if number == signal.SIGSTOP:
            self._frozen.append(process)
            threading.Timer(seconds, self._thaw, (process,)).start()

    def _thaw(self, process: int) -> None:
        send(process, signal.SIGCONT)
        self._frozen.remove(process)

    def _begin_outage(self) -> None:
        """An outage lasts a while; kills go on meanwhile, a second of its kind does not begin."""
        name = self._rng.choice(sorted(self._outages))
        seed = self._rng.random()
        if name in self._busy and self._busy[name].is_alive():
            return
        self._busy[name] = threading.Thread(target=self._outage, args=(name, seed), daemon=True)
        self._busy[name].start()

    def _outage(self, name: str, seed: float) -> None:
        started = time.monotonic()
        try:
            what = self._outages[name](random.Random(seed))
        except BaseException as problem:
            self.problems.append(problem)
            what = f"could not be done: {problem!r}"
        else:
            self.tally.outages[name] += 1
        self._diary(f"{name}: {what} ({time.monotonic() - started:.1f} s)")

    def _lose_state(self, rng: random.Random) -> str:
        self._direct.lose_keeper()
        return "no state of this run is stored from now on"

    def _trim(self, rng: random.Random) -> str:
        """What every consumer has leaves the log, as retention does it at a receiver's start."""
        age = f"{rng.randint(1, 30)}s"
        command = [str(BIN / "sendgrid-webhook"), "trim", f"--older-than={age}"]
        code = self._processes.start(command, "trim.log").wait()
        return f"older than {age}" if code == 0 else "refused"
