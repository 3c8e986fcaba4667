"""The watch: an idle owner that was taken over says so, without having written."""

from __future__ import annotations

import msgspec
import pytest

from commands.ownership import NotOwner
from commands.shard_watch import ShardWatch
from domain.errors import Problem
from domain.user import RegisterUser
from eventlog.memory import MemoryLog
from eventlog.port import LogUnavailableError
from tests.contract.command_house import CODEC, FAST_NODE, SHARDS, Owner, caller, keyed
from tests.faulty_log import FaultyLog


async def opened(log: FaultyLog, name: str, shards: tuple[int, ...]) -> Owner:
    """An owner that serves nobody yet."""
    made = Owner(log, name, msgspec.structs.replace(FAST_NODE, probe_s=0.001))
    await made.node.open(shards)
    return made


async def test_what_somebody_else_opened_is_given_up_and_nothing_else() -> None:
    log = FaultyLog(MemoryLog("log-1", SHARDS))
    one = await opened(log, "one", tuple(range(SHARDS)))
    watch = ShardWatch(log, CODEC, one.node)
    try:
        await one.desk.execute(caller("ann"), "user:ann", RegisterUser(), keyed("register", "ann"))
        assert await watch.look() == ()
        two = await opened(log, "two", (1, 2))
        assert await watch.look() == (1, 2)
        assert await watch.look() == ()
        for number, shard in one.node.shards.items():
            owner = ("two", 2) if number in (1, 2) else (None, 0)
            assert (shard.lost, shard.owner, shard.owner_epoch) == (number in (1, 2), *owner)
        refused = []
        for number in range(20):
            try:
                await one.desk.peek("default", f"user:u{number}")
            except NotOwner as refusal:
                refused.append((refusal.shard, refusal.owner, refusal.epoch))
        assert set(refused) == {(1, "two", 2), (2, "two", 2)}
        await two.close()
    finally:
        await one.close()


async def test_an_order_meets_the_new_owner_by_name() -> None:
    log = FaultyLog(MemoryLog("log-1", SHARDS))
    one = await opened(log, "one", tuple(range(SHARDS)))
    two = await opened(log, "two", tuple(range(SHARDS)))
    try:
        with pytest.raises(Problem) as caught:  # Nobody watches: the fence tells.
            await one.desk.execute(caller("ann"), "user:ann", RegisterUser(), keyed("register", "ann"))
        assert isinstance(caught.value, NotOwner)
        assert (caught.value.owner, caught.value.epoch, caught.value.code) == ("two", 2, "unavailable")
        answer = await two.desk.execute(caller("ann"), "user:ann", RegisterUser(), keyed("register", "ann"))
        assert not answer.replayed
    finally:
        await one.close()
        await two.close()


async def test_a_log_that_cannot_be_read_is_looked_at_again() -> None:
    log = FaultyLog(MemoryLog("log-1", SHARDS))
    one = await opened(log, "one", (0,))
    watch = ShardWatch(log, CODEC, one.node, watch_s=0.0)
    try:
        log.reads_fail = True
        with pytest.raises(LogUnavailableError):
            await watch.look()
        log.reads_fail = False
        watch.start()
        await watch.close()
        await watch.close()
    finally:
        await one.close()
