"""Whatever is delivered in whatever order, the views say what a plain look at the history says."""

from __future__ import annotations

import asyncio
import random
import tempfile
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from domain.event import Event
from domain.group import GroupChanged, MemberLeft
from domain.group_settings import GroupChanges
from domain.inbox import ReadMarked
from domain.talk import (
    MessageEdited,
    MessagePinned,
    MessagePosted,
    MessageRecalled,
    MessageUnpinned,
    ReactionAdded,
    ReactionRemoved,
)
from projections.rebuild import Rebuild
from projections.runner import RunnerSettings
from projections.views import READ_MODELS, Views
from tests.unit.projections.world import World, added, content, rows, views_of

GROUP = "g_1"
TENANT = "default"
USERS = ("alice", "bob", "carol", "dave")

Step = tuple[int, int, int]
STEPS = st.lists(st.tuples(st.integers(0, 10), st.integers(0, 3), st.integers(0, 40)), max_size=40)


class Truth:
    """What a group looks like to each user, from its history alone."""

    def __init__(self) -> None:
        self.events: list[Event] = []
        self.marks: dict[str, int] = {}
        self.members = {"alice"}
        self.visible = True
        self.ranges: dict[str, list[list[int | None]]] = {"alice": [[1, None]]}
        self.joined = {"alice": 1}

    def add(self, event: Event) -> None:
        self.events.append(event)
        seq = len(self.events)
        if isinstance(event, GroupChanged):
            self.visible = event.changes.history_visible is True
        elif isinstance(event, MemberLeft):
            self.members.discard(event.user_id)
            self.ranges[event.user_id][-1][1] = seq
        elif event.TYPE == "member_added":
            user = event.user_id  # type: ignore[attr-defined]
            self.members.add(user)
            self.joined[user] = seq
            before = [] if self.visible else self.ranges.get(user, [])
            self.ranges[user] = [*before, [1 if self.visible else seq, None]]

    def messages(self) -> dict[int, MessagePosted]:
        return {seq: e for seq, e in enumerate(self.events, 1) if isinstance(e, MessagePosted)}

    def recalled(self) -> set[int]:
        return {event.target for event in self.events if isinstance(event, MessageRecalled)}

    def seen(self, user: str) -> list[int]:
        head = len(self.events)
        spans = self.ranges.get(user, [])
        return [s for s in range(1, head + 1) if any(a <= s <= (head if b is None else b) for a, b in spans)]  # type: ignore[operator]

    def numbers(self, user: str) -> tuple[int, int]:
        mine = [seq for seq, message in self.messages().items() if message.actor == user]
        base = max(self.marks.get(user, 0), self.joined[user], *mine, 0)
        new = [s for s in self.seen(user) if s > base and s in self.messages() and s not in self.recalled()]
        new = [s for s in new if self.messages()[s].actor != user]
        mentions = [s for s in new if set(self.messages()[s].mentions) & {user, "all"}]
        return len(new), len(mentions)

    def row(self, user: str, seq: int) -> dict[str, Any]:
        """The parts of a message row that change."""
        if seq in self.recalled():
            return {"content": None, "recalled": True, "pinned": None, "reactions": {}}
        text: Any = msgspec.json.decode(self.messages()[seq].content)["text"]
        pinned: bool | None = None
        reactions: dict[str, set[str]] = {}
        for at, event in enumerate(self.events, 1):
            if getattr(event, "target", None) != seq:
                continue
            if isinstance(event, MessageEdited) and at in self.seen(user):
                text = msgspec.json.decode(event.content)["text"]
            elif isinstance(event, MessagePinned | MessageUnpinned):
                pinned = True if isinstance(event, MessagePinned) else None
            elif isinstance(event, ReactionAdded):
                reactions.setdefault(event.emoji, set()).add(event.actor)
            elif isinstance(event, ReactionRemoved):
                reactions.get(event.emoji, set()).discard(event.actor)
        kinds = {emoji: users for emoji, users in reactions.items() if users}
        return {"content": text, "recalled": None, "pinned": pinned, "reactions": kinds}


