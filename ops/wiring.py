"""Wiring: the only place that knows concrete classes. Builds the server of one process from its settings."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from dataclasses import dataclass

import structlog
from prometheus_client import CollectorRegistry

from commands.desk import Desk
from commands.node import Node
from commands.reactions import Reactions
from domain.aggregates import EVENT_CLASSES
from eventlog.bus import Bus
from eventlog.codec import EventCodec
from eventlog.port import Log
from eventlog.registry import Registry
from eventlog.relay import Relay
from eventlog.sealing import PlainSealing
from ops.faces import Faces, Ground, open_faces
from ops.fast_views import told_shelf
from ops.folder import DataFolder, held_folder
from ops.interpreter import interpreter_for_serving
from ops.metrics.carrying import watch_relay
from ops.metrics.families import ProcessRegistry
from ops.metrics.reading import watch_read_side, watch_runner
from ops.metrics.writing import watch_node, watch_reactions
from ops.readiness import Readiness
from ops.settings import Settings
from ops.stores import Stores, embedded_stores
from ops.tracing.tracer import open_tracer
from ops.writing import open_desk, open_node
from projections.runner import RunnerSettings
from projections.views import Views, ViewsSettings

_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Server:
    """Everything that runs in the process, open."""

    settings: Settings
    folder: DataFolder
    stores: Stores
    codec: EventCodec
    bus: Bus
    node: Node
    desk: Desk
    views: Views
    faces: Faces
    registry: CollectorRegistry
    readiness: Readiness

    @property
    def log(self) -> Log:
        """The record."""
        return self.stores.log


@asynccontextmanager
async def open_server(settings: Settings) -> AsyncIterator[Server]:
    """Open the stores and everything over them; closed in the opposite order, so that what was decided is still written.

    The data folder holds the log, or in a cluster only what belongs to this process. Raises FolderInUseError, FolderUnusableError and
    what `embedded_stores` and `cluster_stores` raise.
    """
    async with AsyncExitStack() as stack:
        folder = stack.enter_context(held_folder(settings.data))
        stores = await stack.enter_async_context(_stores(settings, folder))
        server = await _open(settings, folder, stores, stack)
        with interpreter_for_serving():
            yield server


def _stores(settings: Settings, folder: DataFolder) -> AbstractAsyncContextManager[Stores]:
    if not settings.in_cluster:
        return embedded_stores(settings, folder)
    from ops.cluster import cluster_stores  # noqa: PLC0415 - the embedded server needs none of what this needs

    return cluster_stores(settings)


async def _open(settings: Settings, folder: DataFolder, stores: Stores, stack: AsyncExitStack) -> Server:
    log = stores.log
    codec = EventCodec(Registry(EVENT_CLASSES), PlainSealing())
    tracer = await stack.enter_async_context(open_tracer(settings, settings.roles))
    bus, registry = Bus(), ProcessRegistry(settings.node_name, settings.roles)
    if stores.carrier is not None:
        relay = Relay(log, tracer.sender(stores.carrier.sender), stores.carrier.checkpoint, bus=bus)
        watch_relay(registry, relay)
        await relay.start()
        stack.push_async_callback(relay.close)
    runner = RunnerSettings(linger_ms=int(settings.linger_ms))
    reading = ViewsSettings(runner=runner, shared=stores.fast is not None)
    views = await Views.open(await told_shelf(stores, stack), log, bus, codec, reading, stores.fast)
    stack.push_async_callback(views.close)
    node = await open_node(settings, stores, codec, bus, stack)
    desk = await open_desk(node, stores, views, stack)
    reactions = Reactions(log, codec, bus, desk, stores.reactions)
    await reactions.start()
    stack.push_async_callback(reactions.close)
    tracer.owner(desk, bus, node.flush_counters)
    tracer.views(views.runner)
    watch_node(registry, node)
    watch_reactions(registry, reactions)
    watch_runner(registry, views.runner)
    watch_read_side(registry, views)
    readiness = Readiness()
    ground = Ground(
        settings=settings,
        stores=stores,
        bus=bus,
        desk=desk,
        views=views,
        writable=lambda: node.writable,
        registry=registry,
        readiness=readiness,
        tracer=tracer,
    )
    return Server(
        settings=settings,
        folder=folder,
        stores=stores,
        codec=codec,
        bus=bus,
        node=node,
        desk=desk,
        views=views,
        faces=await open_faces(ground, stack),
        registry=registry,
        readiness=readiness,
    )
