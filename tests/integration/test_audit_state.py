"""History as it stood: at any version, at any time, by the clock of the log or of what was imported."""

from __future__ import annotations

import asyncio
from typing import Any

import msgspec
import pytest
import pytest_asyncio
from hypothesis import given
from hypothesis import strategies as st

from domain import group
from domain.event import Event
from domain.group_roster import MemberRemoved
from domain.talk import (
    MessageEdited,
    MessagePinned,
    MessageRecalled,
    MessageUnpinned,
    Origin,
    ReactionAdded,
    ReactionRemoved,
)
from ops.audit.query import Query, events
from ops.audit.reading import EventRow, position_at
from ops.audit.state import Cut, StateAt, UnknownStreamError, folded, state_at
from tests.integration.recorded import GROUP, IMPORTED, PAIR, YEAR_2004, story
from tests.unit.projections.world import START_AT, World, added, content


@pytest_asyncio.fixture
async def world() -> World:
    return await story()


def texts(found: StateAt) -> list[str]:
    assert found.messages is not None
    return [msgspec.json.decode(said.latest)["text"] for said in found.messages]


def members(found: StateAt) -> list[str]:
    return [row["user_id"] for row in found.state["members"]]


async def rows(world: World, **conditions: Any) -> list[EventRow]:
    return [row async for row in events(world.log, Query(**conditions))]


async def test_a_room_as_it_stands(world: World) -> None:
    found = await state_at(world.log, GROUP, Cut())
    assert (found.version, found.seq, found.kind) == (14, 14, "group")
    assert members(found) == ["anna", "ben"]
    ben = found.state["members"][1]
    assert (ben["role"], ben["alias"]) == ("admin", "Benny")
    assert ben["muted_until"] == "2027-01-15T08:00:00.000Z"
    assert found.state["former_members"] == [{"user_id": "cleo", "left_seq": 14}]
    assert found.messages is not None
    first, second, third = found.messages
    assert (first.pinned, first.reactions) == (True, {"👍": ["ben"]})
    assert found.pins == [4]
    assert [msgspec.json.decode(second.content)["text"], *texts(found)[1:2]] == ["secnd", "second"]
    assert second.mentions == ["anna"]
    assert third.recalled is not None
    assert (third.recalled.by, texts(found)[2], third.reply_to) == ("cleo", "third", 4)


async def test_a_room_before_an_edit_a_recall_and_a_removal(world: World) -> None:
    found = await state_at(world.log, GROUP, Cut(version=5))
    assert texts(found) == ["first", "secnd"]
    assert members(found) == ["anna", "ben", "cleo"]
    found = await state_at(world.log, GROUP, Cut(version=7))
    assert found.messages is not None
    assert texts(found) == ["first", "second", "third"]
    assert found.messages[2].recalled is None


async def test_a_version_inside_a_commit_cuts_it(world: World) -> None:
    assert members(await state_at(world.log, GROUP, Cut(version=2))) == ["anna", "ben"]


async def test_version_zero_is_before_everything(world: World) -> None:
    found = await state_at(world.log, GROUP, Cut(version=0))
    assert (found.version, found.position, found.messages) == (0, None, [])


async def test_a_time_means_everything_up_to_it(world: World) -> None:
    said = next(row for row in await rows(world, stream=GROUP, types=frozenset({"message_recalled"})))
    at = next(c.commit.at for c in world.history if f"{c.commit.shard}:{c.commit.position}" == said.position)
    before = await state_at(world.log, GROUP, Cut(at=at - 1))
    after = await state_at(world.log, GROUP, Cut(at=at))
    assert (before.version, after.version) == (said.version - 1, said.version)
    assert (await state_at(world.log, GROUP, Cut(at=START_AT))).version == 0


