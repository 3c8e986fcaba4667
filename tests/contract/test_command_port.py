"""The contract of the command port, on all its adapters: the desk, a router over its own desk, real gRPC to one owner and to two."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from commands.caller import Answer, Keyed
from commands.port import CommandPort, Outline
from domain.conversation import RecallMessage
from domain.direct import BlockUser, DirectState
from domain.errors import FieldError, Problem
from domain.group import CreateGroup, GroupState
from domain.group_roster import AddMembers
from domain.streams import group_conversation_id, shard_of
from domain.user import ChangeProfile, RegisterUser, UserState
from eventlog.memory import MemoryLog
from tests.contract.command_house import SHARDS, caller, keyed, open_pair, port, post, register

KINDS = (
    "local",
    "routed",
    pytest.param("remote", marks=pytest.mark.slow),
    pytest.param("shared", marks=pytest.mark.slow),
)


@pytest.fixture
def log() -> MemoryLog:
    """An empty log."""
    return MemoryLog("log-1", SHARDS)


@pytest.fixture(params=KINDS)
async def commands(request: pytest.FixtureRequest, log: MemoryLog) -> AsyncIterator[CommandPort]:
    """One adapter."""
    async with port(request.param, log) as made:
        yield made


async def problem_of(commands: CommandPort, *asked: object) -> Problem:
    """The refusal of what is asked."""
    with pytest.raises(Problem) as caught:
        await commands.execute(*asked)  # type: ignore[arg-type]
    return caught.value


async def test_an_answer_says_what_the_log_says(commands: CommandPort, log: MemoryLog) -> None:
    name = await open_pair(commands, "alice", "bob")
    answer = await commands.execute(caller("alice"), name, post("hi"), keyed(name, "m1"))
    shard = shard_of(name, SHARDS)
    head = (await log.heads())[shard]
    assert (answer.stream, answer.changed, answer.replayed) == (name, True, False)
    assert (answer.shard, answer.position, answer.token) == (shard, head.position, f"{shard}:{head.position}")
    assert answer.seq == 2
    row = answer.events[0]
    assert (row.stream, row.version, row.seq, row.number) == (name, 2, 2, head.number)
    assert row.event.TYPE == "message_posted"
    assert (row.event.actor, row.event.at, answer.at) == ("alice", answer.at, head.at)
    assert commands.head_positions()[shard] >= answer.position


async def test_a_repeat_gets_the_first_answer(commands: CommandPort) -> None:
    name = await open_pair(commands, "alice", "bob")
    first = await commands.execute(caller("alice"), name, post("hi"), keyed(name, "m1"))
    again = await commands.execute(caller("alice"), name, post("hi"), keyed(name, "m1"))
    assert again.replayed
    assert (again.position, again.at, again.seq, again.events) == (
        first.position,
        first.at,
        first.seq,
        first.events,
    )
    other = await problem_of(commands, caller("alice"), name, post("ho"), keyed(name, "m1", b"2"))
    assert other.code == "idempotency_conflict"


async def test_without_a_key_everything_happens_anew(commands: CommandPort) -> None:
    name = await open_pair(commands, "alice", "bob")
    seqs = [
        (await commands.execute(caller("alice"), name, post("hi"), keyed(name, None))).seq for _ in range(3)
    ]
    assert seqs == [2, 3, 4]


async def test_refusals_keep_their_words(commands: CommandPort) -> None:
    name = await open_pair(commands, "alice", "bob")
    stranger = await problem_of(commands, caller("eve"), name, post("hi"), keyed(name, "m1"))
    assert stranger.code == "not_found"
    wrong = await problem_of(
        commands, caller("alice"), "user:alice", ChangeProfile(friend_policy="never"), Keyed("patch", "k1")
    )
    assert wrong.code == "validation_failed"
    assert wrong.errors == (FieldError("friend_policy", wrong.detail.partition(": ")[2]),)
    unknown = await problem_of(commands, caller("alice"), "x:nothing", post("hi"), keyed(name, "m1"))
    assert unknown.code == "not_found"


async def test_nothing_to_do_is_an_answer(commands: CommandPort) -> None:
    name = await open_pair(commands, "alice", "bob")
    await commands.execute(caller("alice"), name, BlockUser(peer="bob"), keyed("block", "k1"))
    answer = await commands.execute(caller("alice"), name, BlockUser(peer="bob"), keyed("block", "k2"))
    assert answer == Answer(name, False, shard_of(name, SHARDS))


async def test_what_is_handed_in_together_keeps_its_order(commands: CommandPort) -> None:
    name = await open_pair(commands, "alice", "bob")
    results: asyncio.Queue[Answer | Problem] = asyncio.Queue()
    for number in range(300):
        commands.submit(
            caller("alice"), name, post(f"m{number}"), keyed(name, f"m{number}"), results.put_nowait
        )
    answers = [await results.get() for _ in range(300)]
    assert [answer.seq for answer in answers if isinstance(answer, Answer)] == list(range(2, 302))


async def test_users_of_other_shards_are_known(commands: CommandPort) -> None:
    users = [f"u{number}" for number in range(12)]
    await register(commands, "ann", *users)
    made = await commands.execute(
        caller("ann"), group_conversation_id(_group_key()), CreateGroup(name="all"), _GROUP
    )
    added = await commands.execute(
        caller("ann"), made.stream, AddMembers(user_ids=tuple(users)), keyed("add", "k1")
    )
    assert len(added.events) == len(users)
    refused = await problem_of(
        commands, caller("ann"), made.stream, AddMembers(user_ids=("nobody",)), keyed("add", "k2")
    )
    assert refused.code in {"not_found", "validation_failed"}
    assert await commands.user_exists("default", "u1")
    assert not await commands.user_exists("default", "nobody")


async def test_states_are_seen_as_they_are_durable(commands: CommandPort) -> None:
    name = await open_pair(commands, "alice", "bob")
    state = await commands.peek("default", "user:alice")
    assert isinstance(state, UserState)
    assert state.version == 1
    assert await commands.outline("default", name) == Outline(1)
    await commands.execute(caller("alice"), name, BlockUser(peer="bob"), keyed("block", "k1"))
    assert await commands.outline("default", name) == Outline(2, blocked=True)
    direct = await commands.peek_as("default", name, "alice")
    assert isinstance(direct, DirectState)
    assert direct.blockers == {"alice"}
    nobody = await commands.peek("default", "user:nobody")
    assert nobody.version == 0


async def test_of_a_group_one_sees_at_least_oneself(commands: CommandPort) -> None:
    await register(commands, "ann", "bob", "cleo")
    made = await commands.execute(
        caller("ann"), group_conversation_id(_group_key()), CreateGroup(name="all", members=("bob",)), _GROUP
    )
    state = await commands.peek_as("default", made.stream, "ann")
    assert isinstance(state, GroupState)
    assert state.members["ann"].role == "owner"
    assert state.settings is not None
    assert state.settings.name == "all"
    assert (await commands.outline("default", made.stream)).members == 2
    assert "cleo" not in (await commands.peek_as("default", made.stream, "cleo")).members  # type: ignore[attr-defined]


async def test_looking_at_what_cannot_be_is_refused(commands: CommandPort) -> None:
    with pytest.raises(Problem) as caught:
        await commands.peek("default", "x:nothing")
    assert caught.value.code == "not_found"


async def test_another_tenant_is_another_world(commands: CommandPort) -> None:
    other = type(caller("ann"))("acme", "ann")
    await commands.execute(other, "user:ann", RegisterUser(), Keyed("register", "ann"))
    assert (await commands.peek("acme", "user:ann")).version == 1
    assert (await commands.peek("default", "user:ann")).version == 0


async def test_a_caller_that_goes_leaves_the_command_running(commands: CommandPort) -> None:
    name = await open_pair(commands, "alice", "bob")
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0):
            await commands.execute(caller("alice"), name, post("hi"), keyed(name, "m1"))
    again = await commands.execute(caller("alice"), name, post("hi"), keyed(name, "m1"))
    assert again.seq == 2
    behind = await commands.execute(caller("alice"), name, post("ho"), keyed(name, "m2"))
    assert behind.seq == 3


async def test_a_change_of_what_is_not_there_is_refused(commands: CommandPort) -> None:
    name = await open_pair(commands, "alice", "bob")
    refused = await problem_of(commands, caller("alice"), name, RecallMessage(seq=99), keyed("recall", "k1"))
    assert refused.code == "not_found"


_GROUP = Keyed("POST /v1/groups", "g1")


def _group_key() -> str:
    return _GROUP.key("default", "ann").hex()
