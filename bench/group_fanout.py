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


class Group:
    """A group with all members online."""

    def __init__(self, running: Server, conversation_id: str, receivers: _Receivers) -> None:
        self._running = running
        self._conversation_id = conversation_id
        self._receivers = receivers
        self._sent = 0

    @classmethod
    async def gathered(cls, running: Server, members: Sequence[str]) -> Group:
        """Register, log in, found the group, connect everybody."""
        keys = await tokens(running, members)
        async with RestClient(running.url, token=keys[0]) as rest:
            group = await rest.create_group("bench", members=list(members[1:]))
        receivers = _Receivers()
        url = running.url.replace("http", "ws", 1) + "/v1/ws"
        for token in keys:
            socket = await open_websocket(url, receivers.text, lambda code, reason: None)
            socket.send_text(json.dumps({"op": "hello", "token": token}).encode())
            receivers.sockets.append(socket)
        while receivers.welcomes < len(members):
            await asyncio.sleep(0.05)
        return cls(running, group.conversation_id, receivers)

    async def talk(self, rounds: int, pause_s: float) -> tuple[float, float]:
        """(seconds of CPU per frame, deliveries per second) of so many messages, a pause between each two."""
        receivers = self._receivers
        receivers.messages = 0
        before, start = self._running.cpu_s(), time.perf_counter()
        for number in range(rounds):
            due_s = start + number * pause_s
            await asyncio.sleep(max(0.0, due_s - time.perf_counter()))
            self._send()
        async with asyncio.timeout(60):
            while receivers.messages < rounds * len(receivers.sockets):
                await asyncio.sleep(0.02)
        took_s = time.perf_counter() - start
        return (self._running.cpu_s() - before) / receivers.messages, receivers.messages / took_s

    def _send(self) -> None:
        self._sent += 1
        send = {
            "op": "send",
            "ref": str(self._sent),
            "conversation_id": self._conversation_id,
            "client_msg_id": f"g-{self._sent}",
            "content": {"kind": "text", "text": "x" * 60},
        }
        self._receivers.sockets[0].send_text(json.dumps(send, separators=(",", ":")).encode())


async def measure(
    members_count: int, rounds: int, pauses_s: Sequence[float], profile: str | None = None
) -> None:
    """Print the table."""
    references = [await bare(members_count, rounds, pause_s) for pause_s in pauses_s]
    rows = []
    async with server(profile) as running:
        group = await Group.gathered(running, [f"m{number}" for number in range(members_count)])
        await group.talk(20, pauses_s[0])
        for pause_s, reference in zip(pauses_s, references, strict=True):
            ours, rate = await group.talk(rounds, pause_s)
            rows.append(
                (
                    f"{1 / pause_s:.0f}",
                    f"{ours * 1e6:.1f}",
                    f"{reference * 1e6:.1f}",
                    f"{ours / reference:.2f}",
                    f"{rate:.0f}",
                )
            )
    title = f"messages to {members_count} online sockets, against bare uvloop writes of 304 bytes"
    table(title, ("messages/s asked", "CPU µs/frame", "bare", "ratio", "frames/s"), rows)
    events, encodings = running.figures["commits"], running.figures["encodings"]
    print(f"  encodings {encodings} for {events} commits; deliveries {running.figures['deliveries']}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--members", type=int, default=200)
    parser.add_argument("--messages", type=int, default=500)
    parser.add_argument("--pause-ms", type=float, nargs="+", default=[10.0, 4.0, 1.0])
    parser.add_argument("--profile", default=None)
    options = parser.parse_args()
    pauses_s = [pause_ms / 1_000 for pause_ms in options.pause_ms]
    uvloop.run(measure(options.members, options.messages, pauses_s, options.profile))
