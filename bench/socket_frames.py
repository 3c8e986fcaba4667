"""What the raw WebSocket layer costs: CPU per frame in and three out, fan-out, memory of an idle socket.

    python -m bench.socket_frames [--sockets 2000] [--turns 20000]

Each number is made in a process of its own over real TCP sockets on 127.0.0.1; the other ends are raw sockets
of a child process, so that only the server's side is counted. CPU is process time, not wall time.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import multiprocessing
import os
import resource
import socket
import statistics
import struct
import subprocess
import sys
import time
from collections.abc import Callable
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, cast

import uvicorn
import uvloop
from typing_extensions import override

from gateways.socket.handshake import Handshake, Refusal
from gateways.socket.websocket import (
    SocketHandler,
    SocketLimits,
    WebSocket,
    build_websocket_protocol,
    encode_text_frame,
)

PAYLOAD = (
    b'{"op":"send","ref":"17","conversation_id":"direct:alice:bob","client_msg_id":"0123456789",'
    b'"content":{"type":"text","text":"how are you today"}}'
)
FANOUT_SOCKETS = 200
TURN_SOCKETS = {"alone": 1, "busy": 32}
UPGRADE = (
    b"GET /v1/ws HTTP/1.1\r\nHost: bench\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\nSec-WebSocket-Version: 13\r\n\r\n"
)
PAGE_BYTES = resource.getpagesize()


class Tripling:
    """Answers each message with three frames, as a send costs: ack, own copy, the peer's copy."""

    def __init__(self, open_handlers: set[Tripling]) -> None:
        self.open_handlers = open_handlers

    def opened(self, socket: WebSocket) -> None:
        self.socket = socket
        self.open_handlers.add(self)

    def text(self, payload: bytes) -> None:
        send = self.socket.send_frame
        frame = encode_text_frame(payload)
        send(frame)
        send(frame)
        send(frame)

    def binary(self, payload: bytes) -> None:
        self.socket.close(4400, "binary")

    def closed(self) -> None:
        self.open_handlers.discard(self)


class Everybody:
    """Accepts every handshake."""

    def __init__(self) -> None:
        self.handlers: set[Tripling] = set()

    def accept(self, handshake: Handshake) -> SocketHandler | Refusal:
        return Tripling(self.handlers)


class BareEcho(asyncio.Protocol):
    """The reference: the same bytes read and written with nothing between; no WebSocket at all."""

    connections: set[BareEcho] = set()  # noqa: RUF012 - one process runs one benchmark
    reply = b""

    @override
    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)
        self.connections.add(self)

    @override
    def data_received(self, data: bytes) -> None:
        if data.startswith(b"GET"):
            self.transport.write(b"HTTP/1.1 101 bare\r\n\r\n")
        else:
            self.transport.write(self.reply)

    @override
    def connection_lost(self, exc: Exception | None) -> None:
        self.connections.discard(self)


def masked_frame(payload: bytes) -> bytes:
    """A client's text frame; a zero mask costs the server as much as any other."""
    head = (
        struct.pack("!BB", 0x81, 0x80 | len(payload))
        if len(payload) < 126
        else (struct.pack("!BBH", 0x81, 0x80 | 126, len(payload)))
    )
    return head + bytes(4) + payload


def read_exactly(peer: socket.socket, size: int) -> None:
    left = size
    while left:
        chunk = peer.recv(min(left, 1 << 20))
        if not chunk:
            raise EOFError
        left -= len(chunk)


def connect(port: int) -> socket.socket:
    peer = socket.create_connection(("127.0.0.1", port))
    peer.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    peer.sendall(UPGRADE)
    answer = b""
    while b"\r\n\r\n" not in answer:
        answer += peer.recv(4096)
    return peer