async def test_pairs_accounts_inboxes_and_shards_have_states(world: World) -> None:
    pair = await state_at(world.log, PAIR, Cut())
    assert (pair.state["users"], texts(pair)) == (["anna", "ben"], ["between us"])
    user = await state_at(world.log, "user:anna", Cut())
    assert (user.state["name"], user.messages) == ("Anna", None)
    inbox = await state_at(world.log, "inbox:ben", Cut())
    assert inbox.state["reads"] == {GROUP: 5}
    other = await state_at(world.log, "acme/g_room", Cut())
    assert (other.state["tenant"], members(other)) == ("acme", ["zoe"])
    for found in (pair, user, inbox, other):
        msgspec.json.encode(found)


@pytest.mark.parametrize("stream", ["g_nobody", "nothing", "shard-x", "shard-99", "user:nobody", "cluster"])
async def test_a_stream_that_is_not_there_is_told(world: World, stream: str) -> None:
    with pytest.raises(UnknownStreamError):
        await state_at(world.log, stream, Cut())


async def test_the_clock_of_the_origin_cuts_by_the_original_times(world: World) -> None:
    at = YEAR_2004 + 60_000
    found = await state_at(world.log, IMPORTED, Cut(at=at, clock="origin"))
    assert texts(found) == ["one", "two"]
    assert members(found) == ["anna", "ben"]
    assert found.messages is not None
    assert found.messages[0].origin == {"at": "2004-12-25T18:40:00.000Z", "id": "0"}
    everything = await state_at(world.log, IMPORTED, Cut(at=at + 60_000, clock="origin"))
    assert (texts(everything), members(everything)) == (["one", "two", "three"], ["anna"])
    nothing = await state_at(world.log, IMPORTED, Cut(at=YEAR_2004 - 1, clock="origin"))
    assert (texts(nothing), members(nothing)) == ([], ["anna", "ben"])
    assert texts(await state_at(world.log, IMPORTED, Cut(at=at))) == []


async def test_imported_messages_come_in_the_order_of_their_origin() -> None:
    world = World()
    await world.group(IMPORTED, "anna")
    for minute in (2, 0, 3, 1):
        await world.say(
            IMPORTED, "anna", str(minute), origin=Origin(at=YEAR_2004 + minute * 60_000, id=str(minute))
        )
    await world.say(IMPORTED, "anna", "live")
    at = YEAR_2004 + 2 * 60_000
    assert texts(await state_at(world.log, IMPORTED, Cut(at=at, clock="origin"))) == ["0", "1", "2"]
    assert texts(await state_at(world.log, IMPORTED, Cut(clock="origin"))) == ["0", "1", "2", "3", "live"]


async def test_the_log_comes_in_order_of_time(world: World) -> None:
    found = await rows(world)
    assert [row.at for row in found] == sorted(row.at for row in found)
    assert len(found) == sum(len(committed.events) for committed in world.history)
    bens = await rows(world, actors=frozenset({"ben"}), stream=GROUP)
    assert [row.type for row in bens] == [
        "message_posted",
        "message_edited",
        "reaction_added",
        "member_alias_changed",
    ]


async def test_the_log_can_be_asked_for_a_time(world: World) -> None:
    times = [committed.commit.at for committed in world.history]
    since, until = times[3], times[6]
    found = await rows(world, since=since, until=until)
    expected = [c.commit for c in world.history if since <= c.commit.at < until]
    assert {row.position for row in found} == {f"{c.shard}:{c.position}" for c in expected}
    assert len(await rows(world, limit=2)) == 2
    assert await rows(world, limit=0) == []


async def test_bodies_can_be_hidden(world: World) -> None:
    (first, *_) = await rows(world, stream=GROUP, types=frozenset({"message_posted"}))
    assert b"first" in bytes(first.data)
    (hidden, *_) = await rows(world, stream=GROUP, types=frozenset({"message_posted"}), bodies=False)
    assert b"first" not in bytes(hidden.data)
    assert hidden.hidden


# Properties

