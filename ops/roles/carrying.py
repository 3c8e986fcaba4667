"""The record between processes: the relay to Kafka, and feeds from it."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence

import structlog

from eventlog.bus import Bus
from eventlog.feed import Feed, FeedSettings, Positions
from eventlog.record import Commit, Committed, Head
from eventlog.registry import UnknownEventError
from eventlog.relay import Relay, RelaySettings
from ops import readiness
from ops.metrics.carrying import watch_feed, watch_relay
from ops.roles.role import Role
from ops.roles.site import Site

_log = structlog.get_logger(__name__)

UNREADABLE_TOLD_MAX = 100
"""How many kinds of unreadable events a process tells of."""
RELAY_LOOK_MS = 20
"""How often a relay without an owner in its process looks for new commits."""


async def open_relay(site: Site) -> None:
    """Carry commits to Kafka: those of the owner in this process, else everybody's."""
    carrier = site.carrier
    beside_owner = Role.OWNER in site.roles
    relay = Relay(
        site.stores.log,
        site.tracer.sender(carrier.sender),
        carrier.checkpoint,
        bus=site.own_commits if beside_owner else None,
        shards=site.own_shards if beside_owner else None,
        settings=RelaySettings() if beside_owner else RelaySettings(look_ms=RELAY_LOOK_MS),
    )
    watch_relay(site.registry, relay)
    # A process that does nothing else is of no use without Kafka; beside an owner it must not take that out of traffic.
    add = site.readiness.add if site.roles == {Role.RELAY} else site.readiness.add_remark
    add(lambda: readiness.of_relay(relay))
    await relay.start()
    site.stack.push_async_callback(relay.close)


def open_feed(
    site: Site,
    name: str,
    handler: Callable[[Sequence[Committed]], None],
    positions: Positions,
    decode: Callable[[Commit], Committed] | None = None,
) -> None:
    """Have everybody's commits handed over, behind `positions`. `decode` raises nothing, see `skipping`."""
    carrier = site.carrier
    feed: Feed[Committed] = Feed(
        site.stores.log,
        carrier.source(),
        carrier.partitions,
        positions=positions,
        decode=decode or skipping(site.codec.decode),
        handler=handler,
        settings=FeedSettings(from_log=True),
    )
    watch_feed(site.registry, name, feed)
    site.readiness.add(lambda: readiness.of_feed(name, feed))
    site.readiness.add_remark(lambda: readiness.of_carrier(name, feed))
    feed.start()
    site.stack.push_async_callback(feed.close)


def skipping(decode: Callable[[Commit], Committed]) -> Callable[[Commit], Committed]:
    """Of a commit that this release cannot read there is nothing to hand on but its place; everything else goes on.

    Views park such a stream. Here nobody has to remember it: after an upgrade clients fetch what they lack.
    """
    told: set[str] = set()

    def decoded(commit: Commit) -> Committed:
        try:
            return decode(commit)
        except UnknownEventError as error:
            if str(error) not in told and len(told) < UNREADABLE_TOLD_MAX:
                told.add(str(error))
                _log.warning(
                    "a commit cannot be read by this release and is skipped; more of its kind are not told of",
                    shard=commit.shard,
                    position=commit.position,
                    error=str(error),
                )
            return Committed(commit, ())

    return decoded


class Following:
    """A bus of everybody's commits, from the heads at its beginning on, and how far it has come."""

    def __init__(self, heads: Mapping[int, Head], take_heads: Callable[[Mapping[int, int]], None]) -> None:
        self.bus = Bus()
        self._positions = {shard: head.position for shard, head in heads.items()}
        self._take_heads = take_heads
        take_heads(self._positions)

    def publish(self, batch: Sequence[Committed]) -> None:
        """Hand on what is new, each shard's in position order; whoever reads afterwards waits until the views hold it too."""
        fresh: list[Committed] = []
        reached: dict[int, int] = {}
        for committed in batch:
            shard, position = committed.commit.shard, committed.commit.position
            if position > reached.get(shard, self._positions.get(shard, 0)):
                reached[shard] = position
                fresh.append(committed)
        if not fresh:
            return
        self._take_heads(reached)
        self._positions.update(reached)
        self.bus.publish(fresh)

    @property
    def reached(self) -> Mapping[int, int]:
        """{shard: position} up to which everything was handed on."""
        return self._positions

    async def positions(self, shards: Collection[int]) -> Mapping[int, int]:
        """Where a feed has to go on, also after it failed."""
        return {shard: self._positions.get(shard, 0) for shard in shards}
