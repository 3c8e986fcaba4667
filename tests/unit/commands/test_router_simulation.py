"""Routers, owners and a log under seeded faults: links that break, lost answers, takeovers, appends of unknown outcome.

Whatever happens: acknowledged = in the log, once, at the place the answer says; told `unavailable` = not in the log; one epoch after the
other; and what one sender handed in one after the other stands there in that order. The seed is in the name of the test.
"""

from __future__ import annotations

import asyncio
import random
from collections import deque
from collections.abc import Sequence
from functools import partial

import msgspec
import pytest
from typing_extensions import override

from commands.caller import Answer
from commands.calls import Call, Lost
from commands.desk import Desk
from commands.looks import Look, answer_look
from commands.node import Node
from commands.order import Order
from commands.ownership import NodeShards, StaticOwnership
from commands.peers import Heard, Peer, PeerLostError, Peers
from commands.port import Outline
from commands.router import Router
from commands.settings import NodeSettings, RouterSettings
from commands.shards import ShardsNotOpenedError
from commands.tasks import TaskOwner
from domain.aggregates import State
from domain.errors import Problem
from eventlog.bus import Bus
from eventlog.memory import MemoryLog
from eventlog.port import LogUnavailableError, OutcomeUnknownError
from tests.contract.command_house import (
    CODEC,
    NOW,
    PAYLOAD_SECRET,
    SHARDS,
    NoTimeline,
    caller,
    keyed,
    open_pair,
    pair_in,
    post,
)
from tests.faulty_log import Fault, FaultyLog, Planned

SEEDS = 12
MESSAGES_MIN = 60
MESSAGES_MAX = 1_000
"""Of each of the four senders, who write as long as there is trouble."""
NODES = tuple(f"n{number}" for number in range(7))
NODE = NodeSettings(flush_pace_ms=0.0, resend_first_ms=0.01, resend_max_ms=0.1)
ROUTER = RouterSettings(pause_first_ms=0.5, pause_max_ms=5.0, deadline_s=20.0, landing_s=20.0, sweep_s=0.05)
FAULTS = (Fault.UNAVAILABLE, Fault.UNKNOWN_BEFORE, Fault.UNKNOWN_AFTER, Fault.UNKNOWN_PREFIX)
WAIT_S = 60.0

Result = Answer | Problem


class Pipe(Peer):
    """A link to an owner in this process: calls arrive in order, a few each turn; a break loses some of them, and some answers."""

    def __init__(self, world: World, node: str) -> None:
        self._world = world
        self._node = node
        self._sent: deque[tuple[Call, Order]] = deque()
        self._pending: dict[int, Heard] = {}
        self._life = 0
        self._number = 0
        self._delivering = False

    @override
    def submit(self, call: Call, heard: Heard) -> None:
        desk = self._world.desks.get(self._node)
        if desk is None or self._world.chance.random() < 0.02:
            heard(Lost(sent=False))
            return
        call.sent = True
        self._number += 1
        self._pending[self._number] = heard
        order = Order(
            tenant=call.tenant, actor=call.actor, stream=call.stream, command=call.command, key=call.key,
            client_keyed=call.keyed, payload_digest=call.payload_digest,
            done=partial(self._answered, self._life, self._number),
        )  # fmt: skip
        self._sent.append((call, order))
        if not self._delivering:
            self._delivering = True
            asyncio.get_running_loop().call_soon(self._deliver)

    def _deliver(self) -> None:
        """Some of what was sent arrives; now and then the link breaks instead."""
        chance, desk = self._world.chance, self._world.desks[self._node]
        broken = chance.random() < 0.04
        for _ in range(min(len(self._sent), chance.randint(0, 4))):
            desk.hand_in(self._sent.popleft()[1])
        if broken:
            self.cut()
        self._delivering = bool(self._sent)
        if self._delivering:
            asyncio.get_running_loop().call_soon(self._deliver)

    def cut(self) -> None:
        """The link breaks: what has not arrived never will, and nobody hears what has."""
        self._world.cuts += 1
        self._life += 1
        self._sent.clear()
        pending, self._pending = self._pending, {}
        for heard in pending.values():
            heard(Lost(sent=True))

    def _answered(self, life: int, number: int, result: Result) -> None:
        """The answer travels for a turn."""
        asyncio.get_running_loop().call_soon(self._arrive, life, number, result)

    def _arrive(self, life: int, number: int, result: Result) -> None:
        if life == self._life and (heard := self._pending.pop(number, None)) is not None:
            heard(result)

    @override
    async def look(self, look: Look) -> State | Outline | bool:
        desk = self._world.desks.get(self._node)
        if desk is None:
            raise PeerLostError
        return await answer_look(desk, look)


