"""Profiles, blocks, and the trail of auditors."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from domain.direct import DirectBlocked, DirectUnblocked
from domain.user import ProfileChanges, UserProfileChanged
from projections.views import Views
from tests.unit.projections.world import World, rows, views_of

TENANT = "default"


async def ids(views: Views, query: str, limit: int = 50) -> list[object]:
    found: list[object] = []
    cursor: str | None = None
    while cursor is not None or not found:
        page = await views.directory.users(TENANT, query, limit, cursor)
        found += [row["user_id"] for row in rows(page)]
        cursor = page.next
        if cursor is None:
            break
    return found


async def test_users_are_found_by_the_beginning_of_id_or_name(tmp_path: Path) -> None:
    world = World()
    for user_id, name in (("alice", "Alice Liddell"), ("al", "Al"), ("bob", "Robert Alder"), ("zoe", "Zoë")):
        await world.register(user_id, name)
    changes = ProfileChanges(name="Renamed", bio="about me")
    await world.commit("user:bob", UserProfileChanged(actor="bob", at=0, changes=changes))
    async with views_of(world, tmp_path) as views:
        await views.caught_up(world.positions())
        assert await ids(views, "AL", limit=1) == ["al", "alice"]
        assert await ids(views, "lidd") == ["alice"]
        assert await ids(views, "alice liddell") == ["alice"]
        assert await ids(views, "robert") == []
        assert await ids(views, "rena") == ["bob"]
        assert await ids(views, "zoë") == ["zoe"]
        assert await ids(views, "") == ["al", "alice", "bob", "zoe"]
        assert await ids(views, "%") == []
        user = await views.directory.user(TENANT, "bob")
        assert user is not None
        assert (user.name, user.bio) == ("Renamed", "about me")
        assert await views.directory.user(TENANT, "nobody") is None
        assert await views.directory.names(TENANT, ["bob", "nobody"]) == {
            "bob": "Renamed",
            "nobody": "nobody",
        }


async def test_blocks_are_told_to_the_blocker_alone(tmp_path: Path) -> None:
    world = World()
    await world.register("bob")
    await world.commit("d_1", DirectBlocked(actor="alice", at=0, user_id="bob"))
    async with views_of(world, tmp_path) as views:
        await views.caught_up(world.positions())
        (row,) = rows(await views.directory.blocks(TENANT, "alice"))
        assert (row["user_id"], row["name"]) == ("bob", "Bob")
        assert rows(await views.directory.blocks(TENANT, "bob")) == []
        assert await views.directory.blocked(TENANT, "bob", "alice")
        assert await views.timeline.access(TENANT, "bob", "d_1") is None
        assert rows(await views.inbox.conversations(TENANT, "bob")) == []
        await world.commit("d_1", DirectUnblocked(actor="alice", at=0, user_id="bob"))
        await views.caught_up(world.positions())
        assert not await views.directory.blocked(TENANT, "alice", "bob")


@pytest.mark.parametrize("limit", [1, 3, 50])
@pytest.mark.parametrize(
    "asked",
    [
        {},
        {"actor": "bob"},
        {"stream": "g_1"},
        {"event_type": "message_posted"},
        {"stream": "g_2", "actor": "bob", "event_type": "message_posted"},
        {"actor": "nobody"},
        {"since": 1_700_000_000_000 + 30 * 60_000},
        {"until": 1_700_000_000_000 + 30 * 60_000, "actor": "bob"},
    ],
)
async def test_the_trail_is_found_by_stream_actor_type_and_time(
    tmp_path: Path, asked: dict[str, Any], limit: int
) -> None:
    world = World()
    for group in ("g_1", "g_2"):
        await world.group(group, "alice", ["bob"])
        for n in range(8):
            await world.say(group, ("alice", "bob")[n % 2], "hello")
        world.now += 3 * 3_600_000
    expected = sorted(
        (row.event.at, row.shard, row.number)
        for committed in world.history
        for row in committed.events
        if asked.get("actor") in (None, row.event.actor)
        and asked.get("stream") in (None, row.stream)
        and asked.get("event_type") in (None, row.event.TYPE)
        and asked.get("since", 0) <= row.event.at < asked.get("until", 2**60)
    )
    async with views_of(world, tmp_path) as views:
        await views.caught_up(world.positions())
        found: list[Any] = []
        cursor: str | None = None
        while True:
            page = await views.audit_trail.events(**asked, limit=limit, cursor=cursor)
            found += rows(page)
            cursor = page.next
            if cursor is None:
                break
        assert [(row["at"], row["shard"], row["number"]) for row in found] == expected
