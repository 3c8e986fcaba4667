"""The owner: the node that writes its shards, its desk, and the server that takes commands for it from other nodes."""

from __future__ import annotations

from dataclasses import dataclass

from commands.desk import Desk
from commands.node import Node
from commands.shard_watch import ShardWatch
from gateways.rpc.server import CommandServer
from gateways.rpc.settings import RpcSettings
from ops import readiness
from ops.metrics.commanding import watch_command_server
from ops.metrics.writing import watch_node
from ops.roles.site import Site
from ops.writing import open_desk, open_node
from projections.views import ReadSide


@dataclass(frozen=True, slots=True, kw_only=True)
class Owner:
    """Open; `server` does not listen yet."""

    node: Node
    desk: Desk
    server: CommandServer


async def open_owner(site: Site, views: ReadSide) -> Owner:
    """Open the shards. The server is closed before the desk, whoever listens with it."""
    node = await open_node(
        site.settings, site.stores, site.codec, site.own_commits, site.stack, site.own_shards
    )
    watch_node(site.registry, node)
    site.readiness.add(lambda: readiness.of_node(node))
    watch = ShardWatch(site.stores.log, site.codec, node)
    watch.start()
    site.stack.push_async_callback(watch.close)
    desk = await open_desk(node, site.stores, views, site.stack)
    site.tracer.owner(desk, site.own_commits, node.flush_counters)
    server = CommandServer(
        desk=desk,
        bus=site.own_commits,
        identity=site.identity,
        secret=site.secret,
        settings=RpcSettings(),
    )
    site.stack.push_async_callback(server.close)
    watch_command_server(site.registry, server)
    return Owner(node=node, desk=desk, server=server)


async def listen_for_commands(site: Site, owner: Owner) -> None:
    """Take commands of other nodes. Raises OSError if the address is taken."""
    address = site.ownership.current().of(site.own_shards[0]).address
    await owner.server.start(site.settings.cluster.listen or address)
