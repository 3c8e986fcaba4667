"""Pushers and a gateway over real gRPC: routed, cut, killed and stolen into."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager

import pytest

from domain.streams import shard_of, user_stream
from eventlog.record import Committed
from gateways.push.exchange import Exchange
from gateways.push.line import PusherAt, PushLines
from gateways.push.receiver import Receiver
from gateways.push.server import PushServer
from gateways.push.settings import PushSettings
from gateways.routes import RoutedHint
from gateways.rpc.handshake import Identity, new_incarnation
from gateways.rpc.peer import Face
from gateways.rpc.settings import RpcSettings
from tests.contract.command_house import SECRET
from tests.integration.command_wire import wire
from tests.unit.push.world import CODEC, SHARDS, Record, routed

WAIT_S = 20.0
SETTINGS = PushSettings(
    pace_ms=0.0, reached_pace_ms=1.0, reconnect_first_ms=1.0, reconnect_max_ms=20.0, look_ms=10.0, linger_s=0.0, silence_s=WAIT_S
)  # fmt: skip
WIRE = RpcSettings(drain_s=1.0)


def identity(node: str, record: Record) -> Identity:
    return Identity(node, record.log.log_id, SHARDS)


class Pusher:
    """A pusher that routes what it is told to."""

    def __init__(self, record: Record, node: str) -> None:
        self.record = record
        self.node = node
        self.exchange = Exchange({shard: head.position for shard, head in enumerate(record.heads)})
        self.server = PushServer(
            exchange=self.exchange,
            age_s=lambda: 0.0,
            identity=identity(node, record),
            secret=SECRET,
            settings=SETTINGS,
            wire=WIRE,
        )

    def route(self) -> None:
        """Everything that is in the log."""
        for shard in range(SHARDS):
            waiting = self.record.after(shard, self.exchange.positions.get(shard, 0))
            if waiting:
                self.exchange.follow([routed(commit) for commit in waiting])


class Gateway:
    """A receiver and what came to it."""

    def __init__(self, record: Record, pushers: Sequence[PusherAt], secret: bytes = SECRET) -> None:
        self.came: list[tuple[int, int]] = []
        self.hints: list[RoutedHint] = []
        self._changed = asyncio.Event()
        face = Face(
            identity=identity("gateway-1", record),
            incarnation=new_incarnation(),
            secret=secret,
            codec=CODEC,
            settings=WIRE,
            chance=random.Random(1),
        )
        self.lines = PushLines(face, pushers, SETTINGS)
        self.receiver = Receiver(
            log=record.log,
            codec=CODEC,
            heads={shard: head.position for shard, head in enumerate(record.heads)},
            publish=self._publish,
            take_heads=lambda _: self._changed.set(),
            lines=self.lines,
            settings=SETTINGS,
            now_s=time.monotonic,
        )
        self.receiver.hear(self._hear)

    def _publish(self, batch: Sequence[Committed]) -> None:
        self.came += [(committed.commit.shard, committed.commit.position) for committed in batch]
        self._changed.set()

    def _hear(self, hint: RoutedHint) -> None:
        self.hints.append(hint)
        self._changed.set()

    async def until(self, what: Callable[[], bool]) -> None:
        """Wait for what commits, positions and hints bring about; looks at the rest again and again."""
        async with asyncio.timeout(WAIT_S):
            while not what():
                self._changed.clear()
                try:
                    async with asyncio.timeout(0.02):
                        await self._changed.wait()
                except TimeoutError:
                    continue


@asynccontextmanager
async def running(receiver: Receiver) -> AsyncIterator[None]:
    receiver.start()
    try:
        yield
    finally:
        await receiver.close()


async def test_what_is_wanted_comes_and_nothing_else_without_a_read_of_the_log() -> None:
    record = Record()
    pusher = Pusher(record, "pusher-1")
    port = await pusher.server.start("127.0.0.1:0")
    gateway = Gateway(record, [PusherAt("pusher-1", f"127.0.0.1:{port}")])
    try:
        async with running(gateway.receiver):
            await gateway.until(lambda: gateway.receiver.live)
            gateway.receiver.want("g_1")
            gateway.receiver.want(user_stream("default", "bob"))
            await gateway.receiver.settled()
            reads = record.log.reads
            expected = [await record.say("g_1") for _ in range(3)]
            for _ in range(5):
                await record.say("g_2")
            expected.append(await record.join("g_3", "bob"))
            expected.append(await record.say("g_3"))
            expected.append(await record.read("cid", "g_1"))
            pusher.route()
            heads = {shard: head.position for shard, head in enumerate(record.heads)}
            await gateway.until(
                lambda: all(gateway.receiver.positions.get(s, 0) >= p for s, p in heads.items())
            )
            assert sorted(gateway.came) == sorted(expected)
            assert record.log.reads == reads
            assert pusher.exchange.counters.routed == len(expected)
            assert gateway.receiver.counters.received == len(expected)
    finally:
        await pusher.server.close()


async def test_a_killed_pusher_a_second_one_and_none_lose_nothing() -> None:
    record = Record()
    one, two = Pusher(record, "pusher-1"), Pusher(record, "pusher-2")
    ports = [await pusher.server.start("127.0.0.1:0") for pusher in (one, two)]
    at = [PusherAt(f"pusher-{n + 1}", f"127.0.0.1:{port}") for n, port in enumerate(ports)]
    gateway = Gateway(record, at)
    expected = []
    try:
        async with running(gateway.receiver):
            gateway.receiver.want("g_1")
            await gateway.until(lambda: gateway.receiver.live)
            first = one if gateway.lines.at == at[0] else two
            second = two if first is one else one
            expected.append(await record.say("g_1"))
            first.route()
            await gateway.until(lambda: len(gateway.came) == 1)
            # The first dies before it routed the next one; the second begins behind it.
            expected.append(await record.say("g_1"))
            second.route()
            await first.server.close()
            await gateway.until(lambda: len(gateway.came) == 2)
            await gateway.until(lambda: gateway.receiver.live)
            await second.server.close()
            expected.append(await record.say("g_1"))
            await gateway.until(lambda: len(gateway.came) == 3)
            assert not gateway.receiver.live
    finally:
        for pusher in (one, two):
            await pusher.server.close()
    assert gateway.came == expected


async def test_a_cut_wire_is_made_again_and_what_is_wanted_is_said_again() -> None:
    record = Record()
    pusher = Pusher(record, "pusher-1")
    async with wire(await pusher.server.start("127.0.0.1:0")) as between:
        gateway = Gateway(record, [PusherAt("pusher-1", between.address)])
        async with running(gateway.receiver):
            await gateway.until(lambda: gateway.receiver.live)
            gateway.receiver.want("g_1")
            expected = []
            for number in range(5):
                expected.append(await record.say("g_1"))
                pusher.route()
                between.cut()
                await gateway.until(lambda number=number: len(gateway.came) == number + 1)  # type: ignore[misc]
            await gateway.until(lambda: gateway.receiver.live)
        assert gateway.came == expected
        assert gateway.receiver.counters.links > 1
    await pusher.server.close()


async def test_hints_reach_the_other_gateways_that_listen() -> None:
    record = Record()
    pusher = Pusher(record, "pusher-1")
    port = await pusher.server.start("127.0.0.1:0")
    at = [PusherAt("pusher-1", f"127.0.0.1:{port}")]
    one, two, three = (Gateway(record, at) for _ in range(3))
    hint = RoutedHint(tenant="default", conversation_id="g_1", user_id="ann", typing=True)
    received = RoutedHint(tenant="default", conversation_id="g_1", user_id="ann", received=7, own=True)
    try:
        async with running(one.receiver), running(two.receiver), running(three.receiver):
            for gateway, stream in ((one, "g_1"), (two, "g_1"), (three, user_stream("default", "ann"))):
                gateway.receiver.want(stream)
                await gateway.until(lambda gateway=gateway: gateway.receiver.live)  # type: ignore[misc]
                await gateway.receiver.settled()
            one.receiver.tell(hint)
            one.receiver.tell(received)
            await two.until(lambda: bool(two.hints))
            await three.until(lambda: bool(three.hints))
            assert (one.hints, two.hints, three.hints) == ([], [hint], [received])
    finally:
        await pusher.server.close()


@pytest.mark.parametrize("wrong", ["secret", "log"])
async def test_strangers_are_turned_away_and_the_gateway_reads_the_log(wrong: str) -> None:
    record = Record()
    pusher = Pusher(record, "pusher-1")
    port = await pusher.server.start("127.0.0.1:0")
    other = Record()
    other.log._log_id = "log-2"
    gateway = Gateway(
        other if wrong == "log" else record,
        [PusherAt("pusher-1", f"127.0.0.1:{port}")],
        b"another secret of it" if wrong == "secret" else SECRET,
    )
    try:
        async with running(gateway.receiver):
            gateway.receiver.want("g_1")
            await gateway.until(lambda: pusher.exchange.counters.refused > 0)
            assert pusher.exchange.gateways == {}
            place = await (other if wrong == "log" else record).say("g_1")
            await gateway.until(lambda: gateway.came == [place])
    finally:
        await pusher.server.close()


def test_the_conversations_of_these_tests_share_shards_with_others() -> None:
    assert len({shard_of(stream, SHARDS) for stream in ("g_1", "g_2", "g_3", "user:bob")}) > 1
