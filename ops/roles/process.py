"""One process with some of the roles: what is opened, and upon what."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass

from prometheus_client import CollectorRegistry

from commands.port import CommandPort
from commands.reactions import Reactions
from eventlog.bus import Bus
from gateways.routes import Routes
from ops.cluster import cluster_stores
from ops.faces import Faces, Ground, open_faces
from ops.folder import held_folder
from ops.interpreter import interpreter_for_serving
from ops.metrics.writing import watch_reactions
from ops.readiness import Readiness, of_reactions
from ops.roles.carrying import Following, open_feed, open_relay
from ops.roles.commanding import open_router
from ops.roles.owner import Owner, listen_for_commands, open_owner
from ops.roles.pushing import following_decode, is_served, open_pusher, open_receiver, open_watch
from ops.roles.reading import open_views
from ops.roles.role import Role, roles_of
from ops.roles.site import Site
from ops.settings import Settings
from ops.tracing.tracer import open_tracer
from projections.views import ReadSide


@dataclass(frozen=True, slots=True, kw_only=True)
class Process:
    """Open. `faces` is there for gateways."""

    faces: Faces | None
    registry: CollectorRegistry
    readiness: Readiness


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
        tracer = await stack.enter_async_context(open_tracer(settings, settings.roles))
        process = await _open(Site(settings, roles, stores, stack, tracer))
        with interpreter_for_serving():
            yield process


async def _open(site: Site) -> Process:
    commands: CommandPort | None = None

    def heads() -> Mapping[int, int]:
        return {} if commands is None else commands.head_positions()

    if Role.RELAY in site.roles:
        await open_relay(site)
    views = await open_views(site, heads)
    owner = await open_owner(site, views) if Role.OWNER in site.roles else None
    commands = router = await open_router(site, owner)
    if owner is not None:
        await listen_for_commands(site, owner)
    faces = None
    if site.roles & {Role.JOBS, Role.PUSHER} or (Role.GATEWAY in site.roles and not is_served(site)):
        # Told before anybody follows, so that nothing lies between what was read at the start and what comes.
        following = Following(await site.stores.log.heads(), router.take_heads)
        decode = following_decode(site)
        watch = open_watch(site, following, decode)
        if Role.JOBS in site.roles:
            await _open_jobs(site, following.bus, router)
        if Role.PUSHER in site.roles:
            await open_pusher(site, following, watch)
        if Role.GATEWAY in site.roles:
            faces = await _open_gateway(site, following.bus, router, views, owner, watch)
        open_feed(site, "faces", following.publish, following.positions, decode)
    elif Role.GATEWAY in site.roles:
        bus = Bus()
        receiver = await open_receiver(site, bus, router.take_heads)
        faces = await _open_gateway(site, bus, router, views, owner, receiver)
        receiver.lost = faces.begin_anew
        receiver.start()
    return Process(faces=faces, registry=site.registry, readiness=site.readiness)


async def _open_jobs(site: Site, everything: Bus, commands: CommandPort) -> None:
    reactions = Reactions(site.stores.log, site.codec, everything, commands, site.stores.reactions)
    await reactions.start()
    site.stack.push_async_callback(reactions.close)
    watch_reactions(site.registry, reactions)
    site.readiness.add(lambda: of_reactions(reactions))


async def _open_gateway(
    site: Site, bus: Bus, commands: CommandPort, views: ReadSide, owner: Owner | None, routes: Routes
) -> Faces:
    ground = Ground(
        settings=site.settings,
        stores=site.stores,
        bus=bus,
        routes=routes,
        desk=commands,
        views=views,
        writable=lambda: owner is None or owner.node.writable,
        registry=site.registry,
        readiness=site.readiness,
        tracer=site.tracer,
    )
    return await open_faces(ground, site.stack)
