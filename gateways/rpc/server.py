"""The owner's side of the command stream: a gRPC server that hands batches to the desk and gathers the answers."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import grpc
import structlog

from commands.desk import Desk
from commands.looks import answer_look
from commands.port import share_of
from commands.shards import leaving
from commands.tasks import TaskOwner
from domain.aggregates import State
from domain.errors import Problem
from domain.streams import qualified, shard_of
from eventlog.bus import Bus
from eventlog.record import Committed
from gateways.rpc.counters import ServerCounters
from gateways.rpc.door import Door, listen_at
from gateways.rpc.encoding import Result, look_of, order_of, packed_state
from gateways.rpc.generated import minutebook_pb2 as pb
from gateways.rpc.handshake import (
    COMMAND_STREAM,
    VERSION,
    HandshakeError,
    Identity,
    admit,
)
from gateways.rpc.link import Link
from gateways.rpc.settings import RpcSettings, Tls, checked_secret

_log = structlog.get_logger(__name__)

SERVICE = "minutebook.rpc.v1.Owner"
_FAILED = Problem("unavailable", "something went wrong here", retry_after_ms=1_000)
_BUSY = Problem("overloaded", "too many requests are waiting; try again", retry_after_ms=250)
Context = grpc.aio.ServicerContext[pb.Batch, pb.Answers]


class CommandServer:
    """Serves faces from `start` to `close`. `close` comes before the desk's, and faces hear everything that was under way."""

    def __init__(
        self,
        *,
        desk: Desk,
        bus: Bus,
        identity: Identity,
        secret: bytes,
        settings: RpcSettings,
        tls: Tls | None = None,
    ) -> None:
        self._desk = desk
        self._bus = bus
        self._identity = identity
        self._secret = checked_secret(secret)
        self._settings = settings
        self._tls = tls
        self._links: dict[Link, None] = {}
        self._door = Door(("node", "links"), settings.strangers, settings.connect_s)
        self._looks = TaskOwner("looks", settings.looks)
        self._stopping = False
        self._server: grpc.aio.Server | None = None
        self._unfollow: Callable[[], None] | None = None
        self.counters = ServerCounters()

    async def start(self, address: str) -> int:
        """Listen at `host:port`; returns the port (0: any free one). Raises OSError if it is taken."""
        server = self._server = grpc.aio.server(options=self._settings.options())
        handlers: dict[str, grpc.RpcMethodHandler[Any, Any]] = {
            "Commands": grpc.stream_stream_rpc_method_handler(
                self._commands,
                request_deserializer=pb.Batch.FromString,
                response_serializer=pb.Answers.SerializeToString,
            ),
            "WhoAmI": grpc.unary_unary_rpc_method_handler(
                self._who_am_i,
                request_deserializer=pb.WhoAmIRequest.FromString,
                response_serializer=pb.WhoAmIReply.SerializeToString,
            ),
        }
        server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(SERVICE, handlers),))
        try:
            port = listen_at(server, address, self._tls)
        except RuntimeError as error:
            raise OSError(
                f"cannot listen at {address} for other nodes: if another process does, stop it, or mend cluster.owners or cluster.listen"
            ) from error
        await server.start()
        self._unfollow = self._bus.follow(self._follow)
        return port

    async def close(self) -> None:
        """Refuse new commands, answer those under way within `drain_s`, and hang up. Idempotent."""
        if self._stopping or self._server is None:
            return
        self._stopping = True
        if self._unfollow is not None:
            self._unfollow()
        for link in self._links:
            link.leave()
        await self._server.stop(self._settings.drain_s)
        await self._looks.close()

    @property
    def links(self) -> Sequence[str]:
        """The ids of the nodes that are connected, one for each link."""
        return [link.node for link in self._links]

    @property
    def in_flight(self) -> int:
        """Commands and looks of all faces that are not answered."""
        return sum(link.in_flight for link in self._links)

    def _follow(self, batch: Sequence[Committed]) -> None:
        if self._links:
            heads = {committed.commit.shard: committed.commit.position for committed in batch}
            for link in self._links:
                link.heads_moved(heads)

    async def _who_am_i(self, request: pb.WhoAmIRequest, context: object) -> pb.WhoAmIReply:
        return pb.WhoAmIReply(version=VERSION, node=self._identity.node, serving=not self._stopping)

    # --- a stream ----------------------------------------------------------------------------------------------------------------

    async def _commands(self, requests: object, context: Context) -> None:
        """One stream, from its handshake to its end. Whatever is wrong with it ends it alone, with a reason."""
        try:
            link = await self._greeted(context)
            self._enter(link)
        except HandshakeError as error:
            self.counters.refused += 1
            self._door.log_refusal(context.peer(), str(error))
            await context.abort(grpc.StatusCode.UNAUTHENTICATED, str(error))
        try:
            reason = await self._serve(link, context)
        finally:
            link.close()
            del self._links[link]
        if reason is not None:
            _log.warning("link ended", peer=link.node, reason=reason)
            await context.abort(grpc.StatusCode.INVALID_ARGUMENT, reason)

    def _enter(self, link: Link) -> None:
        """List the link, and read no older one of the same process any more. Raises HandshakeError if this is the older one.

        What an older link still carries was sent again on the newer one: done later than that, it could happen after its refusal.
        """
        siblings = [other for other in self._links if other.incarnation == link.incarnation]
        if any(other.number >= link.number for other in siblings):
            raise HandshakeError("a newer link of this process is there already")
        for other in siblings:
            other.close()
        self._links[link] = None

    async def _serve(self, link: Link, context: Context) -> str | None:
        """Until the face has hung up or was told everything; returns what was wrong with what it sent."""
        async with asyncio.TaskGroup() as group:
            reader = group.create_task(self._read(link, context))
            await self._write(link, context)
            reader.cancel()
        return link.reason

    async def _greeted(self, context: Context) -> Link:
        """The handshake. Raises HandshakeError."""
        full = self._stopping or len(self._links) >= self._settings.links
        return await self._door.admit(partial(self._greet, context), full=full)

    async def _greet(self, context: Context) -> Link:
        hello = await admit(
            self._identity,
            self._secret,
            COMMAND_STREAM,
            lambda said: context.write(_asked(said)),
            partial(_greeting, context),
        )
        return Link(hello.node, hello.incarnation, hello.link, self._desk.head_positions(), self._settings)

    async def _read(self, link: Link, context: Context) -> None:
        """Take batches until the face has no more, or one is wrong."""
        while True:
            await link.room()
            batch: object = await context.read()
            if not isinstance(batch, pb.Batch):
                link.end()
                return
            link.reason = self._wrong(batch)
            if link.closed or link.reason is not None:
                link.close()
                return
            self._take(link, batch)

    def _wrong(self, batch: pb.Batch) -> str | None:
        if batch.version != VERSION:
            return f"this node speaks version {VERSION}"
        if len(batch.commands) + len(batch.looks) > self._settings.batch_commands:
            return f"a batch has at most {self._settings.batch_commands} commands"
        return None

    async def _write(self, link: Link, context: Context) -> None:
        while True:
            await link.woken()
            if link.closed:
                return
            while (message := link.message()) is not None:
                await context.write(message)
            if link.ending and not link.in_flight:
                return

    # --- what is asked -----------------------------------------------------------------------------------------------------------

    def _take(self, link: Link, batch: pb.Batch) -> None:
        """Hand a whole batch to the desk, in its order, without a pause between."""
        now = asyncio.get_running_loop().time()
        self.counters.looks += len(batch.looks)
        if batch.commands:
            self.counters.batch_commands.add(len(batch.commands))
        for command in batch.commands:
            size = len(command.command)
            link.took(size)
            done = partial(link.answer, command.number, size)
            if self._stopping:
                done(self._leaving(command.tenant, command.name))
            else:
                self._hand_in(command, now, done)
        for look in batch.looks:
            link.took(0)
            self._look(look, partial(link.answer, look.number, 0))

    def _leaving(self, tenant: str, name: str) -> Problem:
        return leaving(shard_of(qualified(tenant, name), self._identity.shard_count))

    def _hand_in(self, command: pb.Command, now: float, done: Callable[[Result], None]) -> None:
        try:
            order = order_of(command, now, done)
        except Problem as problem:
            done(problem)
            return
        try:
            self._desk.hand_in(order)
        except Exception as error:  # noqa: BLE001 - a command that breaks the desk ends alone
            _log.error("command failed", kind=type(order.command).__name__, error=type(error).__name__)
            order.answer(_FAILED)

    def _look(self, packed: pb.Look, done: Callable[[Result], None]) -> None:
        if self._looks.full:
            done(_BUSY)
        else:
            self._looks.start(self._looked(packed, done))

    async def _looked(self, packed: pb.Look, done: Callable[[Result], None]) -> None:
        try:
            look = look_of(packed)
            result = await answer_look(self._desk, look)
            if isinstance(result, State):
                done(packed_state(share_of(result, look.user_id), self._settings.look_bytes_max))
            else:
                done(result)
        except Problem as problem:
            done(problem)
        except BaseException:
            done(_FAILED)
            raise


def _asked(said: pb.Challenge | pb.Welcome) -> pb.Answers:
    if isinstance(said, pb.Challenge):
        return pb.Answers(version=VERSION, challenge=said)
    return pb.Answers(version=VERSION, welcome=said)


async def _greeting(context: Context, wanted: str) -> pb.Batch:
    """The next message of a handshake. Raises HandshakeError for any other."""
    batch: object = await context.read()
    if not isinstance(batch, pb.Batch):
        raise HandshakeError("hung up in the handshake")
    if batch.version != VERSION:
        raise HandshakeError(f"this node speaks version {VERSION}")
    if batch.WhichOneof("greeting") != wanted or batch.commands or batch.looks:
        raise HandshakeError(f"expected {wanted}, and nothing else")
    return batch
