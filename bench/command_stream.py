"""Commands from a face to an owner in another process over the gRPC stream: direct messages of 200 bytes, 200 users in pairs.

The log is in memory on both sides, so that the difference is the stream. References: the same commands handed to a desk in this process,
and a bare grpc.aio echo of the same bytes, one message for each command.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import resource
import sys
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import NamedTuple

import grpc
import msgspec
import uvloop

from bench.command_owner import ECHO_PATH, LOG_ID, PAYLOAD_SECRET, SECRET, SHARDS, codec, open_desk
from bench.harness import percentile, table
from commands.caller import Answer, Caller, Keyed
from commands.ownership import NodeShards, StaticOwnership
from commands.port import CommandPort
from commands.router import Router
from commands.settings import RouterSettings
from domain.conversation import PostMessage
from domain.direct import OpenDirect
from domain.errors import Problem
from domain.streams import direct_conversation_id
from domain.user import RegisterUser
from gateways.rpc.handshake import Identity, new_incarnation
from gateways.rpc.peer import Face
from gateways.rpc.peers import RpcPeers
from gateways.rpc.settings import RpcSettings
from gateways.sending import sending

USERS = 200
TEXT = ("lorem ipsum dolor sit amet " * 8)[:200]
TICK_S = 0.001
IN_FLIGHT = 128
WARM_UP = 2_000
_ROOT = Path(__file__).resolve().parent.parent

Submit = Callable[[int, Callable[[object], None]], None]
"""Hands in command number n; the callback hears when it is done."""


class Measured(NamedTuple):
    """One run. CPU of both processes, per command."""

    done_per_s: float
    cpu_us: float
    cpu_other_us: float
    p50_ms: float
    p99_ms: float
    refused: int


class Other(NamedTuple):
    """The other process."""

    pid: int
    port: int
    echo_port: int


@asynccontextmanager
async def other_process() -> AsyncIterator[Other]:
    """An owner and an echo, ended with their stdin."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "bench.command_owner",
        cwd=_ROOT,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
    )
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        yield Other(**json.loads(await process.stdout.readline()))
    finally:
        process.stdin.close()
        await process.wait()


def _own_cpu_s() -> float:
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime


def _cpu_s(pid: int) -> float:
    """Of all threads of a process, in nanosecond steps."""
    total = 0
    for task in Path(f"/proc/{pid}/task").iterdir():
        total += int((task / "schedstat").read_text(encoding="ascii").split()[0])
    return total / 1e9


class Run:
    """Commands on their way."""

    def __init__(self, submit: Submit, first: int) -> None:
        self._submit = submit
        self._first = first
        self.sent = 0
        self.latencies_s: list[float] = []
        self.refused = 0
        self.changed = asyncio.Event()

    def send(self) -> None:
        """The next one."""
        began_s = time.perf_counter()

        def done(result: object) -> None:
            self.latencies_s.append(time.perf_counter() - began_s)
            self.refused += isinstance(result, Problem)
            self.changed.set()

        self._submit(self._first + self.sent, done)
        self.sent += 1

    async def at_rate(self, rate: int, seconds: float) -> None:
        """Open loop."""
        start_s = time.perf_counter()
        total = int(rate * seconds)
        while self.sent < total:
            due = min(total, int((time.perf_counter() - start_s) * rate) + 1)
            while self.sent < due:
                self.send()
            await asyncio.sleep(TICK_S)
        await self._until(total)

    async def full(self, total: int) -> None:
        """As fast as possible, with so many in flight."""
        while self.sent < total:
            while self.sent < total and self.sent - len(self.latencies_s) < IN_FLIGHT:
                self.send()
            self.changed.clear()
            await self.changed.wait()
        await self._until(total)

    async def _until(self, total: int) -> None:
        async with asyncio.timeout(60):
            while len(self.latencies_s) < total:
                self.changed.clear()
                await self.changed.wait()


class Numbers:
    """Command numbers of a port; none comes twice."""

    def __init__(self) -> None:
        self.next = 0

    def take(self, count: int) -> int:
        """The first of so many."""
        self.next += count
        return self.next - count


async def measured(
    submit: Submit, numbers: Numbers, rate: int | None, seconds: float, pid: int | None
) -> Measured:
    """`rate` None: as fast as possible."""
    total = int(seconds * (rate or 5_000))
    run = Run(submit, numbers.take(total))
    other_s = 0.0 if pid is None else _cpu_s(pid)
    own_s, began_s = _own_cpu_s(), time.perf_counter()
    if rate is None:
        await run.full(total)
    else:
        await run.at_rate(rate, seconds)
    took_s = time.perf_counter() - began_s
    own_us = (_own_cpu_s() - own_s) / total * 1e6
    other_us = 0.0 if pid is None else (_cpu_s(pid) - other_s) / total * 1e6
    latencies = sorted(run.latencies_s)
    return Measured(
        total / took_s,
        own_us + other_us,
        other_us,
        percentile(latencies, 0.5) * 1e3,
        percentile(latencies, 0.99) * 1e3,
        run.refused,
    )


def _sends(port: CommandPort) -> Submit:
    callers = [Caller("default", f"u{number}") for number in range(USERS)]
    content = msgspec.Raw(msgspec.json.encode({"kind": "text", "text": TEXT}))

    def submit(number: int, done: Callable[[object], None]) -> None:
        user = number % USERS
        caller = callers[user]
        name, command, keyed = sending(
            caller, conversation_id=None, to=f"u{user ^ 1}", client_msg_id=f"m{number}", content=content
        )
        port.submit(caller, name, command, keyed, done)

    return submit


