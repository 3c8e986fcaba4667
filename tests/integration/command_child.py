"""The owner process of the command stream's crash tests. Not a test.

`LOG PORT KILL_AFTER NAME`: as NAME own every shard of the SQLite log, serve faces at the port (0: any free one), print
the port, and kill this very process as soon as KILL_AFTER commits are durable (0: never): after the flush, before any
answer of it.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import Sequence

from eventlog.record import Committed
from eventlog.sqlite import SqliteLog
from tests.contract.command_house import SHARDS, Owner


async def main(path: str, port: int, kill_after: int, name: str) -> None:
    """Until stdin ends, or the end that is asked for."""
    log = await SqliteLog.open(path, SHARDS)
    one = Owner(log, name)
    await one.node.open()
    seen = 0

    def count(batch: Sequence[Committed]) -> None:
        nonlocal seen
        seen += len(batch)
        if 0 < kill_after <= seen:
            os.kill(os.getpid(), signal.SIGKILL)

    one.bus.follow(count)
    await one.serve(port=port)
    os.write(1, b"%d\n" % one.port)
    reader = asyncio.StreamReader()
    await asyncio.get_running_loop().connect_read_pipe(
        lambda: asyncio.StreamReaderProtocol(reader), sys.stdin
    )
    await reader.read()
    await one.close()
    await log.close()


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), sys.argv[4]))
