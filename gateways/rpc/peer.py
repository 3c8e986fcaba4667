"""The face's side of the command stream: one long-lived link per owner, made again whenever it breaks."""

from __future__ import annotations

import asyncio
import random
from collections import deque
from collections.abc import Awaitable, Callable, Mapping
from functools import partial

import grpc
import structlog
from typing_extensions import override

from commands.calls import Call, Lost
from commands.looks import Look
from commands.pace import Pace
from commands.peers import Heard, Peer, PeerLostError
from commands.port import Outline
from commands.tasks import TaskOwner
from domain.aggregates import State
from domain.errors import Problem
from eventlog.codec import EventCodec
from gateways.rpc.channels import BROKEN, ready, reason_of
from gateways.rpc.counters import PeerCounters
from gateways.rpc.encoding import Result, command_bytes, pack_call, pack_look, result_of
from gateways.rpc.generated import minutebook_pb2 as pb
from gateways.rpc.handshake import (
    COMMAND_STREAM,
    VERSION,
    Asked,
    HandshakeError,
    Identity,
    Proofs,
    introduce,
    new_nonce,
)
from gateways.rpc.settings import RpcSettings, Tls, checked_secret

_log = structlog.get_logger(__name__)

_PATH = "/minutebook.rpc.v1.Owner/Commands"
_COMMAND_BYTES = 256
"""What a command weighs beside its JSON."""
Stream = grpc.aio.StreamStreamCall[pb.Batch, pb.Answers]
_NOT_SENT = Lost(sent=False)
_SENT = Lost(sent=True)


def _ignore(heads: Mapping[int, int]) -> None:
    """Nobody wants to know yet."""


class Face:
    """What all links of a process have in common."""

    def __init__(
        self,
        *,
        identity: Identity,
        incarnation: bytes,
        secret: bytes,
        codec: EventCodec,
        settings: RpcSettings,
        chance: random.Random,
        tls: Tls | None = None,
    ) -> None:
        self.identity = identity
        self.incarnation = incarnation
        self.secret = checked_secret(secret)
        self.codec = codec
        self.settings = settings
        self.chance = chance
        self.tls = tls
        self.take_heads: Callable[[Mapping[int, int]], None] = _ignore
        """Is told what owners say of their shards' heads; the router's, once there is one."""
        self._links = 0

    async def introduce(
        self,
        node: str,
        proofs: Proofs,
        say: Callable[[pb.Hello | pb.Proof], Awaitable[None]],
        hear: Callable[[str], Awaitable[Asked]],
    ) -> None:
        """Begin a link to a node; their numbers rise over all links of the process. Raises as `handshake.introduce` does."""
        self._links += 1
        hello = pb.Hello(
            node=self.identity.node,
            incarnation=self.incarnation,
            link=self._links,
            nonce=new_nonce(),
            log_id=self.identity.log_id,
            shard_count=self.identity.shard_count,
        )
        await introduce(hello, node, self.secret, proofs, say, hear)

    def channel(self, address: str) -> grpc.aio.Channel:
        """A connection of its own."""
        options = self.settings.options()
        if self.tls is None:
            return grpc.aio.insecure_channel(address, options=options)
        return grpc.aio.secure_channel(address, self.tls.of_channel(), options=options)


class _Asked:
    """A call or a look on its way. `heard` is called once."""

    __slots__ = ("call", "heard", "look", "size")

    def __init__(
        self, heard: Callable[[Result | Lost], None], size: int, call: Call | None, look: Look | None
    ) -> None:
        self.heard = heard
        self.size = size
        self.call = call
        self.look = look


