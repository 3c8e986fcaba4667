"""A pair's conversation: relation, blocks and messages together, so that a block and a send cannot race.

Stream name: `d_` and the digest of tenant and both users; a user alone with himself keeps notes there.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar

import msgspec
from typing_extensions import override

from domain import conversation, talk, text
from domain.conversation import PostMessage, Rights
from domain.errors import Problem, invalid
from domain.event import Command, Context, Event, State
from domain.streams import direct_conversation_id, split
from domain.talk import Talk

# Events


class DirectOpened(Event, frozen=True, kw_only=True):
    """The conversation exists; always its seq 1. `users` are both, sorted; for notes to oneself the same
    user twice.
    """

    TYPE: ClassVar[str] = "direct_opened"

    users: tuple[str, str]


class DirectBlocked(Event, frozen=True, kw_only=True):
    """The actor blocks the other, `user_id`. It may come before the conversation is opened."""

    TYPE: ClassVar[str] = "direct_blocked"
    PUBLIC: ClassVar[bool] = False

    user_id: str


class DirectUnblocked(Event, frozen=True, kw_only=True):
    """The actor takes his block of `user_id` back."""

    TYPE: ClassVar[str] = "direct_unblocked"
    PUBLIC: ClassVar[bool] = False

    user_id: str


EVENTS: tuple[type[Event], ...] = (DirectOpened, DirectBlocked, DirectUnblocked)

# State


class DirectState(State, frozen=True, kw_only=True, gc=False):
    """A pair. `users` is empty as long as nothing ever happened between the two."""

    stream: str
    users: tuple[str, ...] = ()
    opened: bool = False
    blockers: frozenset[str] = frozenset()
    """Those who block the other."""
    talk: Talk = talk.NO_TALK

    @property
    @override
    def window_start(self) -> int:
        """Every message with a seq of this or more is in memory."""
        return self.talk.window_start

    @property
    @override
    def weight(self) -> int:
        """Messages in memory and two users."""
        return 2 + self.talk.weight


def initial(stream: str) -> DirectState:
    """A pair that has nothing in common yet."""
    return DirectState(stream=stream)


def evolve(state: DirectState, event: Event) -> DirectState:
    """The state after `event`; total."""
    version = state.version + 1
    if not event.PUBLIC:
        state = _changed(state, event)
        return msgspec.structs.replace(state, version=version)
    seq = state.seq + 1
    if type(event) is DirectOpened:
        return msgspec.structs.replace(state, version=version, seq=seq, users=event.users, opened=True)
    return DirectState(
        version=version,
        seq=seq,
        stream=state.stream,
        users=state.users,
        opened=state.opened,
        blockers=state.blockers,
        talk=talk.evolve(state.talk, event, seq),
    )


def _changed(state: DirectState, event: Event) -> DirectState:
    if isinstance(event, DirectBlocked):
        users = state.users or _pair(event.actor, event.user_id)
        return msgspec.structs.replace(state, users=users, blockers=state.blockers | {event.actor})
    if isinstance(event, DirectUnblocked):
        return msgspec.structs.replace(state, blockers=state.blockers - {event.actor})
    return state


def _pair(one: str, other: str) -> tuple[str, str]:
    return (one, other) if one <= other else (other, one)


# Commands


class OpenDirect(Command, frozen=True, kw_only=True):
    """Open the conversation with `peer`, or find it."""

    peer: str


class BlockUser(Command, frozen=True, kw_only=True):
    """Block `peer`."""

    peer: str


class UnblockUser(Command, frozen=True, kw_only=True):
    """Take the block of `peer` back."""

    peer: str


# Decide

_RIGHTS = Rights(moderates=False, pins=True, mentions_all=True)
_CLOSED_TO_BLOCKED = frozenset({"post", "edit", "react", "pin"})
"""What reaches the other side anew.

Taking back (recall, unreact, unpin) stays possible while a block stands.
"""


def decide(state: DirectState, command: Command, context: Context) -> tuple[Event, ...]:
    """What the command makes of the pair. Raises Problem; a stranger to the pair gets `not_found`."""
    action = conversation.ACTIONS.get(type(command))
    if action is None:
        handler = _DECIDE.get(type(command))
        if handler is None:
            raise Problem("not_found", "there is no such conversation")
        return handler(state, command, context)
    if type(command) is PostMessage and command.to is not None:
        if not state.opened or state.users != _pair(context.actor, command.to):
            return _open_by_post(state, command, context, command.to)
    elif not state.opened or context.actor not in state.users:
        raise Problem("not_found", "there is no such conversation")
    if state.blockers and action in _CLOSED_TO_BLOCKED:
        raise _blocked()
    return conversation.decide(state.talk, command, context, _RIGHTS, state.users.__contains__)


def _open_by_post(state: DirectState, command: PostMessage, context: Context, peer: str) -> tuple[Event, ...]:
    """The first message, with what opens the conversation before it."""
    opening = _open(state, peer, context, "to")
    users = _pair(context.actor, peer)
    return opening + conversation.decide(state.talk, command, context, _RIGHTS, users.__contains__)


def _open(state: DirectState, peer: str, context: Context, field: str) -> tuple[Event, ...]:
    pair = _checked_pair(state, peer, context, field)
    if state.opened:
        return ()
    if state.blockers:
        raise _blocked()
    return (DirectOpened(actor=context.actor, at=context.now, users=pair),)


def _open_direct(state: DirectState, command: OpenDirect, context: Context) -> tuple[Event, ...]:
    return _open(state, command.peer, context, "user_id")


def _block(state: DirectState, command: BlockUser, context: Context) -> tuple[Event, ...]:
    if command.peer == context.actor:
        raise invalid("user_id", "is yourself")
    _checked_pair(state, command.peer, context, "user_id")
    if context.actor in state.blockers:
        return ()
    return (DirectBlocked(actor=context.actor, at=context.now, user_id=command.peer),)


def _unblock(state: DirectState, command: UnblockUser, context: Context) -> tuple[Event, ...]:
    _checked_pair(state, command.peer, context, "user_id")
    if context.actor not in state.blockers:
        return ()
    return (DirectUnblocked(actor=context.actor, at=context.now, user_id=command.peer),)


def _checked_pair(state: DirectState, peer: str, context: Context, field: str) -> tuple[str, str]:
    """The actor and `peer`, sorted, if this is their conversation and the peer exists."""
    pair = _pair(context.actor, peer)
    if state.users:
        if pair != state.users:
            raise Problem("not_found", "there is no such conversation")
        return pair
    text.user_id(field, peer)
    if peer in context.unknown_users:
        raise Problem("not_found", "there is no such user")
    if direct_conversation_id(context.tenant, *pair) != split(state.stream)[1]:
        raise Problem("not_found", "there is no such conversation")
    return pair


def _blocked() -> Problem:
    return Problem("forbidden", "you cannot write to this user")


_DECIDE: dict[type[Command], Callable[[DirectState, Any, Context], tuple[Event, ...]]] = {
    OpenDirect: _open_direct,
    BlockUser: _block,
    UnblockUser: _unblock,
}
