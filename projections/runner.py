"""The runner: follows the bus, lingers, and hands batches to the projections in one writer thread.

The bus is only a hint of what the log holds: what was missed, refused by a full queue or came out of order is read from the log.
Of views that others write too it applies the shards that it was given, and is refused where somebody else moved one on; then it goes on
from where the view stands.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Callable, Collection, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from typing import TypeVar

from domain.errors import Problem
from eventlog.bus import Bus
from eventlog.codec import EventCodec
from eventlog.port import Log
from eventlog.received import Received, received_of
from eventlog.record import Commit
from projections.health import ViewsHealth
from projections.intake import Intake
from projections.projection import ParkedStream, Projection
from projections.runner_metrics import RunnerMetrics
from projections.runner_settings import RunnerSettings
from projections.store import StaleWriterError
from projections.waiting import Waiters, hold

__all__ = ["Runner", "RunnerSettings"]

STREAM_COMMITS_MAX = 1_000
STALE_MAX = 20
"""So often in a row a runner is refused as stale before that is told of as a failure."""
T = TypeVar("T")


Applied = Callable[[Sequence[Received], float], None]
"""Hears of a batch that all prompt projections applied, and the seconds it took."""
Contested = Callable[[frozenset[int]], Collection[int]]
"""Hears of shards that somebody else moved on while this runner had them too; answers which of them to give up."""


class Runner:
    """Owns the pump task and the writer thread. Use `start` after the log is open and before commands run; `close` drains.

    `shards`: those that it applies at first, None for all and for ever; see `gain` and `lose`.
    """

    def __init__(
        self,
        log: Log,
        bus: Bus,
        codec: EventCodec,
        projections: Sequence[Projection],
        settings: RunnerSettings | None = None,
        shards: Collection[int] | None = None,
    ) -> None:
        self._log = log
        self._bus = bus
        self._codec = codec
        self.projections = list(projections)
        self._settings = settings or RunnerSettings()
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="views-write")
        self._intake = Intake(shards, self._settings.queue_commits_max)
        self._lazy_wanted = False
        self._lazy_timer: asyncio.TimerHandle | None = None
        self._wake = asyncio.Event()
        self._hurry = asyncio.Event()
        self._closing = False
        self._pump: asyncio.Task[None] | None = None
        self._unfollow: Callable[[], None] | None = None
        self._waiters = Waiters()
        self._stale = 0
        self._turn = asyncio.Lock()
        self.health = ViewsHealth()
        self.metrics = RunnerMetrics()
        self.applied: Applied | None = None
        """For traces."""
        self.contested: Contested | None = None
        """For whoever gives the shards."""

    async def start(self) -> None:
        """Follow the bus and catch up with the log in the background; `caught_up` waits for it."""
        self._intake.received = self._intake.own(self.positions())
        self._unfollow = self._bus.follow(self.follow)
        self.note_heads({shard: head.position for shard, head in (await self._log.heads()).items()})
        self._pump = asyncio.get_running_loop().create_task(self._run(), name="views-pump")

    # Shards that come and go

    @property
    def shards(self) -> frozenset[int] | None:
        """Those that it applies; None: all."""
        shards = self._intake.shards
        return None if shards is None else frozenset(shards)

    def owns(self, shard: int) -> bool:
        """Whether it applies that shard."""
        return self._intake.owns(shard)

    async def gain(self, shards: Collection[int]) -> None:
        """Apply these too, from where each view stands in its store by now; `note_heads` tells how far there is to go."""
        async with self._turn:
            fresh = [shard for shard in shards if not self.owns(shard)]
            if fresh:
                await asyncio.get_running_loop().run_in_executor(self._thread, self._find_again)
                self._intake.gain(fresh, self.positions())
                self.metrics.gained += len(fresh)
                self._tell_contested(fresh)

    async def lose(self, shards: Collection[int]) -> None:
        """Apply these no longer, once the batch at hand is written. What of them waits is dropped: whoever has them next reads the log."""
        async with self._turn:
            gone = [shard for shard in shards if self.owns(shard)]
            self._intake.lose(gone)
            self.metrics.lost += len(gone)

    def _find_again(self) -> None:
        for projection in self.projections:
            projection.find_again()

    def _tell_contested(self, fresh: Collection[int] = ()) -> None:
        """Tell of shards that were found further on than this runner left them."""
        moved: set[int] = set()
        for projection in self.projections:
            moved |= projection.moved
            projection.moved.clear()
        contested = frozenset(shard for shard in moved.difference(fresh) if self.owns(shard))
        if contested and self.contested is not None:
            self.metrics.contested += len(contested)
            self._intake.lose(self.contested(contested))

    # How far it is

    def positions(self) -> dict[int, int]:
        """What every projection has applied, by shard."""
        shards = {shard for projection in self.projections for shard in projection.positions}
        applied = {s: min((p.positions.get(s, 0) for p in self.projections), default=0) for s in shards}
        return {shard: position for shard, position in applied.items() if position}

    @property
    def lag_commits(self) -> int:
        """How many known commits are not in all views."""
        positions = self.positions()
        return sum(max(0, seen - positions.get(shard, 0)) for shard, seen in self._intake.seen.items())

    def lag_of(self, projection: Projection) -> dict[int, int]:
        """How many known commits of each shard are not in this view; shards without any are left out."""
        held = projection.positions
        waiting = {shard: seen - held.get(shard, 0) for shard, seen in self._intake.seen.items()}
        return {shard: count for shard, count in waiting.items() if count > 0}

    @property
    def queued_commits(self) -> int:
        """Commits in memory that wait to be applied, to lazy projections too."""
        return len(self._intake.queue) + len(self._intake.lazy)

    def kick(self) -> None:
        """Apply what waits at once, without lingering."""
        self._hurry.set()
        self._wake.set()

    def hurry(self, *, lazy: bool) -> None:
        """Somebody waits: as `kick`, and with `lazy` the lazy projections too."""
        self._lazy_wanted = self._lazy_wanted or lazy
        self.kick()

    async def caught_up(
        self, positions: Mapping[int, int], timeout_s: float = 2.0, names: Collection[str] | None = None
    ) -> None:
        """Wait until the named views (None: all that are not lazy) hold these positions.

        Raises Problem("unavailable") after `timeout_s`. Cancellation leaves nothing.
        """
        awaited = tuple(p for p in self.projections if (not p.lazy if names is None else p.name in names))
        if hold(awaited, positions):
            return
        self._intake.look_for(positions)
        self.hurry(lazy=any(projection.lazy for projection in awaited))
        await self._waiters.wait(awaited, positions, timeout_s, self._settings.linger_ms)

    async def freshen(self, names: Collection[str] | None = None) -> None:
        """Wait until everything that was told of before is in the named views (None: in all that are not lazy)."""
        await self.caught_up(dict(self._intake.seen), names=names)

    async def in_writer(self, work: Callable[[], T]) -> T:
        """Run `work` in the writer thread while no batch is applied."""
        async with self._turn:
            return await asyncio.get_running_loop().run_in_executor(self._thread, work)

    @asynccontextmanager
    async def paused(self) -> AsyncIterator[None]:
        """Nothing is applied meanwhile; what comes is queued."""
        async with self._turn:
            yield

    def replace(self, old: Projection, new: Projection) -> None:
        """Feed `new` in place of `old`. What it lacks of what was received is read from the log. Call while paused."""
        self.projections[self.projections.index(old)] = new
        if any(
            new.positions.get(shard, 0) < position and self.owns(shard)
            for shard, position in old.positions.items()
        ):
            self._intake.start_over(self.positions())
            self._wake.set()

    async def parked(self) -> list[ParkedStream]:
        """All parked streams of all projections."""
        return await self.in_writer(
            lambda: [parked for projection in self.projections for parked in projection.parked()]
        )

    async def retry(self, projection_name: str, stream: str, *, skip_because: str | None = None) -> bool:
        """Read a parked stream on; with `skip_because` without the event it stopped at. Whether it is parked no longer.

        Raises `not_found` for what is not parked.
        """
        await self.freshen([projection_name])
        projection = next((p for p in self.projections if p.name == projection_name), None)
        parked = next(
            (p for p in await self.parked() if p.projection == projection_name and p.stream == stream), None
        )
        if projection is None or parked is None:
            raise Problem("not_found", "no such parked stream")
        if not self.owns(parked.shard):
            raise Problem("conflict", f"another projector writes shard {parked.shard}; ask the others")
        skip = None if skip_because is None else (parked.from_version, skip_because)
        async with self._turn:
            commits = [received async for received in self._stream(parked)]
            return await asyncio.get_running_loop().run_in_executor(
                self._thread, projection.retry, stream, commits, skip
            )

    async def close(self) -> None:
        """Apply what was received, make the positions durable, end the task and the thread. Idempotent."""
        if self._unfollow is not None:
            self._unfollow()
            self._unfollow = None
        self._closing = True
        self.kick()
        if self._lazy_timer is not None:
            self._lazy_timer.cancel()
            self._lazy_timer = None
        if self._pump is not None:
            await asyncio.gather(self._pump, return_exceptions=True)
            self._pump = None
        self._waiters.end()
        await asyncio.to_thread(self._thread.shutdown)

    # The bus's side

    def follow(self, batch: Sequence[Received]) -> None:
        """What is in the log by now; each shard's commits in position order, as far as they are here."""
        self._intake.follow(batch)
        self._wake.set()

    def note_heads(self, heads: Mapping[int, int]) -> None:
        """Where the log's shards end; what of it is not queued is read."""
        self._intake.note_heads(heads)
        self._wake.set()

    # The pump

    async def _run(self) -> None:
        while True:
            await self._wake.wait()
            try:
                await self._linger()
                self._wake.clear()
                self._hurry.clear()
                await self._turn_over()
                self.health.worked()
                self._stale = 0
            except Exception as error:  # noqa: BLE001 - nothing is lost: what is missing is read from the log
                pause_ms = self._failed(error)
                self._start_over()
                if self._closing:
                    return
                await asyncio.sleep(pause_ms / 1_000)
                self._wake.set()
            if self._closing and not self._intake.queue and not self._intake.behind:
                await asyncio.get_running_loop().run_in_executor(self._thread, self._flush_positions)
                return

    def _failed(self, error: Exception) -> float:
        """How long to pause. Whoever met another writer does so for a time of his own, or they would meet again."""
        pause_ms = float(self._settings.failure_pause_ms)
        if isinstance(error, StaleWriterError):
            self.metrics.stale += 1
            self._stale += 1
            pause_ms *= random.random()  # noqa: S311 - spreads tries
            if self._stale < STALE_MAX:
                return pause_ms
        self.metrics.failures += 1
        self.health.failed(error)
        return pause_ms

    async def _linger(self) -> None:
        """Let a batch gather; `kick` cuts it short."""
        try:
            async with asyncio.timeout(self._settings.linger_ms / 1_000):
                await self._hurry.wait()
        except TimeoutError:
            return

    async def _turn_over(self) -> None:
        intake = self._intake
        while intake.queue or intake.behind:
            batch, intake.queue = intake.queue, []
            if batch:
                await self._apply(batch)
            for shard in tuple(intake.behind):
                await self._refill(shard)
        if intake.lazy and (self._lazy_wanted or self._closing):
            await self._apply_lazy()
        self._lazy_wanted = False
        self._waiters.tell()

    async def _refill(self, shard: int) -> None:
        """Queue nothing for the shard until the log has no more; then the bus goes on where the log ended."""
        self.metrics.refills += 1
        intake = self._intake
        while shard in intake.behind:
            after = intake.received.get(shard, 0)
            commits = await self._log.read_shard(shard, after, self._settings.span_commits)
            if not self.owns(shard):
                return
            if not commits:
                if intake.seen.get(shard, 0) > after:
                    raise RuntimeError(f"the log of shard {shard} ends before what the bus told of")
                intake.behind.discard(shard)
                return
            intake.read(shard, commits[-1].position)
            await self._apply(
                await asyncio.get_running_loop().run_in_executor(self._thread, self._decode, commits)
            )

    async def _apply(self, batch: list[Received]) -> None:
        loop = asyncio.get_running_loop()
        began = loop.time()
        async with self._turn:
            batch = self._intake.owned_of(batch)
            await loop.run_in_executor(self._thread, self._take, batch, False)
            self._intake.lazy += batch
        seconds = loop.time() - began
        self.metrics.batch_commits.add(len(batch))
        self.metrics.batch_seconds.add(seconds)
        if self.applied is not None:
            self.applied(batch, seconds)
        if len(self._intake.lazy) >= self._settings.lazy_commits_max:
            await self._apply_lazy()
        elif self._lazy_timer is None:
            delay_s = self._settings.lazy_linger_ms / 1_000
            self._lazy_timer = asyncio.get_running_loop().call_later(delay_s, self._want_lazy)
        self._waiters.tell()

    async def _apply_lazy(self) -> None:
        if self._lazy_timer is not None:
            self._lazy_timer.cancel()
            self._lazy_timer = None
        async with self._turn:
            batch, self._intake.lazy = self._intake.lazy, []
            await asyncio.get_running_loop().run_in_executor(self._thread, self._take, batch, True)

    def _take(self, batch: Sequence[Received], lazy: bool) -> None:
        for projection in self.projections:
            if projection.lazy == lazy:
                projection.take(batch)

    def _want_lazy(self) -> None:
        self._lazy_timer = None
        self._lazy_wanted = True
        self._wake.set()

    def _decode(self, commits: Sequence[Commit]) -> list[Received]:
        return [received_of(self._codec, commit) for commit in commits]

    def _start_over(self) -> None:
        self._intake.start_over(self.positions())
        self._tell_contested()

    def _flush_positions(self) -> None:
        for projection in self.projections:
            projection.flush_positions()

    async def _stream(self, parked: ParkedStream) -> AsyncIterator[Received]:
        after = parked.from_version - 1
        while True:
            commits = await self._log.read_stream(parked.shard, parked.stream, after, STREAM_COMMITS_MAX)
            if not commits:
                return
            for commit in commits:
                yield received_of(self._codec, commit)
            after = commits[-1].first_version + commits[-1].events_count - 1
