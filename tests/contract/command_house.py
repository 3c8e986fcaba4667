"""Owners and faces in one process: real nodes over a log, real gRPC over localhost."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager

import msgspec

from commands.caller import Caller, Keyed
from commands.desk import Desk
from commands.node import Node
from commands.ownership import NodeShards, StaticOwnership
from commands.port import CommandPort
from commands.router import Router
from commands.settings import NodeSettings, RouterSettings
from domain.aggregates import EVENT_CLASSES
from domain.conversation import PostMessage
from domain.direct import OpenDirect
from domain.event import Message, Place, Written
from domain.streams import direct_conversation_id, shard_of
from domain.user import RegisterUser
from eventlog.bus import Bus
from eventlog.codec import EventCodec
from eventlog.port import Log
from eventlog.registry import Registry
from eventlog.sealing import PlainSealing
from gateways.rpc.handshake import Identity, new_incarnation
from gateways.rpc.peer import Face
from gateways.rpc.peers import RpcPeers
from gateways.rpc.server import CommandServer
from gateways.rpc.settings import RpcSettings, Tls

SECRET = b"a secret of the cluster"
PAYLOAD_SECRET = bytes(32)
NOW = 1_700_000_000_000
SHARDS = 4
CODEC = EventCodec(Registry(EVENT_CLASSES), PlainSealing())
"""As every node has it; making one takes 20 ms."""
WAIT_S = 10.0
"""A test that waits longer has failed."""
FAST_NODE = NodeSettings(flush_pace_ms=0.0, resend_first_ms=0.01, resend_max_ms=0.1)
FAST_ROUTER = RouterSettings(
    pause_first_ms=1.0, pause_max_ms=20.0, deadline_s=WAIT_S, look_s=WAIT_S, sweep_s=0.02
)
FAST_RPC = RpcSettings(
    batch_pace_ms=0.0, busy_pace_ms=0.0, reconnect_first_ms=1.0, reconnect_max_ms=20.0, drain_s=1.0
)


class NoTimeline:
    """A read side that has nothing older than what is in memory, and lets everybody see everything."""

    async def older_message(self, stream: str, seq: int) -> Message | None:
        """None."""
        return None

    async def unseen(self, tenant: str, user_id: str, places: Sequence[Place]) -> frozenset[Place]:
        """None of them."""
        return frozenset()

    async def written(self, stream: str, seq: int) -> Written | None:
        """Nothing."""
        return None


class Owner:
    """A node with its desk and its server."""

    def __init__(
        self, log: Log, name: str, node: NodeSettings = FAST_NODE, rpc: RpcSettings = FAST_RPC
    ) -> None:
        self.name = name
        self.log = log
        self.bus = Bus()
        self.node = Node(log, CODEC, self.bus, lambda: NOW, node, name=name)
        self.desk = Desk(self.node, PAYLOAD_SECRET, NoTimeline())
        self.rpc = rpc
        self.server: CommandServer | None = None
        self.port = 0

    async def serve(self, secret: bytes = SECRET, port: int = 0, tls: Tls | None = None) -> None:
        """Listen for faces."""
        self.server = CommandServer(
            desk=self.desk,
            bus=self.bus,
            identity=Identity(self.name, self.log.log_id, self.log.shard_count),
            secret=secret,
            settings=self.rpc,
            tls=tls,
        )
        self.port = await self.server.start(f"127.0.0.1:{port}")

    async def hang_up(self) -> None:
        """End the server; the node stays."""
        if self.server is not None:
            await self.server.close()
            self.server = None

    async def close(self) -> None:
        """Everything, in order."""
        await self.hang_up()
        await self.desk.close()
        await self.node.close()

    @property
    def address(self) -> str:
        """Where faces find it."""
        return f"127.0.0.1:{self.port}"


@asynccontextmanager
async def owner(
    log: Log,
    name: str = "one",
    shards: Sequence[int] | None = None,
    *,
    node: NodeSettings = FAST_NODE,
    rpc: RpcSettings = FAST_RPC,
    secret: bytes = SECRET,
    tls: Tls | None = None,
) -> AsyncIterator[Owner]:
    """An owner that is open and serves."""
    made = Owner(log, name, node, rpc)
    await made.node.open(shards)
    try:
        await made.serve(secret, tls=tls)
        yield made
    finally:
        await made.close()


class House:
    """A face: its router, its links and its map."""

    def __init__(
        self, router: Router, peers: RpcPeers, ownership: StaticOwnership, rows: list[NodeShards]
    ) -> None:
        self.router = router
        self.peers = peers
        self.ownership = ownership
        self.rows = rows
        """What a refresh of the map reads."""


@asynccontextmanager
async def face(
    log: Log,
    rows: Mapping[str, tuple[str, str]],
    *,
    name: str = "face",
    desk: Desk | None = None,
    secret: bytes = SECRET,
    router: RouterSettings = FAST_ROUTER,
    rpc: RpcSettings = FAST_RPC,
    tls: Tls | None = None,
) -> AsyncIterator[House]:
    """A face that knows these owners: {node: (address, shards)}."""
    known = [NodeShards(node, address, shards) for node, (address, shards) in rows.items()]
    ownership = StaticOwnership(lambda: known, log.shard_count)
    chance = random.Random(7)
    line = Face(
        identity=Identity(name, log.log_id, log.shard_count),
        incarnation=new_incarnation(),
        secret=secret,
        codec=CODEC,
        settings=rpc,
        chance=chance,
        tls=tls,
    )
    peers = RpcPeers(line)
    made = Router(
        node=name,
        ownership=ownership,
        peers=peers,
        shard_count=log.shard_count,
        payload_secret=PAYLOAD_SECRET,
        settings=router,
        chance=chance,
        desk=desk,
    )
    line.take_heads = made.take_heads
    try:
        yield House(made, peers, ownership, known)
    finally:
        await made.close()
        await peers.close()


@asynccontextmanager
async def house_of_one(log: Log) -> AsyncIterator[House]:
    """One owner of everything, and a face without any shard."""
    async with owner(log) as one, face(log, {"one": (one.address, f"0-{log.shard_count - 1}")}) as house:
        yield house


@asynccontextmanager
async def port(kind: str, log: Log) -> AsyncIterator[CommandPort]:
    """The command port over a log: `local`, `routed` (a router and its own desk), `remote`, `shared` (two owners, one of them here)."""
    async with AsyncExitStack() as stack:
        everything = f"0-{log.shard_count - 1}"
        if kind == "shared":
            low, high = range(log.shard_count // 2), range(log.shard_count // 2, log.shard_count)
            one = await stack.enter_async_context(owner(log, "one", low))
            two = await stack.enter_async_context(owner(log, "two", high))
            rows = {
                "one": (one.address, f"0-{high[0] - 1}"),
                "two": (two.address, f"{high[0]}-{high[-1]}"),
            }
            house = await stack.enter_async_context(face(log, rows, name="one", desk=one.desk))
            one.desk.elsewhere = house.router
            other = await stack.enter_async_context(face(log, rows, name="two", desk=two.desk))
            two.desk.elsewhere = other.router
            yield house.router
            return
        one = await stack.enter_async_context(owner(log))
        if kind == "local":
            yield one.desk
        elif kind == "routed":
            rows = {"one": (one.address, everything)}
            yield (await stack.enter_async_context(face(log, rows, name="one", desk=one.desk))).router
        else:
            yield (await stack.enter_async_context(face(log, {"one": (one.address, everything)}))).router


# --- what tests do -----------------------------------------------------------------------------------------------------------------


def pair(one: str, other: str) -> str:
    """The conversation of two users."""
    return direct_conversation_id("default", one, other)


def pair_in(shard: int, shard_count: int = SHARDS) -> tuple[str, str, str]:
    """(user, user, conversation) of a pair in that shard."""
    for number in range(1_000):
        stream = pair("alice", f"bob{number}")
        if shard_of(stream, shard_count) == shard:
            return "alice", f"bob{number}", stream
    raise AssertionError("no pair found")


def caller(user: str) -> Caller:
    """An authenticated user."""
    return Caller("default", user)


def post(words: str, to: str | None = None, reply_to: int | None = None) -> PostMessage:
    """A send."""
    content = msgspec.Raw(msgspec.json.encode({"kind": "text", "text": words}))
    return PostMessage(client_msg_id=words, content=content, to=to, reply_to=reply_to)


def keyed(scope: str, key: str | None, payload: bytes = b"1") -> Keyed:
    """A key."""
    return Keyed(scope, key, payload)


async def register(port: CommandPort, *users: str) -> None:
    """Make accounts."""
    for user in users:
        await port.execute(caller(user), f"user:{user}", RegisterUser(), Keyed("register", user))


async def open_pair(port: CommandPort, one: str, other: str) -> str:
    """Make both users and open their conversation."""
    await register(port, one, other)
    name = pair(one, other)
    await port.execute(caller(one), name, OpenDirect(peer=other), Keyed("open", name))
    return name


async def until(what: asyncio.Event) -> None:
    """Wait, not for ever."""
    async with asyncio.timeout(WAIT_S):
        await what.wait()
