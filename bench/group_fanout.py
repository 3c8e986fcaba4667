"""A message into a group of 200 online sockets: CPU of the whole server per delivered frame, against bare uvloop writes of the same size.

Both are read by the same receiver; the server does everything else too (durable append, views, search, hints).
"""

from __future__ import annotations

import argparse
import asyncio
import json
import time
from collections.abc import Sequence

import uvloop

from bench.harness import Server, bare_writer, greeted, server, table, tokens
from client.rest import RestClient
from client.websocket import WebSocket


async def bare(receivers: int, rounds: int, pause_s: float) -> float:
    """Seconds of CPU per frame of the reference."""
    async with bare_writer() as writer:
        await writer.connect(receivers)
        return await writer.write_to_all(rounds, pause_s) / (rounds * receivers)


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
        for token in keys:
            receivers.sockets.append(await greeted(running, token, receivers.text))
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
