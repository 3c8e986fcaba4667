"""The carrier in memory: the twin of Kafka for tests and simulation, with the faults that Kafka has."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence

import msgspec

from eventlog.carrier import CarriedRecord, CarrierUnavailableError, Listener


class MemoryCarrier:
    """Partitions as lists. Tests put records there themselves, delete them (`empty`) or take it down (`is_up`)."""

    def __init__(self, partitions: int) -> None:
        self.is_up = True
        self.records: list[list[CarriedRecord]] = [[] for _ in range(partitions)]
        self.committed: dict[int, int] = {}
        self.changed = asyncio.Event()
        """Set at every record; whoever waits clears it."""

    def put(self, partition: int, records: Sequence[CarriedRecord]) -> int:
        """Append; the offset of the first."""
        held = self.records[partition]
        first = len(held)
        held.extend(
            msgspec.structs.replace(record, offset=first + index) for index, record in enumerate(records)
        )
        self.changed.set()
        return first

    def empty(self) -> None:
        """As a topic is that was deleted and made again."""
        for held in self.records:
            held.clear()
        self.committed.clear()

    def check_up(self) -> None:
        """Raises CarrierUnavailableError while it is down."""
        if not self.is_up:
            raise CarrierUnavailableError("the carrier is down")


class MemorySender:
    """The Sender port. `refusals`: how many batches are to be cut off after `cut_after` records."""

    def __init__(self, carrier: MemoryCarrier) -> None:
        self._carrier = carrier
        self._is_started = False
        self.refusals = 0
        self.cut_after = 0
        self.starts = 0

    @property
    def partitions(self) -> int:
        """As the carrier has."""
        return len(self._carrier.records)

    async def start(self) -> Mapping[int, int]:
        """See the port."""
        self._carrier.check_up()
        self._is_started = True
        self.starts += 1
        return {number: len(held) for number, held in enumerate(self._carrier.records)}

    async def send(self, partition: int, records: Sequence[CarriedRecord]) -> int:
        """See the port."""
        await asyncio.sleep(0)
        self._carrier.check_up()
        if not self._is_started:
            raise CarrierUnavailableError("the sender is not started")
        if self.refusals:
            self.refusals -= 1
            self._carrier.put(partition, records[: self.cut_after])
            raise CarrierUnavailableError("the batch was cut off")
        return self._carrier.put(partition, records)

    async def abandon(self) -> None:
        """See the port."""
        self._is_started = False

    async def close(self) -> None:
        """See the port."""
        self._is_started = False


class MemorySource:
    """The Source port: one reader of all partitions, from what was committed or, with `from_end`, from the end.

    `shares`: as one of a group, it says only by and by which ones it reads.
    """

    def __init__(
        self, carrier: MemoryCarrier, *, from_end: bool = False, shares: bool = False, records_max: int = 100
    ) -> None:
        self._carrier = carrier
        self._from_end = from_end
        self._shares = shares
        self._records_max = records_max
        self._next: dict[int, int] = {}
        self._listener: Listener | None = None

    @property
    def reads_all(self) -> bool:
        """As made."""
        return not self._shares

    @property
    def is_away(self) -> bool:
        """As the carrier is."""
        return not self._carrier.is_up

    async def start(self, listener: Listener) -> None:
        """See the port."""
        self._carrier.check_up()
        self._listener = listener
        await self.give(range(len(self._carrier.records)))

    async def give(self, partitions: Sequence[int]) -> None:
        """Assign partitions, as a rebalance does; nothing before it is started."""
        if self._listener is None:
            return
        for number in partitions:
            end = len(self._carrier.records[number])
            self._next[number] = end if self._from_end else self._carrier.committed.get(number, 0)
        await self._listener.assigned(list(partitions))

    async def take_away(self, partitions: Sequence[int]) -> None:
        """Revoke partitions, as a rebalance does; nothing before it is started."""
        if self._listener is None:
            return
        await self._listener.revoked(list(partitions))
        for number in partitions:
            self._next.pop(number, None)

    async def poll(self, timeout_ms: int) -> Mapping[int, Sequence[CarriedRecord]]:
        """See the port. An offset behind the end starts over, as `earliest` says."""
        await asyncio.sleep(0)
        self._carrier.check_up()
        found = self._found()
        if not found:
            self._carrier.changed.clear()
            try:
                async with asyncio.timeout(timeout_ms / 1_000):
                    await self._carrier.changed.wait()
            except TimeoutError:
                return {}
            found = self._found()
        return found

    def _found(self) -> dict[int, Sequence[CarriedRecord]]:
        found: dict[int, Sequence[CarriedRecord]] = {}
        for number, start in self._next.items():
            held = self._carrier.records[number]
            first = start if start <= len(held) else 0
            records = held[first : first + self._records_max]
            self._next[number] = first + len(records)
            if records:
                found[number] = records
        return found

    async def commit(self, offsets: Mapping[int, int]) -> None:
        """See the port."""
        self._carrier.check_up()
        self._carrier.committed.update(offsets)

    async def close(self) -> None:
        """See the port."""
        self._listener = None
        self._next.clear()


class MemoryReader:
    """Reads partitions to their end, as `kafka_driver.KafkaReader` does; `page` records at a time."""

    def __init__(self, carrier: MemoryCarrier, page: int = 7) -> None:
        self._carrier = carrier
        self._page = page

    async def ends(self) -> Mapping[int, int]:
        """The offset behind the last record of each partition."""
        return {number: len(held) for number, held in enumerate(self._carrier.records)}

    async def records(self, partition: int) -> AsyncIterator[Sequence[CarriedRecord]]:
        """A partition's records, in lists."""
        held = tuple(self._carrier.records[partition])
        for start in range(0, len(held), self._page):
            yield held[start : start + self._page]
