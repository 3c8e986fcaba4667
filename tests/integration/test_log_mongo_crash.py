"""A MongoDB killed at any moment loses nothing that its log had acknowledged, and holds everything once."""

from __future__ import annotations

import asyncio
import os
import random
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from docker.local.mongodb import MongoReplicaSet
from eventlog.integrity import FindingKind, verify_shard
from eventlog.mongo import MongoLog, MongoTimeouts
from eventlog.port import LogUnavailableError, OutcomeUnknownError, ShardOutcome
from eventlog.record import Commit
from tests.contract.log_samples import SHARD_COUNT, ShardMaker, key_of, whole_log

pytestmark = [pytest.mark.services, pytest.mark.slow, pytest.mark.crash]

TIMEOUTS = MongoTimeouts(select_ms=2_000, write_ms=2_000, socket_ms=4_000, read_ms=3_000)
FLUSHES_BETWEEN_MAX = 40
TRIES_MAX = 60
"""Of one flush; each takes at most `select_ms` while nobody answers."""


class Owner:
    """Appends to every shard without a pause, the identical documents again while the outcome is unknown."""

    def __init__(self, log: MongoLog, chance: random.Random) -> None:
        self.acked: dict[int, list[Commit]] = {shard: [] for shard in range(SHARD_COUNT)}
        self.unknown = 0
        self._log = log
        self._chance = chance
        self._makers = {shard: ShardMaker(shard, log.log_id) for shard in self.acked}
        self._flushes = 0
        self._wanted = 0
        self._reached = asyncio.Event()
        self._ending = False

    async def write(self) -> None:
        """Until `end`."""
        while not self._ending:
            batches = {
                shard: [
                    self._makers[shard].make(f"g_{shard}", key=key_of(os.urandom(8).hex()))
                    for _ in range(size)
                ]
                for shard, size in ((s, self._chance.randint(1, 4)) for s in self._some_shards())
            }
            outcomes = await self._append(batches)
            assert outcomes == {shard: ShardOutcome(len(batch)) for shard, batch in batches.items()}
            for shard, batch in batches.items():
                self.acked[shard] += batch
            self._flushes += 1
            if self._flushes >= self._wanted:
                self._reached.set()

    def _some_shards(self) -> list[int]:
        return self._chance.sample(range(SHARD_COUNT), self._chance.randint(1, SHARD_COUNT))

    async def _append(self, batches: dict[int, list[Commit]]) -> Any:
        for _ in range(TRIES_MAX):
            try:
                return await self._log.append(batches)
            except (OutcomeUnknownError, LogUnavailableError):
                self.unknown += 1
        raise AssertionError("the server does not come back")

    async def flushes(self, count: int) -> None:
        """Wait until so many more were acknowledged."""
        self._wanted = self._flushes + count
        self._reached.clear()
        await self._reached.wait()

    def end(self) -> None:
        """No more after the current flush."""
        self._ending = True


def kill_all(servers: MongoReplicaSet) -> None:
    """kill -9 to every node at once."""
    servers.restart()


def kill_primary(servers: MongoReplicaSet) -> None:
    """kill -9 to the primary; another one takes over, and the dead one comes back."""
    primary = servers.primary()
    primary.kill()
    servers.primary(other_than=primary)
    primary.start()
    servers.await_member(primary)


def step_down(servers: MongoReplicaSet) -> None:
    """The primary gives way in order, in the midst of a flush."""
    servers.step_down()


@pytest.mark.parametrize(
    "nodes, hurts",
    [(1, [kill_all] * 6), (3, [kill_primary, step_down, kill_primary, step_down, kill_all])],
    ids=["one node", "three nodes"],
)
async def test_nothing_acknowledged_is_lost_when_servers_die(
    tmp_path: Path, nodes: int, hurts: list[Callable[[MongoReplicaSet], None]]
) -> None:
    seed = random.randrange(1 << 32)
    sys.stdout.write(f"seed {seed}\n")
    chance = random.Random(seed)
    with MongoReplicaSet(tmp_path, nodes) as servers:
        log = await MongoLog.open(servers.uri, "crash", SHARD_COUNT, timeouts=TIMEOUTS)
        owner = Owner(log, chance)
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(owner.write())
            for hurt in hurts:
                await owner.flushes(chance.randint(1, FLUSHES_BETWEEN_MAX))
                await asyncio.to_thread(hurt, servers)
            await owner.flushes(10)
            owner.end()
        assert await whole_log(log) == {**owner.acked, SHARD_COUNT: []}
        for shard in owner.acked:
            faults = [f async for f in verify_shard(log, shard, log_ids={log.log_id})]
            assert [f for f in faults if f.kind is not FindingKind.MISPLACED] == []
        await log.close()
    sys.stdout.write(f"acknowledged {sum(map(len, owner.acked.values()))}, unknown {owner.unknown}, lost 0\n")
    assert owner.unknown >= 1
