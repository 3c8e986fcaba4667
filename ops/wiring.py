"""Wiring: the only place that knows concrete classes. Builds the server of one process from its settings."""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from importlib.metadata import version

import structlog
from fastapi import FastAPI
from prometheus_client import CollectorRegistry

from commands.accounts import Accounts
from commands.app_keys import AppKeys
from commands.desk import Desk
from commands.marks import ReadMarks
from commands.node import Node
from commands.passwords import Passwords
from commands.reactions import Reactions
from commands.refresh import RefreshTokens
from domain.aggregates import EVENT_CLASSES
from domain.event import Message, Place, Written
from domain.streams import split
from eventlog.bus import Bus
from eventlog.codec import EventCodec
from eventlog.port import Log
from eventlog.registry import Registry
from eventlog.relay import Relay
from eventlog.sealing import PlainSealing
from eventlog.secrets import Secrets
from gateways.limits import RateLimits, Share
from gateways.presence import MemoryPresence, Presence, User
from gateways.redis_limits import RedisLimiter
from gateways.redis_presence import RedisPresence
from gateways.rest.app import build_app
from gateways.rest.services import RestServices, RestSettings
from gateways.rest.signatures import SignedCalls
from gateways.sessions import Sessions
from gateways.socket.desk import SocketDesk
from gateways.socket.interest import Interest
from gateways.socket.pusher import Pusher
from gateways.socket.websocket import WebSocket, build_websocket_protocol
from gateways.tokens import AccessTokens
from ops.folder import DataFolder, FolderLock
from ops.interpreter import interpreter_for_serving
from ops.settings import Settings
from ops.stores import Stores, cluster_stores, embedded_stores
from projections.runner import RunnerSettings
from projections.views import Views, ViewsSettings

_log = structlog.get_logger(__name__)

SERVER_KEY_BYTES = 32
READY_LAG_COMMITS_MAX = 10_000
"""Views further behind than that make the server not ready."""


def now_ms() -> int:
    """The wall clock in milliseconds since 1970 UTC; the only place that reads it for the server."""
    return time.time_ns() // 1_000_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Server:
    """Everything that runs in the process, open."""

    settings: Settings
    folder: DataFolder
    log: Log
    codec: EventCodec
    bus: Bus
    node: Node
    desk: Desk
    secrets: Secrets
    views: Views
    accounts: Accounts
    app_keys: AppKeys
    sessions: Sessions
    presence: Presence
    socket_desk: SocketDesk
    pusher: Pusher
    registry: CollectorRegistry
    app: FastAPI
    websocket_class: type[WebSocket]
    stopping: asyncio.Event
    """Set when the server begins to drain; readiness is false from then on."""


class _OlderMessages:
    """The desk's door to the timeline; the timeline is opened after the desk."""

    def __init__(self, node: Node) -> None:
        self._node = node
        self.views: Views | None = None

    async def older_message(self, stream: str, seq: int) -> Message | None:
        """See `commands.desk.OlderMessages`."""
        assert self.views is not None
        tenant, name = split(stream)
        await self.views.caught_up(self._node.head_positions())
        message, _ = await self.views.timeline.older_message(tenant, name, seq)
        return message

    async def unseen(self, tenant: str, user_id: str, places: Sequence[Place]) -> frozenset[Place]:
        """See `commands.desk.OlderMessages`."""
        assert self.views is not None
        await self.views.caught_up(self._node.head_positions())
        return await self.views.timeline.unseen(tenant, user_id, places)

    async def written(self, stream: str, seq: int) -> Written | None:
        """See `commands.desk.OlderMessages`."""
        assert self.views is not None
        tenant, name = split(stream)
        await self.views.caught_up(self._node.head_positions())
        return await self.views.timeline.written(tenant, name, seq)


async def _server_key(store: Secrets, name: str) -> bytes:
    """One of the server's own keys, made at the first start."""
    return await store.put_if_absent("server", "minutebook", name, secrets.token_bytes(SERVER_KEY_BYTES))


@asynccontextmanager
async def open_server(settings: Settings) -> AsyncIterator[Server]:
    """Open the stores and everything over them; closed in the opposite order, so that what was decided is still written.

    The data folder holds the log, or in a cluster only what belongs to this process. Raises FolderInUseError, FolderUnusableError and
    what `embedded_stores` and `cluster_stores` raise.
    """
    async with AsyncExitStack() as stack:
        folder = DataFolder(settings.data)
        folder.prepare()
        lock = FolderLock(folder)
        lock.acquire()
        stack.callback(lock.release)
        opening = cluster_stores(settings) if settings.in_cluster else embedded_stores(settings, folder)
        stores = await stack.enter_async_context(opening)
        server = await _open(settings, folder, stores, stack)
        with interpreter_for_serving():
            yield server


