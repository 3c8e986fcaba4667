"""Presence: the same in one process and over Redis, and what several gateways see of each other."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import pytest

from docker.local.redis import RedisServers
from gateways.presence import MemoryPresence, Presence, PresenceRow, User
from gateways.redis_driver import FastStore
from gateways.redis_presence import RedisPresence

SOON_S = 10.0


class Ear:
    """Hears of who came or went."""

    def __init__(self, presence: Presence) -> None:
        self.heard: list[str] = []
        self._news = asyncio.Event()
        presence.changed = self._hear

    def _hear(self, _tenant: str, user_id: str) -> None:
        self.heard.append(user_id)
        self._news.set()

    async def hears(self, *user_ids: str) -> None:
        """Wait until each of them was heard of; forget all that was heard."""
        async with asyncio.timeout(SOON_S):
            while not set(user_ids) <= set(self.heard):
                await self._news.wait()
                self._news.clear()
        self.heard.clear()


async def row_of(presence: Presence, user_id: str, is_right: Callable[[PresenceRow], bool]) -> PresenceRow:
    """The row as soon as it is right; other gateways write when they come to it."""
    async with asyncio.timeout(SOON_S):
        while True:
            (row,) = await presence.of("default", [user_id])
            if is_right(row):
                return row


@pytest.fixture(params=["memory", pytest.param("redis", marks=pytest.mark.services)])
async def presence(request: pytest.FixtureRequest) -> AsyncIterator[Presence]:
    """One gateway's presence."""
    if request.param == "memory":
        yield MemoryPresence(lambda: time.time_ns() // 1_000_000)
        return
    url, prefix = request.getfixturevalue("redis_url"), request.getfixturevalue("redis_prefix")
    async with Gateway(url, prefix, "g1") as made:
        yield made


class Gateway:
    """A gateway's presence over Redis, started and closed."""

    def __init__(self, url: str, prefix: str, name: str, *, lease_s: float = 30, renew_s: float = 10) -> None:
        self._url, self._prefix, self._name = url, prefix, name
        self._lease_s, self._renew_s = lease_s, renew_s
        self.watched: list[User] = []

    async def __aenter__(self) -> RedisPresence:
        self.store = await FastStore.open(self._url, self._prefix)
        self.presence = RedisPresence(self.store, self._name, lease_s=self._lease_s, renew_s=self._renew_s)
        self.presence.start(lambda: self.watched)
        return self.presence

    async def __aexit__(self, *_: object) -> None:
        await self.presence.close()
        await self.store.close()


async def test_devices_are_counted_by_kind(presence: Presence) -> None:
    ear = Ear(presence)
    presence.came("default", "ann", "web")
    await ear.hears("ann")
    presence.came("default", "ann", "web")
    presence.came("default", "ann", "ios")
    await ear.hears("ann")
    (row, other) = await presence.of("default", ["ann", "bob"])
    assert (row.online, row.devices, row.last_seen is None) == (True, ["ios", "web"], False)
    assert (other.online, other.devices, other.last_seen) == (False, [], None)
    presence.went("default", "ann", "web")
    assert (await presence.of("default", ["ann"]))[0].devices == ["ios", "web"]
    presence.went("default", "ann", "web")
    presence.went("default", "ann", "ios")
    await ear.hears("ann")
    row = await row_of(presence, "ann", lambda row: row.last_seen is not None)
    assert (row.online, row.devices) == (False, [])
    presence.went("default", "ann", "web")
    assert (await presence.of("other", ["ann"]))[0].last_seen is None


@pytest.mark.services
async def test_gateways_see_each_other(redis_url: str, redis_prefix: str) -> None:
    async with (
        Gateway(redis_url, redis_prefix, "g1") as one,
        Gateway(redis_url, redis_prefix, "g2") as two,
    ):
        await two.listening.wait()
        ear = Ear(two)
        one.came("default", "bob", "web")
        await ear.hears("bob")
        two.came("default", "bob", "ios")
        await ear.hears("bob")
        await row_of(one, "bob", lambda row: row.devices == ["ios", "web"])
        one.went("default", "bob", "web")
        await ear.hears("bob")
        (row,) = await two.of("default", ["bob"])
        assert (row.online, row.devices) == (True, ["ios"])


@pytest.fixture
def own_redis(tmp_path: Path) -> Iterator[RedisServers]:
    """A Redis that the test may hurt."""
    with RedisServers(tmp_path) as servers:
        yield servers


@pytest.mark.services
async def test_an_emptied_redis_is_right_again_and_a_dead_gateway_runs_out(own_redis: RedisServers) -> None:
    alive = Gateway(own_redis.address, "t:", "g1", lease_s=0.5, renew_s=0.05)
    dead = Gateway(own_redis.address, "t:", "g2", lease_s=0.5, renew_s=60)
    async with alive as one, dead as two:
        await one.listening.wait()
        ear = Ear(one)
        alive.watched = [("default", "bob")]
        one.came("default", "ann", "web")
        two.came("default", "bob", "web")
        await ear.hears("ann", "bob")
        # Nobody renews the lease of the second gateway: whoever follows its user is told.
        await ear.hears("bob")
        ann, bob = await one.of("default", ["ann", "bob"])
        assert (ann.online, bob.online) == (True, False)
        assert bob.last_seen is not None
        assert own_redis.nodes[0].ask("FLUSHALL") == "+OK"
        await row_of(two, "ann", lambda row: row.online)


@pytest.mark.services
async def test_while_redis_is_away_one_sees_who_is_here(own_redis: RedisServers) -> None:
    async with Gateway(own_redis.address, "t:", "g1", renew_s=0.05) as one:
        await one.listening.wait()
        own_redis.nodes[0].kill()
        ear = Ear(one)
        one.came("default", "ann", "web")
        await ear.hears("ann")
        rows = await one.of("default", ["ann", "bob"])
        assert [(row.online, row.devices) for row in rows] == [(True, ["web"]), (False, [])]
        own_redis.nodes[0].restart()
        async with Gateway(own_redis.address, "t:", "g2") as two:
            await row_of(two, "ann", lambda row: row.online)


@pytest.mark.services
async def test_after_redis_was_away_whoever_watches_is_told_again(own_redis: RedisServers) -> None:
    here = Gateway(own_redis.address, "t:", "g1", renew_s=0.05)
    there = Gateway(own_redis.address, "t:", "g2", renew_s=0.05)
    async with here as one, there as two:
        await one.listening.wait()
        here.watched = [("default", "bob")]
        ear = Ear(one)
        two.came("default", "bob", "web")
        await ear.hears("bob")
        own_redis.nodes[0].kill()
        await row_of(one, "bob", lambda row: not row.online)
        ear.heard.clear()
        own_redis.nodes[0].restart()
        await ear.hears("bob")
        await row_of(one, "bob", lambda row: row.online)
