"""The proxy does to a connection what it is told, and keeps what TCP promises."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from tests.faults.proxy import CHUNK_BYTES_MAX, CHUNKS_HELD_MAX, HOST, Direction, Proxy

WAIT_S = 10.0


class Echo:
    """A server that answers every line with itself, and writes down what came."""

    def __init__(self) -> None:
        self.heard: list[bytes] = []
        self.changed = asyncio.Event()
        self.errors: list[type[Exception]] = []

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while line := await reader.readline():
                self.heard.append(line)
                self.changed.set()
                writer.write(line)
                await writer.drain()
        except ConnectionError as error:
            self.errors.append(type(error))
        self.changed.set()
        writer.close()

    async def until(self, count: int) -> None:
        async with asyncio.timeout(WAIT_S):
            while len(self.heard) < count:
                self.changed.clear()
                await self.changed.wait()


@asynccontextmanager
async def open_proxy() -> AsyncIterator[tuple[Proxy, Echo]]:
    echo = Echo()
    server = await asyncio.start_server(echo.serve, HOST, 0, limit=CHUNK_BYTES_MAX)
    async with Proxy((HOST, server.sockets[0].getsockname()[1])) as proxy:
        yield proxy, echo
    server.close()


async def connect(proxy: Proxy) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    return await asyncio.open_connection(HOST, proxy.port)


async def line_of(reader: asyncio.StreamReader) -> bytes:
    async with asyncio.timeout(WAIT_S):
        return await reader.readline()


async def test_bytes_pass_both_ways_and_ends_too() -> None:
    async with open_proxy() as (proxy, echo):
        reader, writer = await connect(proxy)
        writer.write(b"one\n")
        assert await line_of(reader) == b"one\n"
        writer.write_eof()
        assert await line_of(reader) == b""
        assert echo.heard == [b"one\n"]
        assert proxy.passed_bytes(Direction.TO_SERVER) == proxy.passed_bytes(Direction.TO_CLIENT) == 4
        writer.close()


async def test_one_way_is_held_while_the_other_passes() -> None:
    async with open_proxy() as (proxy, echo):
        reader, writer = await connect(proxy)
        proxy.hold(Direction.TO_CLIENT)
        writer.write(b"one\ntwo\n")
        await echo.until(2)
        async with asyncio.TaskGroup() as tasks:
            answer = tasks.create_task(line_of(reader))
            await asyncio.sleep(0)
            assert not answer.done()
            proxy.release()
        assert answer.result() == b"one\n"
        assert await line_of(reader) == b"two\n"
        assert proxy.held_bytes(Direction.TO_CLIENT) == 0
        writer.close()


@pytest.mark.parametrize("reset", [False, True])
async def test_a_held_answer_never_comes_once_the_connection_ended(reset: bool) -> None:
    async with open_proxy() as (proxy, echo):
        reader, writer = await connect(proxy)
        proxy.hold(Direction.TO_CLIENT)
        writer.write(b"one\n")
        await echo.until(1)
        if reset:
            proxy.reset()
            with pytest.raises(ConnectionResetError):
                await line_of(reader)
        else:
            proxy.cut()
            assert await line_of(reader) == b""
        proxy.release()
        again, writer_again = await connect(proxy)
        writer_again.write(b"two\n")
        assert await line_of(again) == b"two\n"
        writer.close()
        writer_again.close()


async def test_a_refused_connection_is_refused_until_it_listens_again() -> None:
    async with open_proxy() as (proxy, _):
        port = proxy.port
        proxy.refuse()
        with pytest.raises(ConnectionRefusedError):
            await connect(proxy)
        await proxy.listen()
        assert proxy.port == port
        reader, writer = await connect(proxy)
        writer.write(b"one\n")
        assert await line_of(reader) == b"one\n"
        writer.close()


async def test_a_latency_delays_every_byte_once() -> None:
    async with open_proxy() as (proxy, _):
        reader, writer = await connect(proxy)
        loop = asyncio.get_running_loop()
        proxy.delay(0.05)
        begun = loop.time()
        for number in range(5):
            writer.write(b"%d\n" % number)
            await writer.drain()
        for number in range(5):
            assert await line_of(reader) == b"%d\n" % number
        assert 0.1 <= loop.time() - begun < 5 * 0.1 + WAIT_S
        writer.close()


async def write_for_ever(writer: asyncio.StreamWriter, line: bytes) -> None:
    async with asyncio.timeout(0.2):
        while True:
            writer.write(line)
            await writer.drain()


async def test_a_proxy_keeps_no_more_than_its_bound() -> None:
    async with open_proxy() as (proxy, _):
        _, writer = await connect(proxy)
        proxy.hold(Direction.TO_SERVER)
        writer.transport.set_write_buffer_limits(high=CHUNK_BYTES_MAX)
        line = b"x" * (CHUNK_BYTES_MAX // 2 - 1) + b"\n"
        with pytest.raises(TimeoutError):
            await write_for_ever(writer, line)
        assert 0 < proxy.held_bytes(Direction.TO_SERVER) <= (CHUNKS_HELD_MAX + 2) * CHUNK_BYTES_MAX
        writer.transport.abort()


async def test_a_server_that_is_away_ends_the_connection() -> None:
    async with open_proxy() as (proxy, _):
        unused = proxy.port
    async with Proxy((HOST, unused)) as proxy:
        reader, writer = await connect(proxy)
        with pytest.raises(ConnectionResetError):
            await line_of(reader)
        writer.close()
        assert proxy.connections == 0
