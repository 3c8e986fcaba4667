"""The runner: follows the bus, lingers, and hands batches to the projections in one writer thread.

The bus is only a hint of what the log holds: what was missed, refused by a full queue or came out of order is read from the log.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Collection, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from typing import TypeVar

import msgspec
import structlog

from domain.errors import Problem
from eventlog.bus import Bus
from eventlog.codec import EventCodec
from eventlog.port import Log
from eventlog.record import Commit, Committed
from projections.health import ViewsHealth
from projections.projection import ParkedStream, Projection, Received, received_of
from projections.runner_metrics import RunnerMetrics

_log = structlog.get_logger(__name__)

STREAM_COMMITS_MAX = 1_000
T = TypeVar("T")


class RunnerSettings(msgspec.Struct, frozen=True, kw_only=True):
    """`linger_ms`: how long a batch gathers; `lazy_linger_ms`: how long for lazy projections, whose readers ask for freshness.

    `queue_commits_max`: what waits in memory; more is read from the log again.
    """

    linger_ms: int = 50
    lazy_linger_ms: int = 2_000
    lazy_commits_max: int = 2_000
    queue_commits_max: int = 20_000
    span_commits: int = 1_000
    failure_pause_ms: int = 500


Applied = Callable[[Sequence[Received], float], None]
"""Hears of a batch that all prompt projections applied, and the seconds it took."""


class Runner:
    """Owns the pump task and the writer thread. Use `start` after the log is open and before commands run; `close` drains."""

    def __init__(
        self,
        log: Log,
        bus: Bus,
        codec: EventCodec,
        projections: Sequence[Projection],
        settings: RunnerSettings | None = None,
    ) -> None:
        self._log = log
        self._bus = bus
        self._codec = codec
        self.projections = list(projections)
        self._settings = settings or RunnerSettings()
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="views-write")
        self._queue: list[Received] = []
        self._lazy: list[Received] = []
        """Applied to the prompt projections, not to the lazy ones."""
        self._lazy_wanted = False
        self._lazy_timer: asyncio.TimerHandle | None = None
        self._received: dict[int, int] = {}
        """The newest position of each shard that is applied or queued."""
        self._seen: dict[int, int] = {}
        """The newest position of each shard that the bus or the log told of."""
        self._behind: set[int] = set()
        """Shards with something in the log that is not queued."""
        self._wake = asyncio.Event()
        self._hurry = asyncio.Event()
        self._closing = False
        self._pump: asyncio.Task[None] | None = None
        self._unfollow: Callable[[], None] | None = None
        self._waiters: list[tuple[dict[int, int], tuple[Projection, ...], asyncio.Future[None]]] = []
        self._turn = asyncio.Lock()
        self.health = ViewsHealth()
        self.metrics = RunnerMetrics()
        self.applied: Applied | None = None
        """For traces."""

    async def start(self) -> None:
        """Follow the bus and catch up with the log in the background; `caught_up` waits for it."""
        self._received = self.positions()
        self._unfollow = self._bus.follow(self._follow)
        self._note_heads({shard: head.position for shard, head in (await self._log.heads()).items()})
        self._pump = asyncio.get_running_loop().create_task(self._run(), name="views-pump")

    def positions(self) -> dict[int, int]:
        """What every projection has applied, by shard."""
        shards = {shard for projection in self.projections for shard in projection.positions}
        applied = {s: min((p.positions.get(s, 0) for p in self.projections), default=0) for s in shards}
        return {shard: position for shard, position in applied.items() if position}

    @property
    def lag_commits(self) -> int:
        """How many known commits are not in all views."""
        positions = self.positions()
        return sum(max(0, seen - positions.get(shard, 0)) for shard, seen in self._seen.items())

    def lag_of(self, projection: Projection) -> dict[int, int]:
        """How many known commits of each shard are not in this view; shards without any are left out."""
        held = projection.positions
        waiting = {shard: seen - held.get(shard, 0) for shard, seen in self._seen.items()}
        return {shard: count for shard, count in waiting.items() if count > 0}

    @property
    def queued_commits(self) -> int:
        """Commits in memory that wait to be applied, to lazy projections too."""
        return len(self._queue) + len(self._lazy)

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
        if _hold(awaited, positions):
            return
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        waiter = (dict(positions), awaited, future)
        self._waiters.append(waiter)
        self._look_for(positions)
        self.hurry(lazy=any(projection.lazy for projection in awaited))
        try:
            async with asyncio.timeout(timeout_s):
                await future
        except TimeoutError:
            raise Problem(
                "unavailable", "the views are behind", retry_after_ms=self._settings.linger_ms
            ) from None
        finally:
            if waiter in self._waiters:
                self._waiters.remove(waiter)

    async def freshen(self, names: Collection[str] | None = None) -> None:
        """Wait until everything that was told of before is in the named views (None: in all that are not lazy)."""
        await self.caught_up(dict(self._seen), names=names)

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
        """Feed `new` in place of `old`, which stands at the same positions. Call while paused."""
        self.projections[self.projections.index(old)] = new

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
        for _, _, future in self._waiters:
            if not future.done():
                future.set_exception(Problem("unavailable", "the views are closed"))
        self._waiters.clear()
        await asyncio.to_thread(self._thread.shutdown)

    # The bus's side

    def _follow(self, batch: Sequence[Committed]) -> None:
        received = self._received
        for committed in batch:
            commit = committed.commit
            shard, position = commit.shard, commit.position
            last = received.get(shard, 0)
            if position <= last:
                continue
            self._seen[shard] = max(position, self._seen.get(shard, 0))
            if (
                position == last + 1
                and shard not in self._behind
                and len(self._queue) < self._settings.queue_commits_max
            ):
                self._queue.append(committed)
                received[shard] = position
            else:
                self._behind.add(shard)
        self._wake.set()

    def _note_heads(self, heads: Mapping[int, int]) -> None:
        for shard, position in heads.items():
            self._seen[shard] = max(position, self._seen.get(shard, 0))
            if position > self._received.get(shard, 0):
                self._behind.add(shard)
        self._wake.set()

    def _look_for(self, positions: Mapping[int, int]) -> None:
        """Positions that nobody told of yet may be in the log already."""
        for shard, position in positions.items():
            if position > self._received.get(shard, 0):
                self._behind.add(shard)

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
            except Exception as error:  # noqa: BLE001 - nothing is lost: what is missing is read from the log
                self.metrics.failures += 1
                self.health.failed(error)
                self._start_over()
                if self._closing:
                    return
                await asyncio.sleep(self._settings.failure_pause_ms / 1_000)
                self._wake.set()
            if self._closing and not self._queue and not self._behind:
                await asyncio.get_running_loop().run_in_executor(self._thread, self._flush_positions)
                return

    async def _linger(self) -> None:
        """Let a batch gather; `kick` cuts it short."""
        try:
            async with asyncio.timeout(self._settings.linger_ms / 1_000):
                await self._hurry.wait()
        except TimeoutError:
            return

    async def _turn_over(self) -> None:
        while self._queue or self._behind:
            batch, self._queue = self._queue, []
            if batch:
                await self._apply(batch)
            for shard in tuple(self._behind):
                await self._refill(shard)
        if self._lazy and (self._lazy_wanted or self._closing):
            await self._apply_lazy()
        self._lazy_wanted = False
        self._tell_waiters()

    async def _refill(self, shard: int) -> None:
        """Queue nothing for the shard until the log has no more; then the bus goes on where the log ended."""
        self.metrics.refills += 1
        while True:
            after = self._received.get(shard, 0)
            commits = await self._log.read_shard(shard, after, self._settings.span_commits)
            if not commits:
                if self._seen.get(shard, 0) > after:
                    raise RuntimeError(f"the log of shard {shard} ends before what the bus told of")
                self._behind.discard(shard)
                return
            self._received[shard] = commits[-1].position
            self._seen[shard] = max(commits[-1].position, self._seen.get(shard, 0))
            await self._apply(
                await asyncio.get_running_loop().run_in_executor(self._thread, self._decode, commits)
            )

    async def _apply(self, batch: Sequence[Received]) -> None:
        def apply() -> None:
            for projection in self.projections:
                if not projection.lazy:
                    projection.take(batch)

        loop = asyncio.get_running_loop()
        began = loop.time()
        await self.in_writer(apply)
        seconds = loop.time() - began
        self.metrics.batch_commits.add(len(batch))
        self.metrics.batch_seconds.add(seconds)
        if self.applied is not None:
            self.applied(batch, seconds)
        self._lazy += batch
        if len(self._lazy) >= self._settings.lazy_commits_max:
            await self._apply_lazy()
        elif self._lazy_timer is None:
            delay_s = self._settings.lazy_linger_ms / 1_000
            self._lazy_timer = asyncio.get_running_loop().call_later(delay_s, self._want_lazy)
        self._tell_waiters()

    async def _apply_lazy(self) -> None:
        batch, self._lazy = self._lazy, []
        if self._lazy_timer is not None:
            self._lazy_timer.cancel()
            self._lazy_timer = None

        def apply() -> None:
            for projection in self.projections:
                if projection.lazy:
                    projection.take(batch)

        await self.in_writer(apply)

    def _want_lazy(self) -> None:
        self._lazy_timer = None
        self._lazy_wanted = True
        self._wake.set()

    def _decode(self, commits: Sequence[Commit]) -> list[Received]:
        return [received_of(self._codec, commit) for commit in commits]

    def _start_over(self) -> None:
        self._queue.clear()
        self._lazy.clear()
        self._received = self.positions()
        self._behind.update(self._seen)

    def _flush_positions(self) -> None:
        for projection in self.projections:
            projection.flush_positions()

    def _tell_waiters(self) -> None:
        if not self._waiters:
            return
        waiting = []
        for waiter in self._waiters:
            positions, awaited, future = waiter
            if future.done():
                continue
            if _hold(awaited, positions):
                future.set_result(None)
            else:
                waiting.append(waiter)
        self._waiters = waiting

    async def _stream(self, parked: ParkedStream) -> AsyncIterator[Received]:
        after = parked.from_version - 1
        while True:
            commits = await self._log.read_stream(parked.shard, parked.stream, after, STREAM_COMMITS_MAX)
            if not commits:
                return
            for commit in commits:
                yield received_of(self._codec, commit)
            after = commits[-1].first_version + commits[-1].events_count - 1


def _hold(projections: Iterable[Projection], positions: Mapping[int, int]) -> bool:
    return all(
        projection.positions.get(shard, 0) >= position
        for projection in projections
        for shard, position in positions.items()
    )
