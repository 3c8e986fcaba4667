"""The relay over a log and a carrier in memory: what stands in the carrier is the log, in order, perhaps repeated."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from typing_extensions import override

from eventlog.bus import Bus
from eventlog.carrier import CarrierUnavailableError, TopicMismatchError
from eventlog.carrier_memory import MemoryCarrier, MemorySender
from eventlog.kafka_record import carried_of
from eventlog.memory import MemoryLog
from eventlog.port import LogUnavailableError
from eventlog.record import Commit
from eventlog.relay import Relay, RelaySettings
from tests.contract.log_samples import LOG_ID, SAMPLE_CODEC, SHARD_COUNT, ShardMaker

FAST = RelaySettings(linger_ms=0, back_off_ms=1, back_off_ms_max=2, look_ms=5, checkpoint_ms=5, drain_s=5)
PARTITIONS = 2


class MemoryCheckpoint:
    """Positions in memory."""

    def __init__(self, positions: Mapping[int, int] | None = None) -> None:
        self.positions = dict(positions or {})

    async def load(self) -> Mapping[int, int]:
        return self.positions

    async def save(self, positions: Mapping[int, int]) -> None:
        self.positions = dict(positions)


class CountedSender(MemorySender):
    """Tells when it was asked in vain."""

    def __init__(self, carrier: MemoryCarrier) -> None:
        super().__init__(carrier)
        self._refused: asyncio.Queue[None] = asyncio.Queue()
        self.log_away = False
        """Whether the log, which it looks at before it connects, does not answer."""

    @override
    async def start(self) -> Mapping[int, int]:
        try:
            if self.log_away:
                raise LogUnavailableError("no primary")
            return await super().start()
        except (CarrierUnavailableError, LogUnavailableError):
            self._refused.put_nowait(None)
            raise

    async def refused(self, times: int) -> None:
        for _ in range(times):
            await self._refused.get()


class House:
    """A log, its bus, a carrier and a relay between them."""

    def __init__(self) -> None:
        self.log = MemoryLog(LOG_ID, SHARD_COUNT)
        self.bus = Bus()
        self.carrier = MemoryCarrier(PARTITIONS)
        self.sender = CountedSender(self.carrier)
        self.checkpoint = MemoryCheckpoint()
        self.makers = {shard: ShardMaker(shard) for shard in range(SHARD_COUNT + 1)}

    async def write(self, shard: int, count: int = 1, *, told: bool = True) -> list[Commit]:
        commits = self.makers[shard].batch(count)
        await self.log.append({shard: commits})
        if told:
            self.bus.publish([SAMPLE_CODEC.decode(commit) for commit in commits])
        return commits

    @asynccontextmanager
    async def relay(self, settings: RelaySettings = FAST, **more: object) -> AsyncIterator[Relay]:
        relay = Relay(self.log, self.sender, self.checkpoint, bus=self.bus, settings=settings, **more)  # type: ignore[arg-type]
        await relay.start()
        try:
            yield relay
        finally:
            await relay.close()

    def sent(self, shard: int) -> list[int]:
        """The positions of a shard in the carrier, in its order."""
        records = self.carrier.records[shard % PARTITIONS]
        commits = [carried_of(record).commit for record in records]
        return [commit.position for commit in commits if commit.shard == shard]


def without_gap(positions: list[int]) -> bool:
    """Whether each position comes for the first time right behind all before it."""
    top = 0
    for position in positions:
        if position > top + 1:
            return False
        top = max(top, position)
    return True


async def test_each_shard_is_sent_in_order_of_position() -> None:
    house = House()
    await house.write(0, 3, told=False)
    async with house.relay() as relay:
        for _ in range(5):
            await house.write(0, 2)
            await house.write(2)
            await house.write(SHARD_COUNT)
        await relay.drained()
        assert house.sent(0) == list(range(1, 14))
        assert house.sent(2) == house.sent(SHARD_COUNT) == [1, 2, 3, 4, 5]
        assert relay.metrics.records == 23
        assert relay.lag == {}


async def test_what_the_bus_does_not_tell_of_is_found_in_the_log() -> None:
    house = House()
    async with house.relay() as relay:
        await house.write(1, 4, told=False)
        await house.write(1, 1)
        await relay.drained()
        assert house.sent(1) == [1, 2, 3, 4, 5]
        await house.write(3, 2, told=False)
        while house.sent(3) != [1, 2]:
            house.carrier.changed.clear()
            await house.carrier.changed.wait()


async def test_a_relay_without_a_bus_is_told_of_heads() -> None:
    house = House()
    async with house.relay(RelaySettings(linger_ms=0, look_ms=3_600_000)) as relay:
        await house.write(1, 4, told=False)
        relay.note_heads({1: 4})
        await relay.drained()
        assert house.sent(1) == [1, 2, 3, 4]


async def test_a_full_queue_leaves_the_rest_to_the_log() -> None:
    house = House()
    async with house.relay(
        RelaySettings(linger_ms=0, queue_commits_max=3, batch_records_max=2, read_commits=2)
    ) as relay:
        await house.write(1, 20)
        await relay.drained()
        assert house.sent(1) == list(range(1, 21))


@pytest.mark.parametrize("cut_after", [0, 1, 2])
async def test_after_a_failure_the_line_begins_behind_what_was_acknowledged(cut_after: int) -> None:
    house = House()
    async with house.relay() as relay:
        await house.write(0, 2)
        await relay.drained()
        house.sender.refusals, house.sender.cut_after = 3, cut_after
        await house.write(0, 3)
        await relay.drained()
        assert house.sent(0) == [1, 2] + [3, 4, 5][:cut_after] * 3 + [3, 4, 5]
        assert relay.metrics.failures == 3
        assert relay.is_connected


async def test_a_carrier_that_is_away_loses_nothing() -> None:
    house = House()
    house.carrier.is_up = False
    async with house.relay() as relay:
        await house.write(0, 2)
        await house.write(1, 2)
        await house.sender.refused(4)
        assert not relay.is_connected
        assert relay.lag == {0: 2, 1: 2}
        house.carrier.is_up = True
        await relay.drained()
        assert house.sent(0) == house.sent(1) == [1, 2]


async def test_a_log_that_is_away_while_the_carrier_is_reached_again_ends_no_line() -> None:
    house = House()
    async with house.relay() as relay:
        house.carrier.is_up, house.sender.log_away = False, True
        await house.write(0, 2)
        await house.write(1, 2)
        await asyncio.wait_for(house.sender.refused(4), 5)
        house.carrier.is_up, house.sender.log_away = True, False
        await asyncio.wait_for(relay.drained(), 5)
        assert house.sent(0) == house.sent(1) == [1, 2]


async def test_a_topic_that_was_made_again_is_filled_from_the_first_position() -> None:
    house = House()
    async with house.relay() as relay:
        await house.write(0, 3)
        await house.write(1, 3)
        await relay.drained()
        house.carrier.empty()
        await house.write(0, 1)
        await relay.drained()
        assert without_gap(sorted(house.sent(0)))
        assert set(house.sent(0)) == {1, 2, 3, 4}
        assert relay.metrics.restarts == 1


async def test_an_empty_carrier_voids_the_checkpoint() -> None:
    house = House()
    await house.write(0, 3, told=False)
    await house.write(1, 2, told=False)
    house.checkpoint.positions = {0: 2, 1: 2}
    async with house.relay() as relay:
        await relay.drained()
        assert house.sent(0) == [1, 2, 3]
        assert house.sent(1) == [1, 2]


async def test_a_checkpoint_that_lags_only_repeats() -> None:
    house = House()
    await house.write(0, 3, told=False)
    async with house.relay() as relay:
        await relay.drained()
    assert house.checkpoint.positions == {0: 3}
    house.checkpoint.positions = {0: 1}
    async with house.relay() as relay:
        await house.write(0)
        await relay.drained()
    assert house.sent(0) == [1, 2, 3, 2, 3, 4]


async def test_a_checkpoint_ahead_of_the_log_is_void() -> None:
    house = House()
    await house.write(0, 2, told=False)
    house.checkpoint.positions = {0: 7, 1: 4}
    async with house.relay() as relay:
        await house.write(1)
        await relay.drained()
        assert house.sent(0) == [1, 2]
        assert house.sent(1) == [1]


async def test_closing_sends_what_waits() -> None:
    house = House()
    async with house.relay(RelaySettings(linger_ms=10_000)):
        await house.write(0, 3)
        await house.write(1, 3)
    assert house.sent(0) == house.sent(1) == [1, 2, 3]
    assert house.checkpoint.positions == {0: 3, 1: 3}


async def test_closing_does_not_wait_for_ever() -> None:
    house = House()
    async with house.relay(RelaySettings(linger_ms=0, back_off_ms=1, drain_s=0.01)):
        house.carrier.is_up = False
        await house.write(0, 3)
    assert house.sent(0) == []


async def test_only_owned_shards_are_sent() -> None:
    house = House()
    async with house.relay(shards=[0, 1]) as relay:
        for shard in range(4):
            await house.write(shard, 2)
        await relay.drained()
        assert [house.sent(shard) for shard in range(4)] == [[1, 2], [1, 2], [], []]
        relay.own([1, 2])
        for shard in range(4):
            await house.write(shard, 1)
        relay.own([1, 2, 3])
        await relay.drained()
        while house.sent(3) != [1, 2, 3]:
            house.carrier.changed.clear()
            await house.carrier.changed.wait()
        assert without_gap(house.sent(1))
        assert without_gap(house.sent(2))
        assert house.sent(0) == [1, 2]


async def test_a_wrong_topic_ends_the_start() -> None:
    class WrongTopic(MemorySender):
        @override
        async def start(self) -> Mapping[int, int]:
            raise TopicMismatchError("the topic has 3 partitions")

    house = House()
    relay = Relay(house.log, WrongTopic(house.carrier), house.checkpoint)
    with pytest.raises(TopicMismatchError, match="3 partitions"):
        await relay.start()
    await relay.close()


FAULTS = ("write", "write", "silent", "cut", "away", "empty", "own", "restart", "lag", "turn")


@pytest.mark.slow
@settings(max_examples=100)
@given(
    st.lists(st.tuples(st.sampled_from(FAULTS), st.integers(0, SHARD_COUNT), st.integers(0, 3)), max_size=25)
)
def test_whatever_fails_nothing_is_skipped(steps: list[tuple[str, int, int]]) -> None:
    asyncio.run(simulate(steps))


async def simulate(steps: list[tuple[str, int, int]]) -> None:
    """The carrier ends with the whole log; each shard's records never skip a position, whatever came between."""
    house = House()
    emptied = 0
    relay = await started(house)
    for fault, shard, count in steps:
        if fault in ("write", "silent"):
            await house.write(shard, count + 1, told=fault == "write")
        elif fault == "cut":
            house.sender.refusals, house.sender.cut_after = 1, count
        elif fault == "away":
            house.carrier.is_up = not house.carrier.is_up
        elif fault == "empty":
            house.carrier.empty()
            emptied += 1
        elif fault == "own":
            relay.own([one for one in range(SHARD_COUNT + 1) if one % 4 != count])
            relay.own(range(SHARD_COUNT + 1))
        elif fault == "restart":
            await relay.close()
            relay = await started(house)
        elif fault == "lag":
            house.checkpoint.positions = {one: p // 2 for one, p in house.checkpoint.positions.items()}
        await asyncio.sleep(0)
    house.carrier.is_up, house.sender.refusals = True, 0
    # What was lost in an emptied partition is noticed with the next record of it.
    for shard in range(SHARD_COUNT + 1):
        await house.write(shard)
    await relay.drained()
    await relay.close()
    for shard in range(SHARD_COUNT + 1):
        positions = house.sent(shard)
        assert positions[-1] == max(positions) == house.makers[shard].head.position
        if not emptied:
            assert without_gap(positions)


async def started(house: House) -> Relay:
    """A relay that gives up quickly when it is closed."""
    quick = msgspec.structs.replace(FAST, drain_s=0.02)
    relay = Relay(house.log, house.sender, house.checkpoint, bus=house.bus, settings=quick)
    await relay.start()
    return relay
