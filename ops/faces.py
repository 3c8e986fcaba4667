"""The faces of a server: REST, sockets, and what both need. Wired over a write side and a read side, wherever those are."""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import Callable, Mapping
from contextlib import AsyncExitStack
from dataclasses import dataclass, field, replace
from importlib.metadata import version

from fastapi import FastAPI
from prometheus_client import CollectorRegistry

from commands.accounts import Accounts
from commands.app_keys import AppKeys
from commands.marks import ReadMarks
from commands.passwords import Passwords
from commands.port import CommandPort
from commands.refresh import RefreshTokens
from eventlog.bus import Bus
from eventlog.secrets import Secrets
from gateways.limits import RateLimits
from gateways.presence import MemoryPresence, Presence
from gateways.rest.app import build_app
from gateways.rest.services import RestServices, RestSettings
from gateways.rest.signatures import SignedCalls
from gateways.routes import EverythingHere, Routes
from gateways.sessions import Sessions
from gateways.socket.desk import SocketDesk
from gateways.socket.interest import Interest
from gateways.socket.pusher import Pusher
from gateways.socket.websocket import WebSocket, build_websocket_protocol
from gateways.tokens import AccessTokens
from ops import readiness
from ops.metrics.facing import watch_fast_store, watch_sockets
from ops.readiness import Readiness
from ops.settings import Settings
from ops.stores import Stores
from ops.tracing.tracer import Tracer
from projections.views import ReadSide

SERVER_KEY_BYTES = 32


def now_ms() -> int:
    """The wall clock in milliseconds since 1970 UTC; the only place that reads it for the server."""
    return time.time_ns() // 1_000_000


async def server_key(store: Secrets, name: str) -> bytes:
    """One of the server's own keys, made at the first start."""
    return await store.put_if_absent("server", "minutebook", name, secrets.token_bytes(SERVER_KEY_BYTES))


@dataclass(frozen=True, slots=True, kw_only=True)
class Ground:
    """What the faces stand on. `writable`: whether the record takes writes, as far as this process knows."""

    settings: Settings
    stores: Stores
    bus: Bus
    routes: Routes = field(default_factory=EverythingHere)
    desk: CommandPort
    views: ReadSide
    writable: Callable[[], bool]
    registry: CollectorRegistry
    readiness: Readiness
    tracer: Tracer


@dataclass(frozen=True, slots=True, kw_only=True)
class Faces:
    """Open."""

    accounts: Accounts
    app_keys: AppKeys
    sessions: Sessions
    presence: Presence
    socket_desk: SocketDesk
    pusher: Pusher
    app: FastAPI
    websocket_class: type[WebSocket]

    def begin_anew(self) -> None:
        """Something of the record was left out: sessions are looked up again, and sockets come back."""
        self.sessions.forget()
        self.socket_desk.send_away()


async def open_faces(ground: Ground, stack: AsyncExitStack) -> Faces:
    """Open them; what has to be closed is closed by the stack."""
    ground = replace(ground, desk=ground.tracer.commands(ground.desk))
    settings, desk, store = ground.settings, ground.desk, ground.stores.secrets
    marks = ReadMarks(desk, ground.views.timeline)
    stack.push_async_callback(marks.close)
    passwords = Passwords(threads=settings.password_workers)
    stack.callback(passwords.close)
    accounts = Accounts(
        desk, store, passwords, RefreshTokens(store, await server_key(store, "refresh")), now_ms
    )
    sessions = Sessions(
        AccessTokens(await server_key(store, "access-token")), desk, ground.bus, now_ms, routes=ground.routes
    )
    stack.callback(sessions.close)
    app_keys = AppKeys(desk, store, now_ms)
    shared = ground.stores.shared
    presence = MemoryPresence(now_ms) if shared is None else shared.presence
    socket_desk, pusher = _socket_side(ground, marks, sessions, presence, stack)
    presence.start(socket_desk.hints.watched)
    stack.push_async_callback(presence.close)
    ground.readiness.add(lambda: _not_ready(ground))
    services = RestServices(
        desk=desk,
        views=ground.views,
        read_marks=marks,
        accounts=accounts,
        sessions=sessions,
        signed_calls=SignedCalls(app_keys, now_ms),
        limits=RateLimits(
            settings.limit_settings(), time.monotonic, None if shared is None else shared.share
        ),
        presence=presence,
        settings=_rest_settings(settings),
        server_secret=await server_key(store, "invites"),
        now_ms=now_ms,
        readiness=ground.readiness,
        remarks=ground.readiness.remarks,
        registry=ground.registry,
    )
    websocket_class = build_websocket_protocol(socket_desk, settings.socket_limits())
    watch_sockets(ground.registry, websocket_class.hub, pusher)
    if shared is not None and shared.counters is not None:
        watch_fast_store(ground.registry, shared.counters)
    app = build_app(services)
    ground.tracer.requests(app)
    ground.tracer.deliveries(ground.bus)
    return Faces(
        accounts=accounts,
        app_keys=app_keys,
        sessions=sessions,
        presence=presence,
        socket_desk=socket_desk,
        pusher=pusher,
        app=app,
        websocket_class=websocket_class,
    )


def _rest_settings(settings: Settings) -> RestSettings:
    bounds = settings.node_settings().limits
    return RestSettings(
        origins=settings.origins,
        registration_open=settings.registration_open,
        shard_count=settings.shards,
        version=version("minutebook"),
        recall_window_s=bounds.recall_window_s,
        edit_window_s=bounds.edit_window_s,
    )


def _socket_side(
    ground: Ground, marks: ReadMarks, sessions: Sessions, presence: Presence, stack: AsyncExitStack
) -> tuple[SocketDesk, Pusher]:
    settings, interest = ground.settings, Interest(ground.routes)
    socket_desk = SocketDesk(
        desk=ground.desk,
        marks=marks,
        sessions=sessions,
        views=ground.views,
        presence=presence,
        interest=interest,
        limits=settings.limit_settings(),
        log_id=ground.stores.log.log_id,
        heartbeat_s=settings.socket_limits().heartbeat_s,
        origins=frozenset(settings.origins),
        now_ms=now_ms,
        monotonic_s=time.monotonic,
        schedule=asyncio.get_running_loop().call_later,
        routes=ground.routes,
    )
    presence.changed = socket_desk.hints.presence_changed
    stack.push_async_callback(socket_desk.close)
    pusher = Pusher(interest, socket_desk.hints.touched)
    stack.callback(ground.bus.follow(pusher.follow))
    return socket_desk, pusher


def _not_ready(ground: Ground) -> Mapping[str, str]:
    """What keeps the faces from taking traffic, by part."""
    return {**readiness.of_log(ground.writable()), **readiness.of_views(ground.views)}
