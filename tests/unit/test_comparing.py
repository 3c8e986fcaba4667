"""The carrier against the log, position by position; its refill; and a log rebuilt from it."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from eventlog.carrier_memory import MemoryCarrier, MemoryReader, MemorySender
from eventlog.kafka_record import record_of
from eventlog.memory import MemoryLog
from eventlog.record import Commit
from ops.audit.comparing import Compared, Comparison, Difference, DifferenceKind, Runs
from ops.from_kafka import NotRestorableError, refill, restored_from_kafka
from tests.contract.log_samples import LOG_ID, SHARD_COUNT, ShardMaker, whole_log

PARTITIONS = 2
NEW_ID = "log-after-the-restore"


class House:
    """A log and a carrier."""

    def __init__(self, log_id: str = LOG_ID) -> None:
        self.log = MemoryLog(log_id, SHARD_COUNT)
        self.carrier = MemoryCarrier(PARTITIONS)
        self.makers = {shard: ShardMaker(shard, log_id) for shard in range(SHARD_COUNT + 1)}

    async def write(self, shard: int, count: int, *, sent: bool = True) -> list[Commit]:
        commits = self.makers[shard].batch(count)
        await self.log.append({shard: commits})
        if sent:
            self.send(*commits)
        return commits

    def send(self, *commits: Commit) -> None:
        for commit in commits:
            self.carrier.put(commit.shard % PARTITIONS, [record_of(commit)])

    async def compare(self, *former_log_ids: str) -> tuple[list[Difference], Compared, Comparison]:
        reader = MemoryReader(self.carrier)
        comparison = Comparison(self.log, reader, PARTITIONS, former_log_ids=former_log_ids)
        return [found async for found in comparison.differences()], comparison.summary, comparison

    async def restored(self) -> MemoryLog:
        target = MemoryLog(NEW_ID, SHARD_COUNT)
        await restored_from_kafka(MemoryReader(self.carrier), PARTITIONS, target, home=None)
        return target


@pytest.mark.slow
@given(st.lists(st.integers(1, 40)), st.integers(0, 45))
def test_runs_are_a_set_of_positions(positions: list[int], last: int) -> None:
    runs, held = Runs(), set[int]()
    for position in positions:
        assert runs.add(position) == (position not in held)
        held.add(position)
    assert len(runs) == len(held)
    assert all((position in runs) == (position in held) for position in range(50))
    missing = {position for first, final in runs.gaps(last) for position in range(first, final + 1)}
    assert missing == set(range(1, last + 1)) - held
    gaps = list(runs.gaps(last))
    assert all(first <= final for first, final in gaps)
    assert all(gaps[index][1] + 1 < gaps[index + 1][0] for index in range(len(gaps) - 1))


async def test_what_was_relayed_is_the_same() -> None:
    house = House()
    for shard in range(SHARD_COUNT + 1):
        await house.write(shard, 12)
    house.send(*house.log._shards[1].commits[3:9])
    found, summary, _ = await house.compare()
    assert found == []
    assert summary.same
    assert (summary.positions, summary.held, summary.repeated) == (60, 60, 6)


async def test_every_difference_is_named() -> None:
    house = House()
    await house.write(0, 3)
    await house.write(0, 4, sent=False)
    await house.write(0, 2)
    lost = await house.write(1, 1, sent=False)
    fork = ShardMaker(1, epoch=9).make("other")
    house.send(fork)
    await house.write(2, 2)
    house.send(house.makers[2].make("unwritten"))
    await house.write(3, 2)
    house.send(ShardMaker(3, epoch=9).make("other"))
    house.carrier.put(1, [msgspec.structs.replace(record_of(lost[0]), key=b"nobody")])
    found, summary, comparison = await house.compare()
    assert not summary.same
    kinds = {(one.kind, one.shard, one.position, one.last_position) for one in found}
    assert kinds == {
        (DifferenceKind.MISSING, 0, 4, 7),
        (DifferenceKind.OTHER, 1, 1, None),
        (DifferenceKind.MISSING, 1, 1, 1),
        (DifferenceKind.SURPLUS, 2, 3, None),
        (DifferenceKind.STRAY, 3, 1, None),
        (DifferenceKind.FORGED, None, None, None),
    }
    assert (summary.missing, summary.other, summary.surplus, summary.stray, summary.forged) == (5, 1, 1, 1, 1)
    assert comparison.missing == {0: [(4, 7)], 1: [(1, 1)]}


async def test_many_differences_are_counted_and_the_first_told() -> None:
    house = House()
    for _ in range(150):
        await house.write(0, 1, sent=False)
        await house.write(0, 1)
    found, summary, _ = await house.compare()
    assert len(found) == 100
    assert summary.missing == 150


async def test_a_branch_that_was_left_is_no_difference() -> None:
    house, left = await a_restored_log()
    found, summary, _ = await house.compare()
    assert found == []
    assert summary.left == left


async def test_a_branch_of_which_nothing_stayed_is_no_difference_either() -> None:
    house, left = await a_restored_log()
    between = ShardMaker(0, "log-between")
    first = house.log._shards[0].commits[2]
    between.head, between.versions = first.head, {"notes": 3}
    house.send(*between.batch(4))
    found, summary, _ = await house.compare("log-a", "log-between")
    assert found == []
    assert summary.left == left + 4
    assert not (await house.compare())[1].same


async def a_restored_log() -> tuple[House, int]:
    """The log was restored to position 3, went on under a new id, and is shorter than its lost branch."""
    house = House("log-b")
    before = ShardMaker(0, "log-a")
    common, lost = before.batch(3), before.batch(5)
    house.send(*common, *lost)
    await house.log.append({0: common})
    house.makers[0].head, house.makers[0].versions = common[-1].head, {"notes": 3}
    await house.write(0, 2)
    return house, len(lost)


async def test_an_emptied_carrier_is_refilled() -> None:
    house = House()
    for shard in range(SHARD_COUNT + 1):
        await house.write(shard, 9)
    house.carrier.empty()
    house.send(*house.log._shards[1].commits[4:])
    _, summary, comparison = await house.compare()
    assert summary.missing == 40
    sender = MemorySender(house.carrier)
    await sender.start()
    done = await refill(house.log, sender, comparison.missing)
    assert (done.commits, done.shards) == (40, 5)
    found, summary, comparison = await house.compare()
    assert found == []
    assert summary.same
    assert (await refill(house.log, sender, comparison.missing)).commits == 0


async def test_a_lost_log_is_rebuilt_commit_by_commit() -> None:
    house = House()
    for shard in range(SHARD_COUNT + 1):
        await house.write(shard, 11)
    house.carrier.empty()
    # As after a repair: the end was sent before the beginning, and some of it twice.
    for shard in range(SHARD_COUNT + 1):
        commits = house.log._shards[shard].commits
        house.send(*commits[6:], *commits[:8])
    target = await house.restored()
    assert await whole_log(target) == await whole_log(house.log)
    heads = await target.heads()
    following = ShardMaker(0, NEW_ID, head=heads[0])
    following.versions = {"notes": 11}
    outcome = await target.append({0: [following.make()]})
    assert outcome[0].appended == 1


async def test_of_two_branches_the_one_written_last_is_restored() -> None:
    house, _ = await a_restored_log()
    assert await whole_log(await house.restored()) == await whole_log(house.log)


async def test_of_one_log_the_longer_chain_is_restored() -> None:
    house = House()
    await house.write(0, 3)
    middle = house.makers[0].fork(epoch=7)
    await house.write(0, 3)
    house.send(middle.make("forged"), middle.make("forged"))
    assert await whole_log(await house.restored()) == await whole_log(house.log)


async def test_a_hole_restores_nothing() -> None:
    house = House()
    await house.write(0, 3)
    await house.write(0, 1, sent=False)
    await house.write(0, 2)
    await house.write(1, 1, sent=False)
    await house.write(1, 2)
    target = MemoryLog(NEW_ID, SHARD_COUNT)
    with pytest.raises(
        NotRestorableError, match="shard 0: position 4 is missing, but 6 is there; shard 1: position 1"
    ):
        await restored_from_kafka(MemoryReader(house.carrier), PARTITIONS, target, home=None)
    assert await target.heads() == {}


async def test_a_wrong_number_of_shards_restores_nothing() -> None:
    house = House()
    await house.write(1, 1)
    target = MemoryLog(NEW_ID, SHARD_COUNT)
    with pytest.raises(NotRestorableError, match="1:1 does not lie in its shard of 4: set `shards`"):
        await restored_from_kafka(
            MemoryReader(house.carrier), PARTITIONS, target, home=lambda _, count: count
        )


async def test_a_log_with_something_in_it_is_no_target() -> None:
    house = House()
    await house.write(0, 1)
    with pytest.raises(NotRestorableError, match="needs an empty one"):
        await restored_from_kafka(MemoryReader(house.carrier), PARTITIONS, house.log)