def event_of(truth: Truth, world: World, step: Step) -> Event | None:  # noqa: PLR0911 - a table, read downwards
    """A legal event for a step, or none."""
    kind, who, number = step
    user = USERS[who]
    standing = sorted(set(truth.messages()) - truth.recalled())
    if kind == 0 and user not in truth.members:
        return added(user, "alice")
    if kind == 1 and user in truth.members and user != "alice":
        return MemberLeft(actor=user, at=0, user_id=user)
    if kind == 2:
        return GroupChanged(actor="alice", at=0, changes=GroupChanges(history_visible=bool(number % 2)))
    if user not in truth.members:
        return None
    if kind in (3, 4, 5):
        mentions = ((), ("all",), (USERS[number % 4],))[number % 3]
        return world.message(GROUP, user, f"text{number}", mentions=mentions)
    if not standing:
        return None
    target = standing[number % len(standing)]
    if kind == 6:
        return MessageEdited(actor=user, at=0, target=target, content=content(f"edit{number}"))
    if kind == 7:
        return MessageRecalled(actor=user, at=0, target=target)
    if kind == 8:
        return ReactionAdded(actor=user, at=0, target=target, emoji="xy"[number % 2])
    if kind == 9:
        return ReactionRemoved(actor=user, at=0, target=target, emoji="xy"[number % 2])
    pin = MessagePinned if number % 2 else MessageUnpinned
    return pin(actor=user, at=0, target=target)


async def history_of(steps: list[Step]) -> tuple[World, Truth]:
    world, truth = World(), Truth()
    await world.group(GROUP, "alice")
    truth.events.append(world.history[0].events[0].event)
    for step in steps:
        event = event_of(truth, world, step)
        if event is not None:
            truth.add(event)
            await world.commit(GROUP, event)
        elif step[0] > 8:
            user, seq = USERS[step[1]], min(step[2], len(truth.events)) or 1
            if seq in truth.seen(user):
                truth.marks[user] = max(seq, truth.marks.get(user, 0))
                await world.commit(
                    f"inbox:{user}", ReadMarked(actor=user, at=0, conversation_id=GROUP, read_seq=seq)
                )
    return world, truth


async def check(views: Views, truth: Truth) -> None:
    for user in USERS:
        access = await views.timeline.access(TENANT, user, GROUP)
        seen = truth.seen(user)
        if access is None:
            assert not seen
            continue
        events = rows(await views.timeline.events(access, limit=200))
        assert [event["seq"] for event in events] == seen
        assert access.current == (user in truth.members)
        numbers = await views.inbox.numbers(TENANT, user, GROUP)
        assert numbers is not None
        assert (numbers.unread, numbers.mentions) == truth.numbers(user)
        found = rows(await views.timeline.messages(access, limit=200))
        assert [row["seq"] for row in found] == [seq for seq in seen if seq in truth.messages()]
        for row in found:
            content_row: Any = row["content"]
            reactions: Any = row["reactions"]
            shown = {
                "content": None if content_row is None else content_row["text"],
                "recalled": row.get("recalled"),
                "pinned": row.get("pinned"),
                "reactions": {r["emoji"]: set(r["users"]) for r in reactions},
            }
            assert shown == truth.row(user, row["seq"])  # type: ignore[arg-type]
            assert all(r["mine"] == (user in r["users"]) and r["count"] == len(r["users"]) for r in reactions)


@pytest.mark.slow
@settings(max_examples=25)
@given(steps=STEPS, seed=st.integers(0, 2**32))
def test_any_delivery_gives_what_the_history_says(steps: list[Step], seed: int) -> None:
    async def run() -> None:
        world, truth = await history_of(steps)
        deliveries = random.Random(seed)
        with tempfile.TemporaryDirectory() as folder:
            settings = RunnerSettings(linger_ms=0, lazy_linger_ms=0, span_commits=3)
            for _ in range(2):
                async with views_of(world, Path(folder), settings) as views:
                    for _ in range(len(world.history)):
                        world.bus.publish([deliveries.choice(world.history)])
                        if deliveries.random() < 0.3:
                            await asyncio.sleep(0)
                    await views.caught_up(world.positions())
                    await check(views, truth)
            async with views_of(world, Path(folder), settings) as views:
                await views.caught_up(world.positions())
                for name in READ_MODELS:
                    await views.runner.freshen([name])
                    assert (await Rebuild(views, name, share=1).run()).same
                await check(views, truth)

    asyncio.run(run())