USERS = ("anna", "ben", "cleo")
_steps = st.lists(
    st.tuples(
        st.sampled_from(("say", "edit", "recall", "react", "unreact", "pin", "unpin", "add", "remove")),
        st.sampled_from(USERS),
        st.integers(min_value=1, max_value=12),
        st.booleans(),
    ),
    max_size=25,
)


def _event(world: World, what: str, actor: str, target: int) -> Event:
    made: dict[str, Event] = {
        "edit": MessageEdited(actor=actor, at=0, target=target, content=content(f"edit {target}")),
        "recall": MessageRecalled(actor=actor, at=0, target=target),
        "react": ReactionAdded(actor=actor, at=0, target=target, emoji="👍"),
        "unreact": ReactionRemoved(actor=actor, at=0, target=target, emoji="👍"),
        "pin": MessagePinned(actor=actor, at=0, target=target),
        "unpin": MessageUnpinned(actor=actor, at=0, target=target),
        "add": added(actor, "anna"),
        "remove": MemberRemoved(actor="anna", at=0, user_id=actor),
    }
    return made.get(what) or world.message(GROUP, actor, f"text {target}")


async def _random_room(steps: list[tuple[str, str, int, bool]]) -> tuple[World, list[Event]]:
    world = World()
    await world.group(GROUP, "anna", ["ben"])
    waiting: list[Event] = []
    for what, actor, target, is_end in steps:
        waiting.append(_event(world, what, actor, target))
        if is_end:
            await world.commit(GROUP, *waiting)
            waiting = []
            await world.register(actor)
    if waiting:
        await world.commit(GROUP, *waiting)
    return world, [r.event for c in world.history if c.commit.stream == GROUP for r in c.events]


@pytest.mark.slow
@given(_steps)
def test_the_state_at_a_version_is_the_fold_of_so_many_events(
    steps: list[tuple[str, str, int, bool]],
) -> None:
    async def check() -> None:
        world, history = await _random_room(steps)
        state = group.initial(GROUP)
        for version in range(len(history) + 1):
            if version:
                state = group.evolve(state, history[version - 1])
            found = await state_at(world.log, GROUP, Cut(version=version))
            assert (found.version, found.seq) == (state.version, state.seq)
            assert members(found) == sorted(state.members)
            assert set(found.pins or ()) == state.talk.pins
            assert found.messages is not None
            told = {said.seq: said for said in found.messages}
            assert set(told) == {*state.talk.young, *state.talk.old}
            for seq, said in told.items():
                message = state.talk.message(seq)
                assert message is not None
                assert (said.recalled is not None) == message.recalled
                assert {e: frozenset(users) for e, users in said.reactions.items()} == dict(message.reactions)
        assert await folded(world.log, GROUP) == state

    asyncio.run(check())


@pytest.mark.slow
@given(_steps, st.integers(min_value=0, max_value=40), st.integers(min_value=0, max_value=40))
def test_later_times_never_show_less(steps: list[tuple[str, str, int, bool]], one: int, other: int) -> None:
    async def check() -> None:
        world, _ = await _random_room(steps)
        early, late = sorted((START_AT + one * 45_000, START_AT + other * 45_000))
        before = await state_at(world.log, GROUP, Cut(at=early))
        after = await state_at(world.log, GROUP, Cut(at=late))
        assert before.version <= after.version
        seqs = [{said.seq for said in found.messages or ()} for found in (before, after)]
        assert seqs[0] <= seqs[1]

    asyncio.run(check())


@pytest.mark.slow
@given(_steps, st.integers(min_value=-1, max_value=40))
def test_a_position_at_a_time_is_the_longest_prefix(
    steps: list[tuple[str, str, int, bool]], minutes: int
) -> None:
    async def check() -> None:
        world, _ = await _random_room(steps)
        at = START_AT + minutes * 60_000
        for shard in range(world.log.shard_count):
            commits = [c.commit for c in world.history if c.commit.shard == shard]
            expected = sum(1 for commit in commits if commit.at <= at)
            assert await position_at(world.log, shard, at) == expected

    asyncio.run(check())
