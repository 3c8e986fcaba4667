"""Opening shards beside an owner that goes on writing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import pytest
from typing_extensions import override

from commands.shards import OPENING_TRIES, ShardsNotOpenedError, open_shards
from eventlog.memory import MemoryLog
from eventlog.port import Log, ShardOutcome
from eventlog.record import Commit
from tests.contract.command_house import CODEC, NOW, SHARDS, Owner, caller, keyed, open_pair, pair_in, post
from tests.faulty_log import FaultyLog


class Busy(FaultyLog):
    """Just before an append of somebody else, the owner writes; so often."""

    def __init__(self, inner: Log) -> None:
        super().__init__(inner)
        self.owner: Owner | None = None
        self.writes = 0
        self._written = 0

    @override
    async def append(self, batches: Mapping[int, Sequence[Commit]]) -> Mapping[int, ShardOutcome]:
        owner = self.owner
        if owner is not None and self.writes > self._written:
            self._written += 1
            self.owner = None  # What follows is the owner's own.
            user, _, name = pair_in(0)
            words = f"m{self._written}"
            await owner.desk.execute(caller(user), name, post(words), keyed(name, words))
            self.owner = owner
        return await super().append(batches)


async def busy(log: Busy, writes: int) -> Owner:
    """An owner of everything that writes to shard 0 before each of the next appends."""
    made = Owner(log, "one")
    await made.node.open()
    user, peer, _ = pair_in(0)
    await open_pair(made.desk, user, peer)
    log.owner, log.writes = made, writes
    return made


async def test_a_busy_shard_is_opened_behind_what_its_owner_wrote() -> None:
    log = Busy(MemoryLog("log-1", SHARDS))
    one = await busy(log, 3)
    try:
        shards, committed = await open_shards(log, CODEC, range(SHARDS), "two", NOW)
        assert sorted(shards) == list(range(SHARDS))
        assert {shard.epoch for shard in shards.values()} == {2}
        heads = await log.heads()
        assert {number: shard.head for number, shard in shards.items()} == heads
        assert len(committed) == SHARDS
    finally:
        log.owner = None
        await one.close()


async def test_a_shard_that_cannot_be_opened_is_an_error_after_a_while() -> None:
    log = Busy(MemoryLog("log-1", SHARDS))
    one = await busy(log, OPENING_TRIES)
    try:
        with pytest.raises(ShardsNotOpenedError, match="writes to it all the time"):
            await open_shards(log, CODEC, (0,), "two", NOW)
    finally:
        log.owner = None
        await one.close()


async def test_of_two_that_open_a_shard_at_once_one_gives_up() -> None:
    log = FaultyLog(MemoryLog("log-1", SHARDS))

    class Late(FaultyLog):
        """Another node opens everything just before our append."""

        @override
        async def append(self, batches: Mapping[int, Sequence[Commit]]) -> Mapping[int, ShardOutcome]:
            await open_shards(log, CODEC, range(SHARDS), "two", NOW)
            return await super().append(batches)

    with pytest.raises(ShardsNotOpenedError, match="was taken by another server"):
        await open_shards(Late(log), CODEC, (1,), "one", NOW)
