"""The other process of `bench.command_stream`: an owner over a log in memory, and a bare echo. Prints one JSON line, ends with its stdin."""

from __future__ import annotations

import asyncio
import json
import os
import sys
import time
from collections.abc import AsyncIterator, Sequence

import grpc
import uvloop

from commands.desk import Desk
from commands.node import Node
from commands.settings import NodeSettings
from domain.aggregates import EVENT_CLASSES
from domain.event import Message, Place, Written
from eventlog.bus import Bus
from eventlog.codec import EventCodec
from eventlog.memory import MemoryLog
from eventlog.registry import Registry
from eventlog.sealing import PlainSealing
from gateways.rpc.handshake import Identity
from gateways.rpc.server import CommandServer
from gateways.rpc.settings import RpcSettings

SHARDS = 64
LOG_ID = "bench"
SECRET = b"a secret for measurements"
PAYLOAD_SECRET = bytes(32)
ECHO_PATH = "/bench.Echo/Echo"


class NoTimeline:
    """A read side without anything old."""

    async def older_message(self, stream: str, seq: int) -> Message | None:
        """None."""
        return None

    async def unseen(self, tenant: str, user_id: str, places: Sequence[Place]) -> frozenset[Place]:
        """None of them."""
        return frozenset()

    async def written(self, stream: str, seq: int) -> Written | None:
        """Nothing."""
        return None


def codec() -> EventCodec:
    """As every node has it."""
    return EventCodec(Registry(EVENT_CLASSES), PlainSealing())


async def open_desk(name: str) -> tuple[Node, Desk, Bus]:
    """A node that owns every shard of a new log in memory, and its desk."""
    bus = Bus()
    node = Node(
        MemoryLog(LOG_ID, SHARDS),
        codec(),
        bus,
        lambda: time.time_ns() // 1_000_000,
        NodeSettings(),
        name=name,
    )
    await node.open()
    return node, Desk(node, PAYLOAD_SECRET, NoTimeline()), bus


async def _echo(requests: AsyncIterator[bytes], _context: object) -> AsyncIterator[bytes]:
    async for request in requests:
        yield request


async def open_echo() -> tuple[grpc.aio.Server, int]:
    """A server that gives every message back."""
    server = grpc.aio.server()
    handler: grpc.RpcMethodHandler[bytes, bytes] = grpc.stream_stream_rpc_method_handler(_echo)
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("bench.Echo", {"Echo": handler}),))
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    return server, port


async def _main() -> None:
    node, desk, bus = await open_desk("owner")
    server = CommandServer(
        desk=desk,
        bus=bus,
        identity=Identity("owner", LOG_ID, SHARDS),
        secret=SECRET,
        settings=RpcSettings(),
    )
    port = await server.start("127.0.0.1:0")
    echo, echo_port = await open_echo()
    print(json.dumps({"pid": os.getpid(), "port": port, "echo_port": echo_port}), flush=True)
    reader = asyncio.StreamReader()
    await asyncio.get_running_loop().connect_read_pipe(
        lambda: asyncio.StreamReaderProtocol(reader), sys.stdin
    )
    await reader.read()
    await server.close()
    await echo.stop(0)
    await desk.close()
    await node.close()


if __name__ == "__main__":
    uvloop.run(_main())
