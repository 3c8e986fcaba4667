"""An order: one command on its way through the node."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping

from commands.caller import Answer
from domain.aggregates import Aggregate, State
from domain.errors import Problem
from domain.event import Command, Event, Message, Place, Written
from eventlog.record import Draft, Trace

Done = Callable[[Answer | Problem], None]
NO_OLDER: Mapping[int, Message] = {}
NO_USERS: frozenset[str] = frozenset()
NO_PLACES: frozenset[Place] = frozenset()


async def outcome_of(submit: Callable[[Done], None]) -> Answer:
    """Hand in by `submit`, and wait. Raises Problem. A cancelled caller leaves the command running; the same key tells what became of it."""
    outcome: asyncio.Future[Answer | Problem] = asyncio.get_running_loop().create_future()

    def done(result: Answer | Problem) -> None:
        if not outcome.done():
            outcome.set_result(result)

    submit(done)
    result = await outcome
    if isinstance(result, Problem):
        raise result
    return result


class Order:
    """A command with its key, its facts and the call that takes the answer.

    `done` is called exactly once, on the loop, with an answer or a problem; it must not raise. `deadline` is loop time in seconds: an
    order whose outcome is still unknown then is told `outcome_unknown`, and the write goes on without it.
    """

    __slots__ = (
        "actor", "arrived_at", "attempts", "client_keyed", "command", "deadline", "done", "importing", "key",
        "looked_up", "number", "older", "payload_digest", "stream", "tenant", "trace", "unknown_users", "unseen",
        "written",
    )  # fmt: skip

    def __init__(
        self,
        *,
        tenant: str,
        actor: str,
        stream: str,
        command: Command,
        key: bytes,
        client_keyed: bool,
        payload_digest: bytes,
        done: Done,
        importing: bool = False,
        unknown_users: frozenset[str] = NO_USERS,
        older: Mapping[int, Message] = NO_OLDER,
        unseen: frozenset[Place] = NO_PLACES,
        written: Written | None = None,
        trace: Trace | None = None,
    ) -> None:
        self.tenant = tenant
        self.actor = actor
        self.stream = stream
        self.command = command
        self.key = key
        self.client_keyed = client_keyed
        self.payload_digest = payload_digest
        self.done: Done | None = done
        self.importing = importing
        self.unknown_users = unknown_users
        self.older = older
        self.unseen = unseen
        self.written = written
        self.trace = trace
        self.number = 0
        self.arrived_at = 0
        self.deadline = 0.0
        self.looked_up = False
        self.attempts = 0

    def answer(self, result: Answer | Problem) -> None:
        """Tell the caller, once; later results are dropped (the caller gave up or was told `outcome_unknown`)."""
        done, self.done = self.done, None
        if done is not None:
            done(result)


class Decided:
    """A decided commit that is not durable yet, and the orders whose answers rest on it."""

    __slots__ = ("draft", "followers", "hot", "order", "state")

    def __init__(self, order: Order, hot: Hot, draft: Draft, state: State) -> None:
        self.order = order
        self.hot = hot
        self.draft = draft
        self.state = state
        """The aggregate's state once this commit is durable."""
        self.followers: list[tuple[Order, Answer | Problem | None]] = []
        """Orders that were decided on this commit and changed nothing; None: a repeat of this very command."""


class Hot:
    """An aggregate in memory: its durable and its tentative state, and the keys of its commits.

    `keys` maps the command ids of durable commits to positions; when `keys_complete`, a key that is not there was never used in this
    stream, and no look-up is needed. Orders that arrive while the stream is loaded or looked up queue in `waiting`, in order.
    """

    __slots__ = (
        "aggregate", "durable", "keys", "keys_complete", "loaded", "newest", "pending", "pending_keys", "shard",
        "snapshot_version", "stream", "tentative", "waiting",
    )  # fmt: skip

    def __init__(self, stream: str, shard: int, aggregate: Aggregate) -> None:
        self.stream = stream
        self.shard = shard
        self.aggregate = aggregate
        self.durable: State = aggregate.initial(stream)
        self.tentative: State = self.durable
        self.keys: dict[bytes, int] = {}
        self.keys_complete = True
        self.loaded = False
        self.newest: Decided | None = None
        self.pending = 0
        self.pending_keys: dict[bytes, Decided] = {}
        self.snapshot_version = 0
        self.waiting: list[Order] = []

    def reset(self) -> None:
        """Fall back to the durable state: everything tentative is forgotten."""
        self.tentative = self.durable
        self.newest = None
        self.pending = 0
        self.pending_keys.clear()

    def fold(self, events: tuple[Event, ...]) -> State:
        """The tentative state after `events`."""
        state = self.tentative
        evolve = self.aggregate.evolve
        for event in events:
            state = evolve(state, event)
        return state

    @property
    def idle(self) -> bool:
        """Nothing rests on it: it may be evicted."""
        return self.loaded and not self.pending and not self.waiting
