"""The reference of the fan-out: a process that writes a ready-made frame to every connection, with nothing else around it.

Prints its port and process id; each line on stdin (a number of frames to send and a pause) makes it write that many to all.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys

import uvloop
from typing_extensions import override

FRAME = b"\x81\x7e\x01\x2c" + b"x" * 300


class _Connection(asyncio.Protocol):
    def __init__(self, transports: list[asyncio.Transport]) -> None:
        self._transports = transports

    @override
    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Remember the transport."""
        self._transports.append(transport)  # type: ignore[arg-type]


async def _main() -> None:
    loop = asyncio.get_running_loop()
    transports: list[asyncio.Transport] = []
    server = await loop.create_server(lambda: _Connection(transports), "127.0.0.1", 0)
    print(json.dumps({"port": server.sockets[0].getsockname()[1], "pid": os.getpid()}), flush=True)
    reader = asyncio.StreamReader()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    while line := await reader.readline():
        rounds, pause_s = json.loads(line)
        for _ in range(rounds):
            for transport in transports:
                transport.write(FRAME)
            await asyncio.sleep(pause_s)
        print("done", flush=True)


if __name__ == "__main__":
    uvloop.run(_main())
