"""The flush: decided commits of all shards of a node leave in one append, one at a time, at a steady pace."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

from commands.counters import FlushCounters
from commands.health import LogHealth
from commands.order import Decided, Order
from commands.pace import Pace
from commands.settings import NodeSettings
from commands.shards import OwnedShard
from commands.tasks import TaskOwner
from domain.errors import Problem
from eventlog.codec import frame_of, recorded
from eventlog.port import Log, LogUnavailableError, OutcomeUnknownError, ShardOutcome
from eventlog.record import Commit, Committed, Head

OUTCOME_UNKNOWN = Problem(
    "outcome_unknown", "the write may or may not have happened; repeat it with the same key"
)


class Built(NamedTuple):
    """A decided commit with its frame, and the head of its shard once it is durable."""

    decided: Decided
    committed: Committed
    head: Head


Settled = Callable[[Mapping[int, Sequence[Built]], Mapping[int, ShardOutcome]], None]
Refused = Callable[[Sequence[Decided]], None]


class Flusher:
    """Holds what is decided and not sent, and the one flush in flight.

    `settled` hears what became of a flush, `refused` that the store took nothing of it; both run on the loop and may add and
    withdraw. Used between `start` and `close`.
    """

    def __init__(
        self,
        log: Log,
        shards: Mapping[int, OwnedShard],
        settings: NodeSettings,
        health: LogHealth,
        settled: Settled,
        refused: Refused,
    ) -> None:
        self._log = log
        self._shards = shards
        self._settings = settings
        self._health = health
        self._settled = settled
        self._refused = refused
        self._next: list[Decided] = []
        self._flight: Sequence[Decided] = ()
        self._work = asyncio.Event()
        self._full = asyncio.Event()
        self._closing = False
        self._tasks = TaskOwner("flush", 1)
        self.counters = FlushCounters()

    def start(self) -> None:
        """Begin to flush."""
        self._tasks.start(self._run())

    async def close(self) -> Sequence[Decided]:
        """Flush what is there, within `close_s`; returns what is still unknown or unsent then."""
        self._closing = True
        self._work.set()
        self._full.set()
        await self._tasks.wait(self._settings.close_s)
        await self._tasks.close()
        return (*self._flight, *self._next)

    def add(self, decided: Decided) -> None:
        """One more for the next flush."""
        self._next.append(decided)
        self._work.set()
        if len(self._next) >= self._settings.flush_commits:
            self._full.set()

    def put_back(self, untried: Sequence[Decided]) -> None:
        """Documents that were not tried go first with the next flush, unchanged in content and order."""
        self._next[:0] = untried

    def withdraw(self, shard: int) -> list[Decided]:
        """Take back what waits for a shard, in order."""
        withdrawn = [decided for decided in self._next if decided.hot.shard == shard]
        self._next = [decided for decided in self._next if decided.hot.shard != shard]
        return withdrawn

    async def _run(self) -> None:
        loop = asyncio.get_running_loop()
        settings = self._settings
        busy_ms = max(settings.flush_pace_ms, settings.flush_busy_pace_ms)
        pace = Pace(settings.flush_pace_ms, busy_ms, settings.flush_busy_per_s)
        while True:
            await self._work.wait()
            if not self._next:
                if self._closing:
                    return
                self._work.clear()
                continue
            delay = pace.wait_s(loop.time())
            if delay > 0 and not self._closing and len(self._next) < settings.flush_commits:
                await self._pause(delay)
            pace.leaves(loop.time(), len(self._next))
            self._full.clear()
            await self._flush()

    async def _pause(self, delay_s: float) -> None:
        """Until the next flush is due, or a full batch waits."""
        timer = asyncio.get_running_loop().call_later(delay_s, self._full.set)
        try:
            await self._full.wait()
        finally:
            timer.cancel()

    async def _flush(self) -> None:
        """Send one batch until its outcome is known, then pass it on."""
        batch = self._next[: self._settings.flush_commits]
        del self._next[: self._settings.flush_commits]
        self._flight = batch
        built = self._build(batch)
        documents = {number: [row.committed.commit for row in rows] for number, rows in built.items()}
        started = asyncio.get_running_loop().time()
        try:
            outcomes = await self._append_surely(documents)
        except LogUnavailableError:
            self._flight = ()
            self._refused(batch)
            return
        self._flight = ()
        self.counters.flushed(len(batch), asyncio.get_running_loop().time() - started)
        self._settled(built, outcomes)

    def _build(self, batch: Sequence[Decided]) -> Mapping[int, Sequence[Built]]:
        """Frames in order: position, epoch and predecessor are set now, when nothing earlier can change any more."""
        built: dict[int, list[Built]] = defaultdict(list)
        heads: dict[int, Head] = {}
        for decided in batch:
            number = decided.hot.shard
            shard = self._shards[number]
            draft = decided.draft
            commit = frame_of(draft, self._log.log_id, number, shard.epoch, heads.get(number, shard.head))
            heads[number] = head = commit.head
            committed = recorded(commit, draft.events, draft.seqs, draft.trace)
            built[number].append(Built(decided, committed, head))
        return built

    async def _append_surely(self, documents: Mapping[int, Sequence[Commit]]) -> Mapping[int, ShardOutcome]:
        """Append; while the outcome is unknown, the identical documents to the identical positions again, with back-off.

        Without a bound on the number: a position may only be used for something else once its outcome is known. Callers are told in
        time, and closing ends it. A store that refuses a repetition says nothing about the try before it.
        """
        pause_ms = self._settings.resend_first_ms
        unknown = False
        while True:
            try:
                outcomes = await self._log.append(documents)
            except (LogUnavailableError, OutcomeUnknownError) as error:
                self._health.failed(error)
                self.counters.unknown_outcomes += isinstance(error, OutcomeUnknownError)
                unknown = unknown or isinstance(error, OutcomeUnknownError)
                if not unknown:
                    raise
            else:
                self._health.worked()
                return outcomes
            self.counters.resends += 1
            self._tell_overdue()
            await asyncio.sleep(pause_ms / 1_000)
            pause_ms = min(pause_ms * 2, self._settings.resend_max_ms)
            self._tell_overdue()

    def _tell_overdue(self) -> None:
        """Callers whose deadline passed hear `outcome_unknown`; the write itself goes on."""
        now = asyncio.get_running_loop().time()
        for order in orders_of((*self._flight, *self._next)):
            if order.deadline <= now:
                order.answer(OUTCOME_UNKNOWN)


def orders_of(batch: Sequence[Decided]) -> list[Order]:
    """The orders of decided commits and those that rest on them."""
    return [decided.order for decided in batch] + followers_of(batch)


def followers_of(batch: Sequence[Decided]) -> list[Order]:
    """The orders that rest on decided commits."""
    return [order for decided in batch for order, _ in decided.followers]
