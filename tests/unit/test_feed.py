"""The feed over a log and a carrier in memory: every position is handed over once, in order, whatever the carrier does."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Collection, Mapping, Sequence
from contextlib import asynccontextmanager

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from eventlog.carrier import CarriedRecord
from eventlog.carrier_memory import MemoryCarrier, MemorySource
from eventlog.feed import Feed, FeedSettings, ForkedError
from eventlog.feed_gate import ShardGate, Verdict
from eventlog.kafka_record import carried_of, record_of
from eventlog.memory import MemoryLog
from eventlog.port import LogUnavailableError
from eventlog.record import Commit, Head
from tests.contract.log_samples import LOG_ID, SHARD_COUNT, ShardMaker

FAST = FeedSettings(poll_ms=1, look_ms=0, commit_ms=0, back_off_ms=1, back_off_ms_max=2, read_commits=3)
QUIET = msgspec.structs.replace(FAST, look_ms=3_600_000)
"""Never looks at the log by itself."""
PARTITIONS = 2


class Reader:
    """A view that remembers what it was given; `fails` times it refuses a batch."""

    def __init__(self) -> None:
        self.commits: dict[int, list[Commit]] = {}
        self.fails = 0
        self.asked: list[int] = []

    def take(self, batch: Sequence[Commit]) -> None:
        if self.fails:
            self.fails -= 1
            raise RuntimeError("the view is away")
        for commit in batch:
            self.commits.setdefault(commit.shard, []).append(commit)

    async def positions(self, shards: Collection[int]) -> Mapping[int, int]:
        self.asked.extend(shards)
        return {shard: self.commits[shard][-1].position for shard in shards if self.commits.get(shard)}

    def seen(self, shard: int) -> list[int]:
        return [commit.position for commit in self.commits.get(shard, [])]


class House:
    """A log, a carrier, a reader and a feed between them."""

    def __init__(self, log_id: str = LOG_ID) -> None:
        self.log = MemoryLog(log_id, SHARD_COUNT)
        self.carrier = MemoryCarrier(PARTITIONS)
        self.reader = Reader()
        self.source = MemorySource(self.carrier)
        self.makers = {shard: ShardMaker(shard, log_id) for shard in range(SHARD_COUNT + 1)}

    async def write(self, shard: int, count: int = 1, *, sent: bool = True) -> list[Commit]:
        commits = self.makers[shard].batch(count)
        await self.log.append({shard: commits})
        if sent:
            self.send(*commits)
        return commits

    def send(self, *commits: Commit) -> None:
        for commit in commits:
            self.put(commit.shard % PARTITIONS, record_of(commit))

    def put(self, partition: int, *records: CarriedRecord) -> None:
        self.carrier.put(partition, records)

    @asynccontextmanager
    async def feed(self, how: FeedSettings = FAST) -> AsyncIterator[Feed[Commit]]:
        feed = Feed(
            self.log,
            self.source,
            PARTITIONS,
            positions=self.reader.positions,
            decode=lambda commit: commit,
            handler=self.reader.take,
            settings=how,
        )
        feed.start()
        try:
            yield feed
        finally:
            await feed.close()

    async def heads(self) -> dict[int, int]:
        return {shard: head.position for shard, head in (await self.log.heads()).items()}

    async def check(self) -> None:
        for shard, position in (await self.heads()).items():
            assert self.reader.seen(shard) == list(range(1, position + 1))
            assert self.reader.commits[shard] == await self.log.read_shard(shard, 0, 5_000)


FAULTS = (
    "send",
    "repeat",
    "reorder",
    "drop",
    "foreign",
    "forge",
    "empty",
    "away",
    "fail",
    "rebalance",
    "misplace",
)


@pytest.mark.slow
@settings(max_examples=150)
@given(
    st.lists(st.tuples(st.sampled_from(FAULTS), st.integers(0, SHARD_COUNT), st.integers(1, 4)), max_size=30)
)
def test_every_position_is_handed_over_once_and_in_order(steps: list[tuple[str, int, int]]) -> None:
    asyncio.run(simulate(steps))


async def simulate(steps: list[tuple[str, int, int]]) -> None:
    house = House()
    sent: dict[int, list[Commit]] = {shard: [] for shard in range(SHARD_COUNT + 1)}
    async with house.feed() as feed:
        for fault, shard, count in steps:
            await do(house, sent, fault, shard, count)
            await asyncio.sleep(0)
        house.carrier.is_up = True
        await feed.reached(await house.heads())
    await house.check()


async def do(house: House, sent: dict[int, list[Commit]], fault: str, shard: int, count: int) -> None:
    """One thing that a carrier does to a reader."""
    partition = shard % PARTITIONS
    before = sent[shard]
    if fault in ("send", "reorder", "drop"):
        commits = await house.write(shard, count, sent=False)
        before += commits
        if fault != "drop":
            house.send(*(commits if fault == "send" else reversed(commits)))
    elif fault == "repeat":
        house.send(*before[-count:])
    elif fault == "foreign":
        other = ShardMaker(shard, "another-log", head=house.makers[shard].head)
        house.send(*other.batch(count, "foreign"))
    elif fault == "forge":
        record = record_of(house.makers[shard].fork(epoch=9).make("forged", text="x" * count))
        wrong = tuple((name, b"none" if name == "position" else value) for name, value in record.headers)
        house.put(partition, msgspec.structs.replace(record, headers=wrong))
    elif fault == "misplace":
        house.put(1 - partition, record_of(house.makers[shard].fork().make("misplaced")))
    elif fault == "empty":
        house.carrier.empty()
    elif fault == "away":
        house.carrier.is_up = not house.carrier.is_up
    elif fault == "fail":
        house.reader.fails = count
    else:
        await house.source.take_away([partition])
        await house.source.give([partition])


async def test_what_fits_is_taken_from_the_carrier_alone() -> None:
    house = House()
    async with house.feed(QUIET) as feed:
        await house.write(0, 5)
        await house.write(2, 5)
        await feed.reached({0: 5, 2: 5})
        assert feed.metrics.carried == 10
        assert feed.metrics.refills == 0
    await house.check()


async def test_a_gap_is_filled_from_the_log() -> None:
    house = House()
    async with house.feed(QUIET) as feed:
        await house.write(0, 2)
        await house.write(0, 5, sent=False)
        await house.write(0, 2)
        await feed.reached({0: 9})
        assert feed.metrics.refills == 1
        assert feed.metrics.refilled == 7
        assert feed.metrics.dropped == 1
    await house.check()


async def test_what_was_lost_while_it_was_quiet_is_found_in_time() -> None:
    house = House()
    async with house.feed() as feed:
        await house.write(1, 3, sent=False)
        await feed.reached({1: 3})
        assert feed.metrics.carried == 0


async def test_a_record_of_a_left_branch_is_not_applied() -> None:
    """The log was restored to position 2 and went on under a new id; the carrier still has the lost branch."""
    house = House("log-b")
    before = ShardMaker(0, "log-a")
    common = before.batch(2)
    lost = before.batch(3)
    await house.log.append({0: common})
    house.send(*common, *lost)
    house.makers[0].head, house.makers[0].versions = common[-1].head, {"notes": 2}
    async with house.feed(QUIET) as feed:
        await feed.reached({0: 2})
        await house.write(0, 2)
        await feed.reached({0: 4})
        assert feed.metrics.unfit >= 3
    await house.check()


async def test_many_foreign_records_read_the_log_twice_a_turn_at_most() -> None:
    house = House()
    await house.write(0, 1)
    other = ShardMaker(0, "another-log", head=house.makers[0].head)
    house.send(*other.batch(80, "foreign"))
    async with house.feed(QUIET) as feed:
        await house.write(2, 1)
        await feed.reached({0: 1, 2: 1})
        assert feed.metrics.refills <= 4
    await house.check()


async def test_a_reader_on_another_branch_ends_the_feed() -> None:
    house = House()
    await house.write(0, 2)
    house.reader.commits[0] = ShardMaker(0, "left-branch").batch(3, "left")
    async with house.feed(QUIET) as feed:
        with pytest.raises(ForkedError, match="the log ends before"):
            await feed.reached({0: 4})
    house = House()
    async with house.feed(QUIET) as feed:
        await house.write(0, 2)
        await feed.reached({0: 2})
        # The log is exchanged for one with another history under the running feed.
        house.log._shards.clear()
        commits = ShardMaker(0).batch(6, "other")
        await house.log.append({0: commits})
        house.send(commits[-1])
        with pytest.raises(ForkedError):
            await feed.reached({0: 6})


async def test_offsets_are_committed_after_the_hand_over() -> None:
    house = House()
    async with house.feed(QUIET) as feed:
        await house.write(0, 3)
        await feed.reached({0: 3})
    assert house.carrier.committed == {0: 3}
    house.source = MemorySource(house.carrier)
    async with house.feed(QUIET) as feed:
        await house.write(0, 1)
        await feed.reached({0: 4})
        assert feed.metrics.dropped == 0
    await house.check()


async def test_a_source_at_the_end_takes_what_was_before_from_the_log() -> None:
    house = House()
    await house.write(0, 4)
    house.source = MemorySource(house.carrier, from_end=True)
    async with house.feed(msgspec.structs.replace(QUIET, from_log=True)) as feed:
        await feed.reached({0: 4})
        assert feed.metrics.carried == 0
        await house.write(0, 1)
        await feed.reached({0: 5})
        assert feed.metrics.carried == 1
    await house.check()


async def test_a_reader_that_fails_is_asked_again_where_it_is() -> None:
    house = House()
    async with house.feed(QUIET) as feed:
        await house.write(0, 2)
        await feed.reached({0: 2})
        house.reader.fails = 2
        await house.write(0, 2)
        await feed.reached({0: 4})
        assert feed.metrics.failures == 2
    await house.check()


def test_the_gap_rule() -> None:
    maker = ShardMaker(0)
    first, second, third = maker.batch(3)
    gate = ShardGate(0, LOG_ID)
    assert gate.offer(carried_of(record_of(second))) is Verdict.REFILL
    assert gate.offer(carried_of(record_of(first))) is Verdict.APPLY
    gate.advance(first)
    assert gate.offer(carried_of(record_of(first))) is Verdict.DROP
    assert gate.offer(carried_of(record_of(third))) is Verdict.REFILL
    assert gate.offer(carried_of(record_of(second))) is Verdict.APPLY
    unchained = ShardMaker(0, head=msgspec.structs.replace(first.head, digest=bytes(32))).make()
    assert gate.offer(carried_of(record_of(unchained))) is Verdict.REFILL
    with pytest.raises(ForkedError):
        gate.follow_log(third)
    gate.follow_log(second)
    assert gate.position == 2


async def test_a_forged_record_that_fits_is_found_by_the_next_true_one() -> None:
    """Whoever may write to the topic can make one that fits; it cannot make the log follow it."""
    house = House()
    async with house.feed(QUIET) as feed:
        await house.write(0, 2)
        house.send(house.makers[0].fork().make("forged"))
        await feed.reached({0: 3})
        await house.write(0, 2)
        with pytest.raises(ForkedError, match="what was applied at position 3 is not what the log holds"):
            await feed.reached({0: 4})


async def test_the_log_is_followed_while_the_carrier_is_away_from_the_start() -> None:
    house = House()
    house.carrier.is_up = False
    await house.write(0, 4, sent=False)
    async with house.feed() as feed:
        await feed.reached({0: 4})
        assert feed.is_away
        await house.write(1, 2, sent=False)
        await feed.reached({1: 2})
        assert feed.metrics.carried == 0
        house.carrier.is_up = True
        await house.write(0, 1)
        await feed.reached({0: 5})
    await house.check()


async def test_a_carrier_that_goes_away_later_is_made_up_for_by_the_log() -> None:
    house = House()
    async with house.feed() as feed:
        await house.write(0, 2)
        await feed.reached({0: 2})
        house.carrier.is_up = False
        await house.write(0, 3, sent=False)
        await feed.reached({0: 5})
        assert feed.is_away
    await house.check()


async def test_one_of_a_group_keeps_what_it_had_while_the_carrier_is_away() -> None:
    house = House()
    house.source = MemorySource(house.carrier, shares=True)
    lost: list[int] = []

    async def lose(shards: Collection[int]) -> None:
        lost.extend(shards)

    feed = Feed(
        house.log,
        house.source,
        PARTITIONS,
        positions=house.reader.positions,
        decode=lambda commit: commit,
        handler=house.reader.take,
        lost=lose,
        settings=FAST,
    )
    house.carrier.is_up = False
    feed.start()
    await house.write(0, 1)
    assert feed.partitions == frozenset(), "nobody gave it any yet"
    house.carrier.is_up = True
    await feed.reached({0: 1})
    await house.source.take_away([1])
    assert lost == [shard for shard in range(SHARD_COUNT + 1) if shard % PARTITIONS == 1]
    house.carrier.is_up = False
    await house.write(0, 2, sent=False)
    await feed.reached({0: 3})
    assert feed.partitions == {0}
    await feed.close()
    assert house.reader.seen(1) == []


async def test_a_log_that_is_away_is_looked_at_again() -> None:
    house = House()
    heads, asked = house.log.heads, asyncio.Event()

    async def away() -> Mapping[int, Head]:
        asked.set()
        raise LogUnavailableError("away")

    house.log.heads = away  # type: ignore[method-assign]
    async with house.feed(msgspec.structs.replace(FAST, from_log=True)) as feed:
        await house.write(0, 2)
        await asked.wait()
        house.log.heads = heads  # type: ignore[method-assign]
        await feed.reached({0: 2})
    await house.check()
