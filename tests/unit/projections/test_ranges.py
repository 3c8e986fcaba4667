"""What a member sees: ranges, joining, leaving, returning, and nothing beyond."""

from __future__ import annotations

from pathlib import Path

import pytest

from domain.errors import Problem
from domain.group import GroupChanged, GroupDissolved, MemberLeft, MemberRemoved
from domain.group_settings import GroupChanges
from projections.shapes import Range
from projections.views import Views
from tests.unit.projections.world import World, added, rows, views_of

GROUP = "g_1"
TENANT = "default"


async def ranges(views: Views, user_id: str) -> tuple[Range, ...] | None:
    access = await views.timeline.access(TENANT, user_id, GROUP)
    return None if access is None else access.ranges


async def seqs(views: Views, user_id: str) -> list[object]:
    access = await views.timeline.access(TENANT, user_id, GROUP)
    assert access is not None
    return [row["seq"] for row in rows(await views.timeline.events(access))]


async def test_a_visible_history_is_seen_from_the_first_event(tmp_path: Path) -> None:
    world = World()
    await world.group(GROUP, "alice")
    await world.say(GROUP, "alice", "before")
    await world.commit(GROUP, added("bob", "alice"))
    async with views_of(world, tmp_path) as views:
        await views.caught_up(world.positions())
        assert await ranges(views, "bob") == (Range(1),)
        assert await seqs(views, "bob") == [1, 2, 3]
        assert await ranges(views, "stranger") is None


async def test_a_hidden_history_begins_with_the_own_joining(tmp_path: Path) -> None:
    world = World()
    await world.group(GROUP, "alice", ["carol"], history_visible=False)
    await world.say(GROUP, "alice", "before")
    await world.commit(GROUP, added("bob", "alice"))
    await world.say(GROUP, "alice", "after")
    async with views_of(world, tmp_path) as views:
        await views.caught_up(world.positions())
        assert await ranges(views, "bob") == (Range(4),)
        assert await ranges(views, "carol") == (Range(2),)
        assert await seqs(views, "bob") == [4, 5]
        access = await views.timeline.access(TENANT, "bob", GROUP)
        assert access is not None
        assert await views.timeline.message(access, 3) is None
        assert [row["seq"] for row in rows(await views.timeline.messages(access))] == [5]


async def test_who_leaves_and_returns_has_two_ranges(tmp_path: Path) -> None:
    world = World()
    await world.group(GROUP, "alice", ["bob"], history_visible=False)
    await world.commit(GROUP, MemberLeft(actor="bob", at=0, user_id="bob"))
    await world.say(GROUP, "alice", "unseen")
    await world.commit(GROUP, added("bob", "alice"))
    await world.say(GROUP, "alice", "seen")
    async with views_of(world, tmp_path) as views:
        await views.caught_up(world.positions())
        assert await ranges(views, "bob") == (Range(2, 3), Range(5))
        assert await seqs(views, "bob") == [2, 3, 5, 6]
        access = await views.timeline.access(TENANT, "bob", GROUP)
        assert access is not None
        assert access.first_seq == 5
        page = await views.timeline.messages(access, around=6, limit=2)
        assert [row["seq"] for row in rows(page)] == [6]
        numbers = await views.inbox.numbers(TENANT, "bob", GROUP)
        assert numbers is not None
        assert numbers.unread == 1


async def test_an_ex_member_gets_his_own_end_and_nothing_later(tmp_path: Path) -> None:
    world = World()
    await world.group(GROUP, "alice", ["bob"])
    await world.say(GROUP, "alice", "known")
    await world.commit(GROUP, MemberRemoved(actor="alice", at=0, user_id="bob"))
    await world.say(GROUP, "alice", "secret")
    changes = GroupChanges(name="Renamed")
    await world.commit(GROUP, GroupChanged(actor="alice", at=0, changes=changes))
    async with views_of(world, tmp_path) as views:
        await views.caught_up(world.positions())
        assert await seqs(views, "bob") == [1, 2, 3, 4]
        access = await views.timeline.access(TENANT, "bob", GROUP)
        assert access is not None
        assert (access.current, access.head) == (False, 4)
        with pytest.raises(Problem, match="forbidden"):
            await views.timeline.members(access)
        with pytest.raises(Problem, match="forbidden"):
            await views.timeline.marks_allowed(TENANT, "bob", GROUP, 3)
        (row,) = rows(await views.inbox.conversations(TENANT, "bob"))
        assert row["left"] is True
        assert row["name"] == "Group"
        assert row["head"] == 4
        assert row["last_message"]["seq"] == 3  # type: ignore[index]
        assert rows(await views.search.search(TENANT, "bob", "secret")) == []
        assert len(rows(await views.search.search(TENANT, "bob", "known"))) == 1
        answer = await views.inbox.sync(TENANT, "bob", {GROUP: 3})
        assert answer.conversations[GROUP].left
        assert answer.conversations[GROUP].head == 4


async def test_a_dissolved_group_stays_readable(tmp_path: Path) -> None:
    world = World()
    await world.group(GROUP, "alice", ["bob"])
    await world.commit(GROUP, GroupDissolved(actor="alice", at=0))
    async with views_of(world, tmp_path) as views:
        await views.caught_up(world.positions())
        assert await seqs(views, "bob") == [1, 2, 3]
        access = await views.timeline.access(TENANT, "bob", GROUP)
        assert access is not None
        assert access.dissolved
        assert not access.current
        assert len(rows(await views.timeline.members(access))) == 2


async def test_a_return_to_a_visible_history_joins_the_ranges(tmp_path: Path) -> None:
    world = World()
    await world.group(GROUP, "alice", ["bob"])
    await world.commit(GROUP, MemberLeft(actor="bob", at=0, user_id="bob"))
    await world.say(GROUP, "alice", "meanwhile")
    await world.commit(GROUP, added("bob", "alice"))
    async with views_of(world, tmp_path) as views:
        await views.caught_up(world.positions())
        assert await ranges(views, "bob") == (Range(1),)
        assert await seqs(views, "bob") == [1, 2, 3, 4, 5]
        numbers = await views.inbox.numbers(TENANT, "bob", GROUP)
        assert numbers is not None
        assert numbers.unread == 0


async def test_strangers_see_a_part_of_groups_that_can_be_entered(tmp_path: Path) -> None:
    world = World()
    await world.group(GROUP, "alice", join="open")
    await world.group("g_2", "alice")
    async with views_of(world, tmp_path) as views:
        await views.caught_up(world.positions())
        assert await views.timeline.group(TENANT, "bob", GROUP) == {
            "conversation_id": GROUP,
            "name": "Group",
            "join": "open",
            "member_count": 1,
        }
        assert await views.timeline.group(TENANT, "bob", "g_2") is None
        assert await views.timeline.share_a_group(TENANT, "alice", "alice")
        assert not await views.timeline.share_a_group(TENANT, "alice", "bob")


async def test_a_pair_is_listed_from_its_first_message_on(tmp_path: Path) -> None:
    world = World()
    await world.pair("d_1", "alice", "bob")
    async with views_of(world, tmp_path) as views:
        await views.caught_up(world.positions())
        assert rows(await views.inbox.conversations(TENANT, "bob")) == []
        assert set((await views.inbox.sync(TENANT, "bob", {})).conversations) == {"me"}
        assert await views.timeline.access(TENANT, "bob", "d_1") is not None
        await world.say("d_1", "alice", "hi")
        await views.caught_up(world.positions())
        (row,) = rows(await views.inbox.conversations(TENANT, "bob"))
        assert row["peer"] == {"user_id": "alice", "name": "alice"}
        assert row["unread"] == 1
