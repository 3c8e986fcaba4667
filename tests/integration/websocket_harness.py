"""Tools of the WebSocket tests: handmade client frames, a raw peer, a real server, a recording transport."""

from __future__ import annotations

import asyncio
import socket
import struct
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Self, cast

import uvicorn
from uvicorn.server import ServerState
from websockets.utils import apply_mask

from gateways.socket.frames import BINARY, CLOSE, encode_frame, encode_text_frame
from gateways.socket.handshake import Handshake, Refusal
from gateways.socket.hub import SocketHub
from gateways.socket.outlet import Outlet
from gateways.socket.port import SocketHandler, SocketLimits
from gateways.socket.sweeper import SocketSweeper
from gateways.socket.websocket import WebSocket, build_websocket_protocol

PEER_TIMEOUT_S = 10.0
ACCEPT_OF_SAMPLE_KEY = b"s3pPLMBiTxaQ9kYGzzhZRbK+xOo="
SAMPLE_UPGRADE = (
    b"GET /v1/ws HTTP/1.1\r\nHost: test\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
)


def client_frame(
    opcode: int,
    payload: bytes = b"",
    *,
    fin: bool = True,
    reserved: int = 0,
    mask: bytes | None = b"\x37\xfa\x21\x3d",
) -> bytes:
    """Any client frame, right or wrong, with the shortest length field."""
    first = (0x80 if fin else 0) | reserved << 4 | opcode
    masked = 0x80 if mask is not None else 0
    size = len(payload)
    if size < 126:
        head = struct.pack("!BB", first, masked | size)
    elif size < 65536:
        head = struct.pack("!BBH", first, masked | 126, size)
    else:
        head = struct.pack("!BBQ", first, masked | 127, size)
    if mask is None:
        return head + payload
    return head + mask + bytes(apply_mask(payload, mask))


def close_payload(code: int, reason: bytes = b"") -> bytes:
    """The payload of a close frame."""
    return struct.pack("!H", code) + reason


def split_server_frames(data: bytes) -> list[tuple[int, bytes]]:
    """Opcode and payload of each server frame; fails on anything a server must not send."""
    frames = []
    position = 0
    while position < len(data):
        first, size = data[position], data[position + 1]
        assert first & 0xF0 == 0x80, "server frames are final and without reserved bits"
        position += 2
        if size == 126:
            (size,) = struct.unpack_from("!H", data, position)
            position += 2
        elif size == 127:
            (size,) = struct.unpack_from("!Q", data, position)
            position += 8
        assert size < 1 << 63
        assert position + size <= len(data), "cut frame"
        frames.append((first & 0x0F, data[position : position + size]))
        position += size
    return frames


@dataclass
class Recorder:
    """A handler that notes its calls and echoes messages."""

    calls: list[tuple[str, bytes]] = field(default_factory=list)
    echoes: bool = True
    lost: threading.Event = field(default_factory=threading.Event)
    socket: WebSocket = field(init=False)

    def opened(self, socket: WebSocket) -> None:
        self.socket = socket
        self.calls.append(("opened", b""))

    def text(self, payload: bytes) -> None:
        self.calls.append(("text", payload))
        if self.echoes:
            self.socket.send_frame(encode_text_frame(payload))

    def binary(self, payload: bytes) -> None:
        self.calls.append(("binary", payload))
        if self.echoes:
            self.socket.send_frame(encode_frame(BINARY, payload))

    def closed(self) -> None:
        self.calls.append(("closed", b""))
        self.lost.set()


@dataclass
class Acceptance:
    """An acceptor that makes a handler by the given function, or refuses with what it returns."""

    make: Callable[[], SocketHandler | Refusal] = Recorder
    handshakes: list[Handshake] = field(default_factory=list)
    handlers: list[SocketHandler] = field(default_factory=list)

    def accept(self, handshake: Handshake) -> SocketHandler | Refusal:
        self.handshakes.append(handshake)
        answer = self.make()
        if not isinstance(answer, Refusal):
            self.handlers.append(answer)
        return answer


class RecordingTransport:
    """A transport whose peer reads only when told: what is written waits in `unread`."""

    def __init__(self) -> None:
        self.writes: list[bytes] = []
        self.unread = 0
        self.reads_at_once = True
        self.reading = True
        self.ended = False
        self.closing = False
        self.aborted = False

    def write(self, data: bytes) -> None:
        assert not self.ended, "write after the end of output"
        self.writes.append(bytes(data))
        if not self.reads_at_once:
            self.unread += len(data)

    def get_write_buffer_size(self) -> int:
        return self.unread

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        self.high_water = high

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        return ("192.0.2.7", 4711) if name == "peername" else default

    def pause_reading(self) -> None:
        self.reading = False

    def resume_reading(self) -> None:
        self.reading = True

    def can_write_eof(self) -> bool:
        return True

    def write_eof(self) -> None:
        self.ended = True

    def is_closing(self) -> bool:
        return self.closing

    def close(self) -> None:
        self.closing = True

    def abort(self) -> None:
        self.closing = self.aborted = True

    def is_reading(self) -> bool:
        return self.reading

    def has_ended(self) -> bool:
        return self.ended

    def was_aborted(self) -> bool:
        return self.aborted


