"""The roles of a cluster as processes: any of them in one process, over the stores that all share.

What a process needs of the others comes to it by two ways only: commands over the owners' streams, and the record over Kafka.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Callable, Collection, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from enum import StrEnum

from prometheus_client import CollectorRegistry

from commands.desk import Desk
from commands.node import Node
from commands.ownership import NodeShards, StaticOwnership
from commands.port import CommandPort
from commands.reactions import Reactions
from commands.router import Router
from commands.settings import RouterSettings
from commands.shard_watch import ShardWatch
from commands.tasks import TaskOwner
from domain.aggregates import EVENT_CLASSES
from eventlog.bus import Bus
from eventlog.codec import EventCodec
from eventlog.feed import Feed, FeedSettings, Positions
from eventlog.record import Committed, Head
from eventlog.registry import Registry
from eventlog.relay import Relay, RelaySettings
from eventlog.sealing import PlainSealing
from gateways.rpc.handshake import Identity, new_incarnation
from gateways.rpc.peer import Face
from gateways.rpc.peers import RpcPeers
from gateways.rpc.server import CommandServer
from gateways.rpc.settings import RpcSettings
from ops.carrier_metrics import FeedCollector, RelayCollector
from ops.cluster import cluster_stores
from ops.faces import Faces, Ground, now_ms, open_faces, server_key
from ops.folder import held_folder
from ops.interpreter import interpreter_for_serving
from ops.older import OlderFromViews
from ops.settings import Settings, SettingsError
from ops.stores import Carrier, Shared, Stores
from projections.elsewhere import ViewsElsewhere
from projections.runner import RunnerSettings
from projections.views import ReadSide, Views, ViewsSettings

HURRY_CHANNEL = "hurry"
_LAZY, _PROMPT = "lazy", "prompt"
HURRY_PAUSE_S = 0.01
"""Bells of one process to the projectors, at most."""
RELAY_LOOK_MS = 20
"""How often a relay without an owner in its process looks for new commits."""


class Role(StrEnum):
    """What a process may do."""

    GATEWAY = "gateway"
    OWNER = "owner"
    RELAY = "relay"
    PROJECTOR = "projector"
    JOBS = "jobs"


@dataclass(frozen=True, slots=True, kw_only=True)
class Process:
    """Open. `faces` is there for gateways."""

    faces: Faces | None
    registry: CollectorRegistry


def roles_of(settings: Settings) -> frozenset[Role]:
    """The roles that the settings name. Raises SettingsError."""
    try:
        return frozenset(Role(name) for name in settings.roles)
    except ValueError:
        known = ", ".join(Role)
        raise SettingsError(f"roles: {', '.join(settings.roles)}: there are only {known}") from None


@asynccontextmanager
async def open_process(settings: Settings) -> AsyncIterator[Process]:
    """Open the stores and the roles; closed in the opposite order. The data folder holds only what belongs to this process.

    Raises SettingsError, OwnershipError, FolderInUseError, FolderUnusableError, OSError (an address in use), TopicMismatchError and what
    `cluster_stores` raises.
    """
    roles = roles_of(settings)
    async with AsyncExitStack() as stack:
        stack.enter_context(held_folder(settings.data))
        stores = await stack.enter_async_context(cluster_stores(settings))
        process = await _Opening(settings, roles, stores, stack).run()
        with interpreter_for_serving():
            yield process


class _Following:
    """A bus of everybody's commits, from the heads at its beginning on, and how far it has come."""

    def __init__(self, heads: Mapping[int, Head], take_heads: Callable[[Mapping[int, int]], None]) -> None:
        self.bus = Bus()
        self._positions = {shard: head.position for shard, head in heads.items()}
        self._take_heads = take_heads
        take_heads(self._positions)

    def publish(self, batch: Sequence[Committed]) -> None:
        """Hand on, each shard's in position order; whoever reads afterwards waits until the views hold it too."""
        reached = {committed.commit.shard: committed.commit.position for committed in batch}
        self._take_heads(reached)
        self.bus.publish(batch)
        self._positions.update(reached)

    async def positions(self, shards: Collection[int]) -> Mapping[int, int]:
        """Where a feed has to go on, also after it failed."""
        return {shard: self._positions.get(shard, 0) for shard in shards}


