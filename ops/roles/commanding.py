"""The router: how a process hands commands to the owners of their shards."""

from __future__ import annotations

import random

from commands.router import Router
from commands.settings import RouterSettings
from gateways.rpc.handshake import new_incarnation
from gateways.rpc.peer import Face
from gateways.rpc.peers import RpcPeers
from gateways.rpc.settings import RpcSettings
from ops.faces import server_key
from ops.metrics.commanding import watch_commanding
from ops.roles.owner import Owner
from ops.roles.site import Site


async def open_router(site: Site, owner: Owner | None) -> Router:
    """Commands for shards of this process's own go straight to its desk. Raises SettingsError."""
    face = Face(
        identity=site.identity,
        incarnation=new_incarnation(),
        secret=site.secret,
        codec=site.codec,
        settings=RpcSettings(),
        chance=random.Random(),  # noqa: S311 - spreads retries
    )
    peers = RpcPeers(face)
    site.stack.push_async_callback(peers.close)
    desk = None if owner is None else owner.desk
    router = Router(
        node=site.name,
        ownership=site.ownership,
        peers=peers,
        shard_count=site.stores.log.shard_count,
        payload_secret=await server_key(site.stores.secrets, "payload"),
        settings=RouterSettings(),
        chance=random.Random(),  # noqa: S311 - spreads retries
        desk=desk,
    )
    face.take_heads = router.take_heads
    site.stack.push_async_callback(router.close)
    watch_commanding(site.registry, router, peers)
    if desk is not None:
        desk.elsewhere = router
    return router
