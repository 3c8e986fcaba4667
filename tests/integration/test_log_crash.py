"""A writer killed at any moment loses nothing that it had acknowledged."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from eventlog.integrity import FindingKind, verify_shard
from eventlog.sqlite import SqliteLog
from tests.contract.log_samples import SHARD_COUNT

KILLS = 200
CHECK_EVERY = 25
ACKS_MAX = 12
SPIN_MAX_S = 0.003
ROOT = Path(__file__).parents[2]

Acked = dict[tuple[int, int], str]


def kill_one(child: subprocess.Popen[bytes], chance: random.Random, acked: Acked) -> None:
    """Start a writer, take some acknowledgements, kill it, take what was still in the pipe."""
    assert child.stdin is not None
    assert child.stdout is not None
    child.stdin.write(b"go\n")
    child.stdin.flush()
    wanted = chance.randint(0, ACKS_MAX)
    pid = 0
    while True:
        line = child.stdout.readline()
        if line.startswith(b"ended"):
            assert line == b"ended %d\n" % -signal.SIGKILL
            return
        if line[:1].isdigit():
            pid = int(line)
        else:
            acked.update({(shard, position): key for shard, position, key in json.loads(line)})
            wanted -= 1
        if pid and wanted < 0:
            until = time.perf_counter() + chance.uniform(0, SPIN_MAX_S)
            while time.perf_counter() < until:
                pass  # A random moment of the next flush; sleeping would be too coarse.
            os.kill(pid, signal.SIGKILL)
            wanted = 1 << 30


async def check(path: Path, acked: Acked) -> int:
    """Everything acknowledged is there once, positions are dense, the chain verifies. The number of commits."""
    log = await SqliteLog.open(path, SHARD_COUNT)
    found: Acked = {}
    for shard in range(SHARD_COUNT):
        faults = [f async for f in verify_shard(log, shard, log_ids={log.log_id})]
        # The child draws its streams without caring which shard they belong to.
        assert [f for f in faults if f.kind is not FindingKind.MISPLACED] == []
        position = 0
        while page := await log.read_shard(shard, position, 5_000):
            found.update({(shard, commit.position): commit.key.hex() for commit in page})
            position = page[-1].position
    await log.close()
    lost = {place: key for place, key in acked.items() if found.get(place) != key}
    assert lost == {}
    assert len(set(found.values())) == len(found)
    return len(found)


@pytest.mark.slow
@pytest.mark.crash
async def test_nothing_acknowledged_is_lost_by_two_hundred_kills(tmp_path: Path) -> None:
    path = tmp_path / "log.db"
    seed = random.randrange(1 << 32)
    sys.stdout.write(f"seed {seed}\n")
    chance = random.Random(seed)
    acked: Acked = {}
    command = [sys.executable, "-m", "tests.integration.log_child", "serve", str(path)]
    with subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as child:  # noqa: ASYNC220 - nothing else runs in this loop
        for number in range(1, KILLS + 1):
            kill_one(child, chance, acked)
            if number % CHECK_EVERY == 0:
                await check(path, acked)
        assert child.stdin is not None
        child.stdin.close()
    assert len(acked) > KILLS
    assert await check(path, acked) >= len(acked)
