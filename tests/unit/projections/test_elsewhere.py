"""Reading views that another process writes: waiting for it, its rebuilds, and what it made as another release."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import msgspec
import pytest

from domain.errors import Problem
from projections import timeline
from projections.elsewhere import LookSettings, ViewsElsewhere
from projections.memory import MemoryShelf
from projections.rebuild import Rebuild
from projections.runner import RunnerSettings
from projections.shelf import ViewShelf
from projections.sqlite_shelf import SqliteShelf
from projections.store import ViewUnavailableError
from projections.views import READ_MODELS, Views
from tests.unit.projections.world import World, rows, views_of

GROUP = "g_1"
TENANT = "default"
SLOW = RunnerSettings(linger_ms=60_000, lazy_linger_ms=60_000)


@pytest.fixture(params=["memory", "sqlite"])
def shelf(request: pytest.FixtureRequest, tmp_path: Path) -> ViewShelf:
    """Where both sides find the views."""
    return MemoryShelf() if request.param == "memory" else SqliteShelf(tmp_path)


@asynccontextmanager
async def elsewhere(
    world: World, shelf: ViewShelf, writer: Views | None = None
) -> AsyncIterator[ViewsElsewhere]:
    """A reader that hears of every head and looks all the time; the writer, if given, is told to hurry."""

    def hurry(lazy: bool) -> None:
        if writer is not None:
            writer.runner.hurry(lazy=lazy)

    looks = LookSettings(look_ms=1, idle_look_ms=1)
    views = await ViewsElsewhere.open(shelf, world.log, world.positions, hurry, looks=looks)
    try:
        yield views
    finally:
        await views.close()


async def texts(views: ViewsElsewhere) -> list[object]:
    access = await views.timeline.access(TENANT, "alice", GROUP)
    if access is None:
        return []
    return [row["content"]["text"] for row in rows(await views.timeline.messages(access))]  # type: ignore[index]


async def test_who_waits_reads_what_the_writer_has_come_to(shelf: ViewShelf) -> None:
    world = World()
    async with (
        views_of(world, shelf, SLOW, shared=True) as writer,
        elsewhere(world, shelf, writer) as reader,
    ):
        await world.group(GROUP, "alice")
        await world.say(GROUP, "alice", "one")
        await reader.caught_up(world.positions(), timeout_s=10)
        assert await texts(reader) == ["one"]
        assert not reader.failing
        assert len(rows(await reader.search.search(TENANT, "alice", "one"))) == 1
        await reader.freshen(("search", "audit_trail"))
        assert reader.lag_commits == 0


async def test_who_waits_for_a_writer_that_lingers_is_told(shelf: ViewShelf) -> None:
    world = World()
    async with views_of(world, shelf, SLOW, shared=True), elsewhere(world, shelf) as reader:
        await world.group(GROUP, "alice")
        with pytest.raises(Problem, match="behind"):
            await reader.caught_up(world.positions(), timeout_s=0.05)
        assert reader.lag_commits == 1


async def test_a_cancelled_waiter_leaves_nothing(shelf: ViewShelf) -> None:
    world = World()
    async with views_of(world, shelf, SLOW, shared=True), elsewhere(world, shelf) as reader:
        await world.group(GROUP, "alice")
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.01):
                await reader.caught_up(world.positions())
        assert reader._waiting == 0


async def test_a_rebuilt_view_is_taken_into_use(shelf: ViewShelf) -> None:
    world = World()
    async with views_of(world, shelf, shared=True) as writer, elsewhere(world, shelf) as reader:
        await world.group(GROUP, "alice")
        await world.say(GROUP, "alice", "one")
        await reader.caught_up(world.positions(), timeout_s=10)
        for _ in range(3):
            await Rebuild(writer, "timeline", share=1.0).run()
        await world.say(GROUP, "alice", "two")
        await reader.caught_up(world.positions(), timeout_s=10)
        assert await texts(reader) == ["one", "two"]


async def test_a_version_of_another_release_is_left_alone(
    shelf: ViewShelf, monkeypatch: pytest.MonkeyPatch
) -> None:
    world = World()
    async with views_of(world, shelf, shared=True):
        await world.group(GROUP, "alice")
    newer = msgspec.structs.replace(timeline.SCHEMA, version=timeline.SCHEMA.version + 1)
    model = msgspec.structs.replace(READ_MODELS["timeline"], schema=newer)
    monkeypatch.setattr("projections.elsewhere.READ_MODELS", {**READ_MODELS, "timeline": model})
    with pytest.raises(ViewUnavailableError, match="another release"):
        await ViewsElsewhere.open(shelf, world.log, world.positions, lambda _: None)
    assert shelf.holds(timeline.SCHEMA, 1, world.log.log_id)
