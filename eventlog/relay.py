"""The relay: sends each shard's commits to the carrier, in position order, after they are durable.

It follows the bus, which tells only what a flush returned, and reads from the log whatever it did not hear of. One line per
partition has one batch in flight. After any failure the line stops, forgets the batch and reads again from the log behind
the last acknowledged position; so what stands in the carrier may repeat, but never skips.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Mapping, Sequence

import structlog

from eventlog.bus import Bus
from eventlog.carrier import CarrierUnavailableError, Sender, TopicMismatchError, partition_of
from eventlog.checkpoints import Checkpoint
from eventlog.kafka_record import record_of
from eventlog.port import Log, LogUnavailableError
from eventlog.record import Commit, Committed
from eventlog.relay_line import Line, RelayMetrics, RelaySettings

_log = structlog.get_logger(__name__)


__all__ = ["LogHoleError", "Relay", "RelayMetrics", "RelaySettings"]


class LogHoleError(RuntimeError):
    """The log ends before what the bus told of."""


class Relay:
    """Owns one task. `start` after the log is open, `close` before it is closed."""

    def __init__(
        self,
        log: Log,
        sender: Sender,
        checkpoint: Checkpoint,
        *,
        bus: Bus | None = None,
        shards: Collection[int] | None = None,
        settings: RelaySettings | None = None,
    ) -> None:
        self._log = log
        self._sender = sender
        self._checkpoint = checkpoint
        self._bus = bus
        self._settings = settings or RelaySettings()
        self._shards = set(range(log.shard_count + 1) if shards is None else shards)
        self._lines = [Line(number, self._settings.back_off_ms) for number in range(sender.partitions)]
        self._acknowledged: dict[int, int] = {}
        self._saved: dict[int, int] = {}
        self._received: dict[int, int] = {}
        """The newest position of each shard that is sent or waits."""
        self._seen: dict[int, int] = {}
        """The newest position of each shard that the bus or the log told of."""
        self._waiting = 0
        self._tick: asyncio.TimerHandle | None = None
        self._due = 0.0
        """When what the bus tells of may be sent; loop seconds."""
        self._generation = 0
        """Counts the starts of the sender: of lines that fail together, one starts it anew."""
        self._is_connected = False
        self._is_told_away = False
        self._connecting = asyncio.Lock()
        self._closing = asyncio.Event()
        self._progress = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._unfollow: Callable[[], None] | None = None
        self.metrics = RelayMetrics()

    async def start(self) -> None:
        """Load the checkpoint and begin; a carrier that is away is tried again in the background.

        Raises LogUnavailableError, and TopicMismatchError, which only a person can mend.
        """
        loaded = await self._checkpoint.load()
        heads = await self._log.heads()
        # A checkpoint of a log that lost its end would wait for positions that are written anew.
        self._acknowledged = {s: p for s, p in loaded.items() if s in heads and p <= heads[s].position}
        self._received = dict(self._acknowledged)
        try:
            await self._connect(self._generation)
        except CarrierUnavailableError as error:
            self._is_told_away = True
            _log.warning("the carrier is away; what is durable waits for it", error=str(error))
        if self._bus is not None:
            self._unfollow = self._bus.follow(self._follow)
        self.note_heads({shard: head.position for shard, head in heads.items()})
        self._task = asyncio.get_running_loop().create_task(self._run(), name="relay")

    def own(self, shards: Collection[int]) -> None:
        """Relay these shards from now on, and no others; what others relayed before comes twice at worst."""
        added = set(shards) - self._shards
        self._shards = set(shards)
        for shard in added:
            # Nothing of it waits: what was queued when it was given away has been sent or is skipped by `_take`.
            self._received[shard] = self._acknowledged.get(shard, 0)
            self._line(shard).behind.add(shard)
        self._wake_all()

    def note_heads(self, heads: Mapping[int, int]) -> None:
        """These positions are durable, as somebody says who knows: what is not here yet is read from the log at once.

        For a relay in another process than the owner, which has no bus: without it a commit waits for the next look.
        """
        for shard, position in heads.items():
            if shard in self._shards:
                self._seen[shard] = max(position, self._seen.get(shard, 0))
                if position > self._received.get(shard, 0):
                    self._line(shard).behind.add(shard)
        self._wake_all()

    @property
    def positions(self) -> Mapping[int, int]:
        """The last acknowledged position of each shard."""
        return self._acknowledged

    @property
    def lag(self) -> Mapping[int, int]:
        """How many commits of each of its shards are known and not acknowledged; shards without any are left out."""
        waiting = {
            shard: self._seen.get(shard, 0) - self._acknowledged.get(shard, 0) for shard in self._shards
        }
        return {shard: count for shard, count in waiting.items() if count > 0}

    @property
    def is_connected(self) -> bool:
        """Whether the last thing heard of the carrier was good."""
        return self._is_connected

    async def drained(self) -> None:
        """Wait until everything known of its shards is acknowledged. Cancellation leaves nothing."""
        while self.lag:
            self._progress.clear()
            await self._progress.wait()

    async def close(self) -> None:
        """Send what waits, for `drain_s` at most, save the checkpoint, end the task, close the sender. Idempotent."""
        if self._unfollow is not None:
            self._unfollow()
            self._unfollow = None
        self._closing.set()
        self._wake_all()
        task, self._task = self._task, None
        if task is not None:
            done, _ = await asyncio.wait([task], timeout=self._settings.drain_s)
            if not done:
                _log.warning("the relay leaves commits for later", commits=sum(self.lag.values()))
                task.cancel()
            await asyncio.gather(task, return_exceptions=True)
            await self._save()
        if self._tick is not None:
            self._tick.cancel()
            self._tick = None
        await self._sender.close()

    # The bus's side

    def _follow(self, batch: Sequence[Committed]) -> None:
        for committed in batch:
            commit = committed.commit
            shard, position = commit.shard, commit.position
            last = self._received.get(shard, 0)
            if position <= last or shard not in self._shards:
                continue
            self._seen[shard] = max(position, self._seen.get(shard, 0))
            line = self._line(shard)
            is_next = position == last + 1 and shard not in line.behind
            if is_next and self._waiting < self._settings.queue_commits_max:
                self._put(line, commit)
            else:
                line.behind.add(shard)
        if self._tick is None:
            loop = asyncio.get_running_loop()
            delay_s = self._due - loop.time()
            if delay_s > 0:
                self._tick = loop.call_later(delay_s, self._end_linger)
            else:
                self._end_linger()

    def _end_linger(self) -> None:
        self._tick = None
        self._due = asyncio.get_running_loop().time() + self._settings.linger_ms / 1_000
        self._wake_all()

    def _wake_all(self) -> None:
        for line in self._lines:
            if line.queue or line.behind or self._closing.is_set():
                line.wake.set()

    def _line(self, shard: int) -> Line:
        return self._lines[partition_of(shard, len(self._lines))]

    def _put(self, line: Line, commit: Commit) -> None:
        line.queue.append(commit)
        self._received[commit.shard] = commit.position
        self._waiting += 1

    # The lines

    async def _run(self) -> None:
        async with asyncio.TaskGroup() as group:
            helpers = [group.create_task(self._look()), group.create_task(self._keep())]
            lines = [group.create_task(self._serve(line)) for line in self._lines]
            await asyncio.wait(lines)
            for helper in helpers:
                helper.cancel()

    async def _serve(self, line: Line) -> None:
        """Sends what the line has; ends when it has nothing more and the relay closes."""
        while True:
            if not (line.queue or line.behind):
                if self._closing.is_set():
                    return
                await line.wake.wait()
                line.wake.clear()
                continue
            generation = self._generation
            try:
                await self._refill(line)
                batch = self._take(line)
                if batch:
                    await self._send(line, batch)
                line.back_off_ms = self._settings.back_off_ms
            except Exception as error:  # noqa: BLE001 - nothing is lost: the line begins again behind what was acknowledged
                self._stop_line(line, error)
                await self._pause(line)
                await self._reconnect(generation)

    async def _refill(self, line: Line) -> None:
        """Read on what the bus did not tell of, a page at a time; the bus goes on where the log ended."""
        while line.behind and not line.queue:
            shard = next(iter(line.behind))
            if shard not in self._shards:
                line.behind.discard(shard)
                continue
            turn = line.turn
            told, after = self._seen.get(shard, 0), self._received.get(shard, 0)
            commits = await self._log.read_shard(shard, after, self._settings.read_commits)
            if line.turn != turn:
                continue
            self.metrics.refills += 1
            for commit in commits:
                self._put(line, commit)
            if commits:
                self._seen[shard] = max(commits[-1].position, self._seen.get(shard, 0))
            elif told > after:
                raise LogHoleError(f"the log of shard {shard} ends at {after}, the bus told of {told}")
            elif self._seen.get(shard, 0) <= after:
                line.behind.discard(shard)

    def _take(self, line: Line) -> list[Commit]:
        """The next batch; what was given away meanwhile is not sent."""
        batch = line.take(self._settings.batch_records_max, self._settings.batch_bytes_max)
        self._waiting -= len(batch)
        return [commit for commit in batch if commit.shard in self._shards]

    async def _send(self, line: Line, batch: Sequence[Commit]) -> None:
        if not self._is_connected:
            raise CarrierUnavailableError("the carrier is away")
        turn = line.turn
        records = [record_of(commit) for commit in batch]
        first = await self._sender.send(line.partition, records)
        if line.turn != turn:
            raise CarrierUnavailableError("the line began again meanwhile")
        if first < line.ends_at:
            # Offsets never fall: somebody deleted the topic and made it again.
            self._begin_again(line)
            return
        line.ends_at = first + len(records)
        for commit in batch:
            self._acknowledged[commit.shard] = commit.position
        self.metrics.batches += 1
        self.metrics.records += len(batch)
        self.metrics.bytes += sum(len(commit.frame) for commit in batch)
        self._progress.set()

    # Failures

    def _stop_line(self, line: Line, error: Exception) -> None:
        self.metrics.failures += 1
        is_away = isinstance(error, CarrierUnavailableError)
        # When the carrier goes away, all lines stop again and again; that is told once.
        if self._is_connected or not is_away:
            _log.warning(
                "a relay line stopped and begins again behind what was acknowledged",
                partition=line.partition,
                error=f"{type(error).__name__}: {error}",
            )
        self._is_connected = self._is_connected and not is_away
        self._drop(line)

    def _drop(self, line: Line) -> None:
        """Forget what waits; it is read from the log again."""
        self._waiting -= len(line.queue)
        line.queue.clear()
        line.turn += 1
        for shard in self._shards_of(line):
            self._received[shard] = self._acknowledged.get(shard, 0)
            if self._seen.get(shard, 0) > self._received[shard]:
                line.behind.add(shard)

    def _begin_again(self, line: Line) -> None:
        """Send everything of the partition once more."""
        self.metrics.restarts += 1
        _log.warning("a partition lost what it had; it is filled from the log", partition=line.partition)
        line.ends_at = 0
        for shard in self._shards_of(line):
            self._acknowledged[shard] = 0
        self._drop(line)

    def _shards_of(self, line: Line) -> list[int]:
        return [shard for shard in self._shards if self._line(shard) is line]

    async def _pause(self, line: Line) -> None:
        """Longer after each failure; `close` does not cut it short, but bounds it."""
        await asyncio.sleep(line.back_off_ms / 1_000)
        line.back_off_ms = min(line.back_off_ms * 2, self._settings.back_off_ms_max)

    async def _reconnect(self, generation: int) -> None:
        try:
            await self._connect(generation)
        except (CarrierUnavailableError, TopicMismatchError, LogUnavailableError) as error:
            # The log is looked at as well: whether the carrier has of it what it lost itself.
            if not self._is_told_away:
                self._is_told_away = True
                away = "log" if isinstance(error, LogUnavailableError) else "carrier"
                _log.warning(f"the {away} is away; what is durable waits for it", error=str(error))

    async def _connect(self, generation: int) -> None:
        """Start the sender anew, once for all lines that failed under the same start."""
        async with self._connecting:
            if generation != self._generation or self._is_connected:
                return
            await self._sender.abandon()
            ends = await self._sender.start()
            self._generation += 1
            self._is_connected = True
            if self._is_told_away:
                self._is_told_away = False
                _log.info("the carrier is back")
            for line in self._lines:
                had_something = any(self._acknowledged.get(shard) for shard in self._shards_of(line))
                if ends.get(line.partition, 0) < line.ends_at or (
                    had_something and not ends.get(line.partition)
                ):
                    self._begin_again(line)
        self._wake_all()

    # Beside the lines

    async def _look(self) -> None:
        """The bus is only a hint, and a relay beside the owner has none at all."""
        while True:
            await asyncio.sleep(self._settings.look_ms / 1_000)
            try:
                heads = await self._log.heads()
            except Exception as error:  # noqa: BLE001 - it looks again
                _log.warning("the relay could not look at the log", error=type(error).__name__)
                continue
            self.note_heads({shard: head.position for shard, head in heads.items()})

    async def _keep(self) -> None:
        while True:
            await asyncio.sleep(self._settings.checkpoint_ms / 1_000)
            await self._save()

    async def _save(self) -> None:
        positions = dict(self._acknowledged)
        if positions == self._saved:
            return
        try:
            await self._checkpoint.save(positions)
        except Exception as error:  # noqa: BLE001 - it may lag; the next one is as good
            self.metrics.checkpoint_failures += 1
            _log.warning("the relay's checkpoint was not saved", error=type(error).__name__)
        else:
            self._saved = positions
