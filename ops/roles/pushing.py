"""The pusher: what of the record goes to which gateway; and the gateway's side of that."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Mapping, Sequence

from commands.reactions import REFLECTED_TYPES
from eventlog.bus import Bus
from eventlog.codec import EventCodec
from eventlog.record import Commit, Committed
from gateways.push.concern import ROUTING_TYPES
from gateways.push.exchange import Exchange
from gateways.push.line import PusherAt, PushLines
from gateways.push.receiver import Receiver
from gateways.push.server import PushServer
from gateways.push.settings import PushSettings
from gateways.push.watch import RecordWatch
from gateways.rpc.handshake import new_incarnation
from gateways.rpc.peer import Face
from gateways.rpc.settings import RpcSettings
from ops.metrics.pushing import watch_pusher, watch_receiver, watch_record
from ops.roles.carrying import Following, skipping
from ops.roles.role import Role
from ops.roles.site import Site


def is_served(site: Site) -> bool:
    """Whether this process's gateway goes by a pusher: there is one, and the process does not follow the whole record anyway."""
    return bool(site.settings.cluster.pushers) and not site.roles & {Role.JOBS, Role.PUSHER}


def routing_decode(codec: EventCodec) -> Callable[[Commit], Committed]:
    """Of a commit only what pushers and jobs look at. What this release does not know goes by its stream alone."""
    wanted = ROUTING_TYPES | REFLECTED_TYPES
    return skipping(lambda commit: codec.decode(commit, wanted))


def following_decode(site: Site) -> Callable[[Commit], Committed]:
    """Of a commit what this process looks at: gateways at everything."""
    return skipping(site.codec.decode) if Role.GATEWAY in site.roles else routing_decode(site.codec)


def open_watch(site: Site, following: Following, decode: Callable[[Commit], Committed]) -> RecordWatch:
    """Look at the log beside the feed."""

    def take(commits: Sequence[Commit]) -> None:
        following.publish([decode(commit) for commit in commits])

    watch = RecordWatch(site.stores.log, lambda: following.reached, take, time.monotonic, PushSettings())
    watch.start()
    site.stack.push_async_callback(watch.close)
    site.readiness.add(lambda: {"record": "the log cannot be reached"} if watch.stale else {})
    if Role.PUSHER not in site.roles:
        watch_record(site.registry, watch)
    return watch


async def open_pusher(site: Site, following: Following, watch: RecordWatch) -> None:
    """Route what follows, and listen for gateways. Raises OSError."""
    exchange = Exchange(following.reached)
    site.stack.callback(following.bus.follow(exchange.follow))
    server = PushServer(
        exchange=exchange,
        age_s=watch.age_s,
        identity=site.identity,
        secret=site.secret,
        settings=PushSettings(),
        wire=RpcSettings(),
    )
    site.stack.push_async_callback(server.close)
    cluster = site.settings.cluster
    address = next(row.address for row in cluster.pushers if row.node == site.name)
    await server.start(cluster.push_listen or address)
    watch_pusher(site.registry, exchange, watch)


async def open_receiver(site: Site, bus: Bus, take_heads: Callable[[Mapping[int, int]], None]) -> Receiver:
    """What a gateway wants of the record, from now on. Not started: first whoever follows the bus."""
    settings = PushSettings()
    face = Face(
        identity=site.identity,
        incarnation=new_incarnation(),
        secret=site.secret,
        codec=site.codec,
        settings=RpcSettings(),
        chance=random.Random(),  # noqa: S311 - spreads gateways over pushers
    )
    pushers = [PusherAt(row.node, row.address) for row in site.settings.cluster.pushers]
    heads = await site.stores.log.heads()
    receiver = Receiver(
        log=site.stores.log,
        codec=site.codec,
        heads={shard: head.position for shard, head in heads.items()},
        publish=bus.publish,
        take_heads=take_heads,
        lines=PushLines(face, pushers, settings),
        settings=settings,
        now_s=time.monotonic,
    )
    site.stack.push_async_callback(receiver.close)
    watch_receiver(site.registry, receiver)
    site.readiness.add(
        lambda: {"record": "neither a pusher nor the log can be reached"} if receiver.stale else {}
    )
    site.readiness.add_remark(
        lambda: {} if receiver.live else {"pusher": "none can be reached; the log is read instead"}
    )
    return receiver
