"""Fast views on a Redis that is hurt: a projector and a gateway go on, right all the time, and Redis answers again afterwards."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from docker.local.redis import RedisNode, RedisServers
from eventlog.bus import Bus
from eventlog.memory import MemoryLog
from projections.elsewhere import LookSettings, ViewsElsewhere
from projections.fast import Ask, FastAwayError, Miss, Span
from projections.fast_shelf import FastShelf
from projections.memory import MemoryShelf
from projections.mongo_driver import ViewDatabase
from projections.mongo_shelf import MongoShelf
from projections.rebuild import Rebuild
from projections.redis_driver import PAUSE_S, RedisLine, Script
from projections.redis_fast import RedisFast
from projections.runner import RunnerSettings
from projections.shelf import ViewShelf
from projections.views import Views, ViewsSettings
from tests.contract.fast_house import questions_of, said
from tests.histories import History
from tests.unit.projections.world import CODEC, SHARDS

SOON_S = 20.0
FAST_LOOK_S = 0.02

pytestmark = pytest.mark.services


@pytest.fixture
def own_redis(tmp_path: Path) -> Iterator[RedisServers]:
    """A Redis that the test may hurt."""
    with RedisServers(tmp_path) as servers:
        yield servers


@pytest.fixture
def node(own_redis: RedisServers) -> RedisNode:
    return own_redis.nodes[0]


class Record:
    """A random history, told bit by bit."""

    def __init__(self, seed: int) -> None:
        self.log = MemoryLog("log-1", SHARDS)
        self.bus = Bus()
        self._history = History(seed)
        self._told = 0
        self._positions: dict[int, int] = {}

    def positions(self) -> Mapping[int, int]:
        """The heads."""
        return dict(self._positions)

    async def grow(self, count: int) -> None:
        """At least so many commits more."""
        history = self._history.grow(self._told + count)
        for committed in history[self._told :]:
            commit = committed.commit
            await self.log.append({commit.shard: [commit]})
            self._positions[commit.shard] = commit.position
            self.bus.publish([committed])
        self._told = len(history)


class Cluster:
    """A projector, and two gateways that read what it writes: one asks Redis first."""

    def __init__(self, record: Record, writer: Views, plain: ViewsElsewhere, fast: ViewsElsewhere) -> None:
        self._record = record
        self.writer = writer
        self.plain = plain
        self.fast = fast

    @property
    def hits(self) -> int:
        """Questions that Redis answered."""
        assert self.fast.fast is not None
        return self.fast.fast.counters.hits

    async def grow(self, count: int) -> None:
        """Wait until both gateways know of so many commits more."""
        await self._record.grow(count)
        for views in (self.plain, self.fast):
            await views.caught_up(self._record.positions(), timeout_s=SOON_S)

    async def compare(self, chance: random.Random, count: int) -> None:
        """Both gateways must say the same."""
        for what, question in questions_of(chance, count):
            plain = await said(question(self.plain.timeline, self.plain.inbox))
            assert await said(question(self.fast.timeline, self.fast.inbox)) == plain, what

    async def answers_again(self, chance: random.Random) -> None:
        """Wait until Redis answers, without a single commit."""
        async with asyncio.timeout(SOON_S):
            hits = self.hits
            while self.hits == hits:
                await self.compare(chance, 5)


@asynccontextmanager
async def cluster(record: Record, shelf: ViewShelf, rows: RedisFast) -> AsyncIterator[Cluster]:
    told = FastShelf(shelf, rows, SHARDS, look_s=FAST_LOOK_S)
    settings = ViewsSettings(runner=RunnerSettings(linger_ms=1), shared=True)
    writer = await Views.open(told, record.log, record.bus, CODEC, settings)
    looks = LookSettings(look_ms=1, idle_look_ms=5)

    def hurry(lazy: bool) -> None:
        writer.runner.hurry(lazy=lazy)

    opened = [
        await ViewsElsewhere.open(shelf, record.log, record.positions, hurry, looks=looks, fast=copies)
        for copies in (None, rows)
    ]
    try:
        yield Cluster(record, writer, *opened)
    finally:
        for views in opened:
            await views.close()
        await writer.close()
        told.close()


@pytest.fixture
def rows(own_redis: RedisServers) -> Iterator[RedisFast]:
    made = RedisFast(own_redis.address, "t", SHARDS, events_kept=24)
    yield made
    made.close()


async def test_an_emptied_redis_is_right_again_while_a_chat_is_quiet(
    rows: RedisFast, node: RedisNode
) -> None:
    chance, record = random.Random(1), Record(1)
    async with cluster(record, MemoryShelf(), rows) as all_of_it:
        await all_of_it.grow(40)
        await all_of_it.answers_again(chance)
        assert node.ask("FLUSHALL") == "+OK"
        await all_of_it.compare(chance, 10)
        await all_of_it.answers_again(chance)
        await all_of_it.grow(1)
        await all_of_it.compare(chance, 10)


@pytest.mark.slow
async def test_redis_hurt_at_any_moment_changes_no_answer(rows: RedisFast, node: RedisNode) -> None:
    """Emptied, killed and started again, or stopped, amid a history and questions."""
    chance, record = random.Random(7), Record(7)
    hurts: tuple[Callable[[], object], ...] = (
        lambda: node.ask("FLUSHALL"),
        node.kill,
        node.restart,
        lambda: node.ask("SCRIPT FLUSH"),
        lambda: node.ask("CLIENT KILL TYPE normal"),
    )
    async with cluster(record, MemoryShelf(), rows) as all_of_it:
        for _ in range(25):
            await all_of_it.grow(chance.choice((1, 3, 10)))
            await all_of_it.compare(chance, 6)
            if chance.random() < 0.5:
                await asyncio.to_thread(chance.choice(hurts))
        await asyncio.to_thread(node.restart)
        await all_of_it.answers_again(chance)


@pytest.mark.slow
async def test_over_mongodb_through_a_rebuild(
    rows: RedisFast, mongodb_uri: str, mongodb_database: str
) -> None:
    database = ViewDatabase.connect(mongodb_uri, mongodb_database)
    chance, record = random.Random(3), Record(3)
    async with cluster(record, MongoShelf(database), rows) as all_of_it:
        await all_of_it.grow(40)
        await all_of_it.answers_again(chance)
        await Rebuild(all_of_it.writer, "timeline").run()
        await all_of_it.compare(chance, 5)
        await all_of_it.grow(10)
        await all_of_it.answers_again(chance)
    database.close()


def test_nobody_waits_long_for_a_redis_that_hangs(rows: RedisFast, node: RedisNode) -> None:
    rows.tell("v", [Span(0, 1, 1)])
    assert rows.fetch("v", [Ask(0, 1, "c")]) == [Miss.ABSENT]
    node.pause()
    try:
        began = time.monotonic()
        with pytest.raises(FastAwayError):
            rows.fetch("v", [Ask(0, 1, "c")])
        assert time.monotonic() - began < PAUSE_S
        for _ in range(100):
            with pytest.raises(FastAwayError):
                rows.fetch("v", [Ask(0, 1, "c")])
        assert rows.reading.failures == 1
    finally:
        node.resume()


def test_a_redis_that_failed_is_asked_again_after_a_pause(own_redis: RedisServers) -> None:
    now_s = [0.0]
    line, script = RedisLine(own_redis.address, 5.0, lambda: now_s[0]), Script("return 1")
    assert line.run(script, [("k", ())]) == [1]
    own_redis.nodes[0].kill()
    with pytest.raises(FastAwayError):
        line.run(script, [("k", ())])
    own_redis.nodes[0].restart()
    with pytest.raises(FastAwayError):
        line.run(script, [("k", ())])
    now_s[0] += PAUSE_S
    assert line.run(script, [("k", ()), ("k", ())]) == [1, 1]
    line.close()
