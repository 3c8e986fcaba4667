"""The node: the one writer of its shards. Orders come in, are decided while a flush is on its way, and leave with the next one.

Order of arrival is kept per stream. No answer leaves before what it was decided on is durable. The flush belongs to the node, not to
the shard: it carries the waiting commits of all shards, one flush in flight.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import structlog

from commands.caller import Answer
from commands.deciding import decide
from commands.hotset import HotSet
from commands.order import Decided, Hot, Order
from commands.settings import NodeSettings
from commands.shards import OwnedShard, open_shards
from commands.tasks import TaskOwner
from domain.aggregates import State
from domain.errors import Problem
from eventlog.bus import Bus
from eventlog.codec import EventCodec, frame_of, recorded
from eventlog.port import Log, LogUnavailableError, OutcomeUnknownError, Refusal, RefusalReason, ShardOutcome
from eventlog.record import Commit, Committed, Head
from eventlog.registry import UnknownEventError
from eventlog.snapshots import Snapshots

_log = structlog.get_logger(__name__)

_UNAVAILABLE = Problem(
    "unavailable", "the event log cannot be written at the moment; try again", retry_after_ms=1_000
)
_LOST = Problem("unavailable", "this shard has moved to another server; try again", retry_after_ms=500)
_CLOSED = Problem("unavailable", "the server is shutting down; try again", retry_after_ms=2_000)
_UNREADABLE = Problem(
    "unavailable", "the history of this stream cannot be read by this version of the server"
)
_UNKNOWN = Problem("outcome_unknown", "the write may or may not have happened; repeat it with the same key")


class Built(NamedTuple):
    """A decided commit with its frame, and the head of its shard once it is durable."""

    decided: Decided
    committed: Committed
    head: Head


class NodeCounters:
    """Plain counters for metrics and benchmarks; read from outside."""

    __slots__ = ("commits", "events", "flush_seconds", "flushes", "redecided", "refused_documents", "resends")

    def __init__(self) -> None:
        self.commits = 0
        self.events = 0
        self.flushes = 0
        self.flush_seconds = 0.0
        self.redecided = 0
        self.refused_documents = 0
        self.resends = 0


class Node:
    """Owns shards of a log. `open` before the first order, `close` at the end; both once."""

    def __init__(
        self,
        log: Log,
        codec: EventCodec,
        bus: Bus,
        clock: Callable[[], int],
        settings: NodeSettings,
        *,
        name: str = "embedded",
        snapshots: Snapshots | None = None,
    ) -> None:
        self._log = log
        self._codec = codec
        self._bus = bus
        self._clock = clock
        self._settings = settings
        self._name = name
        self._hot = HotSet(log, codec, snapshots, settings)
        self._shards: dict[int, OwnedShard] = {}
        self._next: list[Decided] = []
        self._flight: list[Decided] = []
        self._orders = 0
        self._order_number = 0
        self._warming = TaskOwner("node-warming", settings.queue_orders)
        self._loads = asyncio.Semaphore(settings.warming_streams)
        self._flushing = TaskOwner("node-flushing", 1)
        self._work = asyncio.Event()
        self._full = asyncio.Event()
        self._closing = False
        self._flusher: asyncio.Task[None] | None = None
        self.writable = True
        """False after a flush that the store refused, until one succeeds."""
        self.counters = NodeCounters()

    async def open(self, shards: Sequence[int] | None = None) -> None:
        """Take over the shards (default: all) and start flushing. Raises as `open_shards` does."""
        owned = range(self._log.shard_count) if shards is None else shards
        self._shards, committed = _mutable(
            await open_shards(self._log, self._codec, owned, self._name, self._clock())
        )
        self._bus.publish(committed)
        self._flusher = self._flushing.start(self._flush_forever())

    async def close(self) -> None:
        """Refuse new orders, flush what is decided, answer everything, within `close_s`. Idempotent.

        What is still unknown then is told `outcome_unknown`.
        """
        if self._closing:
            return
        self._closing = True
        await self._warming.close()
        for hot in self._hot.all():
            self._give_up(hot, _CLOSED)
        self._work.set()
        self._full.set()
        if self._flusher is not None:
            await asyncio.wait([self._flusher], timeout=self._settings.close_s)
        await self._flushing.close()
        for decided in (*self._flight, *self._next):
            for order in (decided.order, *(order for order, _ in decided.followers)):
                self._finish(order, _UNKNOWN)
        await self._hot.snapshot_all()

    def head_positions(self) -> Mapping[int, int]:
        """{shard: position} of everything that is durable."""
        return {number: shard.head.position for number, shard in self._shards.items()}

    @property
    def queued_orders(self) -> int:
        """Orders inside the node."""
        return self._orders

    # --- orders in ---------------------------------------------------------------------------------------------------------------

    def submit(self, order: Order) -> None:
        """Take an order; its `done` is called later, or at once with a refusal. Raises nothing."""
        if self._closing or self._orders >= self._settings.queue_orders:
            order.answer(_CLOSED if self._closing else self._overloaded())
            return
        self._order_number += 1
        order.number = self._order_number
        order.arrived_at = self._clock()
        order.deadline = asyncio.get_running_loop().time() + self._settings.deadline_s
        self._orders += 1
        self._route(order)

    def _overloaded(self) -> Problem:
        return Problem(
            "overloaded",
            "too many requests are waiting; try again",
            retry_after_ms=self._settings.overloaded_retry_ms,
        )

    def _route(self, order: Order) -> None:
        """Decide at once when the stream is hot and its keys are known, else wait in line at the stream."""
        try:
            hot = self._hot.get(order.stream)
        except Problem as problem:
            self._finish(order, problem)
            return
        if hot.waiting or not self._ready(hot, order):
            self._wait(hot, order)
        else:
            self._decide(hot, order)

    def _ready(self, hot: Hot, order: Order) -> bool:
        if not hot.loaded:
            return False
        if not order.client_keyed or order.looked_up:
            return True
        return hot.keys_complete and order.key not in hot.keys

    def _wait(self, hot: Hot, order: Order) -> None:
        hot.waiting.append(order)
        if len(hot.waiting) > 1:
            return
        self._warming.start(self._warm(hot))

    async def _warm(self, hot: Hot) -> None:
        """Load the stream, look up the keys of those who wait, decide them in order; until nobody waits."""
        try:
            while hot.waiting:
                if not hot.loaded:
                    async with self._loads:
                        await self._hot.load(hot)
                await self._look_up(hot)
                waiting, hot.waiting = hot.waiting, []
                for order in waiting:
                    if hot.waiting or not self._ready(hot, order):
                        hot.waiting.append(order)
                    else:
                        self._decide(hot, order)
        except UnknownEventError as error:
            _log.error("stream cannot be read", stream=hot.stream, error=str(error))
            self._give_up(hot, _UNREADABLE)
        except LogUnavailableError as error:
            _log.error("log cannot be read", stream=hot.stream, error=type(error).__name__)
            self._give_up(hot, _UNAVAILABLE)
        except BaseException:
            self._give_up(hot, _UNAVAILABLE)
            raise
        if self._hot.over:
            await self._hot.trim()

    def _give_up(self, hot: Hot, problem: Problem) -> None:
        if not hot.loaded:
            self._hot.forget(hot)
        waiting, hot.waiting = hot.waiting, []
        for order in waiting:
            self._finish(order, problem)

    async def _look_up(self, hot: Hot) -> None:
        """Ask the log for the keys that memory cannot answer; a key that is found answers its order from the record."""
        asked = [order for order in hot.waiting if not self._ready(hot, order)]
        if not asked:
            return
        found = await self._log.find_keys([(hot.shard, order.key) for order in asked])
        for order in asked:
            order.looked_up = True
            commit = found.get((hot.shard, order.key))
            if commit is not None:
                hot.waiting.remove(order)
                self._finish(order, self._replay(order, commit))

    def _replay(self, order: Order, commit: Commit) -> Answer | Problem:
        """The first answer again, from the record itself."""
        if commit.payload_digest != order.payload_digest:
            return Problem("idempotency_conflict", "this key was used before with another payload")
        committed = self._codec.decode(commit)
        return Answer(commit.stream, True, commit.shard, commit.position, commit.at, True, committed.events)

    # --- deciding ----------------------------------------------------------------------------------------------------------------

    def _decide(self, hot: Hot, order: Order) -> None:
        shard = self._shards.get(hot.shard)
        if shard is None or shard.lost:
            self._finish(order, _LOST)
            return
        first = hot.pending_keys.get(order.key)
        if first is not None:
            first.followers.append((order, None))
            return
        now = max(order.arrived_at, shard.last_at)
        result = decide(order, hot, now, self._settings.limits, self._codec)
        if isinstance(result, Decided):
            shard.last_at = now
            hot.tentative = result.state
            hot.newest = result
            hot.pending += 1
            hot.pending_keys[order.key] = result
            self._next.append(result)
            self._work.set()
            if len(self._next) >= self._settings.flush_commits:
                self._full.set()
        elif hot.newest is not None:
            hot.newest.followers.append((order, result))
        else:
            self._finish(order, result)

    def _finish(self, order: Order, result: Answer | Problem) -> None:
        self._orders -= 1
        order.answer(result)

    # --- flushing ----------------------------------------------------------------------------------------------------------------

    async def _flush_forever(self) -> None:
        loop = asyncio.get_running_loop()
        pace_s = self._settings.flush_pace_ms / 1_000
        due = 0.0
        while True:
            await self._work.wait()
            if not self._next:
                if self._closing:
                    return
                self._work.clear()
                continue
            delay = due - loop.time()
            if delay > 0 and not self._closing and len(self._next) < self._settings.flush_commits:
                await self._pause(delay)
            due = loop.time() + pace_s
            self._full.clear()
            await self._flush()

    async def _pause(self, delay_s: float) -> None:
        timer = asyncio.get_running_loop().call_later(delay_s, self._full.set)
        try:
            await self._full.wait()
        finally:
            timer.cancel()

    async def _flush(self) -> None:
        """Send one batch until its outcome is known, then settle it."""
        batch = self._next[: self._settings.flush_commits]
        del self._next[: self._settings.flush_commits]
        self._flight = batch
        built = self._build(batch)
        documents = {number: [row.committed.commit for row in rows] for number, rows in built.items()}
        started = asyncio.get_running_loop().time()
        try:
            outcomes = await self._append_surely(documents)
        except LogUnavailableError as error:
            self._flight = []
            self._refuse_batch(batch, error)
            return
        self._flight = []
        self.counters.flushes += 1
        self.counters.flush_seconds += asyncio.get_running_loop().time() - started
        self.writable = True
        self._settle(built, outcomes)

    def _build(self, batch: Sequence[Decided]) -> dict[int, list[Built]]:
        """Frames in order: position, epoch and predecessor are set now, after nothing earlier can change any more."""
        built: dict[int, list[Built]] = defaultdict(list)
        heads: dict[int, Head] = {}
        for decided in batch:
            number = decided.hot.shard
            shard = self._shards[number]
            commit = frame_of(
                decided.draft, self._log.log_id, number, shard.epoch, heads.get(number, shard.head)
            )
            heads[number] = head = commit.head
            draft = decided.draft
            built[number].append(
                Built(decided, recorded(commit, draft.events, draft.seqs, draft.trace), head)
            )
        return built

    async def _append_surely(self, documents: Mapping[int, Sequence[Commit]]) -> Mapping[int, ShardOutcome]:
        """Append; while the outcome is unknown, the identical documents to the identical positions again, with back-off."""
        pause_ms = self._settings.resend_first_ms
        while True:
            try:
                return await self._log.append(documents)
            except OutcomeUnknownError as error:
                self.counters.resends += 1
                _log.warning("flush outcome unknown, sending the same again", error=str(error))
                self._tell_overdue()
                await asyncio.sleep(pause_ms / 1_000)
                pause_ms = min(pause_ms * 2, self._settings.resend_max_ms)
                self._tell_overdue()

    def _tell_overdue(self) -> None:
        """Callers whose deadline passed hear `outcome_unknown`; the write itself goes on."""
        now = asyncio.get_running_loop().time()
        for decided in (*self._flight, *self._next):
            for order in (decided.order, *(order for order, _ in decided.followers)):
                if order.deadline <= now:
                    order.answer(_UNKNOWN)

    def _settle(self, built: Mapping[int, Sequence[Built]], outcomes: Mapping[int, ShardOutcome]) -> None:
        """Make durable what was appended, publish it, answer, and decide again what was refused."""
        durable: list[Built] = []
        refused: list[tuple[int, Refusal]] = []
        resend: list[Decided] = []
        for number, rows in built.items():
            outcome = outcomes[number]
            durable += rows[: outcome.appended]
            if outcome.refusal is not None:
                refused.append((number, outcome.refusal))
            else:
                resend += [row.decided for row in rows[outcome.appended :]]
        for row in durable:
            self._make_durable(row)
        self._next[:0] = resend
        self._bus.publish([row.committed for row in durable])
        for row in durable:
            self._answer(row.decided, row.committed)
        for number, refusal in refused:
            self._fall_back(number, refusal, built[number])

    def _make_durable(self, row: Built) -> None:
        decided = row.decided
        hot = decided.hot
        commit = row.committed.commit
        self._shards[commit.shard].head = row.head
        hot.durable = decided.state
        hot.pending -= 1
        hot.pending_keys.pop(commit.key, None)
        hot.keys[commit.key] = commit.position
        if len(hot.keys) > self._settings.hot_keys:
            hot.keys_complete = False
            del hot.keys[next(iter(hot.keys))]
        if hot.newest is decided:
            hot.newest = None
        self.counters.commits += 1
        self.counters.events += commit.events_count

    def _answer(self, decided: Decided, committed: Committed) -> None:
        commit = committed.commit
        answer = Answer(
            commit.stream, True, commit.shard, commit.position, commit.at, False, committed.events
        )
        self._finish(decided.order, answer)
        for order, result in decided.followers:
            self._finish(order, self._replay(order, commit) if result is None else result)

    # --- when a flush is refused -------------------------------------------------------------------------------------------------

    def _refuse_batch(self, batch: Sequence[Decided], error: LogUnavailableError) -> None:
        """Nothing was written: the batch is refused, and whatever was decided on top of it is decided again."""
        if self.writable:
            _log.error("the event log refuses writes", error=str(error))
        self.writable = False
        again = self._followers_of(batch)
        for decided in batch:
            self._finish(decided.order, _UNAVAILABLE)
        for number in {decided.hot.shard for decided in batch}:
            again += self._withdraw(number)
        self._decide_again(again)

    def _fall_back(self, number: int, refusal: Refusal, rows: Sequence[Built]) -> None:
        """A document was refused: back to the durable state, and every later order of the shard is decided again."""
        self.counters.refused_documents += 1
        shard = self._shards[number]
        behind = [row.decided for row in rows[refusal.index :]]
        again = [decided.order for decided in behind] + self._followers_of(behind) + self._withdraw(number)
        present = refusal.present
        _log.warning(
            "document refused", shard=number, reason=refusal.reason.value, position=shard.head.position + 1
        )
        if refusal.reason is RefusalReason.POSITION and present is not None and present.epoch > shard.epoch:
            shard.lost = True
        elif refusal.reason is RefusalReason.POSITION and present is not None:
            # Someone wrote under an epoch that is not higher than ours, which the fence forbids: stop this shard, keep the others.
            _log.error(
                "a foreign commit stands at our position",
                shard=number,
                position=present.position,
                epoch=present.epoch,
            )
            shard.lost = True
        for hot in self._hot.of_shard(number):
            hot.loaded = False
            if not hot.waiting:
                self._hot.forget(hot)
        self._decide_again(again)

    def _followers_of(self, batch: Sequence[Decided]) -> list[Order]:
        return [order for decided in batch for order, _ in decided.followers]

    def _withdraw(self, number: int) -> list[Order]:
        """Take back everything of a shard that is decided but not durable, with its followers."""
        withdrawn = [decided for decided in self._next if decided.hot.shard == number]
        self._next = [decided for decided in self._next if decided.hot.shard != number]
        self._shards[number].last_at = self._shards[number].head.at
        for hot in self._hot.of_shard(number):
            hot.reset()
        return [decided.order for decided in withdrawn] + self._followers_of(withdrawn)

    def _decide_again(self, orders: list[Order]) -> None:
        self.counters.redecided += len(orders)
        for order in sorted(orders, key=_number):
            order.looked_up = False
            self._route(order)
        for stream in {order.stream for order in orders}:
            self._hot.get(stream).waiting.sort(key=_number)

    # --- looking -----------------------------------------------------------------------------------------------------------------

    async def peek(self, stream: str) -> State:
        """The durable state of an aggregate. Raises Problem(`not_found`, `unavailable`)."""
        hot = self._hot.get(stream)
        if not hot.loaded:
            try:
                await self._hot.load(hot)
            except UnknownEventError:
                self._hot.forget(hot)
                raise _UNREADABLE from None
            except LogUnavailableError:
                self._hot.forget(hot)
                raise _UNAVAILABLE from None
        return hot.durable

    def peek_hot(self, stream: str) -> State | None:
        """The durable state if it is in memory, without waiting."""
        hot = self._hot.get(stream)
        return hot.durable if hot.loaded else None


def _number(order: Order) -> int:
    return order.number


def _mutable(
    opened: tuple[Mapping[int, OwnedShard], Sequence[Committed]],
) -> tuple[dict[int, OwnedShard], Sequence[Committed]]:
    shards, committed = opened
    return dict(shards), committed
