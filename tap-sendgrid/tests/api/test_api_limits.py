"""Budgets of endpoints, with a clock of our own."""

from __future__ import annotations

import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tap_sendgrid.api.limits import RateLimits


class Clock:
    def __init__(self) -> None:
        self.now = 1_800_000_000.0
        self.slept: list[float] = []

    def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.now += seconds

    def limits(self) -> RateLimits:
        return RateLimits(self.sleep, lambda: self.now)


def headers(remaining: int, reset: float) -> dict[str, str]:
    return {"X-RateLimit-Remaining": str(remaining), "X-RateLimit-Reset": str(int(reset))}


@pytest.mark.parametrize(
    ("path", "key"),
    [
        ("/v3/marketing/lists", "GET /v3/marketing/lists"),
        ("/v3/campaigns/123/schedules", "GET /v3/campaigns/{id}/schedules"),
        (
            "/v3/marketing/singlesends/0b5e7f9e-54ab-4ac3-a75f-1c95e7f2c3f1",
            "GET /v3/marketing/singlesends/{id}",
        ),
        ("/v3/asm/suppressions/global/a@b.c", "GET /v3/asm/suppressions/global/{id}"),
    ],
)
def test_ids_share_one_budget(path: str, key: str) -> None:
    assert RateLimits.endpoint("GET", path) == key


def test_nothing_is_waited_for_before_anything_is_known() -> None:
    clock = Clock()
    assert clock.limits().acquire("GET /v3/x") == 0


def call(limits: RateLimits, endpoint: str, answer: dict[str, str]) -> float:
    waited = limits.acquire(endpoint)
    limits.settle(endpoint, answer)
    return waited


def test_a_spent_budget_is_waited_for_once() -> None:
    clock = Clock()
    limits = clock.limits()
    call(limits, "a", headers(0, clock.now + 7))
    # A second more than seven, for clocks that differ.
    assert call(limits, "a", headers(5, clock.now + 20)) == pytest.approx(8)
    assert limits.acquire("a") == 0
    assert limits.acquire("b") == 0


def test_broken_headers_are_passed_over() -> None:
    clock = Clock()
    limits = clock.limits()
    call(limits, "a", {"X-RateLimit-Remaining": "none", "X-RateLimit-Reset": "soon"})
    call(limits, "a", {})
    assert [limits.acquire("a") for _ in range(3)] == [0, 0, 0]  # and nobody waits for anybody


def test_without_a_reset_the_waits_grow() -> None:
    clock = Clock()
    limits = clock.limits()
    assert [limits.wait_after_429({}, attempt) for attempt in (1, 2, 3, 9)] == [1, 2, 4, 60]


def test_after_a_reset_that_is_past_the_waits_grow() -> None:
    """It tells nothing: the clocks are apart, or others use the budget up."""
    clock = Clock()
    past = headers(0, clock.now - 3600)
    limits = RateLimits(lambda _: None, lambda: clock.now)
    assert [limits.wait_after_429(past, attempt) for attempt in (1, 2, 3, 9)] == [1, 2, 4, 60]


@pytest.mark.parametrize("reset", ["1800000060000", "99999999999999", "nan", "inf"])
def test_an_absurd_reset_is_not_waited_for(reset: str) -> None:
    """Milliseconds, for one; it must not make the next call wait for ever either."""
    clock = Clock()
    limits = clock.limits()
    absurd = {"X-RateLimit-Remaining": "0", "X-RateLimit-Reset": reset}
    assert limits.wait_after_429(absurd, 1) == 1
    call(limits, "a", absurd)
    assert [call(limits, "a", absurd) for _ in range(3)] == [0, 0, 0]


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        ("7", 7),
        ("0", None),  # at once, twenty times, is no answer to a 429
        ("Fri, 15 Jan 2027 08:00:09 GMT", 9),
        ("Fri, 15 Jan 2027 07:00:00 GMT", None),
        ("-5", None),
        ("soon", None),
        ("", None),
        ("nan", None),
        ("86400", None),
        ("Fri, 15 Jan 2099 08:00:00 GMT", None),
    ],
)
def test_retry_after_is_heeded(value: str, seconds: float | None) -> None:
    clock = Clock()
    limits = clock.limits()
    assert limits.retry_after({"Retry-After": value}) == seconds
    both = {**headers(0, clock.now + 20), "Retry-After": value}
    assert limits.wait_after_429(both, 1) == (21 if seconds is None else seconds)


@settings(max_examples=50, deadline=None)
@given(st.integers(1, 9), st.lists(st.floats(0, 3, allow_nan=False), min_size=1, max_size=40))
def test_a_window_never_sees_more_calls_than_its_limit(limit: int, pauses: list[float]) -> None:
    """A server with fixed windows of ten seconds counts along."""
    clock = Clock()
    limits = clock.limits()
    window, used = 0.0, 0
    for pause in pauses:
        clock.now += pause
        limits.acquire("a")
        start = clock.now - clock.now % 10
        if start != window:
            window, used = start, 0
        used += 1
        assert used <= limit
        limits.settle("a", headers(limit - used, window + 10))


@pytest.mark.parametrize("limit", [1, 3, 20])
def test_threads_together_stay_within_the_limit(limit: int) -> None:
    """A server with real windows of a tenth of a second, whose answers take their time."""
    lock = threading.Lock()
    state = {"end": 0.0, "used": 0, "most": 0}
    limits = RateLimits(sleep=lambda seconds: time.sleep(max(0.0, seconds - 0.99)))

    def request(_: int) -> None:
        limits.acquire("a")
        with lock:
            now = time.time()
            if now >= state["end"]:
                state["end"], state["used"] = now + 0.1, 0
            state["used"] += 1
            state["most"] = max(state["most"], state["used"])
            answer = {
                "X-RateLimit-Remaining": str(max(0, limit - state["used"])),
                "X-RateLimit-Reset": repr(state["end"]),
            }
        time.sleep(0.002)
        limits.settle("a", answer)

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(request, range(min(4 * limit, 40))))
    assert state["most"] <= limit


def test_a_call_without_an_answer_lets_the_others_go_on() -> None:
    limits = RateLimits()
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda _: call(limits, "a", {}), range(50)))
    assert limits.acquire("a") == 0
