"""All aggregates by kind, and all event classes."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import msgspec

from domain import direct, group, inbox, shard, talk, tenant, user
from domain.event import Command, Context, Event, State
from domain.snapshots import SnapshotDamagedError, restore, snapshot_parts
from domain.streams import StreamKind

__all__ = [
    "AGGREGATES", "EVENT_CLASSES", "Aggregate", "SnapshotDamagedError", "State", "restore", "snapshot_parts",
]  # fmt: skip


class Aggregate(msgspec.Struct, frozen=True):
    """The three functions of an aggregate module."""

    initial: Callable[[str], State]
    evolve: Callable[[Any, Event], State]
    decide: Callable[[Any, Command, Context], tuple[Event, ...]]


AGGREGATES: Mapping[StreamKind, Aggregate] = {
    StreamKind.GROUP: Aggregate(group.initial, group.evolve, group.decide),
    StreamKind.DIRECT: Aggregate(direct.initial, direct.evolve, direct.decide),
    StreamKind.USER: Aggregate(user.initial, user.evolve, user.decide),
    StreamKind.INBOX: Aggregate(inbox.initial, inbox.evolve, inbox.decide),
    StreamKind.TENANT: Aggregate(tenant.initial, tenant.evolve, tenant.decide),
    StreamKind.SHARD: Aggregate(shard.initial, shard.evolve, shard.decide),
}

EVENT_CLASSES: tuple[type[Event], ...] = (
    *talk.EVENTS, *group.EVENTS, *direct.EVENTS, *user.EVENTS, *inbox.EVENTS, *tenant.EVENTS, *shard.EVENTS,
)  # fmt: skip
