"""A rebuilt view equals the live one, and takes its place."""

from __future__ import annotations

from pathlib import Path

import pytest

from domain.errors import Problem
from domain.talk import MessageEdited, MessageRecalled, ReactionAdded
from eventlog.received import Unreadable
from projections.projection import Poison
from projections.rebuild import Progress, Rebuild, RollBack, digest_of
from projections.sqlite import SqliteViewStore
from projections.views import READ_MODELS
from tests.unit.projections.world import World, content, rows, views_of

GROUP = "g_1"


async def busy_world() -> World:
    world = World()
    await world.register("alice")
    await world.group(GROUP, "alice", ["bob"])
    seq = 0
    for n in range(5):
        seq = await world.say(GROUP, "alice", f"word{n}", mentions=("bob",))
        await world.commit(GROUP, ReactionAdded(actor="bob", at=0, target=seq, emoji="x"))
    await world.commit(GROUP, MessageEdited(actor="alice", at=0, target=seq, content=content("edited")))
    await world.commit(GROUP, MessageRecalled(actor="alice", at=0, target=seq - 2))
    return world


@pytest.mark.parametrize("name", sorted(READ_MODELS))
async def test_a_rebuilt_view_equals_the_live_one_and_takes_its_place(tmp_path: Path, name: str) -> None:
    world = await busy_world()
    told: list[Progress] = []
    async with views_of(world, tmp_path) as views:
        # A lazy view lies behind the log here, and is compared at the same positions all the same.
        rebuilt = await Rebuild(views, name, progress=told.append, share=1).run()
        assert rebuilt.same
        assert rebuilt.switched
        assert told[-1].done_commits == told[-1].known_commits == len(world.history)
        await world.say(GROUP, "bob", "later")
        await views.caught_up(world.positions())
        assert len(rows(await views.search.search("default", "bob", "later"))) == 1
        assert (await Rebuild(views, name, share=1).run()).same
    async with views_of(world, tmp_path) as views:
        assert views.version_of(name) == 3
        assert (tmp_path / f"{name}-v2.db").exists()
        assert not (tmp_path / f"{name}-v1.db").exists()
        await views.caught_up(world.positions())
        assert len(rows(await views.search.search("default", "bob", "later"))) == 1


async def test_a_roll_back_brings_the_kept_version_up_to_date_and_throws_the_other_away(
    tmp_path: Path,
) -> None:
    world = await busy_world()
    async with views_of(world, tmp_path) as views:
        await views.caught_up(world.positions())
        await Rebuild(views, "timeline", share=1).run()
        await world.say(GROUP, "bob", "missed by the kept version")
        await views.caught_up(world.positions())
        with views.projection("timeline").store.snapshot() as snapshot:
            before = digest_of(snapshot)
        back = await RollBack(views, "timeline", share=1).run()
        assert (back.old_version, back.new_version, back.events) == (2, 1, 1)
        with views.projection("timeline").store.snapshot() as snapshot:
            assert digest_of(snapshot) == before
        assert not (tmp_path / "timeline-v2.db").exists()
        await world.say(GROUP, "bob", "later")
        await views.caught_up(world.positions())
        rebuilt = await Rebuild(views, "timeline", share=1).run()
        assert (rebuilt.new_version, rebuilt.events, rebuilt.same) == (2, len(world.history), True)
        await RollBack(views, "timeline", share=1).run()
    async with views_of(world, tmp_path) as views:
        assert views.version_of("timeline") == 1
        await views.caught_up(world.positions())
        assert len(rows(await views.search.search("default", "bob", "later"))) == 1


async def test_without_a_kept_version_of_this_release_nothing_is_rolled_back(tmp_path: Path) -> None:
    world = await busy_world()
    async with views_of(world, tmp_path) as views:
        await views.caught_up(world.positions())
        with pytest.raises(Problem, match="no earlier version"):
            await RollBack(views, "timeline", share=1).run()
        await Rebuild(views, "timeline", share=1).run()
        (tmp_path / "timeline-v1.db").unlink()
        SqliteViewStore(tmp_path / "timeline-v1.db", READ_MODELS["inbox"].schema, "log-1").close()
        with pytest.raises(Problem, match="another release"):
            await RollBack(views, "timeline", share=1).run()
        assert views.version_of("timeline") == 2


async def test_a_rebuild_stops_at_poison_and_leaves_the_current_view(tmp_path: Path) -> None:
    world = await busy_world()
    async with views_of(world, tmp_path) as views:
        await views.caught_up(world.positions())
        new = views.projection_beside("timeline", 2)
        future = [Unreadable(committed.commit, "of the future") for committed in world.history]
        with pytest.raises(Poison):
            new.take(future)
        new.store.close()
        assert views.version_of("timeline") == 1
