"""Recalls and joinings that overtake an answer: read before them, sent after them."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from tests.integration.house import House, Line, content

pytestmark = [pytest.mark.slow, pytest.mark.timeout(60)]


class Held:
    """A read that has its answer and keeps it until the test lets go."""

    def __init__(self, read: Callable[..., Awaitable[Any]]) -> None:
        self._read = read
        self.has_answer = asyncio.Event()
        self.let_go = asyncio.Event()

    async def __call__(self, *args: Any, **values: Any) -> Any:
        """The read."""
        answer = await self._read(*args, **values)
        self.has_answer.set()
        await self.let_go.wait()
        return answer


async def write_and_recall(line: Line, group: str, key: str, seq: int | None = None) -> int:
    """Post (unless it is there), edit, react and recall a message; the seq of the recall."""
    if seq is None:
        ack = await line.ask("send", conversation_id=group, client_msg_id=key, content=content("secret"))
        seq = int(ack["seq"])
    await line.ask("edit", conversation_id=group, seq=seq, content=content("secret too"))
    await line.ask("react", conversation_id=group, seq=seq, emoji="x")
    return int((await line.ask("recall", conversation_id=group, seq=seq))["seq"])


async def test_what_was_recalled_during_a_hello_is_not_shown(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    ann, bob = await house.people("ann", "bob")
    group = await ann.group("bob")
    other = await ann.group("bob")
    mine = await ann.line()
    missed = await ann.post(group, "secret")
    kept = await ann.post(group, "kept")
    held = Held(house.server.views.inbox.hello)
    monkeypatch.setattr(house.server.views.inbox, "hello", held)
    line = await house.line()
    line.say("hello", token=bob.token, have={group: 0})
    await held.has_answer.wait()
    await write_and_recall(mine, group, "k1", missed)
    heads = {
        group: await write_and_recall(mine, group, "k2"),
        other: await write_and_recall(mine, other, "k3"),
    }
    held.let_go.set()
    await line.until(lambda: all(line.newest.get(name) == head for name, head in heads.items()))
    assert line.seqs(group) == list(range(1, heads[group] + 1))
    assert line.seqs(other) == list(range(3, heads[other] + 1))
    text = json.dumps(line.frames)
    assert "secret" not in text
    page = line.of("events")[0]["conversations"][group]["events"]
    assert (page[missed - 1]["data"]["content"], page[missed - 1]["data"]["recalled"]) == (None, True)
    assert page[kept - 1]["data"]["content"] == content("kept")
    shown = [frame for frame in line.of("event") if frame["type"] in ("message_posted", "message_edited")]
    assert len(shown) == 5
    for frame in shown:
        assert set(frame) == {"op", "conversation_id", "seq", "type", "actor", "at", "data"}
        assert (frame["data"]["content"], frame["data"]["recalled"]) == (None, True)


async def test_what_was_recalled_during_a_sync_is_not_shown(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    ann, bob = await house.people("ann", "bob")
    group = await ann.group("bob")
    mine, line = await ann.line(), await bob.line()
    seq = await ann.post(group, "secret")
    kept = await ann.post(group, "kept")
    held = Held(house.server.views.inbox.sync)
    monkeypatch.setattr(house.server.views.inbox, "sync", held)
    line.say("sync", ref="s", have={group: 0})
    await held.has_answer.wait()
    recall = await mine.ask("recall", conversation_id=group, seq=seq)
    await line.next("event", conversation_id=group, seq=recall["seq"])
    held.let_go.set()
    events = (await line.next("events", ref="s"))["conversations"][group]["events"]
    assert (events[seq - 1]["data"]["content"], events[seq - 1]["data"]["recalled"]) == (None, True)
    assert events[kept - 1]["data"]["content"] == content("kept")


async def test_who_joins_during_a_hello_hears_his_joining(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    ann, bob = await house.people("ann", "bob")
    inbox = house.server.views.inbox
    hello = inbox.hello
    groups: list[str] = []

    async def join_then_read(*args: Any, **values: Any) -> Any:
        groups.append(await ann.group("bob"))
        await house.fresh()
        return await hello(*args, **values)

    monkeypatch.setattr(inbox, "hello", join_then_read)
    line = await bob.line({})
    await line.next("event", type="member_added")
    assert line.seqs(groups[0]) == [2]
    assert [frame["op"] for frame in line.frames[:3]] == ["welcome", "events", "event"]