class _Opening:
    """What is opened one upon the other."""

    def __init__(
        self, settings: Settings, roles: frozenset[Role], stores: Stores, stack: AsyncExitStack
    ) -> None:
        self._settings = settings
        self._roles = roles
        self._stores = stores
        self._stack = stack
        self._codec = EventCodec(Registry(EVENT_CLASSES), PlainSealing())
        self._name = settings.node_name
        self._identity = Identity(self._name, stores.log.log_id, stores.log.shard_count)
        rows = [NodeShards(row.node, row.address, row.shards) for row in settings.cluster.owners]
        if not rows:
            raise SettingsError(
                "roles need cluster.owners: which node owns which shards, and where it listens"
            )
        self._ownership = StaticOwnership(lambda: rows, stores.log.shard_count)
        self._own = self._ownership.current().shards_of(self._name)
        self._commands: CommandPort | None = None
        self._registry = CollectorRegistry()
        self._own_commits = Bus()
        """What this process's own node wrote."""

    async def run(self) -> Process:
        """Open them."""
        await self._relay()
        views = await self._views()
        node, desk = await self._owner(views)
        commands = self._commands = await self._router(desk)
        if desk is not None:
            await self._command_server(desk)
        if self._roles & {Role.GATEWAY, Role.JOBS}:
            # Told before anybody follows, so that nothing lies between what was read at the start and what comes.
            following = _Following(await self._stores.log.heads(), commands.take_heads)
            if Role.JOBS in self._roles:
                await self._jobs(following.bus, commands)
            faces = await self._faces(following.bus, commands, views, node)
            self._feed("faces", following.publish, following.positions)
        else:
            faces = None
        return Process(faces=faces, registry=self._registry)

    async def _relay(self) -> None:
        if Role.RELAY not in self._roles:
            return
        carrier = self._carrier
        beside_owner = Role.OWNER in self._roles
        relay = Relay(
            self._stores.log,
            carrier.sender,
            carrier.checkpoint,
            bus=self._own_commits if beside_owner else None,
            shards=self._own if beside_owner else None,
            settings=RelaySettings() if beside_owner else RelaySettings(look_ms=RELAY_LOOK_MS),
        )
        RelayCollector(self._registry, relay)
        await relay.start()
        self._stack.push_async_callback(relay.close)

    async def _views(self) -> ReadSide:
        stores = self._stores
        if Role.PROJECTOR not in self._roles:
            views = await ViewsElsewhere.open(stores.shelf, stores.log, self._known_heads, self._hurrying())
            self._stack.push_async_callback(views.close)
            return views
        bus = Bus()
        settings = ViewsSettings(runner=RunnerSettings(linger_ms=int(self._settings.linger_ms)), shared=True)
        written = await Views.open(stores.shelf, stores.log, bus, self._codec, settings)
        self._stack.push_async_callback(written.close)

        async def positions(shards: Collection[int]) -> Mapping[int, int]:
            held = written.positions()
            return {shard: held.get(shard, 0) for shard in shards}

        self._feed("views", bus.publish, positions)
        self._hearing(written)
        return written

    async def _owner(self, views: ReadSide) -> tuple[Node | None, Desk | None]:
        if Role.OWNER not in self._roles:
            return None, None
        if not self._own:
            raise SettingsError(f"cluster.owners gives no shard to {self._name}, which is to be an owner")
        stores, settings = self._stores, self._settings
        node = Node(
            stores.log,
            self._codec,
            self._own_commits,
            now_ms,
            settings.node_settings(),
            name=self._name,
            snapshots=stores.snapshots,
        )
        await node.open(self._own)
        self._stack.push_async_callback(node.close)
        watch = ShardWatch(stores.log, self._codec, node)
        watch.start()
        self._stack.push_async_callback(watch.close)
        desk = Desk(node, await server_key(stores.secrets, "payload"), OlderFromViews(node, views))
        self._stack.push_async_callback(desk.close)
        return node, desk

    async def _router(self, desk: Desk | None) -> Router:
        face = Face(
            identity=self._identity,
            incarnation=new_incarnation(),
            secret=self._secret,
            codec=self._codec,
            settings=RpcSettings(),
            chance=random.Random(),  # noqa: S311 - spreads retries
        )
        peers = RpcPeers(face)
        self._stack.push_async_callback(peers.close)
        router = Router(
            node=self._name,
            ownership=self._ownership,
            peers=peers,
            shard_count=self._stores.log.shard_count,
            payload_secret=await server_key(self._stores.secrets, "payload"),
            settings=RouterSettings(),
            chance=random.Random(),  # noqa: S311 - spreads retries
            desk=desk,
        )
        face.take_heads = router.take_heads
        self._stack.push_async_callback(router.close)
        if desk is not None:
            desk.elsewhere = router
        return router

    async def _command_server(self, desk: Desk) -> None:
        address = self._ownership.current().of(self._own[0]).address
        listen = self._settings.cluster.listen or address
        server = CommandServer(
            desk=desk,
            bus=self._own_commits,
            identity=self._identity,
            secret=self._secret,
            settings=RpcSettings(),
        )
        await server.start(listen)
        self._stack.push_async_callback(server.close)

    async def _jobs(self, everything: Bus, commands: CommandPort) -> None:
        stores = self._stores
        reactions = Reactions(stores.log, self._codec, everything, commands, stores.reactions)
        await reactions.start()
        self._stack.push_async_callback(reactions.close)

    async def _faces(
        self, everything: Bus, commands: CommandPort, views: ReadSide, node: Node | None
    ) -> Faces | None:
        if Role.GATEWAY not in self._roles:
            return None
        ground = Ground(
            settings=self._settings,
            stores=self._stores,
            bus=everything,
            desk=commands,
            views=views,
            writable=lambda: node is None or node.writable,
            registry=self._registry,
        )
        return await open_faces(ground, self._stack)

    # --- the record, as others wrote it ----------------------------------------------------------------------------------------------

    def _feed(self, name: str, handler: Callable[[Sequence[Committed]], None], positions: Positions) -> None:
        carrier = self._carrier
        feed: Feed[Committed] = Feed(
            self._stores.log,
            carrier.source(),
            carrier.partitions,
            positions=positions,
            decode=self._codec.decode,
            handler=handler,
            settings=FeedSettings(from_log=True),
        )
        FeedCollector(self._registry, name, feed)
        feed.start()
        self._stack.push_async_callback(feed.close)

    def _known_heads(self) -> Mapping[int, int]:
        return {} if self._commands is None else self._commands.head_positions()

    # --- bells to the projectors -----------------------------------------------------------------------------------------------------

    def _hurrying(self) -> Callable[[bool], None]:
        """What tells the projectors that somebody waits here."""
        shared = self._shared
        tasks = TaskOwner("hurry", 1)
        self._stack.push_async_callback(tasks.close)
        lazy_too = asyncio.Event()

        async def ring() -> None:
            await asyncio.sleep(HURRY_PAUSE_S)
            text = _LAZY if lazy_too.is_set() else _PROMPT
            lazy_too.clear()
            await shared.ring(HURRY_CHANNEL, text)

        def hurry(lazy: bool) -> None:
            if lazy:
                lazy_too.set()
            if not tasks.full:
                tasks.start(ring())

        return hurry

    def _hearing(self, views: Views) -> None:
        tasks = TaskOwner("hurry", 1)
        self._stack.push_async_callback(tasks.close)
        tasks.start(self._shared.hear(HURRY_CHANNEL, lambda text: views.runner.hurry(lazy=text == _LAZY)))

    @property
    def _carrier(self) -> Carrier:
        assert self._stores.carrier is not None
        return self._stores.carrier

    @property
    def _shared(self) -> Shared:
        assert self._stores.shared is not None
        return self._stores.shared

    @property
    def _secret(self) -> bytes:
        secret = self._settings.cluster.secret
        if secret is None:
            raise SettingsError("roles need cluster.secret, the same for all processes of the cluster")
        return secret.encode()
