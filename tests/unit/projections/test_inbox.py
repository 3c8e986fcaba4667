"""The inbox: order, numbers, personal settings, `me`, sync and hello."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import pytest

from domain.errors import Problem
from domain.inbox import ConversationSettingsChanged, ReadMarked
from projections import syncing
from projections.runner import RunnerSettings
from projections.shapes import SyncAnswer
from projections.views import Views
from tests.unit.projections.world import World, rows, views_of

TENANT = "default"


async def chatty(world: World, groups: int = 4, messages: int = 5) -> None:
    for group in range(groups):
        await world.group(f"g_{group}", "alice", ["bob"])
        for n in range(messages):
            await world.say(f"g_{group}", "alice", f"m{n}")


async def test_conversations_come_newest_first_and_by_cursor(tmp_path: Path) -> None:
    world = World()
    await chatty(world)
    await world.say("g_1", "bob", "newest")
    async with views_of(world, tmp_path) as views:
        await views.caught_up(world.positions())
        found: list[Any] = []
        cursor: str | None = None
        while cursor is not None or not found:
            page = await views.inbox.conversations(TENANT, "bob", limit=3, cursor=cursor)
            found += rows(page)
            cursor = page.next
        assert [row["conversation_id"] for row in found] == ["g_1", "g_3", "g_2", "g_0"]
        assert [row["unread"] for row in found] == [0, 5, 5, 5]


async def test_read_marks_and_settings_are_the_users_own(tmp_path: Path) -> None:
    world = World()
    await chatty(world, groups=1)
    mark = ReadMarked(actor="bob", at=0, conversation_id="g_0", read_seq=5)
    pinned = ConversationSettingsChanged(actor="bob", at=0, conversation_id="g_0", pinned=True)
    muted = ConversationSettingsChanged(actor="bob", at=0, conversation_id="g_0", muted=True)
    for event in (mark, pinned, muted, msgspec.structs.replace(mark, read_seq=3)):
        await world.commit("inbox:bob", event)
    async with views_of(world, tmp_path) as views:
        await views.caught_up(world.positions())
        row = await views.inbox.conversation(TENANT, "bob", "g_0")
        assert row is not None
        assert (row.read_seq, row.unread, row.pinned, row.muted) == (5, 2, True, True)
        other = await views.inbox.conversation(TENANT, "alice", "g_0")
        assert other is not None
        assert (other.read_seq, other.unread, other.pinned, other.muted) == (7, 0, False, False)
        assert await views.inbox.conversation(TENANT, "eve", "g_0") is None
        assert await views.inbox.me_head(TENANT, "bob") == 4
        page = await views.inbox.me_events(TENANT, "bob", after=1, limit=2)
        assert [event["type"] for event in rows(page)] == ["conversation_settings_changed"] * 2
        assert rows(page)[0]["data"] == {"conversation_id": "g_0", "pinned": True}
        assert page.next == "3"


async def pages_of(views: Views, have: dict[str, int], **asked: Any) -> list[SyncAnswer]:
    pages = [await views.inbox.sync(TENANT, "bob", have, **asked)]
    while pages[-1].next is not None:
        assert not pages[-1].complete
        pages.append(await views.inbox.sync(TENANT, "bob", have, cursor=pages[-1].next, **asked))
    assert pages[-1].complete
    return pages


async def test_in_a_pair_sending_counts_as_reading(tmp_path: Path) -> None:
    world = World()
    await world.pair("d_1", "alice", "bob")
    await world.pair("d_2", "alice", "alice")
    unread: list[tuple[int, int]] = []
    async with views_of(world, tmp_path) as views:
        for author in ("alice", "alice", "bob", "bob", "bob", "alice", "bob"):
            await world.say("d_1", author, "hello")
            await views.caught_up(world.positions())
            numbers = [await views.inbox.numbers(TENANT, user, "d_1") for user in ("alice", "bob")]
            unread.append(tuple(n.unread for n in numbers if n is not None))  # type: ignore[arg-type]
        await world.say("d_2", "alice", "to myself")
        await views.caught_up(world.positions())
        own = await views.inbox.numbers(TENANT, "alice", "d_2")
    assert unread == [(0, 1), (0, 2), (1, 0), (2, 0), (3, 0), (0, 1), (1, 0)]
    assert own is not None
    assert own.unread == 0


@pytest.mark.parametrize("limit", [1, 2, 7, 500])
async def test_pages_of_a_sync_give_every_missed_event_once(tmp_path: Path, limit: int) -> None:
    world = World()
    await chatty(world)
    have = {"g_0": 0, "g_1": 4, "g_2": 7, "me": 0, "g_unknown": 3}
    async with views_of(world, tmp_path) as views:
        await views.caught_up(world.positions())
        found: dict[str, list[int]] = {}
        for page in await pages_of(views, have, limit=limit):
            assert sum(len(row.events or ()) for row in page.conversations.values()) <= limit
            for name, row in page.conversations.items():
                assert row.events is not msgspec.UNSET
                found.setdefault(name, []).extend(msgspec.json.decode(event)["seq"] for event in row.events)
        expected = {"g_0": list(range(1, 8)), "g_1": [5, 6, 7], "g_2": [], "g_3": [], "me": []}
        assert found == expected
        answer = await views.inbox.sync(TENANT, "bob", {"g_0": 6}, only=True)
        assert set(answer.conversations) == {"g_0"}


async def test_a_sync_lists_the_newest_events_of_others(tmp_path: Path) -> None:
    world = World()
    await chatty(world, groups=2)
    async with views_of(world, tmp_path) as views:
        await views.caught_up(world.positions())
        found: dict[str, list[int]] = {}
        for page in await pages_of(views, {"g_0": 7}, recent=3, limit=4):
            for name, row in page.conversations.items():
                assert row.events is not msgspec.UNSET
                found[name] = [msgspec.json.decode(event)["seq"] for event in row.events]
        assert found == {"g_0": [], "g_1": [5, 6, 7], "me": []}


async def test_a_sync_from_the_future_is_reset(tmp_path: Path) -> None:
    world = World()
    await chatty(world, groups=1)
    async with views_of(world, tmp_path, RunnerSettings(linger_ms=60_000)) as views:
        await views.caught_up(world.positions())
        await world.say("g_0", "alice", "lingering")
        answer = await views.inbox.sync(TENANT, "bob", {"g_0": 8}, only=True)
        assert not answer.conversations["g_0"].reset, "the view only lingered"
        answer = await views.inbox.sync(TENANT, "bob", {"g_0": 9}, only=True)
        assert msgspec.json.encode(answer.conversations["g_0"]) == b'{"reset":true,"head":8}'


async def test_what_is_out_of_bounds_is_refused(tmp_path: Path) -> None:
    async with views_of(World(), tmp_path) as views:
        for have, asked in (
            ({"g": -1}, {}),
            ({f"g{n}": 0 for n in range(1_001)}, {}),
            ({}, {"limit": 0}),
            ({}, {"limit": 1_001}),
            ({}, {"recent": 51}),
            ({}, {"cursor": "x"}),
        ):
            with pytest.raises(Problem, match="validation_failed"):
                await views.inbox.sync(TENANT, "bob", have, **asked)


async def test_a_hello_serves_the_newest_and_leaves_the_rest_behind(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(syncing, "HELLO_EVENTS_MAX", 10)
    world = World()
    await chatty(world)
    for n in range(9):
        await world.say("g_1", "alice", f"more{n}")
    have = {"g_0": 7, "g_1": 0, "g_2": 1, "g_3": 1, "me": 5}
    async with views_of(world, tmp_path) as views:
        await views.caught_up(world.positions())
        answer = await views.inbox.hello(TENANT, "bob", have)
        # g_1 misses more than all may; g_3 is newer than g_2 and leaves no room for it; g_0 misses nothing.
        assert [(row.conversation_id, row.have, row.head) for row in answer.behind] == [
            ("g_1", 0, 16),
            ("g_2", 1, 7),
        ]
        assert list(answer.conversations) == ["g_3", "g_0", "me"]
        assert answer.conversations["me"].reset
        assert len(answer.conversations["g_3"].events or ()) == 6
        assert answer.upto == {"me": 0, "g_0": 7, "g_1": 16, "g_2": 7, "g_3": 7}
        # What was not named is not accounted for, so its live events all follow.
        assert (await views.inbox.hello(TENANT, "bob", {"g_0": 7})).upto == {"g_0": 7}


async def test_the_highest_limit_of_ordinary_messages_fits_one_answer(tmp_path: Path) -> None:
    world = World()
    await chatty(world, groups=1)
    await world.commit(
        "g_0", *[world.message("g_0", "alice", "an ordinary length " * 8) for _ in range(1_000)]
    )
    async with views_of(world, tmp_path) as views:
        await views.caught_up(world.positions())
        answer = await views.inbox.sync(TENANT, "bob", {"g_0": 0}, limit=1_000, only=True)
        assert len(answer.conversations["g_0"].events or ()) == 1_000
        assert not answer.complete
