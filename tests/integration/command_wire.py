"""A wire that can be cut between a face and an owner, and a face that speaks raw messages."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import grpc

from domain.event import Command
from gateways.rpc.encoding import command_bytes
from gateways.rpc.generated import minutebook_pb2 as pb
from gateways.rpc.handshake import FACE, VERSION, Identity, mac, new_incarnation, new_nonce
from gateways.rpc.settings import RpcSettings
from tests.contract.command_house import SECRET

PATH = "/minutebook.rpc.v1.Owner/Commands"
CHUNK = 64 * 1024


class Wire:
    """A TCP proxy. `mute` drops what the owner says, `cut` breaks every connection, `refuse` takes no new ones."""

    def __init__(self) -> None:
        self.port = 0
        self.target = 0
        self.muted = False
        self.refusing = False
        self.connections = 0
        self._writers: set[asyncio.StreamWriter] = set()
        self._server: asyncio.Server | None = None

    async def open(self, target: int) -> None:
        """Listen, and pass on to the port."""
        self.target = target
        self._server = await asyncio.start_server(self._connected, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]

    async def close(self) -> None:
        """Everything."""
        self.cut()
        if self._server is not None:
            self._server.close()
            await self._server.wait_closed()

    def cut(self) -> None:
        """Break what is there, and speak again on what comes."""
        self.muted = False
        for writer in tuple(self._writers):
            writer.transport.abort()

    @property
    def address(self) -> str:
        """Where a face finds the owner."""
        return f"127.0.0.1:{self.port}"

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        self._writers.add(writer)
        try:
            if self.refusing:
                return
            there, back = await asyncio.open_connection("127.0.0.1", self.target)
            self._writers.add(back)
            async with asyncio.TaskGroup() as group:
                group.create_task(self._pass(reader, back, lambda: False))
                group.create_task(self._pass(there, writer, lambda: self.muted))
            self._writers.discard(back)
            back.close()
        except OSError:
            self.connections += 0  # The owner is away: as a machine that refuses.
        finally:
            self._writers.discard(writer)
            writer.transport.abort()

    async def _pass(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, silent: Callable[[], bool]
    ) -> None:
        try:
            while data := await reader.read(CHUNK):
                if not silent():
                    writer.write(data)
                    await writer.drain()
        except OSError:
            return
        finally:
            writer.transport.abort()


@asynccontextmanager
async def wire(target: int) -> AsyncIterator[Wire]:
    """An open wire."""
    made = Wire()
    await made.open(target)
    try:
        yield made
    finally:
        await made.close()


class RawFace:
    """Speaks whatever a test wants."""

    def __init__(self, channel: grpc.aio.Channel, identity: Identity) -> None:
        method: grpc.aio.StreamStreamMultiCallable[pb.Batch, pb.Answers] = channel.stream_stream(
            PATH,
            request_serializer=pb.Batch.SerializeToString,
            response_deserializer=pb.Answers.FromString,
        )
        self.stream: grpc.aio.StreamStreamCall[pb.Batch, pb.Answers] = method()
        self.hello = pb.Hello(
            node=identity.node,
            incarnation=new_incarnation(),
            link=1,
            nonce=new_nonce(),
            log_id=identity.log_id,
            shard_count=identity.shard_count,
        )

    async def say(self, batch: pb.Batch) -> None:
        """One message."""
        await self.stream.write(batch)

    async def hear(self) -> pb.Answers:
        """The next message."""
        answers: object = await self.stream.read()
        assert isinstance(answers, pb.Answers), "the owner hung up"
        return answers

    async def greet(self, secret: bytes = SECRET, proof: pb.Proof | None = None) -> pb.Proof:
        """The handshake; returns the proof that was given."""
        await self.say(pb.Batch(version=VERSION, hello=self.hello))
        challenge = (await self.hear()).challenge
        given = proof or pb.Proof(mac=mac(secret, FACE, self.hello, challenge))
        await self.say(pb.Batch(version=VERSION, proof=given))
        assert (await self.hear()).WhichOneof("greeting") == "welcome"
        return given

    async def ended(self) -> tuple[grpc.StatusCode, str]:
        """How the owner ended the stream."""
        return await self.stream.code(), await self.stream.details() or ""


@asynccontextmanager
async def raw_face(address: str, identity: Identity) -> AsyncIterator[RawFace]:
    """A connected one that has not said anything."""
    async with grpc.aio.insecure_channel(address, options=RpcSettings().options()) as channel:
        yield RawFace(channel, identity)


def packed(
    number: int, name: str, actor: str, command: Command, key: bytes, wait_ms: int = 5_000
) -> pb.Command:
    """A command as a face would pack it."""
    return pb.Command(
        number=number,
        tenant="default",
        actor=actor,
        name=name,
        command=command_bytes(command),
        key=key,
        payload_digest=bytes(16),
        keyed=True,
        wait_ms=wait_ms,
    )
