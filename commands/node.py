"""The node: the one writer of its shards. Orders come in, are decided while a flush is on its way, and leave with the next one.

Order of arrival is kept per stream. No answer leaves before what it was decided on is durable. The flush belongs to the node, not to
the shard: it carries the waiting commits of all shards, one flush in flight.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence

import structlog

from commands.caller import Answer
from commands.counters import NodeCounters
from commands.deciding import decide
from commands.flushing import OUTCOME_UNKNOWN, Built, Flusher, followers_of, orders_of
from commands.health import LogHealth
from commands.hotset import HotSet
from commands.order import Decided, Hot, Order
from commands.settings import NodeSettings
from commands.shards import OwnedShard, leaving, not_owner, open_shards
from commands.tasks import TaskOwner
from domain.aggregates import State
from domain.errors import Problem
from domain.streams import shard_of
from eventlog.bus import Bus
from eventlog.codec import EventCodec
from eventlog.port import Log, LogUnavailableError, Refusal, RefusalReason, ShardOutcome
from eventlog.record import Commit, Committed
from eventlog.registry import UnknownEventError
from eventlog.snapshots import Snapshots

_log = structlog.get_logger(__name__)

_UNAVAILABLE = Problem(
    "unavailable", "the event log cannot be written at the moment; try again", retry_after_ms=1_000
)
_UNREADABLE = Problem(
    "unavailable", "the history of this stream cannot be read by this version of the server"
)


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
        self._orders = 0
        self._order_number = 0
        self._warming = TaskOwner("node-warming", settings.queue_orders)
        self._loads = asyncio.Semaphore(settings.warming_streams)
        self._health = LogHealth(log, settings.probe_s)
        self._flusher = Flusher(log, self._shards, settings, self._health, self._settle, self._refuse_batch)
        self._closing = False
        self.counters = NodeCounters()
        self.flush_counters = self._flusher.counters

    async def open(self, numbers: Sequence[int] | None = None) -> None:
        """Take over the shards (default: all) and start flushing. Raises as `open_shards` does."""
        owned = range(self._log.shard_count) if numbers is None else numbers
        shards, committed = await open_shards(self._log, self._codec, owned, self._name, self._clock())
        self._shards.update(shards)
        self._bus.publish(committed)
        self._flusher.start()
        self._health.start()

    async def close(self) -> None:
        """Refuse new orders, flush what is decided, answer everything, within `close_s`. Idempotent.

        What is still unknown then is told `outcome_unknown`.
        """
        if self._closing:
            return
        self._closing = True
        await self._warming.close()
        for hot in self._hot.all():
            self._give_up(hot, leaving(hot.shard))
        for order in orders_of(await self._flusher.close()):
            self._finish(order, OUTCOME_UNKNOWN)
        await self._health.close()
        await self._hot.snapshot_all()

    def head_positions(self) -> Mapping[int, int]:
        """{shard: position} of everything that is durable."""
        return {number: shard.head.position for number, shard in self._shards.items()}

    @property
    def shards(self) -> Mapping[int, OwnedShard]:
        """The shards that were opened here, lost ones too."""
        return self._shards

    @property
    def writable(self) -> bool:
        """False after a flush or a trial write that failed, until one succeeds."""
        return self._health.writable

    @property
    def queued_orders(self) -> int:
        """Orders inside the node."""
        return self._orders

    @property
    def hot_aggregates(self) -> int:
        """Aggregates in memory."""
        return len(self._hot)

    # --- orders in ---------------------------------------------------------------------------------------------------------------

    def submit(self, order: Order) -> None:
        """Take an order; its `done` is called later, or at once with a refusal. Raises nothing."""
        if self._closing or self._orders >= self._settings.queue_orders:
            number = shard_of(order.stream, self._log.shard_count)
            order.answer(leaving(number) if self._closing else self._overloaded())
            return
        self._order_number += 1
        order.number = self._order_number
        order.arrived_at = self._clock()
        if not order.deadline:
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
        stranger = not_owner(self._shards, hot.shard)
        if stranger is not None:  # Nothing of a foreign shard may stay in memory: it would grow stale there.
            self._hot.forget(hot)
            self._finish(order, stranger)
            return
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
        return Answer(
            commit.stream, True, commit.shard, commit.position, commit.at, True, committed.events, commit
        )

    # --- deciding ----------------------------------------------------------------------------------------------------------------

    def _decide(self, hot: Hot, order: Order) -> None:
        shard = self._shards.get(hot.shard)
        if shard is None or shard.lost:
            self._finish(order, not_owner(self._shards, hot.shard) or _UNAVAILABLE)
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
            self._flusher.add(result)
        elif hot.newest is not None:
            hot.newest.followers.append((order, result))
        else:
            self._finish(order, result)

    def _finish(self, order: Order, result: Answer | Problem) -> None:
        self._orders -= 1
        if isinstance(result, Problem):
            refusals = self.counters.refusals
            refusals[result.code] = refusals.get(result.code, 0) + 1
        order.answer(result)

    # --- settling ----------------------------------------------------------------------------------------

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
        self._flusher.put_back(resend)
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
            commit.stream, True, commit.shard, commit.position, commit.at, False, committed.events, commit
        )
        self._finish(decided.order, answer)
        for order, result in decided.followers:
            self._finish(order, self._replay(order, commit) if result is None else result)

    # --- when a flush is refused -------------------------------------------------------------------------------------------------

    def _refuse_batch(self, batch: Sequence[Decided]) -> None:
        """Nothing was written: the batch is refused, and whatever was decided on top of it is decided again."""
        again = followers_of(batch)
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
        again = orders_of(behind) + self._withdraw(number)
        present = refusal.present
        _log.warning(
            "document refused", shard=number, reason=refusal.reason.value, position=shard.head.position + 1
        )
        if refusal.reason is RefusalReason.POSITION and present is not None:
            shard.lose_to(present, self._codec)
        for hot in self._hot.of_shard(number):
            hot.loaded = False
            if not hot.waiting:
                self._hot.forget(hot)
        self._decide_again(again)

    def _withdraw(self, number: int) -> list[Order]:
        """Take back everything of a shard that is decided but not durable, with its followers."""
        self._shards[number].last_at = self._shards[number].head.at
        for hot in self._hot.of_shard(number):
            hot.reset()
        return orders_of(self._flusher.withdraw(number))

    def _decide_again(self, orders: list[Order]) -> None:
        self.counters.redecided += len(orders)
        for order in sorted(orders, key=_number):
            order.looked_up = False
            order.attempts += 1
            if order.attempts > self._settings.attempts:
                self._finish(order, _UNAVAILABLE)
            else:
                self._route(order)
        for stream in {order.stream for order in orders}:
            # Orders that came later may wait there already; those that come back were first.
            self._hot.get(stream).waiting.sort(key=_number)

    # --- looking -----------------------------------------------------------------------------------------------------------------

    async def peek(self, stream: str) -> State:
        """The durable state of an aggregate. Raises Problem(`not_found`, `unavailable`), NotOwner."""
        hot = self._hot.get(stream)
        self._check_owned(hot)
        if not hot.loaded:
            try:
                await self._hot.load(hot)
            except UnknownEventError:
                self._hot.forget(hot)
                raise _UNREADABLE from None
            except LogUnavailableError:
                self._hot.forget(hot)
                raise _UNAVAILABLE from None
            self._check_owned(hot)  # It may have been lost meanwhile.
        return hot.durable

    def _check_owned(self, hot: Hot) -> None:
        stranger = not_owner(self._shards, hot.shard)
        if stranger is not None:
            self._hot.forget(hot)
            raise stranger

    def peek_hot(self, stream: str) -> State | None:
        """The durable state if it is in memory, without waiting."""
        hot = self._hot.get(stream)
        return hot.durable if hot.loaded else None


def _number(order: Order) -> int:
    return order.number
