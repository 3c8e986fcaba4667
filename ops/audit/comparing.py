"""`audit compare`: the carrier against the log, position by position. It never writes.

Records may stand in the carrier several times and in any order: each position counts as held once the log's own frame was
seen there. Memory holds runs of positions and a few pages of the log, whatever the length of either.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import OrderedDict
from collections.abc import AsyncIterator, Callable, Collection, Iterator, Mapping, Sequence
from enum import StrEnum
from typing import Protocol

import msgspec

from eventlog.carrier import CarriedRecord
from eventlog.codec import decode_frame
from eventlog.kafka_record import Carried, ForgedRecordError, carried_of
from eventlog.port import Log
from eventlog.record import Commit

PAGE_COMMITS = 500
PAGES_KEPT = 4
DIFFERENCES_TOLD_MAX = 100
"""Of each kind; the numbers in the summary are complete."""
OTHERS_KEPT_MAX = 10_000
"""Other frames remembered per shard until its end; those behind are counted as stray ones."""

Report = Callable[[int, int], None]
"""(records read, records altogether)"""


class DifferenceKind(StrEnum):
    """How the carrier differs."""

    MISSING = "missing"
    """The log holds positions that the carrier does not."""
    SURPLUS = "surplus"
    """The carrier holds a position that the log has not."""
    OTHER = "other"
    """At this position another frame stands, and not the log's."""
    STRAY = "stray"
    """Beside the log's frame another one stands there; no reader applies it."""
    FORGED = "forged"
    """A record that contradicts itself; no reader applies it."""


class Difference(msgspec.Struct, frozen=True, omit_defaults=True):
    """One difference; `last_position` where a run of positions is meant."""

    kind: DifferenceKind
    detail: str
    shard: int | None = None
    position: int | None = None
    last_position: int | None = None
    partition: int | None = None
    offset: int | None = None


class Compared(msgspec.Struct, frozen=True, kw_only=True):
    """What was looked at. `left`: records of a branch that the log left by a restore, which is no difference."""

    log_id: str
    positions: int
    records: int
    held: int
    missing: int
    surplus: int
    other: int
    stray: int
    forged: int
    repeated: int
    left: int

    @property
    def same(self) -> bool:
        """Whether the carrier holds what the log holds, and nothing else."""
        return not (self.missing or self.surplus or self.other or self.stray or self.forged)


class Reader(Protocol):
    """What is compared: a topic that can be read from its first record to its end."""

    async def ends(self) -> Mapping[int, int]:
        """The offset behind the last record of each partition."""
        ...

    def records(self, partition: int) -> AsyncIterator[Sequence[CarriedRecord]]:
        """A partition's records up to what is its end now."""
        ...


class Runs:
    """A set of positions that come mostly in order: runs of (first, last), sorted and never touching."""

    def __init__(self) -> None:
        self._firsts: list[int] = []
        self._lasts: list[int] = []

    def add(self, position: int) -> bool:
        """Whether it is new."""
        index = bisect_left(self._lasts, position)
        if index < len(self._firsts) and self._firsts[index] <= position:
            return False
        touches_before = index > 0 and self._lasts[index - 1] == position - 1
        touches_after = index < len(self._firsts) and self._firsts[index] == position + 1
        if touches_before and touches_after:
            self._lasts[index - 1] = self._lasts[index]
            del self._firsts[index], self._lasts[index]
        elif touches_before:
            self._lasts[index - 1] = position
        elif touches_after:
            self._firsts[index] = position
        else:
            self._firsts.insert(index, position)
            self._lasts.insert(index, position)
        return True

    def __contains__(self, position: int) -> bool:
        index = bisect_left(self._lasts, position)
        return index < len(self._firsts) and self._firsts[index] <= position

    def __len__(self) -> int:
        return sum(last - first + 1 for first, last in zip(self._firsts, self._lasts, strict=True))

    def gaps(self, last_position: int) -> Iterator[tuple[int, int]]:
        """The runs that are missing from 1 to `last_position`."""
        following = 1
        for first, last in zip(self._firsts, self._lasts, strict=True):
            if first > last_position:
                break
            if first > following:
                yield following, first - 1
            following = last + 1
        if following <= last_position:
            yield following, last_position


class _Pages:
    """A shard of the log by position: pages, the latest used ones kept."""

    def __init__(self, log: Log, shard: int, log_ids: set[str]) -> None:
        self._log = log
        self._shard = shard
        self._log_ids = log_ids
        self._pages: OrderedDict[int, Sequence[Commit]] = OrderedDict()

    async def commit(self, position: int) -> Commit | None:
        number, index = divmod(position - 1, PAGE_COMMITS)
        page = self._pages.get(number)
        if page is None or (len(page) <= index and len(page) < PAGE_COMMITS):
            page = await self._log.read_shard(self._shard, number * PAGE_COMMITS, PAGE_COMMITS)
            if page:
                self._log_ids.update(decode_frame(commit.frame).log_id for commit in (page[0], page[-1]))
            self._pages[number] = page
            if len(self._pages) > PAGES_KEPT:
                self._pages.popitem(last=False)
        self._pages.move_to_end(number)
        return page[index] if index < len(page) else None


class _Shard:
    """What the carrier holds of one shard. `others`: where another frame than the log's was seen, and what it was."""

    def __init__(self, log: Log, shard: int, log_ids: set[str]) -> None:
        self.shard = shard
        self.pages = _Pages(log, shard, log_ids)
        self.held = Runs()
        self.others: list[tuple[int, int, str]] = []


