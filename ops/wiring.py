"""Wiring: the only place that knows concrete classes. Builds the embedded server from its settings, in one process."""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import AsyncIterator, Mapping, Sequence
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
from eventlog.checkpoints import FileCheckpoint
from eventlog.codec import EventCodec
from eventlog.registry import Registry
from eventlog.sealing import PlainSealing
from eventlog.secrets import Secrets
from eventlog.snapshots import SqliteSnapshots
from eventlog.sqlite import SqliteLog
from eventlog.sqlite_secrets import SqliteSecrets
from gateways.limits import RateLimits
from gateways.presence import MemoryPresence, Presence
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
from projections.runner import RunnerSettings
from projections.sqlite_shelf import SqliteShelf
from projections.views import Views, ViewsSettings

_log = structlog.get_logger(__name__)

SERVER_KEY_BYTES = 32
READY_LAG_COMMITS_MAX = 10_000
"""Views further behind than that make the server not ready."""


def now_ms() -> int:
    """The wall clock in milliseconds since 1970 UTC; the only place that reads it for the server."""
    return time.time_ns() // 1_000_000


@dataclass(frozen=True, slots=True, kw_only=True)
class EmbeddedServer:
    """Everything that runs in the process, open."""

    settings: Settings
    folder: DataFolder
    log: SqliteLog
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
async def embedded_server(settings: Settings) -> AsyncIterator[EmbeddedServer]:
    """Open the data folder and everything over it; closed in the opposite order, so that what was decided is still written.

    Raises FolderInUseError, FolderUnusableError, LogMismatchError, LogUnavailableError, SecretsUnavailableError.
    """
    async with AsyncExitStack() as stack:
        folder = DataFolder(settings.data)
        folder.prepare()
        lock = FolderLock(folder)
        lock.acquire()
        stack.callback(lock.release)
        store = await SqliteSecrets.open(folder.secrets)
        stack.push_async_callback(store.close)
        log = await SqliteLog.open(folder.log, settings.shards)
        stack.push_async_callback(log.close)
        server = await _open(settings, folder, store, log, stack)
        with interpreter_for_serving():
            yield server


async def _open(
    settings: Settings, folder: DataFolder, store: Secrets, log: SqliteLog, stack: AsyncExitStack
) -> EmbeddedServer:
    codec = EventCodec(Registry(EVENT_CLASSES), PlainSealing())
    bus = Bus()
    snapshots = await SqliteSnapshots.open(folder.snapshots, log)
    stack.push_async_callback(snapshots.close)
    runner = RunnerSettings(linger_ms=int(settings.linger_ms))
    views = await Views.open(SqliteShelf(folder.views), log, bus, codec, ViewsSettings(runner=runner))
    stack.push_async_callback(views.close)
    node = Node(log, codec, bus, now_ms, settings.node_settings(), snapshots=snapshots)
    older = _OlderMessages(node)
    older.views = views
    await node.open()
    stack.push_async_callback(node.close)
    desk = Desk(node, await _server_key(store, "payload"), older)
    stack.push_async_callback(desk.close)
    reactions = Reactions(log, codec, bus, desk, FileCheckpoint(folder.reactions, log.log_id))
    await reactions.start()
    stack.push_async_callback(reactions.close)
    return await _gateway(settings, folder, store, log, codec, bus, node, desk, views, stack)


async def _gateway(
    settings: Settings,
    folder: DataFolder,
    store: Secrets,
    log: SqliteLog,
    codec: EventCodec,
    bus: Bus,
    node: Node,
    desk: Desk,
    views: Views,
    stack: AsyncExitStack,
) -> EmbeddedServer:
    marks = ReadMarks(desk, views.timeline)
    stack.push_async_callback(marks.close)
    passwords = Passwords(threads=settings.password_workers)
    stack.callback(passwords.close)
    refresh = RefreshTokens(store, await _server_key(store, "refresh"))
    accounts = Accounts(desk, store, passwords, refresh, now_ms)
    sessions = Sessions(AccessTokens(await _server_key(store, "access-token")), desk, bus, now_ms)
    stack.callback(sessions.close)
    app_keys = AppKeys(desk, store, now_ms)
    presence: Presence = MemoryPresence(now_ms)
    limits, bounds = settings.limit_settings(), settings.node_settings().limits
    socket_desk, pusher = _socket_side(settings, log, bus, desk, marks, sessions, views, presence, stack)
    stopping = asyncio.Event()
    registry = CollectorRegistry()
    services = RestServices(
        desk=desk,
        views=views,
        read_marks=marks,
        accounts=accounts,
        sessions=sessions,
        signed_calls=SignedCalls(app_keys, now_ms),
        limits=RateLimits(limits, time.monotonic),
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
    return EmbeddedServer(
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


def _socket_side(
    settings: Settings,
    log: SqliteLog,
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