async def _open(settings: Settings, folder: DataFolder, stores: Stores, stack: AsyncExitStack) -> Server:
    log = stores.log
    codec = EventCodec(Registry(EVENT_CLASSES), PlainSealing())
    bus = Bus()
    if stores.carrier is not None:
        relay = Relay(log, stores.carrier.sender, stores.carrier.checkpoint, bus=bus)
        await relay.start()
        stack.push_async_callback(relay.close)
    runner = RunnerSettings(linger_ms=int(settings.linger_ms))
    views = await Views.open(stores.shelf, log, bus, codec, ViewsSettings(runner=runner))
    stack.push_async_callback(views.close)
    node = Node(
        log, codec, bus, now_ms, settings.node_settings(), name=settings.node_name, snapshots=stores.snapshots
    )
    older = _OlderMessages(node)
    older.views = views
    await node.open()
    stack.push_async_callback(node.close)
    desk = Desk(node, await _server_key(stores.secrets, "payload"), older)
    stack.push_async_callback(desk.close)
    reactions = Reactions(log, codec, bus, desk, stores.reactions)
    await reactions.start()
    stack.push_async_callback(reactions.close)
    return await _gateway(settings, folder, stores, codec, bus, node, desk, views, stack)


async def _gateway(
    settings: Settings,
    folder: DataFolder,
    stores: Stores,
    codec: EventCodec,
    bus: Bus,
    node: Node,
    desk: Desk,
    views: Views,
    stack: AsyncExitStack,
) -> Server:
    log, store = stores.log, stores.secrets
    marks = ReadMarks(desk, views.timeline)
    stack.push_async_callback(marks.close)
    passwords = Passwords(threads=settings.password_workers)
    stack.callback(passwords.close)
    refresh = RefreshTokens(store, await _server_key(store, "refresh"))
    accounts = Accounts(desk, store, passwords, refresh, now_ms)
    sessions = Sessions(AccessTokens(await _server_key(store, "access-token")), desk, bus, now_ms)
    stack.callback(sessions.close)
    app_keys = AppKeys(desk, store, now_ms)
    hub: list[SocketDesk] = []
    presence = _presence(
        settings, stores, lambda: [user for desk in hub for user in desk.hints.watched()], stack
    )
    limits, bounds = settings.limit_settings(), settings.node_settings().limits
    socket_desk, pusher = _socket_side(settings, log, bus, desk, marks, sessions, views, presence, stack)
    hub.append(socket_desk)
    stopping = asyncio.Event()
    registry = CollectorRegistry()
    services = RestServices(
        desk=desk,
        views=views,
        read_marks=marks,
        accounts=accounts,
        sessions=sessions,
        signed_calls=SignedCalls(app_keys, now_ms),
        limits=RateLimits(limits, time.monotonic, _sharing(stores)),
        presence=presence,
        settings=RestSettings(
            origins=settings.origins,
            registration_open=settings.registration_open,
            shard_count=settings.shards,
            version=version("minutebook"),
            recall_window_s=bounds.recall_window_s,
            edit_window_s=bounds.edit_window_s,
        ),
        server_secret=await _server_key(store, "invites"),
        now_ms=now_ms,
        readiness=lambda: _not_ready(node, views, stopping),
        registry=registry,
    )
    return Server(
        settings=settings,
        folder=folder,
        log=log,
        codec=codec,
        bus=bus,
        node=node,
        desk=desk,
        secrets=store,
        views=views,
        accounts=accounts,
        app_keys=app_keys,
        sessions=sessions,
        presence=presence,
        socket_desk=socket_desk,
        pusher=pusher,
        registry=registry,
        app=build_app(services),
        websocket_class=build_websocket_protocol(socket_desk, settings.socket_limits()),
        stopping=stopping,
    )


def _presence(
    settings: Settings, stores: Stores, watched: Callable[[], list[User]], stack: AsyncExitStack
) -> Presence:
    """Of this process alone, or shared with other gateways."""
    if stores.fast is None:
        return MemoryPresence(now_ms)
    presence = RedisPresence(stores.fast, settings.node_name, watched)
    presence.start()
    stack.push_async_callback(presence.close)
    return presence


def _sharing(stores: Stores) -> Share | None:
    fast = stores.fast
    return None if fast is None else lambda name, rate: RedisLimiter(fast, name, rate, time.monotonic)


def _socket_side(
    settings: Settings,
    log: Log,
    bus: Bus,
    desk: Desk,
    marks: ReadMarks,
    sessions: Sessions,
    views: Views,
    presence: Presence,
    stack: AsyncExitStack,
) -> tuple[SocketDesk, Pusher]:
    interest = Interest()
    socket_limits = settings.socket_limits()
    socket_desk = SocketDesk(
        desk=desk,
        marks=marks,
        sessions=sessions,
        views=views,
        presence=presence,
        interest=interest,
        limits=settings.limit_settings(),
        log_id=log.log_id,
        heartbeat_s=socket_limits.heartbeat_s,
        origins=frozenset(settings.origins),
        now_ms=now_ms,
        monotonic_s=time.monotonic,
        schedule=asyncio.get_running_loop().call_later,
    )
    presence.changed = socket_desk.hints.presence_changed
    stack.push_async_callback(socket_desk.close)
    pusher = Pusher(interest, socket_desk.hints.touched)
    stack.callback(bus.follow(pusher.follow))
    return socket_desk, pusher


def _not_ready(node: Node, views: Views, stopping: asyncio.Event) -> Mapping[str, str]:
    """What keeps the server from taking traffic, by part."""
    reasons: dict[str, str] = {}
    if stopping.is_set():
        reasons["server"] = "stopping"
    if not node.writable:
        reasons["log"] = "the event log refuses writes"
    if views.failing:
        reasons["views"] = "the read models cannot be written"
    elif views.lag_commits > READY_LAG_COMMITS_MAX:
        reasons["views"] = f"{views.lag_commits} commits behind"
    return reasons
