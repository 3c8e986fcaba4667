"""The control stream of a shard: who took it over. Its version is the epoch.

Stream name: `shard-N`.
"""

from __future__ import annotations

from typing import ClassVar

import msgspec

from domain.errors import Problem
from domain.event import Command, Context, Event, State

# Events


class ShardOpened(Event, frozen=True, kw_only=True):
    """The node owns the shard from here on; what an earlier owner still sends is refused by the log."""

    TYPE: ClassVar[str] = "shard_opened"
    PUBLIC: ClassVar[bool] = False

    epoch: int
    node: str


EVENTS: tuple[type[Event], ...] = (ShardOpened,)

# State


class ShardState(State, frozen=True, kw_only=True):
    """A shard; epoch 0 and no node: it never had an owner."""

    stream: str
    epoch: int = 0
    node: str | None = None


def initial(stream: str) -> ShardState:
    """A shard without an owner."""
    return ShardState(stream=stream)


def evolve(state: ShardState, event: Event) -> ShardState:
    """The state after `event`; total. An epoch never falls."""
    version, seq = state.version + 1, state.seq + event.PUBLIC
    if isinstance(event, ShardOpened) and event.epoch > state.epoch:
        return msgspec.structs.replace(state, version=version, seq=seq, epoch=event.epoch, node=event.node)
    return msgspec.structs.replace(state, version=version, seq=seq)


# Commands


class OpenShard(Command, frozen=True, kw_only=True):
    """Take the shard over, under the next epoch."""

    node: str


# Decide


def decide(state: ShardState, command: Command, context: Context) -> tuple[Event, ...]:
    """A takeover. Raises Problem for any other command."""
    if not isinstance(command, OpenShard):
        raise Problem("not_found", "there is no such conversation")
    return (ShardOpened(actor=context.actor, at=context.now, epoch=state.epoch + 1, node=command.node),)
