"""The write side of a process that owns shards: its node and its desk."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AsyncExitStack

from commands.desk import Desk
from commands.node import Node
from eventlog.bus import Bus
from eventlog.codec import EventCodec
from ops.faces import now_ms, server_key
from ops.older import OlderFromViews
from ops.settings import Settings
from ops.stores import Stores
from projections.views import ReadSide


async def open_node(
    settings: Settings,
    stores: Stores,
    codec: EventCodec,
    bus: Bus,
    stack: AsyncExitStack,
    shards: Sequence[int] | None = None,
) -> Node:
    """Take over the shards (default: all); what is committed goes to `bus`. Raises as `Node.open` does."""
    node = Node(
        stores.log,
        codec,
        bus,
        now_ms,
        settings.node_settings(),
        name=settings.node_name,
        snapshots=stores.snapshots,
    )
    await node.open(shards)
    stack.push_async_callback(node.close)
    return node


async def open_desk(node: Node, stores: Stores, views: ReadSide, stack: AsyncExitStack) -> Desk:
    """The desk before it."""
    desk = Desk(node, await server_key(stores.secrets, "payload"), OlderFromViews(node, views, stores.log))
    stack.push_async_callback(desk.close)
    return desk
