"""A message into a group of 200 online sockets: CPU of the whole server per delivered frame, against bare uvloop writes of the same size.

Both are read by the same receiver; the server does everything else too (durable append, views, search, hints).
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import uvloop
from typing_extensions import override

from bench.harness import Server, server, table, tokens
from client.rest import RestClient
from client.websocket import WebSocket, open_websocket

TICKS_PER_S = os.sysconf("SC_CLK_TCK")


class Sink(asyncio.Protocol):
    """Counts bytes."""

    def __init__(self) -> None:
        self.received = 0

    @override
    def data_received(self, data: bytes) -> None:
        """Count."""
        self.received += len(data)


def _cpu_s(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text(encoding="ascii").rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICKS_PER_S


async def bare(receivers: int, rounds: int, pause_s: float) -> float:
    """Seconds of CPU per frame of the reference."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "bench.bare_fanout",
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
    )
    assert process.stdin is not None
    assert process.stdout is not None
    told = json.loads(await process.stdout.readline())
    loop = asyncio.get_running_loop()
    pairs = [await loop.create_connection(Sink, "127.0.0.1", told["port"]) for _ in range(receivers)]
    before = _cpu_s(told["pid"])
    process.stdin.write(json.dumps([rounds, pause_s]).encode() + b"\n")
    await process.stdout.readline()
    cpu_s = _cpu_s(told["pid"]) - before
    for transport, _ in pairs:
        transport.close()
    process.stdin.close()
    await process.wait()
    return cpu_s / (rounds * receivers)


class _Receivers:
    """Sockets of the members; counts message events."""

    def __init__(self) -> None:
        self.messages = 0
        self.welcomes = 0
        self.sockets: list[WebSocket] = []

    def text(self, text: bytes) -> None:
        """One frame."""
        if b'"type":"message_posted"' in text[:160]:
            self.messages += 1
        elif text.startswith(b'{"op":"welcome"'):
            self.welcomes += 1


async def full(running: Server, members: Sequence[str], rounds: int, pause_s: float) -> tuple[float, float]:
    """(seconds of CPU per frame, deliveries per second)."""
    keys = await tokens(running, members)
    receivers = _Receivers()
    async with RestClient(running.url, token=keys[0]) as rest:
        group = await rest.create_group("bench", members=list(members[1:]))
    url = running.url.replace("http", "ws", 1) + "/v1/ws"
    for token in keys:
        socket = await open_websocket(url, receivers.text, lambda code, reason: None)
        socket.send_text(json.dumps({"op": "hello", "token": token}).encode())
        receivers.sockets.append(socket)
    while receivers.welcomes < len(members):
        await asyncio.sleep(0.05)
    text = "x" * 60
    before, start = running.cpu_s(), time.perf_counter()
    for number in range(rounds):
        receivers.sockets[0].send_text(
            json.dumps(
                {
                    "op": "send",
                    "ref": str(number),
                    "conversation_id": group.conversation_id,
                    "client_msg_id": f"g-{number}",
                    "content": {"kind": "text", "text": text},
                },
                separators=(",", ":"),
            ).encode()
        )
        await asyncio.sleep(pause_s)
    async with asyncio.timeout(30):
        while receivers.messages < rounds * len(members):
            await asyncio.sleep(0.02)
    took_s = time.perf_counter() - start
    return (running.cpu_s() - before) / receivers.messages, receivers.messages / took_s


async def measure(members_count: int, rounds: int, pause_s: float, profile: str | None = None) -> None:
    """Print the table."""
    reference = await bare(members_count, rounds, pause_s)
    async with server(profile) as running:
        members = [f"m{number}" for number in range(members_count)]
        ours, rate = await full(running, members, rounds, pause_s)
    table(
        f"one message to {members_count} online sockets, {rounds} messages",
        ("what", "CPU µs/frame", "ratio", "frames/s"),
        [
            ("bare uvloop write of 304 bytes", f"{reference * 1e6:.1f}", "1.00", "-"),
            ("server, everything on", f"{ours * 1e6:.1f}", f"{ours / reference:.2f}", f"{rate:.0f}"),
        ],
    )
    events, encodings = running.figures["commits"], running.figures["encodings"]
    print(f"  encodings {encodings} for {events} commits; deliveries {running.figures['deliveries']}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--members", type=int, default=200)
    parser.add_argument("--messages", type=int, default=500)
    parser.add_argument("--pause-ms", type=float, default=10.0)
    parser.add_argument("--profile", default=None)
    options = parser.parse_args()
    uvloop.run(measure(options.members, options.messages, options.pause_ms / 1_000, options.profile))
