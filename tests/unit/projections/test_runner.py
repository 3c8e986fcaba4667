"""The runner: lingering, gaps, catching up, parking, and what waits for it."""

from __future__ import annotations

from collections.abc import Container
from pathlib import Path

import pytest
from typing_extensions import override

from domain.errors import Problem
from domain.talk import MessageEdited
from eventlog.codec import EventCodec
from eventlog.record import Commit, Committed, Recorded
from eventlog.registry import UnknownEventError
from projections import timeline
from projections.projection import HoleError, Projection
from projections.rebuild import digest_of
from projections.runner import RunnerSettings
from projections.sqlite import SqliteViewStore
from projections.sqlite_shelf import SqliteShelf
from projections.store import UnitOfWork
from projections.tables import head_of
from projections.views import Views, ViewsSettings
from tests.unit.projections.world import CODEC, World, content, rows, views_of

GROUP = "g_1"
TENANT = "default"
SLOW = RunnerSettings(linger_ms=60_000, lazy_linger_ms=60_000)


async def texts(views: Views, stream: str = GROUP, user_id: str = "alice") -> list[object]:
    access = await views.timeline.access(TENANT, user_id, stream)
    if access is None:
        return []
    return [row["content"]["text"] for row in rows(await views.timeline.messages(access))]  # type: ignore[index]


async def test_a_waiter_cuts_the_lingering_short(tmp_path: Path) -> None:
    world = World()
    async with views_of(world, tmp_path, SLOW) as views:
        await world.group(GROUP, "alice")
        await world.say(GROUP, "alice", "one")
        assert await texts(views) == []
        assert views.lag_commits == 2
        await views.caught_up(world.positions())
        assert await texts(views) == ["one"]
        assert views.lag_commits == 2, "search and audit trail linger on"
        assert len(rows(await views.search.search(TENANT, "alice", "one"))) == 1
        assert len(rows(await views.audit_trail.events())) == 2
        assert views.lag_commits == 0


async def test_what_the_bus_missed_is_read_from_the_log(tmp_path: Path) -> None:
    world = World()
    async with views_of(world, tmp_path) as views:
        await world.group(GROUP, "alice")
        await world.commit(GROUP, world.message(GROUP, "alice", "unheard"), publish=False)
        await world.say(GROUP, "alice", "heard")
        await views.caught_up(world.positions())
        assert await texts(views) == ["unheard", "heard"]
        assert views.metrics.refills > 0


async def test_what_nobody_told_is_found_by_who_waits_for_it(tmp_path: Path) -> None:
    world = World()
    async with views_of(world, tmp_path) as views:
        await world.group(GROUP, "alice")
        await world.commit(GROUP, world.message(GROUP, "alice", "unheard"), publish=False)
        await views.caught_up(world.positions())
        assert await texts(views) == ["unheard"]


async def test_duplicates_and_a_full_queue_change_nothing(tmp_path: Path) -> None:
    world = World()
    settings = RunnerSettings(linger_ms=60_000, queue_commits_max=2)
    async with views_of(world, tmp_path, settings) as views:
        await world.group(GROUP, "alice")
        for n in range(5):
            await world.say(GROUP, "alice", str(n))
        for committed in reversed(world.history):
            world.bus.publish([committed])
        await views.caught_up(world.positions())
        assert await texts(views) == ["0", "1", "2", "3", "4"]


async def test_a_restart_goes_on_where_the_view_stands(tmp_path: Path) -> None:
    world = World()
    async with views_of(world, tmp_path) as views:
        await world.group(GROUP, "alice")
        await world.say(GROUP, "alice", "one")
        await views.caught_up(world.positions())
    await world.say(GROUP, "alice", "two")
    async with views_of(world, tmp_path) as views:
        assert sum(views.positions().values()) == 2
        await views.caught_up(world.positions())
        assert await texts(views) == ["one", "two"]
        assert views.metrics.commits == 1


async def test_views_of_another_log_are_void(tmp_path: Path) -> None:
    world = World()
    await world.group(GROUP, "alice")
    async with views_of(world, tmp_path) as views:
        await views.caught_up(world.positions())
    other = World("log-2")
    async with views_of(other, tmp_path) as views:
        assert views.positions() == {}
        assert await views.timeline.access(TENANT, "alice", GROUP) is None


async def test_a_view_that_stays_behind_is_unavailable(tmp_path: Path) -> None:
    world = World()
    async with views_of(world, tmp_path) as views:
        with pytest.raises(Problem, match="unavailable"):
            await views.caught_up({0: 1}, timeout_s=0.01)


