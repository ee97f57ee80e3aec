"""Starts targets quickly: imports the target once, then forks a process for each run.

A fork is a process like any other (own id, own files, killed by any signal), only without the
second that imports take. It listens on standard input for lines of JSON, ``{"args", "stdin",
"stdout", "stderr", "env"}`` (file names), answers each with ``pid N``, and writes ``exit N CODE``
when one ends (a negative code is the signal that ended it).
"""

from __future__ import annotations

import json
import os
import selectors
import signal
import traceback
from typing import NoReturn

from target_segment_warehouse.__main__ import main as target
from target_segment_warehouse.target import TargetSegmentWarehouse  # noqa: F401 (before any fork)


def run(request: dict[str, object]) -> NoReturn:
    """Become the target: take the files of the request as standard streams and run its CLI."""
    try:
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        for number, key, flags in (
            (0, "stdin", os.O_RDONLY),
            (1, "stdout", os.O_WRONLY | os.O_CREAT | os.O_TRUNC),
            (2, "stderr", os.O_WRONLY | os.O_CREAT | os.O_TRUNC),
        ):
            opened = os.open(str(request[key]), flags, 0o600)
            os.dup2(opened, number)
            os.close(opened)
        os.environ.update(request["env"])  # type: ignore[call-overload]
        target(request["args"])  # type: ignore[arg-type]
    except BaseException:
        traceback.print_exc()
    os._exit(1)


def main() -> None:
    """Serve until standard input ends."""
    control, answers = os.dup(0), os.dup(1)
    null = os.open(os.devnull, os.O_RDWR)
    os.dup2(null, 0)
    os.dup2(2, 1)
    woken, wake = os.pipe()
    os.set_blocking(wake, False)
    os.set_blocking(woken, False)
    signal.set_wakeup_fd(wake, warn_on_full_buffer=False)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    selector = selectors.DefaultSelector()
    selector.register(control, selectors.EVENT_READ)
    selector.register(woken, selectors.EVENT_READ)
    pending = b""
    os.write(answers, b"ready\n")
    while True:
        for key, _ in selector.select():
            if key.fd == woken:
                os.read(woken, 4096)
                while True:
                    try:
                        pid, status = os.waitpid(-1, os.WNOHANG)
                    except ChildProcessError:
                        break
                    if pid == 0:
                        break
                    os.write(answers, b"exit %d %d\n" % (pid, os.waitstatus_to_exitcode(status)))
                continue
            data = os.read(control, 65536)
            if not data:
                return
            *lines, pending = (pending + data).split(b"\n")
            for line in lines:
                pid = os.fork()
                if pid == 0:
                    selector.close()
                    for descriptor in (control, answers, woken, wake):
                        os.close(descriptor)
                    run(json.loads(line))
                os.write(answers, b"pid %d\n" % pid)


if __name__ == "__main__":
    main()
