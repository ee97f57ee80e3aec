"""What runs beside the receiving goes on after a failure."""

from __future__ import annotations

import threading

import pytest
from tap_sendgrid.webhook.housekeeping import keep_running


def test_a_job_that_fails_is_logged_and_run_again(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("tap_sendgrid.webhook.housekeeping.AGAIN_SECONDS", 0.01)
    stop = threading.Event()
    runs = []

    def job() -> None:
        runs.append(1)
        if len(runs) == 1:
            raise OverflowError("date value out of range")
        stop.set()

    keep_running(job, stop)
    assert len(runs) == 2
    assert "Housekeeping failed" in caplog.text
    assert "date value out of range" in caplog.text
