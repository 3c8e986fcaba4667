"""The desk's door to the read side, for messages that lie before the hot window."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

from commands.node import Node
from domain.errors import Problem
from domain.event import Message, Place, Written
from domain.streams import qualified, shard_of, split
from eventlog.port import Log, LogUnavailableError
from projections.views import ReadSide


class OlderFromViews:
    """`commands.desk.OlderMessages`: the views, as soon as they hold all that the node wrote, and what is asked of other nodes' shards."""

    def __init__(self, node: Node, views: ReadSide, log: Log) -> None:
        self._node = node
        self._views = views
        self._log = log

    async def older_message(self, stream: str, seq: int) -> Message | None:
        """See the port."""
        tenant, name = split(stream)
        await self._views.caught_up(self._node.head_positions())
        message, _ = await self._views.timeline.older_message(tenant, name, seq)
        return message

    async def unseen(self, tenant: str, user_id: str, places: Sequence[Place]) -> frozenset[Place]:
        """See the port."""
        shards = {shard_of(qualified(tenant, name), self._log.shard_count) for name, _ in places}
        await self._views.caught_up({**self._node.head_positions(), **await self._heads_elsewhere(shards)})
        return await self._views.timeline.unseen(tenant, user_id, places)

    async def written(self, stream: str, seq: int) -> Written | None:
        """See the port."""
        tenant, name = split(stream)
        await self._views.caught_up(self._node.head_positions())
        return await self._views.timeline.written(tenant, name, seq)

    async def _heads_elsewhere(self, shards: Collection[int]) -> Mapping[int, int]:
        """Where those of these shards end that other nodes own: whoever saw something of them saw what is in the log by now."""
        own = self._node.shards
        foreign = [shard for shard in shards if shard not in own or own[shard].lost]
        if not foreign:
            return {}
        try:
            heads = await self._log.heads()
        except LogUnavailableError:
            raise Problem(
                "unavailable", "the event log cannot be read; try again", retry_after_ms=500
            ) from None
        return {shard: heads[shard].position for shard in foreign if shard in heads}
