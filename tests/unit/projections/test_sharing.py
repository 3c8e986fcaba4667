"""Several projectors of the same views: given and taken shards, standing in, and two who both believe to have them all."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from domain.errors import Problem
from eventlog.received import Unreadable
from projections.memory import MemoryShelf
from projections.rebuild import Rebuild, RollBack, digest_of
from projections.runner import RunnerSettings
from projections.sharing import ShardShare, SharingSettings
from projections.shelf import FIRST_VERSION, ViewShelf
from projections.views import READ_MODELS, Views, ViewsSettings
from tests.unit.projections.world import CODEC, SHARDS, World

FAST = RunnerSettings(linger_ms=0, lazy_linger_ms=0, failure_pause_ms=1, span_commits=3)
PATIENCE = SharingSettings(still_s=2.0, rest_s=4.0)
ALL = range(SHARDS + 1)
EVEN, ODD = ALL[0::2], ALL[1::2]


class Projector:
    """One process of several: its views, its share, and a clock that a test sets."""

    def __init__(self, world: World, views: Views) -> None:
        self._world = world
        self.views = views
        self.now = 0.0
        self.share = ShardShare(
            views,
            world.log,
            monotonic_s=lambda: self.now,
            chance=random.Random(1),
            settings=PATIENCE,
        )

    async def look(self, seconds: float = 0.0) -> None:
        """Time passed, and the log is looked at."""
        self.now += seconds
        await self.share.looked(self._world.positions())

    async def caught_up(self, *names: str) -> None:
        """Everything of its shards is in its views."""
        heads = self._world.positions()
        wanted = {shard: head for shard, head in heads.items() if self.views.runner.owns(shard)}
        await self.views.caught_up(wanted, 10.0, names or tuple(READ_MODELS))


@asynccontextmanager
async def projector(world: World, shelf: ViewShelf) -> AsyncIterator[Projector]:
    settings = ViewsSettings(runner=FAST, shared=True, shares=True)
    views = await Views.open(shelf, world.log, world.bus, CODEC, settings)
    try:
        yield Projector(world, views)
    finally:
        await views.close()


async def talk(world: World, messages: int = 3) -> None:
    """Groups and messages in most shards."""
    for number in range(2 * SHARDS):
        stream = f"g_{number}"
        if stream not in world._versions:
            await world.group(stream, "alice", ["bob"])
        for _ in range(messages):
            await world.say(stream, "alice", f"hello {number}")


def check(world: World, shelf: ViewShelf) -> None:
    """Every view is what one projector alone would have made of the log."""
    current = shelf.current()
    for name, model in READ_MODELS.items():
        reference = model.over(MemoryShelf().open(model.schema, FIRST_VERSION, "reference"))
        reference.take(world.history)
        store = shelf.open(model.schema, current.get(name, FIRST_VERSION), world.log.log_id)
        with store.snapshot() as found, reference.store.snapshot() as expected:
            assert digest_of(found) == digest_of(expected), name
            assert dict(found.positions()) == world.positions()


async def test_each_writes_what_it_was_given() -> None:
    world, shelf = World(), MemoryShelf()
    async with projector(world, shelf) as one, projector(world, shelf) as two:
        await talk(world)
        assert await one.share.positions(EVEN) == {shard: world.positions().get(shard, 0) for shard in EVEN}
        await two.share.positions(ODD)
        await talk(world)
        await one.caught_up()
        await two.caught_up()
        check(world, shelf)
        assert one.views.lag_commits == two.views.lag_commits == 0
        assert one.views.runner.metrics.stale == two.views.runner.metrics.stale == 0


async def test_shards_change_hands_while_they_grow() -> None:
    world, shelf = World(), MemoryShelf()
    async with projector(world, shelf) as one, projector(world, shelf) as two:
        await one.share.positions(ALL)
        await talk(world)
        for shards in (EVEN, ODD, EVEN):
            await one.share.lost(ALL)
            await two.share.lost(ALL)
            await one.share.positions(shards)
            await two.share.positions([shard for shard in ALL if shard not in shards])
            await talk(world, 1)
        await one.caught_up()
        await two.caught_up()
        check(world, shelf)


async def test_two_who_both_have_everything_do_no_harm() -> None:
    world, shelf = World(), MemoryShelf()
    async with projector(world, shelf) as one, projector(world, shelf) as two:
        await one.share.positions(ALL)
        await two.share.positions(ALL)
        for _ in range(4):
            await talk(world, 1)
            await asyncio.sleep(0)
        await one.caught_up()
        await two.caught_up()
        check(world, shelf)
        assert one.views.runner.metrics.stale + two.views.runner.metrics.stale > 0
        assert not one.views.failing


async def test_who_sees_a_shard_stand_still_stands_in_and_gives_way() -> None:
    world, shelf = World(), MemoryShelf()
    async with projector(world, shelf) as one, projector(world, shelf) as two:
        await one.share.positions(EVEN)
        await talk(world)
        await one.caught_up()
        await one.look()
        await one.look(1.0)
        assert one.share.standing_in == frozenset()
        await one.look(2.5)
        held = {shard for shard in ODD if world.positions().get(shard)}
        assert one.share.standing_in == held
        await one.caught_up()
        # The other one comes: what it writes is refused to who only stood in, who leaves it alone from then on.
        await two.share.positions(ODD)
        await talk(world, 1)
        await two.caught_up()
        await one.look()
        await one.caught_up()
        check(world, shelf)
        await one.share.positions(EVEN)
        assert one.share.standing_in == frozenset()


async def test_who_gave_way_rests_before_it_stands_in_again() -> None:
    world, shelf = World(), MemoryShelf()
    async with projector(world, shelf) as one:
        await talk(world)
        await one.look()
        await one.look(3.5)
        standing = one.share.standing_in
        assert standing
        shard = min(standing)
        assert one.views.runner.contested is not None
        assert set(one.views.runner.contested(frozenset({shard}))) == {shard}
        await one.views.runner.lose([shard])
        assert not one.views.runner.owns(shard)
        await one.caught_up()
        await talk(world, 1)
        await one.look()
        await one.look(3.2)
        assert shard not in one.share.standing_in
        await one.look(8.0)
        assert shard in one.share.standing_in


async def test_a_rebuild_beside_another_projector_is_taken_into_use_by_both() -> None:
    world, shelf = World(), MemoryShelf()
    async with projector(world, shelf) as one, projector(world, shelf) as two:
        await one.share.positions(EVEN)
        await two.share.positions(ODD)
        await talk(world)
        await one.caught_up()
        await two.caught_up()
        built = await Rebuild(one.views, "timeline", share=1.0).run()
        assert built.same
        assert built.switched
        await talk(world, 1)
        assert two.views.version_of("timeline") == built.old_version
        await two.views.follow_switches()
        assert two.views.version_of("timeline") == built.new_version
        await talk(world, 1)
        await one.caught_up()
        await two.caught_up()
        check(world, shelf)
        back = await RollBack(two.views, "timeline", share=1.0).run()
        assert back.new_version == FIRST_VERSION
        await talk(world, 1)
        await one.views.follow_switches()
        await one.caught_up()
        await two.caught_up()
        check(world, shelf)


async def test_a_stream_parked_by_another_projector_is_read_on_by_that_one() -> None:
    world, shelf = World(), MemoryShelf()
    async with projector(world, shelf) as one, projector(world, shelf) as two:
        await one.share.positions(EVEN)
        await two.share.positions(ODD)
        await talk(world)
        future = world.made("g_0", world.message("g_0", "alice", "of the future"))
        await world.log.append({future.commit.shard: [future.commit]})
        mine, other = (one, two) if future.commit.shard in EVEN else (two, one)
        mine.views.runner.follow([Unreadable(future.commit, "of the future")])
        await mine.caught_up()
        assert {row.projection for row in await other.views.parked()} >= {"timeline", "search"}
        with pytest.raises(Problem, match="another projector writes shard"):
            await other.views.retry("timeline", "g_0")
        await talk(world, 1)
        await other.caught_up()
        for row in await mine.views.parked():
            assert await mine.views.retry(row.projection, row.stream)
        await mine.caught_up()
        check(world, shelf)


async def test_a_look_at_the_log_while_the_group_speaks_leaves_no_shard_with_nobody_to_give_it_up() -> None:
    world, shelf = World(), MemoryShelf()
    async with projector(world, shelf) as one:
        await talk(world)
        await one.look()
        await one.look(3.1)
        late, given = sorted(one.share.standing_in)[:2]
        await one.caught_up()
        await one.share.lost([late])
        await talk(world)
        await one.look()
        # A batch is being written meanwhile: the group's word has to wait for it.
        async with asyncio.timeout(10), asyncio.TaskGroup() as tasks, one.views.runner.paused():
            tasks.create_task(one.share.positions([given]))
            tasks.create_task(one.look(3.1))
            while late not in one.share.standing_in:  # noqa: ASYNC110 - nothing tells of it
                await asyncio.sleep(0)
        assert {shard for shard in ALL if one.views.runner.owns(shard)} == {late, given}
        assert late in one.share.standing_in