class Bench:
    """One protocol class, no loop: `turn` runs what was scheduled, `sweeper.tick` lets a second pass."""

    def __init__(
        self, make: Callable[[], SocketHandler | Refusal] = Recorder, limits: SocketLimits | None = None
    ):
        self.acceptor = Acceptance(make)
        self.sweeper: SocketSweeper[Outlet] = SocketSweeper(ticks_itself=False)
        self.protocol = build_websocket_protocol(self.acceptor, limits or SocketLimits(), self.sweeper)
        self.scheduled: list[Callable[[], None]] = []
        self.protocol.hub = SocketHub(
            self.acceptor, limits or SocketLimits(), self.sweeper, self.scheduled.append
        )
        self.state = ServerState()

    def connect(self, request: bytes = SAMPLE_UPGRADE) -> tuple[WebSocket, RecordingTransport]:
        """A socket after its handshake; the response is taken off the transport's writes."""
        transport = RecordingTransport()
        connection = self.protocol(cast("Any", None), self.state, {})
        connection.connection_made(cast("asyncio.BaseTransport", transport))
        connection.data_received(request)
        return connection, transport

    def opened(self) -> tuple[WebSocket, RecordingTransport, Recorder]:
        """An open socket with a recording handler."""
        connection, transport = self.connect()
        assert transport.writes.pop().startswith(b"HTTP/1.1 101 ")
        handler = self.acceptor.handlers[-1]
        assert isinstance(handler, Recorder)
        return connection, transport, handler

    def turn(self) -> None:
        """Run what was scheduled until nothing is."""
        while self.scheduled:
            callbacks = self.scheduled.copy()
            self.scheduled.clear()
            for callback in callbacks:
                callback()


@dataclass
class RunningServer:
    """A uvicorn server on uvloop in its own thread."""

    port: int
    acceptor: Acceptance
    protocol: type[WebSocket]
    server: uvicorn.Server
    loop: asyncio.AbstractEventLoop

    def call(self, function: Callable[[], object]) -> None:
        """Run the function on the server's loop and wait until it has run."""

        async def run() -> None:
            function()

        asyncio.run_coroutine_threadsafe(run(), self.loop).result(PEER_TIMEOUT_S)


async def _no_http(scope: Any, receive: Any, send: Any) -> None:
    await send({"type": "http.response.start", "status": 404, "headers": [(b"content-length", b"0")]})
    await send({"type": "http.response.body", "body": b""})


@contextmanager
def running_server(
    make: Callable[[], SocketHandler | Refusal] = Recorder,
    limits: SocketLimits | None = None,
    tick_s: float = 1.0,
) -> Iterator[RunningServer]:
    """A server of the protocol class on a free port, stopped as uvicorn stops."""
    acceptor = Acceptance(make)
    sweeper: SocketSweeper[Outlet] = SocketSweeper(tick_s)
    protocol = build_websocket_protocol(acceptor, limits or SocketLimits(), sweeper)
    config = uvicorn.Config(_no_http, port=0, ws=protocol, loop="uvloop", lifespan="off", log_level="error")
    server = uvicorn.Server(config)
    started = threading.Event()
    running: list[RunningServer] = []

    async def serve() -> None:
        config.load()
        server.lifespan = config.lifespan_class(config)
        await server.startup()
        port = server.servers[0].sockets[0].getsockname()[1]
        running.append(RunningServer(port, acceptor, protocol, server, asyncio.get_running_loop()))
        started.set()
        await server.main_loop()
        await server.shutdown()

    with asyncio.Runner(loop_factory=config.get_loop_factory()) as runner:
        thread = threading.Thread(target=runner.run, args=(serve(),))
        thread.start()
        assert started.wait(PEER_TIMEOUT_S)
        try:
            yield running[0]
        finally:
            server.should_exit = True
            thread.join()


class RawPeer:
    """A client that is nothing but a TCP socket."""

    def __init__(self, port: int, request: bytes = SAMPLE_UPGRADE) -> None:
        self.socket = socket.create_connection(("127.0.0.1", port), timeout=PEER_TIMEOUT_S)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.socket.sendall(request)
        self.head = b""
        while b"\r\n\r\n" not in self.head:
            chunk = self.socket.recv(4096)
            assert chunk, f"connection ended after {self.head!r}"
            self.head += chunk
        self.head, _, self.rest = self.head.partition(b"\r\n\r\n")

    def send(self, *chunks: bytes) -> None:
        for chunk in chunks:
            self.socket.sendall(chunk)

    def read_frames(self, count: int) -> list[tuple[int, bytes]]:
        """The next so many frames; what follows them stays."""
        data = self.rest
        while True:
            size = _size_of_frames(data, count)
            if size is not None:
                self.rest = data[size:]
                return split_server_frames(data[:size])
            chunk = self.socket.recv(65536)
            assert chunk, f"connection ended after {data[-64:]!r}"
            data += chunk

    def read_to_end(self) -> bytes:
        data = self.rest
        while chunk := self.socket.recv(65536):
            data += chunk
        self.rest = b""
        return data

    def close(self) -> None:
        self.socket.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()


def _size_of_frames(data: bytes, count: int) -> int | None:
    position = 0
    for _ in range(count):
        if position + 2 > len(data):
            return None
        size = data[position + 1]
        head = 2 + (2 if size == 126 else 8 if size == 127 else 0)
        if position + head > len(data):
            return None
        if size >= 126:
            size = int.from_bytes(data[position + 2 : position + head], "big")
        position += head + size
    return position if position <= len(data) else None


def close_code_of(frames: list[tuple[int, bytes]]) -> int | None:
    """The code of the last frame if that is a close frame; 1005 for an empty one."""
    if not frames or frames[-1][0] != CLOSE:
        return None
    payload = frames[-1][1]
    return int.from_bytes(payload[:2], "big") if payload else 1005
