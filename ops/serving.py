"""Serving: the listening sockets, signals, and the drain in its order."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import secrets
import socket
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import structlog
import uvicorn
from typing_extensions import override

from gateways.rest.probe import Probe
from gateways.rest.protocol import BoundedHttpProtocol
from ops.faces import Faces
from ops.readiness import Readiness
from ops.settings import Settings
from ops.stopping import Stop, stop_signals
from ops.wiring import Server, open_server

_log = structlog.get_logger(__name__)

BACKLOG = 4_096
RECONNECT_MS_MAX = 5_000
"""Sockets come back spread over so long."""


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
        stop = await stack.enter_async_context(stop_signals())
        probe = Probe()
        metrics_url = await stack.enter_async_context(_metrics(settings, probe))
        listener = listen(settings.host, settings.port)
        stack.callback(listener.close)
        server = await stack.enter_async_context(open_server(settings))
        probe.watch(server.registry, server.readiness, server.readiness.remarks)
        if extra is not None:
            await stack.enter_async_context(extra(server))
        await _serve_faces(
            settings, server.faces, server.readiness, listener, lambda url: started(url, metrics_url), stop
        )


async def serve_roles(settings: Settings, started: Callable[[str | None, str | None], None]) -> None:
    """As `serve`, for a process with some of the roles of a cluster; one that is no gateway has no address.

    Raises AddressInUseError and what `open_process` raises.
    """
    from ops.roles.process import open_process  # noqa: PLC0415 - the embedded server needs none of what this needs

    async with AsyncExitStack() as stack:
        stop = await stack.enter_async_context(stop_signals())
        probe = Probe()
        metrics_url = await stack.enter_async_context(_metrics(settings, probe))
        process = await stack.enter_async_context(open_process(settings))
        probe.watch(process.registry, process.readiness, process.readiness.remarks)
        if process.faces is None:
            started(None, metrics_url)
            await stop.asked.wait()
            _begin_drain(process.readiness)
            return
        listener = listen(settings.host, settings.port)
        stack.callback(listener.close)
        await _serve_faces(
            settings, process.faces, process.readiness, listener, lambda url: started(url, metrics_url), stop
        )


async def _serve_faces(
    settings: Settings,
    faces: Faces,
    readiness: Readiness,
    listener: socket.socket,
    told: Callable[[str], None],
    stop: Stop,
) -> None:
    http = _http(faces.app, settings, ws=faces.websocket_class)
    async with _running(http, listener):
        told(url_of(listener))
        await stop.asked.wait()
        _begin_drain(readiness)
        await _drain(settings, faces, stop)


@asynccontextmanager
async def _metrics(settings: Settings, probe: Probe) -> AsyncIterator[str | None]:
    """The metrics port, when it is set, and the address of what is there. It answers from before the start to behind the stop."""
    if settings.metrics_port is None:
        yield None
        return
    listener = listen(settings.host, settings.metrics_port)
    http = _http(probe, settings, ws="none")
    async with _running(http, listener):
        yield f"{url_of(listener)}/metrics"


def _begin_drain(readiness: Readiness) -> None:
    readiness.stopping = True
    _log.info("draining")


async def _drain(settings: Settings, faces: Faces, stop: Stop) -> None:
    """Tell everybody to come back later, and give them the time to go."""
    faces.socket_desk.drain(lambda: secrets.randbelow(RECONNECT_MS_MAX))
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(settings.drain_s):
            await _first_of(stop.hurry, faces)


async def _first_of(hurry: asyncio.Event, faces: Faces) -> None:
    while not hurry.is_set() and not faces.socket_desk.empty:  # noqa: ASYNC110 - no socket tells that it was the last
        await asyncio.sleep(0.02)
