"""A command on its way to the owner of its shard, and the lane of a shard that keeps the order of such commands."""

from __future__ import annotations

import asyncio

import msgspec

from commands.order import Done
from domain.event import Command
from eventlog.record import Trace


class Lost(msgspec.Struct, frozen=True):
    """No answer will come: the link broke. `sent` False: the other node never saw the call."""

    sent: bool


class Call:
    """A command on its way to the owner of its shard, over as many tries as it takes.

    `deadline` is loop time in seconds. `unsure`: an earlier try may have happened, so only an answer or a decided refusal ends the call.
    `done` is called once and then forgotten.
    """

    __slots__ = (
        "actor", "client_keyed", "command", "deadline", "done", "encoded", "importing", "key", "name", "number",
        "payload_digest", "sent", "shard", "stream", "tenant", "trace", "unsure",
    )  # fmt: skip

    def __init__(
        self,
        *,
        number: int,
        tenant: str,
        actor: str,
        name: str,
        stream: str,
        shard: int,
        command: Command,
        key: bytes,
        client_keyed: bool,
        payload_digest: bytes,
        deadline: float,
        done: Done,
        importing: bool = False,
        trace: Trace | None = None,
    ) -> None:
        self.number = number
        self.tenant = tenant
        self.actor = actor
        self.name = name
        self.stream = stream
        self.shard = shard
        self.command = command
        self.key = key
        self.client_keyed = client_keyed
        self.payload_digest = payload_digest
        self.deadline = deadline
        self.done: Done | None = done
        self.importing = importing
        self.trace = trace
        self.unsure = False
        self.sent = False
        """Whether an owner may have seen this try; set by whoever sends it."""
        self.encoded: bytes | None = None
        """The command as it travels, made by the first peer that needs it."""

    @property
    def keyed(self) -> bool:
        """Whether the owner must look for an earlier commit with this key: also when we made the key, once a try may have happened."""
        return self.client_keyed or self.unsure


class Lane:
    """The calls of one shard. While some of them wait for an owner, later ones queue behind them, so that order is kept."""

    __slots__ = ("asked_epoch", "failures", "flying", "landed", "shard", "waiting")

    def __init__(self, shard: int) -> None:
        self.shard = shard
        self.waiting: list[Call] = []
        """Ascending by number."""
        self.flying = 0
        self.landed = asyncio.Event()
        self.asked_epoch = 0
        """Of the owner that was asked last."""
        self.failures = 0
        """Rounds in a row that found no owner."""


class RouterCounters:
    """Plain counters for metrics and tests."""

    __slots__ = ("expired", "links_lost", "not_owner", "retries")

    def __init__(self) -> None:
        self.expired = 0
        self.links_lost = 0
        self.not_owner = 0
        self.retries = 0
