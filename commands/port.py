"""The command port: all that faces, reactions and accounts ask of the write side. Two adapters: the desk in the same process, and the
router, which finds the owner of the shard in this process or in another one."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Protocol

import immutables
import msgspec

from commands.caller import Answer, Caller, Keyed
from domain.aggregates import State
from domain.direct import DirectState
from domain.errors import Problem
from domain.event import Command
from domain.group import GroupState
from domain.group_roster import Roster
from domain.talk import Talk
from eventlog.record import Trace


class Outline(msgspec.Struct, frozen=True):
    """What hints ask of a conversation. `members` counts those of a group; `blocked`: a block stands in a pair. Version 0: there is none."""

    version: int
    members: int = 0
    blocked: bool = False


def outline_of(state: State) -> Outline:
    """The outline of a conversation's state."""
    if isinstance(state, GroupState):
        return Outline(state.version, len(state.members))
    return Outline(state.version, blocked=isinstance(state, DirectState) and bool(state.blockers))


def share_of(state: State, user_id: str) -> State:
    """What a state says of one user: of a group the rest of the people are left out, of any conversation the messages."""
    if isinstance(state, DirectState):
        return msgspec.structs.replace(state, talk=_quiet(state.talk))
    if not isinstance(state, GroupState):
        return state
    member, left = state.members.get(user_id), state.former.get(user_id)
    roster = Roster(
        immutables.Map({} if member is None else {user_id: member}),
        immutables.Map({} if left is None else {user_id: left}),
    )
    return msgspec.structs.replace(state, roster=roster, talk=_quiet(state.talk))


def _quiet(talk: Talk) -> Talk:
    return msgspec.structs.replace(talk, young=immutables.Map(), old=immutables.Map())


class CommandPort(Protocol):
    """Takes commands of authenticated callers; answers when what they rest on is durable.

    Between two nodes a command may be asked for twice: its key makes that once. What an answer says is the same on both adapters.
    """

    @property
    def sees_hot(self) -> bool:
        """Whether `peek_hot` may know more than nothing."""
        ...

    async def execute(self, caller: Caller, name: str, command: Command, keyed: Keyed) -> Answer:
        """Do it and wait. `name` is the stream's bare name. Raises Problem; `outcome_unknown` when the deadline passed and nobody knows.

        A cancelled caller leaves the command running; the same key tells what became of it.
        """
        ...

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
        """Hand in a command; `done` is called exactly once, on the loop, at once or later, and must not raise. `trace` is kept in its
        events.
        """
        ...

    async def peek(self, tenant: str, name: str) -> State:
        """The durable state of a user, an inbox or a tenant. Raises Problem.

        Conversations are asked for with `peek_as` and `outline`: a large one is too much to carry.
        """
        ...

    async def peek_as(self, tenant: str, name: str, user_id: str) -> State:
        """The durable state of a conversation as far as it concerns one user: other people and messages may be left out. Raises Problem."""
        ...

    async def outline(self, tenant: str, name: str) -> Outline:
        """The size of a conversation, and whether it is blocked. Raises Problem."""
        ...

    def peek_hot(self, tenant: str, name: str) -> State | None:
        """As `peek`, but only what is in this process's memory; never waits."""
        ...

    async def user_exists(self, tenant: str, user_id: str) -> bool:
        """Whether the user was ever registered. Raises Problem(`unavailable`)."""
        ...

    def remember_user(self, tenant: str, user_id: str) -> None:
        """The user was registered: nobody has to look for it in the log."""
        ...

    def head_positions(self) -> Mapping[int, int]:
        """{shard: position}: at least all that this process was answered, and what owners last told of everybody's.

        What a reader must have seen to read its own writes.
        """
        ...
