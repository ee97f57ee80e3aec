"""Runs the receiver: the listening socket, one or several worker processes, start and stop."""

from __future__ import annotations

import logging
import multiprocessing
import os
import signal
import socket
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from types import FrameType
from typing import Any, TypeVar

import uvicorn
from uvicorn.supervisors import Multiprocess

from tap_sendgrid.api.client import Client
from tap_sendgrid.event_log import EventLogError, open_event_log
from tap_sendgrid.webhook.app import Receiver
from tap_sendgrid.webhook.housekeeping import housekeeping
from tap_sendgrid.webhook.keys import KeyRing
from tap_sendgrid.webhook.logs import configure_logging
from tap_sendgrid.webhook.metrics import MULTIPROCESS_VARIABLE
from tap_sendgrid.webhook.protocol import LimitedHttpProtocol
from tap_sendgrid.webhook.register import fetch_keys
from tap_sendgrid.webhook.settings import ReceiverSettings

logger = logging.getLogger("sendgrid-webhook")
T = TypeVar("T")

GRACE_SECONDS = 25
"""Time for requests that are under way at a stop; below the 30 s that most supervisors allow."""

KEEP_ALIVE_SECONDS = 75
"""SendGrid posts about every 30 s from each of its servers; proxies keep connections for 60 s."""

START_SECONDS = 15
START_PAUSE_SECONDS = 1
BACKLOG = 4096
SWITCH_SECONDS = 0.0005
MAX_CONNECTIONS = 4000


@dataclass(frozen=True)
class ReceiverFactory:
    """Makes the application in each worker process; picklable, as spawned workers need."""

    settings: ReceiverSettings

    def __call__(self) -> Receiver:
        """The application, with its own connection to the log."""
        settings = self.settings
        _end_with_parent()
        # The writer's thread comes back from the disk into a busy event loop: it should not wait
        # the default 5 ms each time for the interpreter.
        sys.setswitchinterval(SWITCH_SECONDS)
        configure_logging(as_json=settings.json_logs)
        return when_reachable(self._receiver)

    def _receiver(self) -> Receiver:
        settings = self.settings
        log = open_event_log(settings.event_log_url)
        clients = [
            Client(
                settings.api_key,
                settings.api_url,
                on_behalf_of=subuser,
                user_agent="sendgrid-webhook",
            )
            for subuser in settings.subusers or (None,)
            if settings.api_key
        ]

        def fetch() -> None:
            for client in clients:
                fetch_keys(client, log)

        try:
            keys = KeyRing(log, settings.public_keys, fetch if clients else None)
            return Receiver(settings, log, keys)
        except BaseException:
            log.close()
            raise


def when_reachable(start: Callable[[], T], seconds: float = START_SECONDS) -> T:
    """Do what needs the log as soon as it can be reached: a cluster may be electing a leader.

    Args:
        start: What is to be done; done again if the log cannot be reached.
        seconds: How long to wait.

    Raises:
        EventLogError: The log could not be reached in that time, or is no use at all.
    """
    deadline = time.monotonic() + seconds
    while True:
        try:
            return start()
        except EventLogError as error:
            if error.kind != "unavailable" or time.monotonic() > deadline:
                raise
            logger.warning("Waiting for the event log: %s", error)
            time.sleep(START_PAUSE_SECONDS)


def listen(host: str, port: int, *, reuse_port: bool = False) -> socket.socket:
    """A listening socket, ready for several workers.

    Args:
        host: Address or name; an IPv6 address as such.
        port: 0 takes any free one.
        reuse_port: Let another process listen on the same address too (SO_REUSEPORT).

    Raises:
        OSError: The address cannot be had.
    """
    family, kind, protocol, _, address = socket.getaddrinfo(
        host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
    )[0]
    listener = socket.socket(family, kind, protocol)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if reuse_port:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        listener.bind(address)
        listener.listen(BACKLOG)
        listener.set_inheritable(True)
    except BaseException:
        listener.close()
        raise
    return listener


def inherited_socket(descriptor: int) -> socket.socket:
    """The listening socket that a supervisor (systemd, circus) holds for us across restarts.

    Raises:
        OSError: There is no socket at that number.
    """
    listener = socket.socket(fileno=descriptor)
    listener.listen(BACKLOG)
    return listener


def server_config(app: Any, workers: int = 1, *, factory: bool = False) -> uvicorn.Config:
    """How uvicorn runs the application.

    Args:
        app: The application, or with ``factory`` what makes it.
        workers: Number of processes.
        factory: Whether each process makes its own application.
    """
    return uvicorn.Config(
        app,
        factory=factory,
        http=LimitedHttpProtocol,
        ws="none",
        lifespan="on",
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,
        backlog=BACKLOG,
        limit_concurrency=MAX_CONNECTIONS,
        timeout_keep_alive=KEEP_ALIVE_SECONDS,
        timeout_graceful_shutdown=GRACE_SECONDS,
        workers=workers,
    )


def run(settings: ReceiverSettings, listener: socket.socket) -> None:
    """Serve until SIGTERM or SIGINT; return when all that was taken is finished."""
    configure_logging(as_json=settings.json_logs)
    config = server_config(ReceiverFactory(settings), settings.workers, factory=True)
    with housekeeping(settings.event_log_url, settings.forward_to, settings.retention_days):
        _serve(config, listener)
    logger.info("Stopped; everything that was taken is on disk")


def _serve(config: uvicorn.Config, listener: socket.socket) -> None:
    if config.workers > 1:
        with tempfile.TemporaryDirectory(prefix="sendgrid-webhook-") as folder:
            os.environ[MULTIPROCESS_VARIABLE] = folder
            Multiprocess(config, sockets=[listener]).run()
    else:
        # After a clean stop uvicorn raises the signal again; ending with 0 is what is wanted.
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, _ignore)
        if hasattr(signal, "SIGHUP"):  # not on Windows
            signal.signal(signal.SIGHUP, _keep_serving)
        server = uvicorn.Server(config)
        server.run(sockets=[listener])
        if not server.started:
            raise SystemExit(1)


def _end_with_parent() -> None:
    """In a worker: stop when the process that started it is gone, instead of serving unwatched."""
    parent = multiprocessing.parent_process()
    if parent is not None:

        def wait() -> None:
            parent.join()
            os.kill(os.getpid(), signal.SIGTERM)

        threading.Thread(target=wait, name="parent-watch", daemon=True).start()


def _keep_serving(number: int, frame: FrameType | None) -> None:
    """SIGHUP replaces workers one by one; of one alone the receiver would be away meanwhile."""
    logger.warning(
        "SIGHUP changes nothing with one worker: give --workers 2, or start the receiver again"
    )


def _ignore(number: int, frame: FrameType | None) -> None:
    """The server has dealt with it."""