def client_process(pipe: Connection) -> None:
    """Obeys (port, sockets, turns, bytes of a reply) until None: everything the peers do happens here.

    With turns, each socket sends a frame and reads the reply, so many times in all; without, the sockets are
    held and read from as told.
    """
    while (order := pipe.recv()) is not None:
        port, count, turns, size = order
        peers = [connect(port) for _ in range(count)]
        if turns:
            frame = masked_frame(PAYLOAD)
            pipe.send("ready")
            pipe.recv()
            for _ in range(turns // count):
                for peer in peers:
                    peer.sendall(frame)
                for peer in peers:
                    read_exactly(peer, size)
            pipe.send("done")
        else:
            pipe.send("ready")
            while (size := pipe.recv()) is not None:
                for peer in peers:
                    read_exactly(peer, size)
                pipe.send("read")
        for peer in peers:
            peer.close()


class Peers:
    """The child process, spoken to without blocking the loop."""

    def __init__(self) -> None:
        context = multiprocessing.get_context("spawn")
        self.pipe, child = context.Pipe()
        self.process = context.Process(target=client_process, args=(child,), daemon=True)
        self.process.start()

    async def told(self) -> Any:
        return await asyncio.get_running_loop().run_in_executor(None, self.pipe.recv)

    def close(self) -> None:
        self.pipe.send(None)
        self.process.join()


async def serve_ours(acceptor: Everybody) -> tuple[int, Callable[[], Any]]:
    """A uvicorn server of our protocol class; its port and how to stop it."""
    protocol = build_websocket_protocol(acceptor, SocketLimits())

    async def application(scope: Any, receive: Any, send: Any) -> None:
        raise AssertionError("no HTTP here")

    config = uvicorn.Config(
        application, port=0, ws=protocol, lifespan="off", log_level="warning", backlog=4096
    )
    server = uvicorn.Server(config)
    config.load()
    server.lifespan = config.lifespan_class(config)
    await server.startup()
    return server.servers[0].sockets[0].getsockname()[1], server.shutdown


async def cpu_of_turns(peers: Peers, port: int, sockets: int, turns: int, reply_bytes: int) -> float:
    """Microseconds of this process's CPU per received message and its three frames."""
    peers.pipe.send((port, sockets, turns, reply_bytes))
    await peers.told()
    gc.collect()
    before = time.process_time()
    peers.pipe.send("go")
    await peers.told()
    return (time.process_time() - before) / turns * 1e6


async def cpu_of_fanout(
    peers: Peers, port: int, frame: bytes, rounds: int, send: Callable[[], None]
) -> float:
    """Microseconds of CPU per frame delivered to one of FANOUT_SOCKETS sockets; the median round."""
    peers.pipe.send((port, FANOUT_SOCKETS, 0, 0))
    await peers.told()
    gc.collect()
    spent: list[float] = []
    for _ in range(rounds):
        before = time.process_time()
        send()
        for _ in range(3):  # our callback, the loop's own write queue, and what follows from them
            await asyncio.sleep(0)
        spent.append(time.process_time() - before)
        peers.pipe.send(len(frame))
        await peers.told()
    peers.pipe.send(None)
    return statistics.median(spent) / FANOUT_SOCKETS * 1e6


def resident_bytes() -> int:
    return int(Path(f"/proc/{os.getpid()}/statm").read_text().split()[1]) * PAGE_BYTES


async def memory_of_idle(peers: Peers, port: int, count: int, acceptor_size: Callable[[], int]) -> float:
    """Kilobytes of this process's resident memory per idle socket."""
    gc.collect()
    before = resident_bytes()
    peers.pipe.send((port, count, 0, 0))
    await peers.told()
    assert acceptor_size() == count
    gc.collect()
    grown = resident_bytes() - before
    peers.pipe.send(None)
    return grown / count / 1024


async def gone(acceptor: Everybody) -> None:
    """Wait for the peers' sockets to be closed here too."""
    while acceptor.handlers or BareEcho.connections:
        await asyncio.sleep(0.01)


async def measure(what: str, ours: bool, turns: int, sockets: int, rounds: int) -> float:
    """One number, in a process of its own so that no row inherits another's memory."""
    peers = Peers()
    frame = encode_text_frame(PAYLOAD)
    acceptor = Everybody()
    loop = asyncio.get_running_loop()
    BareEcho.reply = frame * 3
    bare = await loop.create_server(BareEcho, "127.0.0.1", 0, backlog=4096)
    port, stop = await serve_ours(acceptor)
    if not ours:
        port = bare.sockets[0].getsockname()[1]

    def send_ours() -> None:
        for handler in acceptor.handlers:
            handler.socket.send_frame(frame)

    def send_bare() -> None:
        for connection in BareEcho.connections:
            connection.transport.write(frame)

    if what == "idle":
        answer = await memory_of_idle(
            peers, port, sockets, lambda: len(acceptor.handlers if ours else BareEcho.connections)
        )
    elif what in TURN_SOCKETS:
        answer = await cpu_of_turns(peers, port, TURN_SOCKETS[what], turns, 3 * len(frame))
    else:
        answer = await cpu_of_fanout(peers, port, frame, rounds, send_ours if ours else send_bare)
    peers.close()
    await gone(acceptor)
    bare.close()
    await stop()
    return answer


def in_own_process(what: str, ours: bool, options: argparse.Namespace) -> float:
    numbers = [str(options.turns), str(options.sockets), str(options.rounds)]
    command = [sys.executable, "-m", "bench.socket_frames", "--only", what, "--ours", str(int(ours))]
    command += ["--turns", numbers[0], "--sockets", numbers[1], "--rounds", numbers[2]]
    return float(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--turns", type=int, default=20_000)
    parser.add_argument("--sockets", type=int, default=2_000)
    parser.add_argument("--rounds", type=int, default=300)
    parser.add_argument("--only", choices=("idle", "alone", "busy", "fanout"), help=argparse.SUPPRESS)
    parser.add_argument("--ours", type=int, default=1, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.only:
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, max(soft, options.sockets + 1000)), hard))
        counts = (options.turns, options.sockets, options.rounds)
        print(uvloop.run(measure(options.only, bool(options.ours), *counts)))
        return
    rows = (
        ("idle", f"memory of an idle socket (of {options.sockets})", "KB RSS"),
        ("alone", f"one frame in, three out ({options.turns} turns, 1 socket)", "us CPU"),
        ("busy", f"one frame in, three out ({options.turns} turns, 32 sockets)", "us CPU"),
        ("fanout", f"delivery in a fan-out to {FANOUT_SOCKETS}", "us CPU"),
    )
    print(f"{'what':60} {'ours':>8} {'bare':>8} {'ratio':>6}  unit")
    for what, title, unit in rows:
        ours, bare = in_own_process(what, True, options), in_own_process(what, False, options)
        print(f"{title:60} {ours:8.2f} {bare:8.2f} {ours / bare:6.2f}  {unit}", flush=True)


if __name__ == "__main__":
    main()
