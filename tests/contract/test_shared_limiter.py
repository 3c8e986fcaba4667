"""Buckets that processes share: the same rules in one process and over Redis, and what happens while Redis is away."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from docker.local.redis import RedisServers
from gateways.limits import LocalLimiter, Rate, SharedLimiter
from gateways.redis_driver import FastStore, FastStoreUnavailableError, FastStoreUnfitError
from gateways.redis_limits import RedisLimiter

Limiters = Callable[[Rate], SharedLimiter]
SLOW = Rate(per_s=0.001, burst=3)


@pytest.fixture(params=["memory", pytest.param("redis", marks=pytest.mark.services)])
async def limiters(request: pytest.FixtureRequest) -> AsyncIterator[Limiters]:
    """Makes limiters of one name: over Redis, each as another gateway would."""
    if request.param == "memory":
        known: dict[Rate, SharedLimiter] = {}
        yield lambda rate: known.setdefault(rate, LocalLimiter(rate, time.monotonic))
        return
    url, prefix = request.getfixturevalue("redis_url"), request.getfixturevalue("redis_prefix")
    stores = [await FastStore.open(url, prefix) for _ in range(2)]
    made: list[SharedLimiter] = []

    def make(rate: Rate) -> SharedLimiter:
        made.append(RedisLimiter(stores[len(made) % 2], "tests", rate, time.monotonic))
        return made[-1]

    yield make
    for store in stores:
        await store.close()


async def test_a_burst_passes_and_then_one_waits(limiters: Limiters) -> None:
    limiter = limiters(SLOW)
    assert [await limiter.take("ann") for _ in range(3)] == [0.0, 0.0, 0.0]
    assert await limiter.take("ann") == pytest.approx(1_000, rel=0.01)
    assert await limiter.take("bob") == 0.0


async def test_gateways_share_a_bucket(limiters: Limiters) -> None:
    one, other = limiters(SLOW), limiters(SLOW)
    assert [await one.take("ann"), await other.take("ann"), await one.take("ann")] == [0.0, 0.0, 0.0]
    assert await other.take("ann") > 0


async def test_tokens_come_back_with_time(limiters: Limiters) -> None:
    limiter = limiters(Rate(per_s=200, burst=1))
    assert await limiter.take("ann") == 0.0
    until = time.monotonic() + 5
    while await limiter.take("ann") > 0:
        assert time.monotonic() < until, "no token came back"


@pytest.mark.services
async def test_a_redis_that_is_away_makes_every_gateway_count_for_itself(tmp_path: Path) -> None:
    with RedisServers(tmp_path) as servers:
        store = await FastStore.open(servers.address, "t:")
        limiter = RedisLimiter(store, "tests", SLOW, lambda: 0.0)
        assert await limiter.take("ann") == 0.0
        servers.nodes[0].kill()
        assert [await limiter.take("ann") for _ in range(3)] == [0.0, 0.0, 0.0]
        assert await limiter.take("ann") == pytest.approx(1_000)
        await store.close()


@pytest.mark.services
async def test_a_redis_that_is_none_is_refused_in_words() -> None:
    for url in ("redis://127.0.0.1:1", "http://127.0.0.1", "nonsense"):
        with pytest.raises((FastStoreUnavailableError, FastStoreUnfitError), match="redis_url"):
            await FastStore.open(url, "t:")
