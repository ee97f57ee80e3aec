"""A backfill stays at home: the URL that gets copies was told by SendGrid at the time."""

from __future__ import annotations

import http.server
import threading
import time
from datetime import UTC, datetime

import pytest
from tap_sendgrid.event_log import Delivery, EventLog
from tap_sendgrid.history.backfill import as_deliveries
from tap_sendgrid.webhook import forward
from tap_sendgrid.webhook.forward import consumer_name
from tap_sendgrid.webhook.housekeeping import housekeeping


def test_backfilled_deliveries_are_not_forwarded(
    log: EventLog, log_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(forward, "IDLE_SECONDS", 0.02)
    got: list[bytes] = []

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            got.append(self.rfile.read(int(self.headers["Content-Length"])))
            self.send_response(204)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    now = datetime.now(UTC)
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        url = f"http://127.0.0.1:{server.server_address[1]}/hook"
        log.commit(consumer_name(url), 0)
        log.append([*as_deliveries([{"event": "open"}], now), Delivery(b"[]\r\n", now)])
        with housekeeping(log_url, [url], None):
            deadline = time.monotonic() + 15
            while log.positions()[0].offset < 2:
                assert time.monotonic() < deadline
                time.sleep(0.02)
        server.shutdown()
    assert got == [b"[]\r\n"]
