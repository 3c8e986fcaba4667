"""The child processes of the log's crash and sync tests. Not a test.

`serve LOG`: for each line on stdin, fork a writer that appends to LOG for ever; stdout gets its acknowledgements and its end.
`sync LOG COUNT ACKS SHADOW EVERY`: append COUNT flushes, write each acknowledgement to the file ACKS, copy SHADOW after every
EVERY of them, and end without closing anything.
"""

from __future__ import annotations

import asyncio
import json
import os
import random
import shutil
import sys

from eventlog import sqlite_writer
from eventlog.sqlite import SqliteLog
from tests.contract.log_samples import SHARD_COUNT, ShardMaker, key_of

Acked = list[tuple[int, int, str]]


async def flush(log: SqliteLog, makers: dict[int, ShardMaker], chance: random.Random) -> Acked:
    """One flush of one to four shards; what was acknowledged."""
    batches = {
        shard: [
            makers[shard].make(f"g_{chance.randrange(50)}", key=key_of(os.urandom(8).hex()))
            for _ in range(chance.randint(1, 3))
        ]
        for shard in chance.sample(range(SHARD_COUNT), chance.randint(1, SHARD_COUNT))
    }
    outcomes = await log.append(batches)
    assert all(outcomes[shard].appended == len(batch) for shard, batch in batches.items()), outcomes
    return [(c.shard, c.position, c.key.hex()) for batch in batches.values() for c in batch]


async def opened(path: str) -> tuple[SqliteLog, dict[int, ShardMaker]]:
    """The log and makers that go on where it ends."""
    log = await SqliteLog.open(path, SHARD_COUNT)
    heads = await log.heads()
    makers = {shard: ShardMaker(shard, log.log_id, head=heads.get(shard)) for shard in range(SHARD_COUNT)}
    for shard, maker in makers.items():
        for number in range(50):
            tail = await log.read_stream_tail(shard, f"g_{number}", 1)
            if tail:
                maker.versions[f"g_{number}"] = tail[0].first_version + tail[0].events_count - 1
    return log, makers


async def write_for_ever(path: str) -> None:
    """Until killed."""
    log, makers = await opened(path)
    chance = random.Random()
    os.write(1, b"[]\n")
    while True:
        acked = await flush(log, makers, chance)
        os.write(1, json.dumps(acked).encode() + b"\n")


def serve(path: str) -> None:
    """Fork a writer per line; this process has no threads, so that forking it is sound and costs no imports.

    Its writers make checkpoints all the time, so that many of the kills meet one.
    """
    sqlite_writer.CHECKPOINT_BUSY_PAGES, sqlite_writer.FINISH_PAGES_MAX, sqlite_writer.WAL_PAGES_MAX = (
        20,
        20,
        100,
    )
    for _ in sys.stdin:
        pid = os.fork()
        if pid == 0:
            try:
                asyncio.run(write_for_ever(path))
            finally:
                os._exit(1)
        os.write(1, b"%d\n" % pid)
        _, status = os.waitpid(pid, 0)
        os.write(1, b"ended %d\n" % os.waitstatus_to_exitcode(status))


async def sync(path: str, count: int, acks: str, shadow: str, every: int) -> None:
    """Append and acknowledge; never closes."""
    log, makers = await opened(path)
    chance = random.Random(7)
    descriptor = os.open(acks, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    for number in range(1, count + 1):
        acked = await flush(log, makers, chance)
        os.write(descriptor, json.dumps(acked).encode() + b"\n")
        if number % every == 0:
            shutil.copytree(shadow, f"{shadow}-{number}")
    os._exit(0)


if __name__ == "__main__":
    if sys.argv[1] == "serve":
        serve(sys.argv[2])
    else:
        asyncio.run(sync(sys.argv[2], int(sys.argv[3]), sys.argv[4], sys.argv[5], int(sys.argv[6])))
