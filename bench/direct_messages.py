"""Durable direct messages: 200 users in pairs, 200-byte texts, everything on: views, search, hints. Open loop at a fixed rate.

Every message is acknowledged (durable), comes back to its sender and reaches the peer; latency is send → peer's socket.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import time
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import uvloop

from bench.harness import Server, bare_messenger, greeted, percentile, server, table, tokens
from client.websocket import WebSocket

USERS = 200
TEXT = "lorem ipsum dolor sit amet " * 8
TICK_S = 0.002
WAIT_S = 30


class Load:
    """Sockets of all users and the record of what came back. No two loads of one log have the same name."""

    def __init__(self, name: str = "x") -> None:
        self._name = name.encode()
        self.sockets: list[WebSocket] = []
        self.sent_at: list[float] = []
        self.latencies_s: list[float] = []
        self.acks = 0
        self.ack_s: list[float] = []
        self.own = 0
        self.errors: list[bytes] = []
        self.closed: list[str] = []
        """Why sockets were hung up on; they are not opened again."""
        self.welcomes = 0
        self.complete = asyncio.Event()
        self.first = 0

    async def connect(self, running: Server, user: int, token: str) -> None:
        """Open and greet."""
        self.sockets.append(
            await greeted(
                running,
                token,
                lambda text: self._received(user, text),
                lambda code, reason: self.closed.append(f"{code} {reason}"),
            )
        )

    def _received(self, user: int, text: bytes) -> None:
        if text.startswith(b'{"op":"ack"'):
            self.acks += 1
            start = text.index(b'"ref":"') + 7
            self.ack_s.append(time.perf_counter() - self.sent_at[int(text[start : text.index(b'"', start)])])
        elif text.startswith(b'{"op":"event"'):
            self._event(user, text)
        elif text.startswith(b'{"op":"welcome"'):
            self.welcomes += 1
        elif text.startswith(b'{"op":"error"'):
            self.errors.append(text)
        self.look()

    def look(self) -> None:
        """Set `complete` if everything that was sent is back."""
        # What was refused comes to nobody.
        sent = len(self.sent_at) - self.first - len(self.errors)
        if self.acks >= sent and len(self.latencies_s) >= sent and self.own >= sent:
            self.complete.set()

    def _event(self, user: int, text: bytes) -> None:
        start = text.find(b'"client_msg_id":"')
        if start < 0:
            return
        start += 17
        name = text[start : text.index(b'"', start)]
        sender, number, _ = name.split(b"-")
        if int(sender) == user:
            self.own += 1
        else:
            self.latencies_s.append(time.perf_counter() - self.sent_at[int(number)])

    @property
    def delivered(self) -> int:
        """Messages that are acknowledged and came to their peer and back to their sender."""
        return min(self.acks, self.own, len(self.latencies_s))

    def send(self, number: int) -> None:
        """One message of the next user to its peer."""
        user = number % USERS
        peer = user ^ 1
        self.sent_at.append(time.perf_counter())
        self.sockets[user].send_text(
            b'{"op":"send","ref":"%d","to":"u%d","client_msg_id":"%d-%d-%b","content":{"kind":"text","text":"%b"}}'
            % (number, peer, user, number, self._name, TEXT[:200].encode())
        )


async def send_at_rate(load: Load, rate: int, seconds: float) -> float:
    """Send at the rate; returns the seconds until everything was back, or `WAIT_S` behind the last if something never comes."""
    load.first = len(load.sent_at)
    load.latencies_s.clear()
    load.ack_s.clear()
    load.errors.clear()
    load.acks = load.own = 0
    load.complete.clear()
    start = time.perf_counter()
    number, total = 0, int(rate * seconds)
    while number < total:
        due = min(total, int((time.perf_counter() - start) * rate) + 1)
        while number < due:
            load.send(load.first + number)
            number += 1
        await asyncio.sleep(TICK_S)
    load.complete.clear()  # It may have been complete in between.
    load.look()
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(WAIT_S):
            await load.complete.wait()
    return time.perf_counter() - start


class Measured(NamedTuple):
    """One rate."""

    rate: int
    done_per_s: float
    errors: int
    cpu_us: float
    latencies_s: list[float]
    acks_s: list[float]
    cpu_us_by_thread: dict[str, float]
    """By the system id of the thread."""


async def _measured(
    running: Server, keys: Sequence[str], rates: Sequence[int], seconds: float
) -> list[Measured]:
    load = Load()
    for user, token in enumerate(keys):
        await load.connect(running, user, token)
    while load.welcomes < USERS:
        await asyncio.sleep(0.05)
    await send_at_rate(load, 400, 2.0)
    measured = []
    for rate in rates:
        before, before_s = running.cpu_s_by_thread(), running.cpu_s()
        took_s = await send_at_rate(load, rate, seconds)
        cpu_s = running.cpu_s() - before_s
        count = len(load.sent_at) - load.first
        by_thread = {
            thread: (cpu_s - before.get(thread, 0.0)) / count * 1e6
            for thread, cpu_s in running.cpu_s_by_thread().items()
        }
        latencies, acks = sorted(load.latencies_s), sorted(load.ack_s)
        measured.append(
            Measured(
                rate,
                load.delivered / took_s,
                len(load.errors),
                cpu_s / count * 1e6,
                latencies,
                acks,
                by_thread,
            )
        )
    for socket in load.sockets:
        socket.close()
    return measured


async def measure(rates: Sequence[int], seconds: float, profile: str | None = None) -> None:
    """Print the table."""
    async with bare_messenger() as running:
        reference = await _measured(running, [str(user) for user in range(USERS)], rates, seconds)
    async with server(profile) as running:
        keys = await tokens(running, [f"u{number}" for number in range(USERS)])
        ours = await _measured(running, keys, rates, seconds)
    rows = [
        (
            one.rate,
            round(one.done_per_s),
            one.errors,
            f"{one.cpu_us:.0f}",
            f"{bare.cpu_us:.0f}",
            f"{one.cpu_us / bare.cpu_us:.1f}",
            *(f"{percentile(one.latencies_s, share) * 1e3:.1f}" for share in (0.5, 0.99)),
            *(f"{percentile(bare.latencies_s, share) * 1e3:.1f}" for share in (0.5, 0.99)),
            *(f"{percentile(one.acks_s, share) * 1e3:.1f}" for share in (0.5, 0.99)),
        )
        for one, bare in zip(ours, reference, strict=True)
    ]
    columns = (
        "asked/s", "done/s", "errors", "CPU µs", "bare µs", "ratio", "p50 ms", "p99 ms", "bare p50", "bare p99",
        "ack p50", "ack p99",
    )  # fmt: skip
    table(f"durable direct messages, {USERS} users in pairs, 200 bytes, per message", columns, rows)
    _print_threads(ours, running.threads)
    flushes = max(1, running.figures["flushes"])
    print(f"  commits/flush {running.figures['commits'] / flushes:.1f} over all rates, registration included")


_KINDS = ("MainThread", "log-writer", "log-reader", "views-write", "views-read")


def _print_threads(measured: Sequence[Measured], names: Mapping[str, str]) -> None:
    """Where the CPU went: the loop (sockets, decisions, pushing), the log's writer, the views' writer and readers."""
    rows = []
    for one in measured:
        spent = dict.fromkeys((*_KINDS, "others"), 0.0)
        for thread, cpu_us in one.cpu_us_by_thread.items():
            name = names.get(thread, "")
            spent[next((kind for kind in _KINDS if name.startswith(kind)), "others")] += cpu_us
        rows.append((one.rate, *(f"{cpu_us:.0f}" for cpu_us in spent.values())))
    table("  of it by thread, CPU µs a message", ("asked/s", *_KINDS, "others"), rows)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rates", type=int, nargs="+", default=[200, 1_000, 3_000])
    parser.add_argument("--seconds", type=float, default=10.0)
    parser.add_argument("--profile", default=None)
    options = parser.parse_args()
    uvloop.run(measure(options.rates, options.seconds, options.profile))
