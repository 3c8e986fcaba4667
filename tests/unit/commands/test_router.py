"""The router by itself: what it does when its helpers fail, and how calls end."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import msgspec
import pytest
from typing_extensions import override

from commands.caller import Answer
from commands.calls import Call, Lost
from commands.looks import Look
from commands.ownership import NodeShards, NotOwner, Ownership, OwnershipMap, StaticOwnership
from commands.peers import Heard, Peer, PeerLostError, Peers
from commands.port import Outline
from commands.router import Router
from commands.settings import RouterSettings
from domain.aggregates import State
from domain.errors import Problem
from domain.streams import shard_of
from domain.user import UserState
from tests.contract.command_house import FAST_ROUTER, PAYLOAD_SECRET, SHARDS, caller, keyed, pair_in, post

ROWS = (NodeShards("a", "a:1", f"0-{SHARDS - 1}"), NodeShards("b", "b:1", ""))
IMPATIENT = msgspec.structs.replace(FAST_ROUTER, deadline_s=0.1, look_s=0.1)
Reply = Answer | Problem | Lost | Exception
USER, PEER, NAME = pair_in(0)
DONE = Answer(NAME, True, 0, 7)


class Script(Peer):
    """Answers what a test says, in turn; the last reply for ever."""

    def __init__(self, *replies: Reply) -> None:
        self.replies = list(replies)
        self.calls: list[Call] = []
        self.keyed: list[bool] = []
        self.held: list[tuple[Call, Heard]] = []
        self.looks: list[Look] = []

    @override
    def submit(self, call: Call, heard: Heard) -> None:
        self.calls.append(call)
        self.keyed.append(call.keyed)
        if not self.replies:
            call.sent = True
            self.held.append((call, heard))
            return
        reply = self.replies[0] if len(self.replies) == 1 else self.replies.pop(0)
        if isinstance(reply, Exception) and not isinstance(reply, Problem):
            raise reply
        heard(reply)

    @override
    async def look(self, look: Look) -> State | Outline | bool:
        self.looks.append(look)
        reply = self.replies[0] if len(self.replies) == 1 else self.replies.pop(0)
        if isinstance(reply, Problem):
            raise reply
        if isinstance(reply, Lost):
            raise PeerLostError
        return UserState(stream="user:ann", version=1)


class Scripts(Peers):
    """Nodes by name."""

    def __init__(self, **peers: Script) -> None:
        self.peers = peers

    @override
    def peer(self, node: str, address: str) -> Script:
        assert address == f"{node}:1"
        return self.peers[node]


@asynccontextmanager
async def router(
    peers: Peers, settings: RouterSettings = FAST_ROUTER, ownership: OwnershipMap | None = None
) -> AsyncIterator[Router]:
    """A router without a desk."""
    made = Router(
        node="face",
        ownership=ownership or StaticOwnership(lambda: ROWS, SHARDS),
        peers=peers,
        shard_count=SHARDS,
        payload_secret=PAYLOAD_SECRET,
        settings=settings,
        chance=random.Random(1),
    )
    try:
        yield made
    finally:
        await made.close()


async def result(made: Router, client_key: str | None = "m1") -> str:
    """How a send ends: `done`, or the code of its refusal."""
    try:
        await made.execute(caller(USER), NAME, post("m1"), keyed(NAME, client_key))
    except Problem as problem:
        return problem.code
    return "done"


UNAVAILABLE = Problem("unavailable", "the log is away")
OVERLOADED = Problem("overloaded", "later", retry_after_ms=250)
FORBIDDEN = Problem("forbidden", "no")
UNKNOWN = Problem("outcome_unknown", "who knows")


@pytest.mark.parametrize(
    "replies,ends,tries",
    [
        ([DONE], "done", 1),
        ([FORBIDDEN], "forbidden", 1),
        ([UNAVAILABLE], "unavailable", 1),  # The owner has decided that nothing was written.
        ([OVERLOADED], "overloaded", 1),
        ([Lost(sent=False), DONE], "done", 2),
        ([Lost(sent=True), DONE], "done", 2),
        ([NotOwner(0), NotOwner(0), DONE], "done", 3),
        ([Lost(sent=True), FORBIDDEN], "forbidden", 2),  # Decided after a look in the log.
        (
            [Lost(sent=True), UNAVAILABLE, OVERLOADED, DONE],
            "done",
            4,
        ),  # Nothing is known of the first try yet.
        ([UNKNOWN, NotOwner(0), DONE], "done", 3),
        ([Lost(sent=False), UNAVAILABLE], "unavailable", 2),
        ([ValueError("cannot be encoded")], "unavailable", 1),
    ],
)
async def test_a_call_ends_with_the_first_reply_that_says_something(
    replies: list[Reply], ends: str, tries: int
) -> None:
    script = Script(*replies)
    async with router(Scripts(a=script)) as made:
        assert await result(made, None) == ends
    assert len(script.calls) == tries
    assert len({call.key for call in script.calls}) == 1
    unsure = [False]
    for reply in replies[: tries - 1]:
        unsure.append(unsure[-1] or reply is UNKNOWN or reply == Lost(sent=True))
    assert script.keyed == unsure


@pytest.mark.parametrize(
    "reply,ends",
    [
        (Lost(sent=False), "unavailable"),
        (Lost(sent=True), "outcome_unknown"),
        (NotOwner(0), "unavailable"),
        (UNKNOWN, "outcome_unknown"),
    ],
)
async def test_at_the_deadline_it_is_said_whether_it_may_have_happened(reply: Reply, ends: str) -> None:
    async with router(Scripts(a=Script(reply)), IMPATIENT) as made:
        assert await result(made) == ends
        assert made.counters.expired == 1
        assert made.open_calls == 0


async def test_an_answer_after_the_deadline_is_dropped() -> None:
    script = Script()
    async with router(Scripts(a=script), IMPATIENT) as made:
        assert await result(made) == "outcome_unknown"
        script.held[0][1](DONE)
        script.replies = [DONE]
        assert await result(made) == "done"


async def test_a_deadline_may_be_the_callers() -> None:
    async with router(Scripts(a=Script())) as made:
        with pytest.raises(Problem) as caught:
            await made.execute(caller(USER), NAME, post("m1"), keyed(NAME, "m1"), deadline_s=0.03)
        assert caught.value.code == "outcome_unknown"


async def test_news_of_the_owner_are_followed_at_once_and_in_order() -> None:
    old, new = Script(), Script(DONE)
    slow = msgspec.structs.replace(FAST_ROUTER, pause_first_ms=60_000.0, pause_max_ms=60_000.0)
    async with router(Scripts(a=old, b=new), slow) as made:
        results: list[Answer | Problem] = []
        for number in range(4):
            made.submit(caller(USER), NAME, post(f"m{number}"), keyed(NAME, f"m{number}"), results.append)
        complete = asyncio.Event()
        old.held[2][1](NotOwner(0, "b", 2))  # Out of order, and two are still on their way.
        made.submit(caller(USER), NAME, post("m4"), keyed(NAME, "m4"), lambda _: complete.set())
        old.held[0][1](NotOwner(0, "b", 2))
        await asyncio.sleep(0)
        assert not new.calls
        old.held[3][1](Lost(sent=True))
        old.held[1][1](DONE)
        async with asyncio.timeout(10):
            await complete.wait()
        words = [call.command.client_msg_id for call in new.calls]  # type: ignore[attr-defined]
        assert words == ["m0", "m2", "m3", "m4"]
        assert results == [DONE] * 4
        assert made.head_positions() == {0: 7}


async def test_what_hangs_at_a_former_owner_holds_the_others_for_a_while_only() -> None:
    old, new = Script(), Script(DONE)
    quick = msgspec.structs.replace(FAST_ROUTER, landing_s=0.02)
    async with router(Scripts(a=old, b=new), quick) as made:
        results: list[Answer | Problem] = []
        complete = asyncio.Event()
        made.submit(caller(USER), NAME, post("m0"), keyed(NAME, "m0"), results.append)
        made.submit(caller(USER), NAME, post("m1"), keyed(NAME, "m1"), lambda _: complete.set())
        old.held[1][1](NotOwner(0, "b", 2))
        async with asyncio.timeout(10):
            await complete.wait()
        assert results == []
        old.held[0][1](DONE)
        assert results == [DONE]


class Broken(OwnershipMap):
    """A map that does not keep its word."""

    def __init__(self) -> None:
        self.inner = StaticOwnership(lambda: ROWS, SHARDS)
        self.refreshed = 0

    @override
    def current(self) -> Ownership:
        return self.inner.current()

    @override
    async def refresh(self) -> Ownership:
        self.refreshed += 1
        if self.refreshed == 1:
            raise OSError("no network")
        await asyncio.Event().wait()
        raise AssertionError

    @override
    def told(self, refusal: NotOwner) -> None:
        self.inner.told(refusal)

    @override
    def unreachable(self, shard: int, node: str) -> None:
        self.inner.unreachable(shard, node)


async def test_a_map_that_fails_or_hangs_stops_nobody() -> None:
    broken = Broken()
    quick = msgspec.structs.replace(FAST_ROUTER, refresh_s=0.01)
    script = Script(Lost(sent=False), Lost(sent=False), Lost(sent=False), DONE)
    async with router(Scripts(a=script), quick, broken) as made:
        assert await result(made) == "done"
    assert broken.refreshed == 3


async def test_looks_find_the_owner_too() -> None:
    a, b = Script(Lost(sent=True), NotOwner(0, "b", 2)), Script(DONE)
    user = next(user for user in map(str, range(100)) if shard_of(f"user:{user}", SHARDS) == 0)
    async with router(Scripts(a=a, b=b)) as made:
        assert (await made.peek("default", f"user:{user}")).version == 1
        assert (len(a.looks), len(b.looks)) == (2, 1)
        a.replies = b.replies = [FORBIDDEN]
        with pytest.raises(Problem) as caught:
            await made.peek("default", f"user:{user}")
        assert caught.value.code == "forbidden"


async def test_looks_end_in_time() -> None:
    async with router(Scripts(a=Script(Lost(sent=False))), IMPATIENT) as made:
        with pytest.raises(Problem) as caught:
            await made.peek("default", "user:ann")
        assert caught.value.code == "unavailable"


async def test_a_closed_router_takes_nothing_and_leaves_nobody_waiting() -> None:
    held, lost = Script(), Script(Lost(sent=False))
    ends: list[str] = []

    def end(result: Answer | Problem) -> None:
        ends.append(result.code if isinstance(result, Problem) else "done")

    submit: Callable[..., None]
    for script in (held, lost):
        async with router(Scripts(a=script)) as made:
            submit = made.submit
            submit(caller(USER), NAME, post("m1"), keyed(NAME, "m1"), end)
        submit(caller(USER), NAME, post("m2"), keyed(NAME, "m2"), end)
        await made.close()
    assert ends == ["outcome_unknown", "unavailable", "unavailable", "unavailable"]
