"""Token buckets on a clock of the test's."""

from __future__ import annotations

import pytest

from domain.errors import Problem
from gateways.limits import Limiter, LimitSettings, Rate, RateLimits


class Clock:
    """Seconds."""

    def __init__(self) -> None:
        self.now_s = 0.0

    def monotonic_s(self) -> float:
        """The time."""
        return self.now_s


def test_a_bucket_gives_its_burst_and_then_its_rate() -> None:
    clock = Clock()
    limiter = Limiter(Rate(2, 3), clock.monotonic_s)
    assert [limiter.take("a") for _ in range(4)] == [0.0, 0.0, 0.0, 0.5]
    clock.now_s = 0.5
    assert limiter.take("a") == 0.0
    assert limiter.take("a") == pytest.approx(0.5)
    clock.now_s = 100.0
    assert [limiter.take("a") for _ in range(3)] == [0.0] * 3
    assert limiter.take("a") > 0


def test_buckets_are_apart_and_bounded() -> None:
    clock = Clock()
    limiter = Limiter(Rate(1, 1), clock.monotonic_s, buckets_max=2)
    assert [limiter.take(key) for key in ("a", "b", "c")] == [0.0] * 3
    assert len(limiter) == 2
    assert limiter.take("c") > 0
    assert limiter.take("a") == 0.0


def test_a_clock_that_goes_back_gives_nothing() -> None:
    clock = Clock()
    clock.now_s = 10.0
    limiter = Limiter(Rate(1, 1), clock.monotonic_s)
    limiter.take("a")
    clock.now_s = 5.0
    assert limiter.take("a") == pytest.approx(1.0)


async def test_refusals_say_when_to_come_again() -> None:
    clock = Clock()
    limits = RateLimits(LimitSettings(registrations_per_min_address=1), clock.monotonic_s)
    await limits.registration("10.0.0.1")
    with pytest.raises(Problem) as refused:
        await limits.registration("10.0.0.1")
    assert (refused.value.code, refused.value.retry_after_ms) == ("rate_limited", 60_000)
    await limits.registration("10.0.0.2")


async def test_log_ins_are_limited_by_user_too() -> None:
    limits = RateLimits(LimitSettings(logins_per_min_user=2), Clock().monotonic_s)
    await limits.login("default", "ann", "10.0.0.1")
    await limits.login("default", "ann", "10.0.0.2")
    with pytest.raises(Problem, match="rate_limited"):
        await limits.login("default", "ann", "10.0.0.3")
    await limits.login("other", "ann", "10.0.0.3")


def test_off_is_off() -> None:
    limits = RateLimits(
        LimitSettings(enabled=False, rest_per_s_user=1, rest_burst_user=1), Clock().monotonic_s
    )
    for _ in range(100):
        limits.rest("default", "ann")
