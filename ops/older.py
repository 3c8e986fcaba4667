"""The desk's door to the read side, for messages that lie before the hot window."""

from __future__ import annotations

from collections.abc import Sequence

from commands.node import Node
from domain.event import Message, Place, Written
from domain.streams import split
from projections.views import ReadSide


class OlderFromViews:
    """`commands.desk.OlderMessages`: the views, as soon as they hold all that the node wrote."""

    def __init__(self, node: Node, views: ReadSide) -> None:
        self._node = node
        self._views = views

    async def older_message(self, stream: str, seq: int) -> Message | None:
        """See the port."""
        tenant, name = split(stream)
        await self._views.caught_up(self._node.head_positions())
        message, _ = await self._views.timeline.older_message(tenant, name, seq)
        return message

    async def unseen(self, tenant: str, user_id: str, places: Sequence[Place]) -> frozenset[Place]:
        """See the port."""
        await self._views.caught_up(self._node.head_positions())
        return await self._views.timeline.unseen(tenant, user_id, places)

    async def written(self, stream: str, seq: int) -> Written | None:
        """See the port."""
        tenant, name = split(stream)
        await self._views.caught_up(self._node.head_positions())
        return await self._views.timeline.written(tenant, name, seq)
