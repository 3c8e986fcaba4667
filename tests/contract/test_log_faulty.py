"""The failing log of the tests does what its faults say."""

from __future__ import annotations

import asyncio

import pytest

from eventlog.memory import MemoryLog
from eventlog.port import LogUnavailableError, OutcomeUnknownError, RefusalReason
from tests.contract.log_samples import LOG_ID, SHARD_COUNT, ShardMaker, append_one, whole_shard
from tests.faulty_log import Fault, FaultyLog, Planned


def faulty_log() -> FaultyLog:
    """Over an empty memory log."""
    return FaultyLog(MemoryLog(LOG_ID, SHARD_COUNT))


@pytest.mark.parametrize(
    "planned, error, written",
    [
        (Planned(Fault.UNAVAILABLE), LogUnavailableError, 0),
        (Planned(Fault.UNKNOWN_BEFORE), OutcomeUnknownError, 0),
        (Planned(Fault.UNKNOWN_PREFIX, documents=2), OutcomeUnknownError, 2),
        (Planned(Fault.UNKNOWN_AFTER), OutcomeUnknownError, 3),
    ],
)
async def test_a_planned_failure(planned: Planned, error: type[Exception], written: int) -> None:
    log = faulty_log()
    commits = ShardMaker(1).batch(3)
    log.plan(planned)
    with pytest.raises(error):
        await append_one(log, *commits)
    assert await whole_shard(log, 1) == commits[:written]
    assert (await append_one(log, *commits)).appended == 3
    assert log.appends == 2


async def test_an_intruder_refuses_what_follows() -> None:
    log = faulty_log()
    intruder = ShardMaker(1, epoch=2).make()
    log.plan_refusal(lambda: [intruder])
    outcome = await append_one(log, *ShardMaker(1).batch(2))
    assert outcome.refusal is not None
    assert (outcome.refusal.reason, outcome.refusal.present) == (RefusalReason.POSITION, intruder)


async def test_a_slow_append_waits_for_its_release() -> None:
    log = faulty_log()
    log.plan(Fault.SLOW)
    async with asyncio.TaskGroup() as tasks:
        slow = tasks.create_task(append_one(log, ShardMaker(1).make()))
        await log.begun(1)
        assert not slow.done()
        log.release()
    assert slow.result().appended == 1


async def test_reads_may_fail_too() -> None:
    log = faulty_log()
    log.reads_fail = True
    with pytest.raises(LogUnavailableError):
        await log.heads()
