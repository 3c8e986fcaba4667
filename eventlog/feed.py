"""The feed: the consumer's side of the carrier. Hands over each shard's commits once, in order, whatever the carrier does.

Positions are the reader's own: it tells where it is, and the feed goes on behind that. Offsets of the carrier only say where
to look first. What is missing, out of order, of another log or forged is read from the log; so is everything while the
carrier is away.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from typing import Generic, TypeVar

import structlog

from eventlog.carrier import CarriedRecord, CarrierUnavailableError, Source, partition_of
from eventlog.feed_gate import ForkedError, ShardGate, Verdict
from eventlog.feed_settings import FeedMetrics, FeedSettings
from eventlog.kafka_record import Carried, ForgedRecordError, carried_of
from eventlog.port import Log
from eventlog.record import GENESIS_DIGEST, Commit

__all__ = ["Feed", "FeedMetrics", "FeedSettings", "ForkedError"]

_log = structlog.get_logger(__name__)
T = TypeVar("T")

Handler = Callable[[Sequence[T]], Awaitable[None] | None]
Positions = Callable[[Collection[int]], Awaitable[Mapping[int, int]]]
Lost = Callable[[Collection[int]], Awaitable[None]]
Looked = Callable[[Mapping[int, int]], Awaitable[None]]


class Feed(Generic[T]):
    """Owns one task. `handler` gets non-empty batches, each shard's in position order; the next waits until it is done.

    `positions(shards)` tells what the reader has applied; it is asked when partitions are assigned, for all their shards at once, and
    again after the handler failed. `lost(shards)` is awaited when they are taken away. `decode` makes of a commit what the handler
    wants, and raises nothing. `looked(heads)` is awaited after each look at where the log's shards end.
    """

    def __init__(
        self,
        log: Log,
        source: Source,
        partitions: int,
        *,
        positions: Positions,
        decode: Callable[[Commit], T],
        handler: Handler[T],
        lost: Lost | None = None,
        looked: Looked | None = None,
        settings: FeedSettings | None = None,
    ) -> None:
        self._log = log
        self._source = source
        self._partitions = partitions
        self._positions = positions
        self._decode = decode
        self._handler = handler
        self._lost = lost
        self._looked = looked
        self._settings = settings or FeedSettings()
        self._gates: dict[int, ShardGate] = {}
        self._assigned: set[int] = set()
        self._former: set[int] = set()
        """Partitions of a source that failed, kept until the next one says what it reads."""
        self._unloaded: dict[int, bool] = {}
        """Partitions that are assigned and whose positions were not asked for yet; whether the log is to be read first."""
        self._handed_over: dict[int, int] = {}
        self._offsets: dict[int, int] = {}
        self._committed: dict[int, int] = {}
        self._committed_at = 0.0
        self._look_now = asyncio.Event()
        self._is_connected = False
        self._heads: Mapping[int, int] = {}
        """Where the log ended when it was looked at."""
        self._turn = asyncio.Lock()
        """Held while records are applied: a partition is not taken away in the middle of a batch."""
        self._is_closing = False
        self._progress = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self.failure: ForkedError | None = None
        """Why the feed ended by itself; the reader's view is void then."""
        self.metrics = FeedMetrics()

    def start(self) -> None:
        """Begin in the background; a carrier that is away is tried again, and the log is read meanwhile.

        A source that shares partitions with others reads none before it was told which; from then on it keeps them while the carrier is
        away.
        """
        self._task = asyncio.get_running_loop().create_task(self._run(), name="feed")

    @property
    def positions(self) -> Mapping[int, int]:
        """The last position of each shard it feeds that was handed over."""
        return {shard: position for shard, position in self._handed_over.items() if position}

    @property
    def partitions(self) -> frozenset[int]:
        """The partitions it reads now."""
        return frozenset(self._assigned)

    @property
    def is_away(self) -> bool:
        """Whether the carrier cannot be reached: what there is comes from the log meanwhile, looked at every `look_ms`."""
        return not self._is_connected or self._source.is_away

    @property
    def lag(self) -> Mapping[int, int]:
        """How many commits of each shard the log had when it was last looked at, and are not handed over; others are left out."""
        waiting = {
            shard: self._heads.get(shard, 0) - position for shard, position in self._handed_over.items()
        }
        return {shard: count for shard, count in waiting.items() if count > 0}

    async def reached(self, positions: Mapping[int, int]) -> None:
        """Wait until these were handed over, by this feed or before it had the shard. Cancellation leaves nothing.

        Raises ForkedError if the feed ended by itself.
        """
        while any(self._handed_over.get(shard, 0) < position for shard, position in positions.items()):
            if self.failure is not None:
                raise self.failure
            self._progress.clear()
            await self._progress.wait()

    async def close(self) -> None:
        """Finish the batch at hand, commit its offsets, end the task, close the source. Idempotent.

        A carrier that is away is not waited for, and a batch from the log is cut off then.
        """
        self._is_closing = True
        self._look_now.set()
        task, self._task = self._task, None
        if task is not None:
            if not self._is_connected:
                task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    # The source's side

    async def assigned(self, partitions: Sequence[int]) -> None:
        """See `carrier.Listener`. The positions are asked for before the first record is looked at."""
        async with self._turn:
            await self._forget(self._former.difference(partitions))
            self._former.clear()
            self._assigned.update(partitions)
            self._unloaded.update(dict.fromkeys(partitions, self._settings.from_log))

    async def revoked(self, partitions: Sequence[int]) -> None:
        """See `carrier.Listener`. What was handed over is committed first, so that the next reader starts there."""
        async with self._turn:
            await self._commit(
                {number: self._offsets[number] for number in partitions if number in self._offsets}
            )
            await self._forget(partitions)

    async def _forget(self, partitions: Collection[int]) -> None:
        shards: list[int] = []
        for number in partitions:
            self._assigned.discard(number)
            self._unloaded.pop(number, None)
            self._offsets.pop(number, None)
            for shard in self._shards_of(number):
                shards.append(shard)
                self._gates.pop(shard, None)
                self._handed_over.pop(shard, None)
        if shards and self._lost is not None:
            await self._lost(shards)

    def _shards_of(self, partition: int) -> range:
        return range(partition, self._log.shard_count + 1, self._partitions)

    # The task

    async def _run(self) -> None:
        """Two things at once: what the carrier brings, and looks at the log for what it does not."""
        if self._source.reads_all:
            await self.assigned(range(self._partitions))
        try:
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(self._look_for_ever())
                tasks.create_task(self._carry())
        except* ForkedError as forks:
            error = forks.exceptions[0]
            assert isinstance(error, ForkedError)
            self.failure = error
            _log.error("a feed ended: its reader follows another log", error=str(error))
        finally:
            self._progress.set()

    async def _carry(self) -> None:
        back_off_ms = self._settings.back_off_ms
        while not self._is_closing:
            carried = self.metrics.carried
            try:
                await self._source.start(self)
                self._is_connected = True
                await self._follow()
            except ForkedError:
                raise
            except Exception as error:  # noqa: BLE001 - nothing is lost: it goes on behind what the reader has
                self.metrics.failures += 1
                _log.warning("a feed begins again", error=f"{type(error).__name__}: {error}")
            finally:
                self._is_connected = False
                await self._source.close()
            if self.metrics.carried > carried:
                back_off_ms = self._settings.back_off_ms
            if not self._is_closing:
                self._offsets.clear()
                self._committed.clear()
                self._former = set(self._assigned)
                self._look_now.set()
                await asyncio.sleep(back_off_ms / 1_000)
                back_off_ms = min(back_off_ms * 2, self._settings.back_off_ms_max)

    async def _follow(self) -> None:
        while not self._is_closing:
            found = await self._source.poll(self._settings.poll_ms)
            try:
                async with self._turn:
                    await self._load()
                    for partition, records in found.items():
                        await self._take(partition, records)
                    for gate in tuple(self._gates.values()):
                        if gate.behind:
                            await self._refill(gate)
            except (CarrierUnavailableError, ForkedError):
                raise
            except Exception as error:  # noqa: BLE001 - the reader's or the log's failure costs no connection to the carrier
                await self._start_over(error)
            await self._commit_in_time()
        await self._commit(self._offsets)

    async def _start_over(self, error: Exception) -> None:
        """Ask the reader again where it is; what is missing behind that comes from the log."""
        self.metrics.failures += 1
        _log.warning("a feed starts over where its reader is", error=f"{type(error).__name__}: {error}")
        async with self._turn:
            self._gates.clear()
            # What the carrier brought is gone; only the log brings it again.
            self._unloaded = dict.fromkeys(self._assigned, True)
        await asyncio.sleep(self._settings.back_off_ms / 1_000)

    async def _load(self) -> None:
        """Ask the reader where it is, and the log for the digest of what it applied last."""
        while self._unloaded:
            unloaded, self._unloaded = self._unloaded, {}
            try:
                await self._load_these(unloaded)
            except BaseException:
                self._unloaded = {**unloaded, **self._unloaded}
                raise
        self._progress.set()

    async def _load_these(self, unloaded: Mapping[int, bool]) -> None:
        behind = {shard: value for number, value in unloaded.items() for shard in self._shards_of(number)}
        positions = await self._positions(behind)
        for shard, is_behind in behind.items():
            position = positions.get(shard, 0)
            digest = await self._digest_at(shard, position)
            self._handed_over[shard] = position
            self._gates[shard] = ShardGate(shard, self._log.log_id, position, digest, behind=is_behind)

    async def _digest_at(self, shard: int, position: int) -> bytes:
        if position == 0:
            return GENESIS_DIGEST
        found = await self._log.read_shard(shard, position - 1, 1)
        if not found or found[0].position != position:
            raise ForkedError(f"shard {shard}: {position} was applied, but the log ends before")
        return found[0].digest

    async def _take(self, partition: int, records: Sequence[CarriedRecord]) -> None:
        if partition not in self._assigned:
            return
        fresh: list[T] = []
        reached: dict[int, int] = {}
        refilled: set[int] = set()
        for record in records:
            carried = self._carried(partition, record)
            gate = None if carried is None else self._gates.get(carried.commit.shard)
            if carried is None or gate is None:
                continue
            verdict = gate.offer(carried)
            if verdict is Verdict.APPLY:
                gate.advance(carried.commit)
                fresh.append(self._decode(carried.commit))
                reached[gate.shard] = gate.position
                self.metrics.carried += 1
            elif verdict is Verdict.DROP:
                self.metrics.dropped += 1
            else:
                self.metrics.unfit += 1
                if gate.shard in refilled:
                    # However many records do not fit, the log is read twice a turn at most: now and at its end.
                    gate.behind = True
                if gate.behind:
                    continue
                await self._hand_over(fresh, reached)
                fresh, reached = [], {}
                refilled.add(gate.shard)
                await self._refill(gate)
        await self._hand_over(fresh, reached)
        self._offsets[partition] = records[-1].offset + 1

    def _carried(self, partition: int, record: CarriedRecord) -> Carried | None:
        try:
            carried = carried_of(record)
        except ForgedRecordError as error:
            self.metrics.forged += 1
            _log.warning("a record was refused", partition=partition, offset=record.offset, error=str(error))
            return None
        if partition_of(carried.commit.shard, self._partitions) != partition:
            self.metrics.forged += 1
            return None
        return carried

    async def _refill(self, gate: ShardGate) -> None:
        """Read the shard from the log to its end."""
        self.metrics.refills += 1
        while commits := await self._log.read_shard(gate.shard, gate.position, self._settings.read_commits):
            for commit in commits:
                gate.follow_log(commit)
            self.metrics.refilled += len(commits)
            await self._hand_over([self._decode(commit) for commit in commits], {gate.shard: gate.position})
        gate.behind = False

    async def _hand_over(self, batch: Sequence[T], reached: Mapping[int, int]) -> None:
        if not batch:
            return
        result = self._handler(batch)
        if result is not None:
            await result
        self._handed_over.update(reached)
        self.metrics.batches += 1
        self._progress.set()

    async def _look_for_ever(self) -> None:
        while not self._is_closing:
            try:
                async with asyncio.timeout(self._settings.look_ms / 1_000):
                    await self._look_now.wait()
            except TimeoutError:
                pass  # It is time.
            self._look_now.clear()
            if not self._is_closing:
                await self._look()

    async def _look(self) -> None:
        """Refill what the log has more of: shards that stood still between two looks, or all while the carrier is away."""
        try:
            heads = await self._log.heads()
            self._heads = {shard: head.position for shard, head in heads.items()}
            async with self._turn:
                await self._load()
                for gate in tuple(self._gates.values()):
                    stood_still, gate.looked_at = gate.looked_at == gate.position, gate.position
                    is_late = self._heads.get(gate.shard, 0) > gate.position
                    if gate.behind or (is_late and (stood_still or self.is_away)):
                        await self._refill(gate)
            if self._looked is not None:
                await self._looked(self._heads)
        except ForkedError:
            raise
        except Exception as error:  # noqa: BLE001 - as above
            await self._start_over(error)

    async def _commit_in_time(self) -> None:
        now = asyncio.get_running_loop().time()
        if now - self._committed_at >= self._settings.commit_ms / 1_000:
            self._committed_at = now
            await self._commit(self._offsets)

    async def _commit(self, offsets: Mapping[int, int]) -> None:
        fresh = {
            number: offset for number, offset in offsets.items() if self._committed.get(number) != offset
        }
        if not fresh:
            return
        try:
            await self._source.commit(fresh)
            self._committed.update(fresh)
        except CarrierUnavailableError as error:
            # The next reader starts further back and drops what it has.
            self.metrics.commit_failures += 1
            _log.warning("offsets were not committed", error=str(error))
