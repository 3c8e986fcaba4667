"""A topic that carries more of the log than the log holds tells of a database that was put back."""

from __future__ import annotations

import pytest

from eventlog.carrier import CarriedRecord
from eventlog.kafka_branch import lost_branch
from eventlog.kafka_record import record_of
from eventlog.memory import MemoryLog
from tests.contract.log_samples import LOG_ID, SHARD_COUNT, ShardMaker, append_one

BACKED_UP = 3


@pytest.fixture
async def log() -> MemoryLog:
    """What the backup holds."""
    log = MemoryLog(LOG_ID, SHARD_COUNT)
    await append_one(log, *ShardMaker(1).batch(BACKED_UP))
    return log


async def test_what_the_log_holds_is_no_lost_branch(log: MemoryLog) -> None:
    commits = ShardMaker(1).batch(BACKED_UP)
    assert await lost_branch(log, [record_of(commit) for commit in commits]) is None


async def test_a_position_behind_the_end_of_the_log_is_one(log: MemoryLog) -> None:
    beyond = ShardMaker(1).batch(BACKED_UP + 1)[-1]
    assert await lost_branch(log, [record_of(beyond)]) == f"1:{BACKED_UP + 1}"


async def test_another_commit_at_the_same_position_is_one(log: MemoryLog) -> None:
    maker = ShardMaker(1)
    maker.batch(BACKED_UP)
    lost = maker.fork(epoch=1).make(text="lost")
    await append_one(log, maker.fork(epoch=2).make(text="written after the restore"))
    assert await lost_branch(log, [record_of(lost)]) == f"1:{BACKED_UP + 1}"


async def test_records_of_a_former_id_and_of_nobody_say_nothing(log: MemoryLog) -> None:
    former = ShardMaker(1, log_id="before").batch(BACKED_UP + 1)[-1]
    nobody = CarriedRecord(b"notes", b"no frame", (), 0)
    assert await lost_branch(log, [record_of(former), nobody]) is None
