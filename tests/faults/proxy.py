"""A TCP proxy that stands between two processes and is told at any moment to be slow, deaf, or gone.

What TCP promises it keeps: a byte that went in comes out later, in order, or never, and then neither does anything behind it.
"""

from __future__ import annotations

import asyncio
import socket
import struct
from collections.abc import Callable
from contextlib import suppress
from enum import Enum, auto
from typing import Self

from commands.tasks import TaskOwner
from tests.faults.waiting import pause

HOST = "127.0.0.1"
CHUNK_BYTES_MAX = 64 * 1024
CHUNKS_HELD_MAX = 64
"""Of one connection and direction; a sender beyond it is held back by TCP itself."""
CONNECTIONS_MAX = 256
CONNECT_S_MAX = 5.0
LATENCY_STEP_S = 0.05
"""How soon a release is noticed by what is late."""
_RESET_ON_CLOSE = struct.pack("ii", 1, 0)


class Direction(Enum):
    """Which way bytes go."""

    TO_SERVER = auto()
    TO_CLIENT = auto()


class _Gate:
    """Whether bytes of one direction pass. Those that do not are kept, so that one way can be a black hole while the other is not."""

    def __init__(self) -> None:
        self.opened = asyncio.Event()
        self.opened.set()
        self.latency_s = 0.0
        self.passed_bytes = 0
        self.held_bytes = 0
        """What came in and has not gone out, over all connections."""


class Proxy:
    """Listens on a port of its own and hands everything on to `server`. `async with` starts it and ends it.

    New connections meet what was ordered before they came.
    """

    def __init__(self, server: tuple[str, int]) -> None:
        self._server = server
        self._gates = {direction: _Gate() for direction in Direction}
        self._links: set[_Link] = set()
        self._tasks = TaskOwner("proxy", CONNECTIONS_MAX)
        self._listener: asyncio.Server | None = None
        self.port = 0
        self.refused = 0
        """Connections that were turned away: too many at once."""

    async def __aenter__(self) -> Self:
        await self.listen()
        return self

    async def __aexit__(self, *_exc: object) -> None:
        await self.close()

    @property
    def address(self) -> str:
        """`host:port`, the same for life."""
        return f"{HOST}:{self.port}"

    @property
    def connections(self) -> int:
        """How many there are now."""
        return len(self._links)

    def passed_bytes(self, direction: Direction) -> int:
        """What went through since the beginning."""
        return self._gates[direction].passed_bytes

    def held_bytes(self, direction: Direction) -> int:
        """What is kept back now, because of a hold or a latency."""
        return self._gates[direction].held_bytes

    async def listen(self) -> None:
        """Take connections (again, on the same port)."""
        if self._listener is None:
            self._listener = await asyncio.start_server(
                self._accept, HOST, self.port, limit=CHUNK_BYTES_MAX, reuse_address=True
            )
            self.port = self._listener.sockets[0].getsockname()[1]

    def refuse(self) -> None:
        """Take no more connections: whoever comes is refused by the system. Those that stand go on."""
        listener, self._listener = self._listener, None
        if listener is not None:
            listener.close()

    def delay(self, seconds: float, *directions: Direction) -> None:
        """Every byte that comes from now on takes so much longer (both ways, unless named)."""
        for direction in directions or tuple(Direction):
            self._gates[direction].latency_s = seconds

    def hold(self, *directions: Direction) -> None:
        """Let nothing pass any more (both ways, unless named); both ends believe that the connection stands."""
        for direction in directions or tuple(Direction):
            self._gates[direction].opened.clear()

    def release(self) -> None:
        """Let pass what was held, at full speed."""
        for gate in self._gates.values():
            gate.latency_s = 0.0
            gate.opened.set()

    def cut(self) -> None:
        """End all connections in order (FIN); what was held is lost."""
        for link in tuple(self._links):
            link.end(reset=False)

    def reset(self) -> None:
        """End all connections by RST; what was held is lost."""
        for link in tuple(self._links):
            link.end(reset=True)

    async def close(self) -> None:
        """End everything. Idempotent."""
        self.refuse()
        self.reset()
        await self._tasks.close()

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self._tasks.full:
            self.refused += 1
            writer.transport.abort()
            return
        link = _Link(reader, writer, self._gates)
        self._links.add(link)
        self._tasks.start(link.run(self._server, lambda: self._links.discard(link)))


