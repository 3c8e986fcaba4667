"""Messages as rows: edits, recalls, reactions, pins, pages."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from domain.errors import Problem
from domain.talk import (
    MessageEdited,
    MessagePinned,
    MessageRecalled,
    MessageUnpinned,
    Origin,
    ReactionAdded,
    ReactionRemoved,
)
from projections.access import Access
from projections.shapes import Page
from projections.views import Views
from tests.unit.projections.world import World, content, rows, views_of

GROUP = "g_1"
TENANT = "default"


async def access_to(views: Views, user_id: str = "bob") -> Access:
    access = await views.timeline.access(TENANT, user_id, GROUP)
    assert access is not None
    return access


async def test_an_edited_message_shows_its_last_text_and_keeps_the_earlier_ones(tmp_path: Path) -> None:
    world = World()
    await world.group(GROUP, "alice", ["bob"])
    seq = await world.say(GROUP, "alice", "one")
    for text in ("two", "three"):
        await world.commit(GROUP, MessageEdited(actor="alice", at=0, target=seq, content=content(text)))
    async with views_of(world, tmp_path) as views:
        await views.caught_up(world.positions())
        access = await access_to(views)
        (row,) = rows(await views.timeline.messages(access))
        assert row["content"] == {"kind": "text", "text": "three"}
        assert str(row["edited_at"]).endswith("Z")
        edits = await views.timeline.edits(access, seq)
        assert edits is not None
        assert [msgspec.json.decode(edit)["content"]["text"] for edit in edits] == ["one", "two"]
        assert await views.timeline.edits(access, 1) is None
        assert len(rows(await views.search.search(TENANT, "bob", "three"))) == 1
        assert rows(await views.search.search(TENANT, "bob", "one")) == []


async def test_a_recall_empties_the_message_and_its_edits_on_every_face(tmp_path: Path) -> None:
    world = World()
    await world.group(GROUP, "alice", ["bob"])
    seq = await world.say(GROUP, "alice", "secret0")
    await world.commit(GROUP, MessageEdited(actor="alice", at=0, target=seq, content=content("secret1")))
    await world.commit(GROUP, ReactionAdded(actor="bob", at=0, target=seq, emoji="+1"))
    await world.commit(GROUP, MessagePinned(actor="alice", at=0, target=seq))
    await world.commit(GROUP, MessageEdited(actor="alice", at=0, target=seq, content=content("secret2")))
    async with views_of(world, tmp_path) as views:
        await views.caught_up(world.positions())
        await world.commit(GROUP, MessageRecalled(actor="alice", at=0, target=seq))
        await views.caught_up(world.positions())
        access = await access_to(views)
        page = await views.timeline.messages(access)
        (row,) = rows(page)
        assert row["content"] is None
        assert row["recalled"] is True
        assert row["reactions"] == []
        assert "pinned" not in row
        faces = [
            *page.data,
            *(await views.timeline.events(access)).data,
            *(await views.timeline.edits(access, seq) or ()),
            msgspec.json.encode(await views.inbox.sync(TENANT, "bob", {GROUP: 0})),
            msgspec.json.encode(await views.inbox.sync(TENANT, "bob", {}, recent=50)),
            msgspec.json.encode(await views.inbox.hello(TENANT, "bob", {GROUP: 0})),
            *(await views.inbox.conversations(TENANT, "bob")).data,
            *(await views.search.search(TENANT, "bob", "secret0")).data,
            *(await views.search.search(TENANT, "bob", "secret2")).data,
        ]
        assert not any(b"secret" in bytes(face) for face in faces)
        events = [
            event for event in rows(await views.timeline.events(access)) if event["type"] != "message_pinned"
        ]
        for event in events:
            if event["type"] in ("message_posted", "message_edited"):
                assert event["data"]["content"] is None  # type: ignore[index]
                assert event["data"]["recalled"] is True  # type: ignore[index]
        older, _ = await views.timeline.older_message(TENANT, GROUP, seq)
        assert older is not None
        assert older.recalled
        assert not older.reactions


async def test_reactions_are_counted_once_and_name_the_first_users(tmp_path: Path) -> None:
    world = World()
    users = [f"user{n:02d}" for n in range(12)]
    await world.group(GROUP, "alice", ["bob", *users])
    seq = await world.say(GROUP, "alice", "hi")
    for user in users:
        await world.commit(GROUP, ReactionAdded(actor=user, at=0, target=seq, emoji="👍"))
    await world.commit(GROUP, ReactionAdded(actor="bob", at=0, target=seq, emoji="x"))
    await world.commit(GROUP, ReactionRemoved(actor="user00", at=0, target=seq, emoji="👍"))
    async with views_of(world, tmp_path) as views:
        await views.caught_up(world.positions())
        (row,) = rows(await views.timeline.messages(await access_to(views)))
        assert row["reactions"] == [
            {"emoji": "👍", "count": 11, "users": users[1:11], "mine": False},
            {"emoji": "x", "count": 1, "users": ["bob"], "mine": True},
        ]
        await world.commit(GROUP, ReactionRemoved(actor="bob", at=0, target=seq, emoji="x"))
        await views.caught_up(world.positions())
        older, position = await views.timeline.older_message(TENANT, GROUP, seq)
        assert older is not None
        assert older.author == "alice"
        assert older.ordinal == 1
        assert dict(older.reactions) == {"👍": frozenset(users[1:])}
        assert position == max(world.positions().values())


async def test_pins_come_and_go(tmp_path: Path) -> None:
    world = World()
    await world.group(GROUP, "alice", ["bob"])
    seq = await world.say(GROUP, "alice", "hi")
    await world.commit(GROUP, MessagePinned(actor="alice", at=0, target=seq))
    async with views_of(world, tmp_path) as views:
        await views.caught_up(world.positions())
        (row,) = rows(await views.timeline.messages(await access_to(views)))
        assert row["pinned"] is True
        await world.commit(GROUP, MessageUnpinned(actor="alice", at=0, target=seq))
        await views.caught_up(world.positions())
        (row,) = rows(await views.timeline.messages(await access_to(views)))
        assert "pinned" not in row


async def test_an_imported_message_shows_where_it_comes_from(tmp_path: Path) -> None:
    world = World()
    await world.group(GROUP, "alice", ["bob"])
    await world.say(GROUP, "alice", "old", origin=Origin(at=1_000, id="line-1"))
    async with views_of(world, tmp_path) as views:
        await views.caught_up(world.positions())
        (row,) = rows(await views.timeline.messages(await access_to(views)))
        assert row["origin"] == {"at": "1970-01-01T00:00:01.000Z", "id": "line-1"}


async def walk(views: Views, access: Access, first: Page) -> list[list[object]]:
    found = []
    page: Page | None = first
    while page is not None:
        found.append([row["seq"] for row in rows(page)])
        page = None if page.next is None else await views.timeline.messages(access, cursor=page.next, limit=3)
    return found


async def test_walking_by_cursor_gives_every_message_once(tmp_path: Path) -> None:
    world = World()
    await world.group(GROUP, "alice", ["bob"])
    seqs: list[object] = []
    for n in range(11):
        seqs.append(await world.say(GROUP, "alice", f"m{n}"))
        if n % 3 == 0:
            await world.commit(GROUP, ReactionAdded(actor="bob", at=0, target=seqs[-1], emoji="x"))  # type: ignore[arg-type]
    async with views_of(world, tmp_path) as views:
        await views.caught_up(world.positions())
        access = await access_to(views)
        timeline = views.timeline
        older = await walk(views, access, await timeline.messages(access, limit=3))
        assert [seq for page in reversed(older) for seq in page] == seqs
        assert all(page == sorted(page) for page in older)  # type: ignore[type-var]
        newer = await walk(views, access, await timeline.messages(access, after=0, limit=3))
        assert [seq for page in newer for seq in page] == seqs
        around = await timeline.messages(access, around=seqs[5], limit=4)  # type: ignore[arg-type]
        assert [row["seq"] for row in rows(around)] == seqs[3:7]
        before = await timeline.messages(access, before=seqs[5], limit=4)  # type: ignore[arg-type]
        assert [row["seq"] for row in rows(before)] == seqs[1:5]


@pytest.mark.parametrize("cursor", ["", "x", "WzEsIm1lc3NhZ2VzIl0", "é", "A" * 5_000])
async def test_a_cursor_that_was_not_given_out_is_refused(tmp_path: Path, cursor: str) -> None:
    world = World()
    await world.group(GROUP, "alice", ["bob"])
    async with views_of(world, tmp_path) as views:
        await views.caught_up(world.positions())
        with pytest.raises(Problem, match="validation_failed"):
            await views.timeline.messages(await access_to(views), cursor=cursor)


async def test_a_mark_beyond_the_head_is_refused(tmp_path: Path) -> None:
    world = World()
    await world.group(GROUP, "alice", ["bob"])
    async with views_of(world, tmp_path) as views:
        await world.say(GROUP, "alice", "hi")
        await views.timeline.marks_allowed(TENANT, "bob", GROUP, 3)
        with pytest.raises(Problem, match="validation_failed"):
            await views.timeline.marks_allowed(TENANT, "bob", GROUP, 4)
        with pytest.raises(Problem, match="not_found"):
            await views.timeline.marks_allowed(TENANT, "eve", GROUP, 1)