class World(Peers):
    """The log, the owners that came up so far, and the links to them."""

    def __init__(self, seed: int) -> None:
        self.chance = random.Random(seed)
        self.log = FaultyLog(MemoryLog("log-1", SHARDS))
        self.desks: dict[str, Desk] = {}
        self.nodes: list[Node] = []
        self.pipes: dict[str, Pipe] = {}
        self.cuts = 0
        self.troubled = True
        rows = [NodeShards(node, node, f"0-{SHARDS - 1}" if node == NODES[0] else "") for node in NODES]
        self.router = Router(
            node="face",
            ownership=StaticOwnership(lambda: rows, SHARDS),
            peers=self,
            shard_count=SHARDS,
            payload_secret=PAYLOAD_SECRET,
            settings=ROUTER,
            chance=self.chance,
        )
        self.tasks = TaskOwner("senders", 100)

    @override
    def peer(self, node: str, address: str) -> Pipe:
        if node not in self.pipes:
            self.pipes[node] = Pipe(self, node)
        return self.pipes[node]

    async def open(self, name: str, shards: Sequence[int]) -> None:
        """Another owner takes these shards, from whoever has them; its former owner is not asked."""
        bus = Bus()
        node = Node(self.log, CODEC, bus, lambda: NOW, NODE, name=name)
        while True:
            try:
                await node.open(shards)
                break
            except (ShardsNotOpenedError, OutcomeUnknownError, LogUnavailableError):
                continue  # Somebody wrote meanwhile, or the log is away: from its new heads.
        desk = Desk(node, PAYLOAD_SECRET, NoTimeline())
        desk.elsewhere = self.router
        self.nodes.append(node)
        self.desks[name] = desk

    async def close(self) -> None:
        """Everything."""
        await self.router.close()
        await self.tasks.close()
        for desk in self.desks.values():
            await desk.close()
        for node in self.nodes:
            await node.close()


class Sender:
    """Hands in messages of one conversation in bursts, and does not wait for answers between."""

    def __init__(self, world: World, shard: int) -> None:
        self.world = world
        self.user, self.peer, self.name = pair_in(shard)
        self.results: dict[int, Result] = {}
        self.sent = 0
        self.complete = asyncio.Event()

    async def run(self) -> None:
        """All messages."""
        chance = self.world.chance
        while self.sent < MESSAGES_MIN or (self.world.troubled and self.sent < MESSAGES_MAX):
            for _ in range(chance.randint(1, 12)):
                self._send()
            moment = asyncio.Event()
            asyncio.get_running_loop().call_later(chance.random() / 200, moment.set)
            await moment.wait()
        while len(self.results) < self.sent:
            self.complete.clear()
            await self.complete.wait()

    def _send(self) -> None:
        number = self.sent
        self.sent += 1
        key = keyed(self.name, f"m{number}" if number % 3 else None)

        def done(result: Result) -> None:
            assert number not in self.results, "answered twice"
            self.results[number] = result
            self.complete.set()

        self.world.router.submit(caller(self.user), self.name, post(f"m{number}"), key, done)


