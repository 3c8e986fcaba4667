"""The pusher's server: gateways say over one stream each what they want, and are sent it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from functools import partial
from typing import Any

import grpc
import structlog

from gateways.push.exchange import Exchange
from gateways.push.outbox import Outbox
from gateways.push.settings import PushSettings
from gateways.rpc.door import Door, listen_at
from gateways.rpc.generated import minutebook_pb2 as base
from gateways.rpc.generated import push_pb2 as pb
from gateways.rpc.handshake import (
    VERSION,
    HandshakeError,
    Identity,
    Proofs,
    admit,
)
from gateways.rpc.settings import RpcSettings, Tls, checked_secret

_log = structlog.get_logger(__name__)

SERVICE = "minutebook.push.v1.Push"
PUSH_STREAM = Proofs(asking=b"push gateway", asked=b"push pusher")
AGE_MS_MAX = 2**32 - 1
Context = grpc.aio.ServicerContext[pb.ToPusher, pb.ToGateway]


class PushServer:
    """Serves gateways from `start` to `close`. `age_s`: for how long the exchange may have missed something of the record."""

    def __init__(
        self,
        *,
        exchange: Exchange,
        age_s: Callable[[], float],
        identity: Identity,
        secret: bytes,
        settings: PushSettings,
        wire: RpcSettings,
        tls: Tls | None = None,
    ) -> None:
        self._exchange = exchange
        self._age_s = age_s
        self._identity = identity
        self._secret = checked_secret(secret)
        self._settings = settings
        self._wire = wire
        self._tls = tls
        self._outboxes: dict[Outbox, None] = {}
        self._door = Door(("gateway", "gateways"), wire.strangers, settings.connect_s)
        self._stopping = False
        self._server: grpc.aio.Server | None = None

    async def start(self, address: str) -> int:
        """Listen at `host:port`; returns the port (0: any free one). Raises OSError if it is taken."""
        server = self._server = grpc.aio.server(options=self._wire.options())
        handlers: dict[str, grpc.RpcMethodHandler[Any, Any]] = {
            "Follow": grpc.stream_stream_rpc_method_handler(
                self._follow,
                request_deserializer=pb.ToPusher.FromString,
                response_serializer=pb.ToGateway.SerializeToString,
            ),
        }
        server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(SERVICE, handlers),))
        try:
            port = listen_at(server, address, self._tls)
        except RuntimeError as error:
            raise OSError(f"cannot listen at {address} for gateways") from error
        await server.start()
        return port

    async def close(self) -> None:
        """Hang up on everybody. Idempotent."""
        if self._stopping or self._server is None:
            return
        self._stopping = True
        for outbox in self._outboxes:
            outbox.end("this pusher stops")
        await self._server.stop(self._wire.drain_s)

    # --- a stream ----------------------------------------------------------------------------------------------------------------

    async def _follow(self, requests: object, context: Context) -> None:
        """One stream, from its handshake to its end. Whatever is wrong with it ends it alone, with a reason."""
        try:
            outbox = await self._greeted(context)
        except HandshakeError as error:
            self._exchange.counters.refused += 1
            self._door.log_refusal(context.peer(), str(error))
            await context.abort(grpc.StatusCode.UNAUTHENTICATED, str(error))
        self._outboxes[outbox] = None
        self._exchange.enter(outbox)
        _log.info("gateway connected", gateway=outbox.node)
        try:
            async with asyncio.TaskGroup() as group:
                reader = group.create_task(self._read(outbox, context))
                await self._write(outbox, context)
                reader.cancel()
        finally:
            del self._outboxes[outbox]
            self._exchange.leave(outbox)
            outbox.end("gone")
        _log.info("gateway gone", gateway=outbox.node, reason=outbox.reason)
        await context.abort(grpc.StatusCode.UNAVAILABLE, outbox.reason or "gone")

    async def _greeted(self, context: Context) -> Outbox:
        """Raises HandshakeError."""
        full = self._stopping or len(self._outboxes) >= self._settings.links
        return await self._door.admit(partial(self._greet, context), full=full)

    async def _greet(self, context: Context) -> Outbox:
        hello = await admit(
            self._identity,
            self._secret,
            PUSH_STREAM,
            lambda said: context.write(_asked(said)),
            partial(_greeting, context),
        )
        return Outbox(hello.node, self._settings, self._exchange.counters)

    async def _read(self, outbox: Outbox, context: Context) -> None:
        """Take what the gateway says until it has no more to say, or says something wrong."""
        while not outbox.ended:
            message: object = await context.read()
            if not isinstance(message, pb.ToPusher):
                outbox.end("the gateway hung up")
                return
            if message.version != VERSION:
                outbox.end(f"this node speaks version {VERSION}")
                return
            self._take(outbox, message)

    def _take(self, outbox: Outbox, message: pb.ToPusher) -> None:
        exchange = self._exchange
        exchange.want(outbox, message.want)
        exchange.unwant(outbox, message.unwant, message.seen)
        if len(outbox.streams) > self._settings.streams_max:
            outbox.end("the gateway wants too much")
            return
        if message.number:
            exchange.confirm(outbox, message.number)
        if message.probe:
            age_ms = min(self._age_s() * 1_000, AGE_MS_MAX)
            outbox.echo(message.probe, int(age_ms))
        for hint in message.hints:
            exchange.hint(outbox, hint)

    async def _write(self, outbox: Outbox, context: Context) -> None:
        """Messages, at a steady pace, until the stream is to end."""
        loop = asyncio.get_running_loop()
        due = 0.0
        while True:
            await outbox.woken()
            delay = due - loop.time()
            if delay > 0 and not outbox.ended:
                await asyncio.sleep(delay)
            due = loop.time() + self._settings.pace_ms / 1_000
            while not outbox.ended and (message := outbox.message()) is not None:
                await context.write(message)
            if outbox.ended:
                return


def _asked(said: base.Challenge | base.Welcome) -> pb.ToGateway:
    if isinstance(said, base.Challenge):
        return pb.ToGateway(version=VERSION, challenge=said)
    return pb.ToGateway(version=VERSION, welcome=said)


async def _greeting(context: Context, wanted: str) -> pb.ToPusher:
    """The next message of a handshake. Raises HandshakeError for any other."""
    message: object = await context.read()
    if not isinstance(message, pb.ToPusher):
        raise HandshakeError("hung up in the handshake")
    if message.version != VERSION:
        raise HandshakeError(f"this node speaks version {VERSION}")
    if message.WhichOneof("greeting") != wanted or message.number or message.probe:
        raise HandshakeError(f"expected {wanted}, and nothing else")
    return message