class Comparison:
    """One comparison; iterate over `differences`, then look at `summary` and `missing`.

    `former_log_ids`: what the log was called before restores; a branch may have been left of which it holds nothing.
    Heads are taken first: what is appended afterwards is neither missing nor surplus. A carrier that is being filled at the
    same moment lacks what its relay has not sent yet.
    """

    def __init__(
        self,
        log: Log,
        reader: Reader,
        partitions: int,
        report: Report | None = None,
        former_log_ids: Collection[str] = (),
    ) -> None:
        self._log = log
        self._former_log_ids = former_log_ids
        self._reader = reader
        self._partitions = partitions
        self._report = report
        self._counts = dict.fromkeys(DifferenceKind, 0)
        self._positions = 0
        self._records = 0
        self._held = 0
        self._repeated = 0
        self._left = 0
        self._total = 0
        self.missing: dict[int, list[tuple[int, int]]] = {}
        """{shard: runs of positions} where the carrier does not hold the log's own frame."""

    @property
    def summary(self) -> Compared:
        """What was looked at so far."""
        counts = self._counts
        return Compared(
            log_id=self._log.log_id,
            positions=self._positions,
            records=self._records,
            held=self._held,
            missing=counts[DifferenceKind.MISSING],
            surplus=counts[DifferenceKind.SURPLUS],
            other=counts[DifferenceKind.OTHER],
            stray=counts[DifferenceKind.STRAY],
            forged=counts[DifferenceKind.FORGED],
            repeated=self._repeated,
            left=self._left,
        )

    async def differences(self) -> AsyncIterator[Difference]:
        """Everything that differs, partition by partition, DIFFERENCES_TOLD_MAX of a kind.

        Raises LogUnavailableError, CarrierUnavailableError.
        """
        heads = {shard: head.position for shard, head in (await self._log.heads()).items()}
        self._positions = sum(heads.values())
        self._total = sum((await self._reader.ends()).values())
        log_ids = {self._log.log_id, *self._former_log_ids}
        for shard in heads:
            first = await self._log.read_shard(shard, 0, 1)
            log_ids.update(decode_frame(commit.frame).log_id for commit in first)
        for partition in range(self._partitions):
            shards = range(partition, self._log.shard_count + 1, self._partitions)
            found = {shard: _Shard(self._log, shard, log_ids) for shard in shards}
            async for records in self._reader.records(partition):
                for record in records:
                    difference = await self._look(partition, found, record, log_ids)
                    if difference is not None and self._tells(difference.kind):
                        yield difference
                self._records += len(records)
                if self._report is not None:
                    self._report(self._records, max(self._total, self._records))
            for one in found.values():
                for difference in self._finish(one, heads.get(one.shard, 0)):
                    yield difference

    def _tells(self, kind: DifferenceKind, count: int = 1) -> bool:
        before = self._counts[kind]
        self._counts[kind] += count
        return before < DIFFERENCES_TOLD_MAX

    async def _look(
        self, partition: int, found: Mapping[int, _Shard], record: CarriedRecord, log_ids: set[str]
    ) -> Difference | None:
        try:
            carried = carried_of(record)
        except ForgedRecordError as error:
            return Difference(DifferenceKind.FORGED, str(error), partition=partition, offset=record.offset)
        commit = carried.commit
        one = found.get(commit.shard)
        if one is None:
            detail = f"shard {commit.shard} does not belong in this partition"
            return Difference(DifferenceKind.FORGED, detail, partition=partition, offset=record.offset)
        own = await one.pages.commit(commit.position)
        if own is not None and own.frame == commit.frame:
            is_new = one.held.add(commit.position)
            self._held += is_new
            self._repeated += not is_new
            return None
        if carried.log_id != self._log.log_id and carried.log_id in log_ids and _is_newer(own, carried):
            self._left += 1
            return None
        seen = f"a frame of log {carried.log_id}, epoch {commit.epoch}"
        if own is None:
            return Difference(
                DifferenceKind.SURPLUS,
                f"{seen}, where the log has none",
                one.shard,
                commit.position,
                offset=record.offset,
            )
        if len(one.others) < OTHERS_KEPT_MAX:
            # Whether the log's own frame stands there too is known at the end only.
            one.others.append((commit.position, record.offset, seen))
        else:
            self._counts[DifferenceKind.STRAY] += 1
        return None

    def _finish(self, one: _Shard, head: int) -> Iterator[Difference]:
        for position, offset, seen in one.others:
            is_held = position in one.held
            kind = DifferenceKind.STRAY if is_held else DifferenceKind.OTHER
            detail = f"{seen}, {'beside' if is_held else 'instead of'} the log's own"
            if self._tells(kind):
                yield Difference(kind, detail, one.shard, position, offset=offset)
        runs = list(one.held.gaps(head))
        if runs:
            self.missing[one.shard] = runs
        for first, last in runs:
            count = last - first + 1
            if self._tells(DifferenceKind.MISSING, count):
                detail = f"{count} commits of the log are not there"
                yield Difference(DifferenceKind.MISSING, detail, one.shard, first, last)


def _is_newer(own: Commit | None, carried: Carried) -> bool:
    """Whether the log went on under another id there: a restored log left the branch that the record is of."""
    return own is None or decode_frame(own.frame).log_id != carried.log_id