class RpcPeer(Peer):
    """The link to one owner. While there is none and the last try failed, calls come back at once as not sent."""

    def __init__(self, face: Face, node: str, address: str) -> None:
        self.node = node
        self.address = address
        self._face = face
        self._settings = face.settings
        self._outbox: deque[_Asked] = deque()
        self._pending: dict[int, _Asked] = {}
        self._bytes = 0
        self._number = 0
        self._timed = (0, 0.0)
        """The command whose answer is timed, and when it left; number 0: none."""
        self._wake = asyncio.Event()
        self._down = False
        """There is no link, or the owner stops: nothing is sent."""
        self._closed = False
        self._tasks = TaskOwner(f"peer-{node}", 1)
        self._tasks.start(self._run())
        self.up = False
        self.problem: str | None = None
        """Why there is no link."""
        self.counters = PeerCounters()

    async def close(self) -> None:
        """Hang up; what is not answered comes back as lost. Idempotent."""
        self._closed = True
        await self._tasks.close()
        self._lose_all()

    @property
    def waiting(self) -> int:
        """Commands and looks without an answer, sent or not."""
        return len(self._outbox) + len(self._pending)

    # --- in ----------------------------------------------------------------------------------------------------------------------

    @override
    def submit(self, call: Call, heard: Heard) -> None:
        if self._down or self._closed:
            heard(_NOT_SENT)
            return
        if call.encoded is None:
            call.encoded = command_bytes(call.command)
        size = len(call.encoded) + _COMMAND_BYTES
        if size > self._settings.command_bytes_max:
            heard(Problem("too_large", "this is too much for one command"))
        elif self._full(size):
            heard(Problem("overloaded", "too many requests are waiting; try again", retry_after_ms=250))
        else:
            self._enqueue(_Asked(heard, size, call, None))  # type: ignore[arg-type] # an owner answers commands as commands

    @override
    async def look(self, look: Look) -> State | Outline | bool:
        if self._down or self._closed:
            raise PeerLostError
        if self._full(_COMMAND_BYTES):
            raise Problem("overloaded", "too many requests are waiting; try again", retry_after_ms=250)
        outcome: asyncio.Future[Result | Lost] = asyncio.get_running_loop().create_future()

        def heard(result: Result | Lost) -> None:
            if not outcome.done():
                outcome.set_result(result)

        self._enqueue(_Asked(heard, _COMMAND_BYTES, None, look))
        result = await outcome
        if isinstance(result, Lost):
            raise PeerLostError
        if isinstance(result, Problem):
            raise result
        if not isinstance(result, State | Outline | bool):
            raise Problem("unavailable", "the owner answers what was not asked", retry_after_ms=1_000)
        return result

    def _full(self, size: int) -> bool:
        return (
            self.waiting >= self._settings.queue_commands or self._bytes + size > self._settings.queue_bytes
        )

    def _enqueue(self, asked: _Asked) -> None:
        self._bytes += asked.size
        self._outbox.append(asked)
        self._wake.set()

    def _hear(self, asked: _Asked, result: Result | Lost) -> None:
        self._bytes -= asked.size
        asked.heard(result)

    # --- the link ----------------------------------------------------------------------------------------------------------------

    async def _run(self) -> None:
        pause_ms = self._settings.reconnect_first_ms
        while True:
            links = self.counters.links
            await self._link()
            if self.counters.links > links:
                pause_ms = self._settings.reconnect_first_ms
            self._down = True
            self._lose_all()
            await asyncio.sleep(pause_ms * (0.5 + self._face.chance.random() / 2) / 1_000)
            self._down = False
            pause_ms = min(pause_ms * 2, self._settings.reconnect_max_ms)

    async def _link(self) -> None:
        """One link, from its handshake until it breaks."""
        channel = self._face.channel(self.address)
        try:
            stream = await self._connected(channel)
            if stream is not None:
                await self._talk(stream)
        except HandshakeError as error:
            self._failed(str(error))
        except BROKEN as error:
            self._failed(reason_of(error))
        finally:
            self.up = False
            await channel.close()

    def _failed(self, reason: str) -> None:
        if reason != self.problem:
            _log.warning("no link to an owner", owner=self.node, address=self.address, reason=reason)
        self.problem = reason

    async def _connected(self, channel: grpc.aio.Channel) -> Stream | None:
        """Raises HandshakeError, AioRpcError."""
        try:
            async with asyncio.timeout(self._settings.connect_s):
                await ready(channel)
                method: grpc.aio.StreamStreamMultiCallable[pb.Batch, pb.Answers] = channel.stream_stream(
                    _PATH,
                    request_serializer=pb.Batch.SerializeToString,
                    response_deserializer=pb.Answers.FromString,
                )
                stream: Stream = method()
                await self._greet(stream)
                return stream
        except TimeoutError:
            self._failed("nobody answers there")
            return None

    async def _greet(self, stream: Stream) -> None:
        await self._face.introduce(
            self.node, COMMAND_STREAM, lambda said: stream.write(_asking(said)), partial(_greeting, stream)
        )

    async def _talk(self, stream: Stream) -> None:
        self.up = True
        self.problem = None
        self.counters.links += 1
        _log.info("link to an owner", owner=self.node, address=self.address)
        reason = "the owner hung up"
        async with asyncio.TaskGroup() as group:
            writer = group.create_task(self._write(stream))
            try:
                await self._read(stream)
            except HandshakeError as error:
                reason = str(error)
            except BROKEN as error:
                reason = reason_of(error)
            finally:
                writer.cancel()
        self._failed(reason)

    async def _write(self, stream: Stream) -> None:
        """Batches, at a steady pace; ends when the link breaks, which the reader sees too."""
        loop = asyncio.get_running_loop()
        settings = self._settings
        pace = Pace(settings.batch_pace_ms, settings.busy_pace_ms, settings.busy_commands_per_s)
        while True:
            await self._wake.wait()
            self._wake.clear()
            delay = pace.wait_s(loop.time())
            if delay > 0 and not self._down:
                await asyncio.sleep(delay)
            pace.leaves(loop.time(), len(self._outbox))
            try:
                batch = self._batch(loop.time())
                while batch is not None:
                    self.counters.batches += 1
                    await stream.write(batch)
                    # What came meanwhile waits for its time, unless it fills a batch.
                    full = len(self._outbox) >= self._settings.batch_commands
                    batch = self._batch(loop.time()) if full else None
                if self._outbox:
                    self._wake.set()
                if self._down:
                    await stream.done_writing()
                    return
            except BROKEN as error:
                self._failed(reason_of(error))
                return

    def _batch(self, now: float) -> pb.Batch | None:
        """The next batch, None when nothing waits. What is in it counts as sent."""
        batch = pb.Batch(version=VERSION)
        count = size = 0
        while self._outbox and count < self._settings.batch_commands:
            if size and size + self._outbox[0].size > self._settings.batch_bytes:
                break
            asked = self._outbox.popleft()
            if asked.call is not None and asked.call.done is None:
                self._hear(asked, _NOT_SENT)  # Its deadline passed while it waited here.
                continue
            self._number += 1
            self._pending[self._number] = asked
            size += asked.size
            count += 1
            if asked.call is not None:
                asked.call.sent = True
                pack_call(batch, asked.call, self._number, now)
            elif asked.look is not None:
                pack_look(batch, asked.look, self._number)
        self.counters.commands += count
        if count and not self._timed[0]:
            self._timed = self._number, now
        return batch if count else None

    async def _read(self, stream: Stream) -> None:
        """Answers, until the link breaks. Raises AioRpcError."""
        while True:
            answers = await stream.read()
            if not isinstance(answers, pb.Answers):
                return
            if answers.version != VERSION:
                raise HandshakeError(f"the owner speaks version {answers.version}")
            self.counters.messages += 1
            # First what is durable: whoever hears an answer may ask a view at once.
            self._face.take_heads(answers.heads)
            for answer in answers.answers:
                if answer.number == self._timed[0]:
                    self._time_answer()
                asked = self._pending.pop(answer.number, None)
                if asked is not None:
                    self._hear(asked, result_of(answer, self._face.codec))
            if answers.leaving:
                self._down = True
                self._lose_unsent()
                self._wake.set()

    def _time_answer(self) -> None:
        self.counters.answer_seconds.add(asyncio.get_running_loop().time() - self._timed[1])
        self._timed = 0, 0.0

    def _lose_all(self) -> None:
        """No answer will come any more: what was sent may have happened, the rest was never seen."""
        self._timed = 0, 0.0
        pending, self._pending = self._pending, {}
        for asked in pending.values():
            self._hear(asked, _SENT)
        self._lose_unsent()

    def _lose_unsent(self) -> None:
        outbox, self._outbox = self._outbox, deque()
        for asked in outbox:
            self._hear(asked, _NOT_SENT)


def _asking(said: pb.Hello | pb.Proof) -> pb.Batch:
    if isinstance(said, pb.Hello):
        return pb.Batch(version=VERSION, hello=said)
    return pb.Batch(version=VERSION, proof=said)


async def _greeting(stream: Stream, wanted: str) -> pb.Answers:
    answers = await stream.read()
    if not isinstance(answers, pb.Answers):
        raise HandshakeError("hung up in the handshake")
    if answers.version != VERSION or answers.WhichOneof("greeting") != wanted or answers.answers:
        raise HandshakeError(f"expected {wanted} of version {VERSION}")
    return answers