def _apply_unless_bad(view: UnitOfWork, row: Recorded) -> None:
    timeline.apply(view, row)
    if isinstance(row.event, MessageEdited):
        raise ValueError("some bad text of a user")  # noqa: TRY004 - any error of a view will do


async def test_a_poisoned_stream_is_parked_and_the_rest_goes_on(tmp_path: Path) -> None:
    world = World()
    await world.group(GROUP, "alice")
    await world.group("g_2", "alice")
    first = await world.say(GROUP, "alice", "good")
    await world.commit(GROUP, MessageEdited(actor="alice", at=0, target=first, content=content("bad")))
    await world.say(GROUP, "alice", "behind it")
    await world.say("g_2", "alice", "elsewhere")
    store = SqliteViewStore(tmp_path / "timeline.db", timeline.SCHEMA, "log-1")
    projection = Projection(store, _apply_unless_bad)
    projection.take(world.history)
    (parked,) = projection.parked()
    assert (parked.stream, parked.from_version, parked.error) == (GROUP, 3, "ValueError")
    with store.snapshot() as snapshot:
        heads = {stream: head.seq for stream in (GROUP, "g_2") if (head := head_of(snapshot, stream))}
        assert snapshot.positions() == world.positions()
    assert heads == {GROUP: 2, "g_2": 2}
    store.close()
    healthy = Projection(SqliteViewStore(tmp_path / "timeline.db", timeline.SCHEMA, "log-1"), timeline.apply)
    assert healthy.retry(
        GROUP, [committed for committed in world.history if committed.commit.stream == GROUP]
    )
    untroubled = Projection(SqliteViewStore(tmp_path / "other.db", timeline.SCHEMA, "log-1"), timeline.apply)
    untroubled.take(world.history)
    with healthy.store.snapshot() as one, untroubled.store.snapshot() as other:
        assert digest_of(one) == digest_of(other)
    healthy.store.close()
    untroubled.store.close()


async def test_a_batch_with_a_hole_is_refused_and_changes_nothing(tmp_path: Path) -> None:
    world = World()
    await world.group(GROUP, "alice")
    for text in ("one", "two", "three"):
        await world.say(GROUP, "alice", text)
    projection = Projection(
        SqliteViewStore(tmp_path / "timeline.db", timeline.SCHEMA, "log-1"), timeline.apply
    )
    projection.take(world.history[:1])
    for torn in (world.history[2:], [world.history[1], world.history[3]]):
        with pytest.raises(HoleError):
            projection.take(torn)
        assert sum(projection.positions.values()) == sum(projection.store.positions().values()) == 1
    projection.take_commits([committed.commit for committed in world.history], CODEC)
    assert projection.store.positions() == world.positions()
    projection.store.close()


class ForgetfulCodec(EventCodec):
    """Knows no edits, as an older server would."""

    def __init__(self) -> None:
        super().__init__(CODEC.registry, CODEC._sealing)
        self.knows = False

    @override
    def decode(self, commit: Commit, contents: Container[str] | None = None) -> Committed:
        if b"message_edited" in commit.frame and not self.knows:
            raise UnknownEventError("unknown event type 'message_edited'")
        return super().decode(commit, contents)


async def test_an_unknown_event_is_parked_until_it_is_known_or_skipped(tmp_path: Path) -> None:
    world = World()
    await world.group(GROUP, "alice")
    first = await world.say(GROUP, "alice", "good")
    await world.commit(GROUP, MessageEdited(actor="alice", at=0, target=first, content=content("bad")))
    await world.say(GROUP, "alice", "behind it")
    codec = ForgetfulCodec()
    views = await Views.open(
        SqliteShelf(tmp_path), world.log, world.bus, codec, ViewsSettings(runner=RunnerSettings(linger_ms=1))
    )
    try:
        await views.caught_up(world.positions())
        assert await texts(views) == ["good"]
        assert {parked.projection for parked in await views.parked()} >= {"timeline"}
        assert not await views.retry("timeline", GROUP)
        assert await views.retry("timeline", GROUP, skip_because="of an older server")
        assert await texts(views) == ["good", "behind it"]
        codec.knows = True
        assert await views.retry("search", GROUP)
        await world.say(GROUP, "alice", "newest")
        await views.caught_up(world.positions())
        assert await texts(views) == ["good", "behind it", "newest"]
    finally:
        await views.close()
