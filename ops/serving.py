"""Serving: the listening sockets, signals, and the drain in its order."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import secrets
import signal
import socket
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import structlog
import uvicorn
from prometheus_client import CollectorRegistry
from typing_extensions import override

from gateways.rest.metrics import build_metrics_app
from gateways.rest.protocol import BoundedHttpProtocol
from ops.faces import Faces
from ops.settings import Settings
from ops.wiring import Server, open_server

_log = structlog.get_logger(__name__)

BACKLOG = 4_096
RECONNECT_MS_MAX = 5_000
"""Sockets come back spread over so long."""
STOP_SIGNALS = (signal.SIGTERM, signal.SIGINT)


class AddressInUseError(Exception):
    """The address cannot be listened on."""


class HttpServer(uvicorn.Server):
    """uvicorn without its own signal handlers (ours drain first), which tells when it listens."""

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.listening = asyncio.Event()

    @override
    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Listen, and tell."""
        await super().startup(sockets)
        self.listening.set()

    @override
    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Leave the signals alone."""
        yield


def listen(host: str, port: int) -> socket.socket:
    """A socket that listens. Raises AddressInUseError.

    Its protocol is named, since asyncio sets TCP_NODELAY only on connections of a socket that says TCP.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((host, port))
        listener.listen(BACKLOG)
    except OSError as error:
        listener.close()
        why = "is in use by another program" if error.errno == errno.EADDRINUSE else error.strerror
        raise AddressInUseError(f"{host}:{port} {why}; choose another with --host and --port") from None
    listener.setblocking(False)
    return listener


def url_of(listener: socket.socket) -> str:
    """Where to click."""
    host, port = listener.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def _http(app: Any, settings: Settings, **options: Any) -> HttpServer:
    return HttpServer(
        uvicorn.Config(
            app,
            loop="none",
            http=BoundedHttpProtocol,
            lifespan="off",
            log_config=None,
            access_log=False,
            server_header=False,
            date_header=True,
            proxy_headers=False,
            timeout_keep_alive=75,
            timeout_graceful_shutdown=max(1, int(settings.drain_s)),
            **options,
        )
    )


@asynccontextmanager
async def _running(server: HttpServer, listener: socket.socket) -> AsyncIterator[None]:
    """The HTTP server in a task of its own, stopped and awaited at the end."""
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(server.serve(sockets=[listener]))
        try:
            await server.listening.wait()
            yield
        finally:
            server.should_exit = True


@asynccontextmanager
async def _stop_signals() -> AsyncIterator[tuple[asyncio.Event, asyncio.Event]]:
    """Set by the first signal to stop, and by a second one."""
    stop, hurry = asyncio.Event(), asyncio.Event()

    def on_signal() -> None:
        if stop.is_set():
            hurry.set()
        stop.set()

    loop = asyncio.get_running_loop()
    for number in STOP_SIGNALS:
        loop.add_signal_handler(number, on_signal)
    try:
        yield stop, hurry
    finally:
        for number in STOP_SIGNALS:
            loop.remove_signal_handler(number)


async def serve(
    settings: Settings,
    started: Callable[[str, str | None], None],
    extra: Callable[[Server], contextlib.AbstractAsyncContextManager[None]] | None = None,
) -> None:
    """Run the server until SIGTERM or SIGINT, then drain: not ready, no new sockets, reconnect hints, close, flush, release.

    `started` is told the address, and that of the metrics or None, once requests are answered; `extra` runs as long as the server (the
    control socket).
    Raises AddressInUseError and what `open_server` raises; a second signal ends the wait for the drain.
    """
    async with AsyncExitStack() as stack:
        listener = listen(settings.host, settings.port)
        stack.callback(listener.close)
        server = await stack.enter_async_context(open_server(settings))
        stop, hurry = await stack.enter_async_context(_stop_signals())
        if extra is not None:
            await stack.enter_async_context(extra(server))
        metrics_url = await stack.enter_async_context(_metrics(settings, server.registry))
        await _serve_faces(
            settings, server.faces, listener, lambda url: started(url, metrics_url), stop, hurry
        )


async def serve_roles(settings: Settings, started: Callable[[str | None, str | None], None]) -> None:
    """As `serve`, for a process with some of the roles of a cluster; one that is no gateway has no address.

    Raises AddressInUseError and what `open_process` raises.
    """
    from ops.roles.process import open_process  # noqa: PLC0415 - the embedded server needs none of what this needs

    async with AsyncExitStack() as stack:
        process = await stack.enter_async_context(open_process(settings))
        stop, hurry = await stack.enter_async_context(_stop_signals())
        metrics_url = await stack.enter_async_context(_metrics(settings, process.registry))
        if process.faces is None:
            started(None, metrics_url)
            await stop.wait()
            return
        listener = listen(settings.host, settings.port)
        stack.callback(listener.close)
        await _serve_faces(
            settings, process.faces, listener, lambda url: started(url, metrics_url), stop, hurry
        )


async def _serve_faces(
    settings: Settings,
    faces: Faces,
    listener: socket.socket,
    told: Callable[[str], None],
    stop: asyncio.Event,
    hurry: asyncio.Event,
) -> None:
    http = _http(faces.app, settings, ws=faces.websocket_class)
    async with _running(http, listener):
        told(url_of(listener))
        await stop.wait()
        await _drain(settings, faces, hurry)


@asynccontextmanager
async def _metrics(settings: Settings, registry: CollectorRegistry) -> AsyncIterator[str | None]:
    """The metrics port, when it is set, and the address of what is there."""
    if settings.metrics_port is None:
        yield None
        return
    listener = listen(settings.host, settings.metrics_port)
    http = _http(build_metrics_app(registry), settings, ws="none")
    async with _running(http, listener):
        yield f"{url_of(listener)}/metrics"


async def _drain(settings: Settings, faces: Faces, hurry: asyncio.Event) -> None:
    """Tell everybody to come back later, and give them the time to go."""
    faces.stopping.set()
    faces.socket_desk.drain(lambda: secrets.randbelow(RECONNECT_MS_MAX))
    _log.info("draining", seconds=settings.drain_s)
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(settings.drain_s):
            await _first_of(hurry, faces)


async def _first_of(hurry: asyncio.Event, faces: Faces) -> None:
    while not hurry.is_set() and not faces.socket_desk.empty:  # noqa: ASYNC110 - no socket tells that it was the last
        await asyncio.sleep(0.02)
