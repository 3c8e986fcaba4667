"""Whatever is wanted, given up, cut, lost or late: a gateway gets each commit of what it wants once, in the order of the record."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Mapping

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from commands.tasks import TaskOwner
from domain.errors import Problem
from domain.streams import shard_of, user_stream
from eventlog.record import Committed
from gateways.push.concern import concern_of
from gateways.push.settings import PushSettings
from tests.unit.push.world import CODEC, SHARDS, Gateway, Place, PusherHere, Record, Wire

GROUPS = tuple(f"g_{number}" for number in range(5))
USERS = ("bob", "eve")
STREAMS = (*GROUPS, *(user_stream("default", user) for user in USERS))
SETTINGS = PushSettings(
    message_commits=3, message_streams=2, linger_s=0.0, queue_commits=12, behind_max=10**6
)
STEPS = (
    "say", "say", "say", "join", "leave", "read", "end", "advance", "advance", "up", "up", "down", "down", "down",
    "listen", "listen", "unlisten", "cut", "connect", "look", "new pusher", "time", "log away",
)  # fmt: skip
TRIES_MAX = 10_000
NEVER = dict.fromkeys(range(SHARDS), 10**6)


class Model:
    """What must be delivered: for each stream that is listened to, everything behind the positions at which that was settled."""

    def __init__(self, chance: random.Random) -> None:
        self.chance = chance
        self.record = Record()
        self.pusher = PusherHere(self.record, SETTINGS)
        self.gateway = Gateway(self.record, SETTINGS)
        self.wire: Wire | None = None
        self.since: dict[str, Mapping[int, int]] = {}
        """From where on each stream is promised."""
        self.asked: dict[str, object] = {}
        """What is being settled, and by which try."""
        self.tasks = TaskOwner("settling", TRIES_MAX)
        self.ever: set[str] = set()

    async def step(self, what: str) -> None:
        """Do it, and look what has been settled by it."""
        await getattr(self, "do_" + what.replace(" ", "_"))()
        await self.breathe()
        if self.wire is not None and self.wire.outbox.ended:
            await self.do_cut()

    async def breathe(self) -> None:
        for _ in range(3):
            await asyncio.sleep(0)
        for stream, (user, (shard, position)) in self.gateway.joined.items():
            self.ever.add(stream)
            # Whoever was not there yet reads what lies between.
            if position > self.since.get(user, NEVER).get(shard, 0):
                # Of other shards nothing goes to a group.
                self.since[stream] = {**NEVER, shard: position}
        self.gateway.joined.clear()

    async def settle(self, stream: str, attempt: object) -> None:
        since: Mapping[int, int] | None = None
        try:
            since = await self.gateway.receiver.settled()
        except Problem:
            since = None  # It is stale: nothing is promised.
        if self.asked.get(stream) is attempt:
            del self.asked[stream]
            if since is not None:
                self.since[stream] = since

    def group(self) -> str:
        return self.chance.choice(GROUPS)

    async def do_say(self) -> None:
        await self.record.say(self.group())

    async def do_join(self) -> None:
        await self.record.join(self.group(), self.chance.choice(USERS))

    async def do_leave(self) -> None:
        await self.record.leave(self.group(), self.chance.choice(USERS))

    async def do_read(self) -> None:
        await self.record.read("dan", self.group())

    async def do_end(self) -> None:
        await self.record.end(self.chance.choice(USERS))

    async def do_advance(self) -> None:
        self.pusher.advance(self.chance.randrange(SHARDS), self.chance.randint(1, 4))

    async def do_up(self) -> None:
        if self.wire is not None:
            await self.wire.up()

    async def do_down(self) -> None:
        if self.wire is not None and not self.wire.outbox.ended:
            try:
                await self.wire.down()
            except Exception:  # noqa: BLE001 - as the line does: whatever it is, the stream ends
                await self.do_cut()

    async def do_listen(self) -> None:
        stream = self.chance.choice(STREAMS)
        self.gateway.listen(stream)
        self.ever.add(stream)
        if stream not in self.asked and stream not in self.since:
            attempt = self.asked[stream] = object()
            self.tasks.start(self.settle(stream, attempt))

    async def do_unlisten(self) -> None:
        stream = self.chance.choice(STREAMS)
        self.gateway.unlisten(stream)
        self.since.pop(stream, None)
        self.asked.pop(stream, None)
        self.gateway.receiver._wants.sweep()

    async def do_cut(self) -> None:
        if self.wire is not None:
            self.wire.cut()
            self.wire = None

    async def do_connect(self) -> None:
        if self.wire is None:
            self.wire = Wire(self.pusher, self.gateway.receiver)

    async def do_look(self) -> None:
        await self.gateway.receiver.look()

    async def do_new_pusher(self) -> None:
        await self.do_cut()
        self.pusher = PusherHere(self.record, SETTINGS)

    async def do_time(self) -> None:
        self.gateway.now_s += self.chance.choice((0.1, 0.5, 3.0))

    async def do_log_away(self) -> None:
        self.record.log.away = not self.record.log.away

    async def heal(self) -> None:
        """Everything works again, and has time to."""
        self.record.log.away = False
        for _ in range(3):
            await self.step("connect")
            self.pusher.catch_up()
            self.gateway.now_s += 0.5
            while self.wire is not None and (await self.wire.up() or await self.wire.down()):
                await self.breathe()
                if self.wire.outbox.ended:
                    await self.do_cut()
            self.gateway.now_s += 0.1
            await self.step("look")
        assert not self.asked

    def check(self) -> None:
        """Nothing twice, each shard in order, nothing of what nobody ever wanted, all of what was promised."""
        places = self.gateway.places
        assert len(set(places)) == len(places)
        for shard in range(SHARDS):
            positions = [position for number, position in places if number == shard]
            assert positions == sorted(positions)
        told = set(places)
        wanted = self.ever | self.joined()
        for committed in self.gateway.delivered:
            assert wanted.intersection(concern_of(committed).streams)
        for stream, since in self.since.items():
            for place in self.promised(stream, since):
                assert place in told, (stream, place)

    def joined(self) -> set[str]:
        return {
            committed.commit.stream
            for committed in map(CODEC.decode, self.record.commits)
            if concern_of(committed).joining
        }

    def promised(self, stream: str, since: Mapping[int, int]) -> list[Place]:
        found = []
        for commit in self.record.commits:
            committed: Committed = CODEC.decode(commit)
            if stream in concern_of(committed).streams and commit.position > since.get(commit.shard, 0):
                found.append((commit.shard, commit.position))
        return found


async def play(steps: list[str], seed: int) -> None:
    model = Model(random.Random(seed))
    for step in steps:
        await model.step(step)
        if model.gateway.receiver.stale:
            held = len(model.gateway.delivered)
            await model.step("down")
            if model.gateway.receiver.stale:
                assert len(model.gateway.delivered) == held
    await model.heal()
    await model.tasks.close()
    model.check()


@given(st.lists(st.sampled_from(STEPS), max_size=120), st.integers(0, 2**32))
@settings(max_examples=100, deadline=None)
def test_what_is_promised_comes_once_and_in_order(steps: list[str], seed: int) -> None:
    asyncio.run(play(steps, seed))


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(40))
def test_long_runs(seed: int) -> None:
    chance = random.Random(seed)
    asyncio.run(play(chance.choices(STEPS, k=1_500), seed))


def test_a_group_lies_elsewhere_than_its_members() -> None:
    """Else the model would prove less than it seems to."""
    assert len({shard_of(stream, SHARDS) for stream in STREAMS}) == SHARDS
