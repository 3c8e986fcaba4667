"""The desk: where gateways hand in commands. It brings the facts that a decision needs, makes the key, and passes the order to the node."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from typing import Protocol

from commands.caller import Answer, Caller, Keyed
from commands.node import Node
from commands.order import NO_PLACES, NO_USERS, Order, outcome_of
from commands.ownership import NotOwner
from commands.port import Outline, outline_of
from commands.tasks import TaskOwner
from domain.aggregates import State
from domain.content import forwarded
from domain.conversation import (
    AddReaction,
    EditMessage,
    PinMessage,
    PostMessage,
    RecallMessage,
    RemoveReaction,
    UnpinMessage,
)
from domain.direct import BlockUser, OpenDirect, UnblockUser
from domain.errors import Problem
from domain.event import Command, Message, Place, Written
from domain.group import AddMembers, CreateGroup, GroupState
from domain.streams import qualified, split, user_stream
from eventlog.record import Trace

KNOWN_USERS_MAX = 200_000
FACT_TASKS_MAX = 2_000
_AIMED = (EditMessage, RecallMessage, AddReaction, RemoveReaction, PinMessage, UnpinMessage)


class OlderMessages(Protocol):
    """The read side, for messages that lie before the hot window."""

    async def older_message(self, stream: str, seq: int) -> Message | None:
        """The message as the timeline shows it, caught up with everything that is durable. Raises Problem(`unavailable`)."""
        ...

    async def unseen(self, tenant: str, user_id: str, places: Sequence[Place]) -> frozenset[Place]:
        """Those of `places` that are no message which the user may see; caught up as above. Raises Problem(`unavailable`)."""
        ...

    async def written(self, stream: str, seq: int) -> Written | None:
        """What the message says; caught up as above. Raises Problem(`unavailable`)."""
        ...


class Users(Protocol):
    """Who knows the users of shards that this node has not: the router."""

    async def user_exists(self, tenant: str, user_id: str) -> bool:
        """Whether the user was ever registered. Raises Problem(`unavailable`)."""
        ...


class Desk:
    """Takes commands of authenticated callers; answers when what they rest on is durable. The local side of the command port."""

    sees_hot = True

    def __init__(self, node: Node, payload_secret: bytes, older: OlderMessages) -> None:
        self._node = node
        self._payload_secret = payload_secret
        self._older = older
        self._known_users: OrderedDict[str, None] = OrderedDict()
        self._tasks = TaskOwner("desk", FACT_TASKS_MAX)
        self.elsewhere: Users | None = None
        """Set where several nodes share the shards."""
        self.traced: Callable[[Order], None] | None = None
        """Sees orders that have a trace, first of all."""

    async def close(self) -> None:
        """Give up orders whose facts are still being looked for."""
        await self._tasks.close()

    def head_positions(self) -> Mapping[int, int]:
        """{shard: position} of everything durable: what a reader must have seen to read its own writes."""
        return self._node.head_positions()

    async def execute(self, caller: Caller, name: str, command: Command, keyed: Keyed) -> Answer:
        """Do it and wait. Raises Problem. A cancelled caller leaves the command running; the same key tells what became of it."""
        return await outcome_of(lambda done: self.submit(caller, name, command, keyed, done))

    def submit(
        self,
        caller: Caller,
        name: str,
        command: Command,
        keyed: Keyed,
        done: Callable[[Answer | Problem], None],
        *,
        trace: Trace | None = None,
    ) -> None:
        """Hand in a command; `done` is called exactly once, on the loop, at once or later. Orders of one stream keep their order only
        if none of them needs a fact that is not in memory."""
        order = Order(
            tenant=caller.tenant,
            actor=caller.user_id,
            stream=qualified(caller.tenant, name),
            command=command,
            key=keyed.key(caller.tenant, caller.user_id),
            client_keyed=keyed.client_key is not None,
            payload_digest=keyed.payload_digest(self._payload_secret),
            done=done,
            importing=caller.importing,
            trace=trace,
        )
        self.hand_in(order)

    def hand_in(self, order: Order) -> None:
        """As `submit`, for an order that is made already; its `done` hears NotOwner for a shard that this node has not."""
        if order.trace is not None and self.traced is not None:
            self.traced(order)
        if self._facts_at_hand(order):
            self._node.submit(order)
        elif self._tasks.full:
            order.answer(
                Problem("overloaded", "too many requests are waiting; try again", retry_after_ms=250)
            )
        else:
            self._tasks.start(self._with_facts(order))

    async def peek(self, tenant: str, name: str) -> State:
        """The durable state of an aggregate. Raises Problem."""
        return await self._node.peek(qualified(tenant, name))

    async def peek_as(self, tenant: str, name: str, user_id: str) -> State:
        """See the port. Here it is the whole state, which costs nothing."""
        return await self._node.peek(qualified(tenant, name))

    async def outline(self, tenant: str, name: str) -> Outline:
        """See the port."""
        return outline_of(await self._node.peek(qualified(tenant, name)))

    def peek_hot(self, tenant: str, name: str) -> State | None:
        """As `peek`, but only what is in memory; never waits."""
        return self._node.peek_hot(qualified(tenant, name))

    async def user_exists(self, tenant: str, user_id: str) -> bool:
        """Whether the user was ever registered. Raises Problem(`unavailable`)."""
        try:
            return await self.user_exists_here(tenant, user_id)
        except NotOwner:
            if self.elsewhere is None:
                raise
        exists = await self.elsewhere.user_exists(tenant, user_id)
        if exists:
            self.remember_user(tenant, user_id)
        return exists

    async def user_exists_here(self, tenant: str, user_id: str) -> bool:
        """As `user_exists`, asking nobody else. Raises Problem, NotOwner."""
        stream = user_stream(tenant, user_id)
        if stream in self._known_users:
            self._known_users.move_to_end(stream)
            return True
        state = await self._node.peek(stream)
        if state.version == 0:
            return False
        self.remember_user(tenant, user_id)
        return True

    def remember_user(self, tenant: str, user_id: str) -> None:
        """The user was registered: nobody has to look for it in the log."""
        self._known_users[user_stream(tenant, user_id)] = None
        if len(self._known_users) > KNOWN_USERS_MAX:
            self._known_users.popitem(last=False)

    # --- facts -------------------------------------------------------------------------------------------------------------------

    def _facts_at_hand(self, order: Order) -> bool:
        """Whether the command can be decided with what memory holds; true for nearly every send."""
        command = order.command
        if isinstance(command, PostMessage):
            known = command.to is None or user_stream(order.tenant, command.to) in self._known_users
            aimed = command.reply_to is None or self._in_view(order, command.reply_to)
            return known and aimed and not forwarded(command.content)
        if isinstance(command, EditMessage):
            return False  # What the message says now is not in memory.
        if isinstance(command, _AIMED):
            return self._in_view(order, command.seq)
        return all(user_stream(order.tenant, user) in self._known_users for user in _users_of(command))

    def _in_view(self, order: Order, seq: int) -> bool:
        """Whether memory holds the message, and knows that the actor may see it."""
        try:
            state = self._node.peek_hot(order.stream)
        except Problem:
            return True  # A name of no known kind: the node refuses it.
        return state is not None and seq >= max(state.window_start, _first_seen(state, order.actor))

    async def _with_facts(self, order: Order) -> None:
        try:
            order.unknown_users = await self._unknown_users(order)
            order.older = await self._older_messages(order)
            order.unseen = await self._unseen(order)
            if isinstance(order.command, EditMessage):
                order.written = await self._older.written(order.stream, order.command.seq)
        except Problem as problem:
            order.answer(problem)
        except BaseException:
            order.answer(
                Problem("unavailable", "the server is shutting down; try again", retry_after_ms=2_000)
            )
            raise
        else:
            self._node.submit(order)

    async def _unknown_users(self, order: Order) -> frozenset[str]:
        asked = _users_of(order.command)
        if not asked:
            return NO_USERS
        return frozenset([user for user in asked if not await self.user_exists(order.tenant, user)])

    async def _older_messages(self, order: Order) -> Mapping[int, Message]:
        seq = _target_of(order.command)
        if seq is None:
            return {}
        state = await self._node.peek(order.stream)
        if seq >= state.window_start:
            return {}
        message = await self._older.older_message(order.stream, seq)
        return {} if message is None else {seq: message}

    async def _unseen(self, order: Order) -> frozenset[Place]:
        seq, own = _target_of(order.command), split(order.stream)[1]
        aimed = seq is not None and seq < _first_seen(await self._node.peek(order.stream), order.actor)
        asked = set(_forwarded_by(order.command))
        if aimed and seq is not None:
            asked.add((own, seq))
        if not asked:
            return NO_PLACES
        unseen = await self._older.unseen(order.tenant, order.actor, sorted(asked))
        return unseen | {("", seq)} if aimed and seq is not None and (own, seq) in unseen else unseen


def _users_of(command: Command) -> tuple[str, ...]:
    """The user ids of a command that must exist."""
    if isinstance(command, PostMessage):
        return () if command.to is None else (command.to,)
    if isinstance(command, OpenDirect | BlockUser | UnblockUser):
        return (command.peer,)
    if isinstance(command, CreateGroup):
        return tuple(command.members)
    if isinstance(command, AddMembers):
        return tuple(command.user_ids)
    return ()


def _first_seen(state: State, user_id: str) -> int:
    """Where what a member sees starts, for all that the state knows; 0 where it cuts nothing off."""
    member = state.members.get(user_id) if isinstance(state, GroupState) else None
    return 0 if member is None else member.first_seq


def _forwarded_by(command: Command) -> tuple[Place, ...]:
    return forwarded(command.content) if isinstance(command, PostMessage | EditMessage) else ()


def _target_of(command: Command) -> int | None:
    """The seq that a command aims at."""
    if isinstance(command, PostMessage):
        return command.reply_to
    return command.seq if isinstance(command, _AIMED) else None