async def _prepare(port: CommandPort) -> None:
    for user in range(USERS):
        await port.execute(
            Caller("default", f"u{user}"), f"user:u{user}", RegisterUser(), Keyed("register", f"u{user}")
        )
    for user in range(0, USERS, 2):
        name = direct_conversation_id("default", f"u{user}", f"u{user + 1}")
        await port.execute(
            Caller("default", f"u{user}"), name, OpenDirect(peer=f"u{user + 1}"), Keyed("open", name)
        )


async def _series(
    submit: Submit, rates: Sequence[int | None], seconds: float, pid: int | None
) -> list[Measured]:
    numbers = Numbers()
    warm = Run(submit, numbers.take(WARM_UP))
    await warm.full(WARM_UP)
    return [await measured(submit, numbers, rate, seconds, pid) for rate in rates]


async def _local(rates: Sequence[int | None], seconds: float) -> list[Measured]:
    node, desk, _ = await open_desk("local")
    await _prepare(desk)
    try:
        return await _series(_sends(desk), rates, seconds, None)
    finally:
        await desk.close()
        await node.close()


async def _stream(
    other: Other, rates: Sequence[int | None], seconds: float, settings: RpcSettings
) -> tuple[list[Measured], RpcPeers]:
    rows = [NodeShards("owner", f"127.0.0.1:{other.port}", f"0-{SHARDS - 1}")]
    line = Face(
        identity=Identity("face", LOG_ID, SHARDS),
        incarnation=new_incarnation(),
        secret=SECRET,
        codec=codec(),
        settings=settings,
        chance=random.Random(1),
    )
    peers = RpcPeers(line)
    router = Router(
        node="face",
        ownership=StaticOwnership(lambda: rows, SHARDS),
        peers=peers,
        shard_count=SHARDS,
        payload_secret=PAYLOAD_SECRET,
        settings=RouterSettings(),
        chance=random.Random(1),
    )
    line.take_heads = router.take_heads
    await _prepare(router)
    try:
        return await _series(_sends(router), rates, seconds, other.pid), peers
    finally:
        await router.close()
        await peers.close()


async def _echo(other: Other, rates: Sequence[int | None], seconds: float) -> list[Measured]:
    payload = msgspec.json.encode(
        PostMessage(
            client_msg_id="m100000", content=msgspec.Raw(msgspec.json.encode({"kind": "text", "text": TEXT}))
        )
    ) + bytes(100)
    async with grpc.aio.insecure_channel(f"127.0.0.1:{other.echo_port}") as channel:
        method: grpc.aio.StreamStreamMultiCallable[bytes, bytes] = channel.stream_stream(ECHO_PATH)
        stream = method()
        waiting: list[Callable[[object], None]] = []
        wake = asyncio.Event()

        def submit(_number: int, done: Callable[[object], None]) -> None:
            waiting.append(done)
            wake.set()

        sent: list[Callable[[object], None]] = []

        async def write() -> None:
            while True:
                await wake.wait()
                wake.clear()
                while waiting:
                    sent.append(waiting.pop(0))
                    await stream.write(payload)

        async def read() -> None:
            while True:
                answer: object = await stream.read()
                assert isinstance(answer, bytes)
                sent.pop(0)(Answer("", False, 0))

        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(write()), group.create_task(read())]
            figures = await _series(submit, rates, seconds, other.pid)
            for task in tasks:
                task.cancel()
        return figures


async def measure(rates: Sequence[int], seconds: float, settings: RpcSettings) -> None:
    """Print the table."""
    asked: list[int | None] = [*rates, None]
    local = await _local(asked, seconds)
    async with other_process() as other:
        echo = await _echo(other, asked, seconds)
        ours, peers = await _stream(other, asked, seconds, settings)
    rows = [
        (
            rate or f"{IN_FLIGHT} in flight",
            f"{mine.done_per_s:.0f}", f"{here.done_per_s:.0f}", f"{bare.done_per_s:.0f}",
            f"{mine.cpu_us:.0f}", f"{mine.cpu_other_us:.0f}",
            f"{here.cpu_us:.0f}", f"{mine.cpu_us / here.cpu_us:.2f}",
            f"{bare.cpu_us:.0f}", f"{mine.cpu_us / bare.cpu_us:.2f}",
            f"{mine.p50_ms:.1f}", f"{mine.p99_ms:.1f}", f"{here.p50_ms:.1f}", f"{here.p99_ms:.1f}",
            f"{bare.p50_ms:.1f}", f"{bare.p99_ms:.1f}", mine.refused,
        )
        for rate, mine, here, bare in zip(asked, ours, local, echo, strict=True)
    ]  # fmt: skip
    table(
        f"commands to an owner in another process, {len(TEXT)} bytes of text, CPU of both processes per command",
        (
            "asked/s", "done/s", "local", "echo", "CPU µs", "owner", "local", "ratio", "echo", "ratio",
            "p50 ms", "p99 ms", "local p50", "p99", "echo p50", "p99", "refused",
        ),
        rows,
    )  # fmt: skip
    for peer in peers.all():
        batches = max(1, peer.counters.batches)
        print(
            f"  {peer.counters.commands / batches:.1f} commands a batch,"
            f" {peer.counters.commands / max(1, peer.counters.messages):.1f} answers a message over all rates"
        )


def main() -> None:
    """Read the arguments and measure."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rates", type=int, nargs="*", default=[1_000, 3_000])
    parser.add_argument("--seconds", type=float, default=5.0)
    parser.add_argument("--pace-ms", type=float, default=RpcSettings().batch_pace_ms)
    parser.add_argument("--busy-pace-ms", type=float, default=RpcSettings().busy_pace_ms)
    arguments = parser.parse_args()
    settings = RpcSettings(batch_pace_ms=arguments.pace_ms, busy_pace_ms=arguments.busy_pace_ms)
    uvloop.run(measure(arguments.rates, arguments.seconds, settings))


if __name__ == "__main__":
    main()
