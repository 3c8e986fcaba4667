"""How a gateway reaches pushers: one stream at a time, to the next one when it breaks."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from functools import partial
from typing import NamedTuple

import grpc
import structlog
from typing_extensions import override

from gateways.push.receiver import Lines, Receiver
from gateways.push.server import PUSH_STREAM, SERVICE
from gateways.push.settings import PushSettings
from gateways.push.upstream import Upstream
from gateways.rpc.channels import BROKEN, ready, reason_of
from gateways.rpc.generated import minutebook_pb2 as base
from gateways.rpc.generated import push_pb2 as pb
from gateways.rpc.handshake import VERSION, HandshakeError
from gateways.rpc.peer import Face

_log = structlog.get_logger(__name__)

Stream = grpc.aio.StreamStreamCall[pb.ToPusher, pb.ToGateway]


class PusherAt(NamedTuple):
    """A pusher: its node's name and where it listens (`host:port`)."""

    node: str
    address: str


class PushLines(Lines):
    """Over gRPC. Gateways begin at different pushers, and stay with one that answers."""

    def __init__(self, face: Face, pushers: Sequence[PusherAt], settings: PushSettings) -> None:
        if not pushers:
            raise ValueError("no pushers")
        self._face = face
        self._pushers = tuple(pushers)
        self._settings = settings
        self._next = face.chance.randrange(len(pushers))
        self._pause_ms = settings.reconnect_first_ms
        self.at: PusherAt | None = None
        """The pusher that is reached."""
        self.problem: str | None = None
        """Why none is."""
        self._broken = ""

    @override
    async def talk(self, receiver: Receiver) -> None:
        pusher = self._pushers[self._next]
        links, began_s = receiver.counters.links, asyncio.get_running_loop().time()
        await self._link(pusher, receiver)
        self.at = None
        # Who lets a gateway in and then hangs up on it at once is not knocked at faster than one who is not there.
        if asyncio.get_running_loop().time() - began_s > self._settings.reconnect_max_ms / 1_000:
            self._pause_ms = self._settings.reconnect_first_ms
        self._next = (self._next + 1) % len(self._pushers)
        if self._next == 0 or len(self._pushers) == 1 or receiver.counters.links == links:
            await asyncio.sleep(self._pause_ms * (0.5 + self._face.chance.random() / 2) / 1_000)
            self._pause_ms = min(self._pause_ms * 2, self._settings.reconnect_max_ms)

    async def _link(self, pusher: PusherAt, receiver: Receiver) -> None:
        channel = self._face.channel(pusher.address)
        try:
            async with asyncio.timeout(self._settings.connect_s):
                stream = await self._connected(channel, pusher)
            self.at, self.problem = pusher, None
            _log.info("reached a pusher", pusher=pusher.node, address=pusher.address)
            await self._talk(stream, receiver)
        except TimeoutError:
            self._failed(pusher, "nobody answers there")
        except HandshakeError as error:
            self._failed(pusher, str(error))
        except BROKEN as error:
            self._failed(pusher, reason_of(error))
        finally:
            await channel.close()

    def _failed(self, pusher: PusherAt, reason: str) -> None:
        if reason != self.problem:
            _log.warning("no pusher", pusher=pusher.node, address=pusher.address, reason=reason)
        self.problem = reason

    async def _connected(self, channel: grpc.aio.Channel, pusher: PusherAt) -> Stream:
        """Raises HandshakeError, AioRpcError."""
        await ready(channel)
        method: grpc.aio.StreamStreamMultiCallable[pb.ToPusher, pb.ToGateway] = channel.stream_stream(
            f"/{SERVICE}/Follow",
            request_serializer=pb.ToPusher.SerializeToString,
            response_deserializer=pb.ToGateway.FromString,
        )
        stream: Stream = method()

        await self._face.introduce(
            pusher.node, PUSH_STREAM, lambda said: stream.write(_asking(said)), partial(_greeting, stream)
        )
        return stream

    async def _talk(self, stream: Stream, receiver: Receiver) -> None:
        """Until it breaks. Raises what broke it."""
        upstream = receiver.opened()
        self._broken = "it has not proved for too long that it has everything"
        try:
            async with asyncio.TaskGroup() as group:
                reader = group.create_task(self._read(stream, receiver, upstream))
                reader.add_done_callback(lambda _: upstream.end())
                await self._write(stream, upstream)
                reader.cancel()
        finally:
            receiver.broken(upstream)
        self._failed(self._pushers[self._next], self._broken)

    async def _read(self, stream: Stream, receiver: Receiver, upstream: Upstream) -> None:
        """What the pusher says, until the stream breaks, or makes no sense."""
        while True:
            try:
                message = await stream.read()
                if not isinstance(message, pb.ToGateway):
                    self._broken = "the pusher hung up"
                    return
                await receiver.take(upstream, message)
            except BROKEN as error:
                self._broken = reason_of(error)
                return
            except Exception as error:  # noqa: BLE001 - nothing is lost: the next stream begins behind what came
                self._broken = f"{type(error).__name__}: {error}"
                return

    async def _write(self, stream: Stream, upstream: Upstream) -> None:
        """What the gateway wants to say, until the stream ends."""
        loop = asyncio.get_running_loop()
        due = 0.0
        while not upstream.ended:
            await upstream.woken()
            delay = due - loop.time()
            if delay > 0:
                await asyncio.sleep(delay)
            due = loop.time() + self._settings.pace_ms / 1_000
            while (message := upstream.message()) is not None:
                try:
                    await stream.write(message)
                except BROKEN as error:
                    self._broken = reason_of(error)
                    return


def _asking(said: base.Hello | base.Proof) -> pb.ToPusher:
    if isinstance(said, base.Hello):
        return pb.ToPusher(version=VERSION, hello=said)
    return pb.ToPusher(version=VERSION, proof=said)


async def _greeting(stream: Stream, wanted: str) -> pb.ToGateway:
    message = await stream.read()
    if not isinstance(message, pb.ToGateway):
        raise HandshakeError("hung up in the handshake")
    if message.version != VERSION or message.WhichOneof("greeting") != wanted or message.number:
        raise HandshakeError(f"expected {wanted} of version {VERSION}")
    return message