class _Link:
    """One connection, and the one behind it."""

    def __init__(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        gates: dict[Direction, _Gate],
    ) -> None:
        self._reader = reader
        self._writers = [writer]
        self._gates = gates
        self._ended = asyncio.Event()

    def end(self, *, reset: bool) -> None:
        for writer in self._writers:
            if reset:
                end = writer.get_extra_info("socket")
                if end is not None:  # Else it ended by itself.
                    with suppress(OSError, ValueError):  # It may end in this moment.
                        end.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_ON_CLOSE)
                writer.transport.abort()
            else:
                writer.close()
        self._ended.set()

    async def run(self, server: tuple[str, int], done: Callable[[], None]) -> None:
        try:
            async with asyncio.timeout(CONNECT_S_MAX):
                reader, writer = await asyncio.open_connection(*server, limit=CHUNK_BYTES_MAX)
            self._writers.append(writer)
            if not self._ended.is_set():
                await self._carry(reader, writer)
        except (
            OSError
        ):  # Also TimeoutError: nobody is there, and the client is told by the end of its connection.
            self.end(reset=True)
        finally:
            self.end(reset=False)
            done()

    async def _carry(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        ways = (
            _Way(self._reader, writer, self._gates[Direction.TO_SERVER]),
            _Way(reader, self._writers[0], self._gates[Direction.TO_CLIENT]),
        )
        try:
            async with asyncio.TaskGroup() as tasks:
                both = [tasks.create_task(way.run()) for way in ways]
                ended = tasks.create_task(self._ended.wait())
                # One way may end before the other does; the connection ends when both have, or when it is told to.
                await asyncio.wait(
                    [tasks.create_task(_all(both)), ended], return_when=asyncio.FIRST_COMPLETED
                )
                for task in (*both, ended):
                    task.cancel()
        except* OSError:
            self.end(reset=True)


async def _all(tasks: list[asyncio.Task[None]]) -> None:
    await asyncio.wait(tasks)


class _Way:
    """One direction of a connection: chunks with the time at which they are due, and None for the end."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, gate: _Gate) -> None:
        self._reader = reader
        self._writer = writer
        self._gate = gate
        self._chunks: asyncio.Queue[tuple[float, bytes]] = asyncio.Queue(CHUNKS_HELD_MAX)
        self._held_bytes = 0

    async def run(self) -> None:
        try:
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(self._take())
                tasks.create_task(self._give())
        except* OSError as errors:
            raise ConnectionError("one end is gone") from errors
        finally:
            self._gate.held_bytes -= self._held_bytes

    async def _take(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            chunk = await self._reader.read(CHUNK_BYTES_MAX)
            self._count(len(chunk))
            await self._chunks.put((loop.time() + self._gate.latency_s, chunk))
            if not chunk:
                return

    async def _give(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            due, chunk = await self._chunks.get()
            while (left_s := due - loop.time()) > 0 and self._gate.latency_s > 0:
                await pause(min(left_s, LATENCY_STEP_S))
            await self._gate.opened.wait()
            if self._writer.transport.is_closing():
                raise ConnectionError("the other end is gone")
            if not chunk:
                self._writer.write_eof()
                return
            self._writer.write(chunk)
            await self._writer.drain()
            self._gate.passed_bytes += len(chunk)
            self._count(-len(chunk))

    def _count(self, held_bytes: int) -> None:
        self._held_bytes += held_bytes
        self._gate.held_bytes += held_bytes