async def trouble(world: World) -> None:
    """Takeovers and faults of the log, each after a while."""
    chance = world.chance
    for name in NODES[1:]:
        moment = asyncio.Event()
        asyncio.get_running_loop().call_later(chance.random() / 20, moment.set)
        await moment.wait()
        for _ in range(chance.randint(0, 3)):
            world.log.plan(Planned(chance.choice(FAULTS), documents=chance.randint(0, 4)))
        await world.open(name, sorted(chance.sample(range(SHARDS), chance.randint(1, SHARDS))))
    world.troubled = False


async def found(world: World, sender: Sender, shard: int) -> list[tuple[int, int | None, int]]:
    """(number, seq, position) of the sender's messages, as the log holds them."""
    commits = await world.log.inner.read_shard(shard, 0, 5_000)
    assert [commit.position for commit in commits] == list(range(1, len(commits) + 1))
    epochs = [commit.epoch for commit in commits]
    assert epochs == sorted(epochs)
    rows = [row for commit in commits if commit.stream == sender.name for row in CODEC.decode(commit).events]
    assert [row.version for row in rows] == list(range(1, len(rows) + 1))
    messages = [(row.event.client_msg_id, row) for row in rows if hasattr(row.event, "client_msg_id")]
    return [(int(client_id[1:]), row.seq, row.position) for client_id, row in messages]


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(SEEDS))
async def test_no_message_is_lost_doubled_or_out_of_order(seed: int) -> None:
    world = World(seed)
    try:
        await world.open(NODES[0], range(SHARDS))
        senders = [Sender(world, shard) for shard in range(SHARDS)]
        for sender in senders:
            await open_pair(world.router, sender.user, sender.peer)
        async with asyncio.timeout(WAIT_S), asyncio.TaskGroup() as group:
            for sender in senders:
                group.create_task(sender.run())
            group.create_task(trouble(world))
        answered = sent = 0
        for shard, sender in enumerate(senders):
            stored = await found(world, sender, shard)
            numbers = [number for number, _, _ in stored]
            assert numbers == sorted(set(numbers)), f"seed {seed}: doubled or out of order"
            acked = {n: (a.seq, a.position) for n, a in sender.results.items() if isinstance(a, Answer)}
            assert {n: place for n, *place in stored if n in acked} == {
                n: [*place] for n, place in acked.items()
            }
            refused = {n: p.code for n, p in sender.results.items() if isinstance(p, Problem)}
            assert set(refused.values()) <= {"unavailable", "outcome_unknown"}
            assert not {n for n, code in refused.items() if code == "unavailable"} & set(numbers)
            answered += len(acked)
            sent += sender.sent
        assert answered > sent / 2, "hardly anything got through"
        assert world.cuts > 0
        assert world.router.counters.not_owner > 0
        assert world.router.counters.retries > 0
    finally:
        await world.close()


async def test_an_order_that_the_owner_gives_up_is_asked_of_the_next_one() -> None:
    """`outcome_unknown` before the deadline is no answer yet: the next owner finds the commit by its key, or has none."""
    world = World(1)
    try:
        await world.open(NODES[0], range(SHARDS))
        user, peer, name = pair_in(0)
        await open_pair(world.router, user, peer)
        world.log.plan(*[Fault.UNKNOWN_AFTER] * 200)
        outcome: asyncio.Future[Result] = asyncio.get_running_loop().create_future()
        world.router.submit(caller(user), name, post("m1"), keyed(name, None), outcome.set_result)
        await world.log.begun(world.log.appends + 2)
        closing = msgspec.structs.replace(NODE, close_s=0.01)
        world.nodes[0]._settings = world.nodes[0]._flusher._settings = closing
        await world.nodes[0].close()
        world.log._planned.clear()
        del world.desks[NODES[0]]
        await world.open(NODES[0], range(SHARDS))
        async with asyncio.timeout(WAIT_S):
            result = await outcome
        assert isinstance(result, Answer)
        assert result.replayed
    finally:
        await world.close()
