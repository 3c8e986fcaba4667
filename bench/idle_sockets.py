"""Resident memory of the whole server per idle socket: 2,000 people who said hello and say nothing more.

Everybody is registered and logged in before the first measurement, so that only the sockets are counted, and as many sockets were
opened before: what the start left free in the heap takes the first thousand for nothing. Beside it: bare uvloop connections.
"""

from __future__ import annotations

import argparse
import asyncio
import resource
from collections.abc import Sequence

import uvloop

from bench.harness import Server, bare_writer, greeted, resident_bytes, server, table, tokens
from client.websocket import WebSocket

ROOM = 1_000
"""Open files beside the sockets."""
SETTLE_S = 3.0
AT_ONCE = 50
BYTES_MIN = 100
"""A reference below that grew into what its heap had free: no ratio."""


async def welcomed(running: Server, keys: Sequence[str]) -> list[WebSocket]:
    """Sockets that have said hello and heard their welcome."""
    welcomes = 0
    sockets: list[WebSocket] = []

    def text(frame: bytes) -> None:
        nonlocal welcomes
        welcomes += frame.startswith(b'{"op":"welcome"')

    for number, token in enumerate(keys, 1):
        sockets.append(await greeted(running, token, text))
        while number % AT_ONCE == 0 and welcomes < number:
            await asyncio.sleep(0.01)
    while welcomes < len(keys):
        await asyncio.sleep(0.05)
    await asyncio.sleep(SETTLE_S)
    return sockets


async def whole_server(running: Server, keys: Sequence[str]) -> float:
    """Bytes per socket of the second half."""
    count = len(keys) // 2
    first = await welcomed(running, keys[:count])
    before = running.resident_bytes()
    second = await welcomed(running, keys[count:])
    grown = running.resident_bytes() - before
    for socket in first + second:
        socket.close()
    return grown / len(second)


async def bare(count: int) -> float:
    """Bytes per connection of the reference."""
    async with bare_writer() as writer:
        await writer.connect(count)
        await asyncio.sleep(SETTLE_S / 3)
        before = resident_bytes(writer.pid)
        await writer.connect(count)
        await asyncio.sleep(SETTLE_S / 3)
        return (resident_bytes(writer.pid) - before) / count


async def measure(count: int) -> None:
    """Print the table."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, max(soft, 2 * count + ROOM)), hard))
    reference = await bare(count)
    async with server() as running:
        keys = await tokens(running, [f"idle{number}" for number in range(2 * count)])
        await asyncio.sleep(SETTLE_S)
        ours = await whole_server(running, keys)
    rows = [
        ("bare uvloop connection", f"{reference / 1024:.2f}", "1.00"),
        (
            "socket of the server, everything on",
            f"{ours / 1024:.2f}",
            f"{ours / reference:.2f}" if reference >= BYTES_MIN else "-",
        ),
    ]
    table(f"resident memory of {count} idle sockets", ("what", "KiB a socket", "ratio"), rows)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sockets", type=int, default=2_000)
    uvloop.run(measure(parser.parse_args().sockets))
