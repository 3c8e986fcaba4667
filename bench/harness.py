"""What benchmarks share: a real server in its own process, its CPU time, people with sessions, and a table."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import signal
import sys
import tempfile
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

from typing_extensions import override

from client.caller import AppKey
from client.rest import RestClient
from client.websocket import WebSocket, open_websocket

_TICKS_PER_S = os.sysconf("SC_CLK_TCK")
_ROOT = Path(__file__).resolve().parent.parent


@dataclass
class Server:
    """A running server."""

    url: str
    pid: int
    key: AppKey
    figures: dict[str, int] = field(default_factory=dict)
    """Counters of the server, after its end."""
    threads: dict[str, str] = field(default_factory=dict)
    """Names of its threads by their system ids, after its end."""

    def cpu_s(self) -> float:
        """User and system time of all its threads so far."""
        return cpu_s_of(self.pid)

    def cpu_s_by_thread(self) -> dict[str, float]:
        """The same, by the system id of the thread."""
        return {task.name: _cpu_s(task / "stat") for task in Path(f"/proc/{self.pid}/task").iterdir()}

    def resident_bytes(self) -> int:
        """Resident memory."""
        return resident_bytes(self.pid)


def cpu_s_of(pid: int) -> float:
    """User and system time of all threads of a process so far."""
    return _cpu_s(Path(f"/proc/{pid}/stat"))


def _cpu_s(stat: Path) -> float:
    fields = stat.read_text(encoding="ascii").rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / _TICKS_PER_S


def resident_bytes(pid: int) -> int:
    """Resident memory of a process."""
    pages = int(Path(f"/proc/{pid}/statm").read_text(encoding="ascii").split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


@asynccontextmanager
async def server(profile: str | None = None, data: Path | None = None) -> AsyncIterator[Server]:
    """A server over a new folder on the disk of the checkout (its fsync counts), stopped at the end."""
    folder = data or Path(tempfile.mkdtemp(prefix="bench-", dir=_ROOT.parent))
    arguments = [sys.executable, "-m", "bench.server_process", str(folder)]
    if profile is not None:
        arguments.append(profile)
    process = await asyncio.create_subprocess_exec(*arguments, cwd=_ROOT, stdout=asyncio.subprocess.PIPE)
    assert process.stdout is not None
    try:
        line = json.loads(await process.stdout.readline())
        running = Server(line["url"], line["pid"], AppKey(line["key"], line["secret"]))
        yield running
        process.send_signal(signal.SIGTERM)
        told = json.loads(await process.stdout.readline())
        running.threads = told.pop("threads")
        running.figures.update(told)
        await process.wait()
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
        if data is None:
            shutil.rmtree(folder, ignore_errors=True)


class Sink(asyncio.Protocol):
    """Takes whatever comes."""

    @override
    def data_received(self, data: bytes) -> None:
        """Drop it."""


@dataclass
class BareWriter:
    """The reference process of fan-outs and of idle sockets, with connections to it."""

    process: asyncio.subprocess.Process
    pid: int
    port: int
    transports: list[asyncio.Transport] = field(default_factory=list)

    async def connect(self, count: int) -> None:
        """So many connections more."""
        loop = asyncio.get_running_loop()
        for _ in range(count):
            transport, _ = await loop.create_connection(Sink, "127.0.0.1", self.port)
            self.transports.append(transport)

    async def write_to_all(self, rounds: int, pause_s: float) -> float:
        """Have it write a frame to every connection, `rounds` times; the seconds of CPU that took."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        before = _cpu_s(Path(f"/proc/{self.pid}/stat"))
        self.process.stdin.write(json.dumps([rounds, pause_s]).encode() + b"\n")
        await self.process.stdout.readline()
        return _cpu_s(Path(f"/proc/{self.pid}/stat")) - before


@asynccontextmanager
async def bare_writer() -> AsyncIterator[BareWriter]:
    """A process that writes ready-made frames and does nothing else."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "bench.bare_fanout",
        cwd=_ROOT,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
    )
    assert process.stdin is not None
    assert process.stdout is not None
    told = json.loads(await process.stdout.readline())
    writer = BareWriter(process, told["pid"], told["port"])
    try:
        yield writer
    finally:
        for transport in writer.transports:
            transport.close()
        process.stdin.close()
        await process.wait()


@asynccontextmanager
async def bare_messenger(uri: str | None = None, database: str = "bare") -> AsyncIterator[Server]:
    """The reference of the direct messages, over a table on the same disk, or a collection of the MongoDB at `uri`."""
    folder = tempfile.mkdtemp(prefix="bench-", dir=_ROOT.parent)
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "bench.bare_messenger",
        *((f"{folder}/bare.db",) if uri is None else (uri, database)),
        cwd=_ROOT,
        stdout=asyncio.subprocess.PIPE,
    )
    assert process.stdout is not None
    try:
        line = json.loads(await process.stdout.readline())
        yield Server(line["url"], line["pid"], AppKey("", ""))
    finally:
        process.kill()
        await process.wait()
        shutil.rmtree(folder, ignore_errors=True)


async def tokens(running: Server, user_ids: Sequence[str]) -> list[str]:
    """Register people by signed calls (no password hashing) and log them in."""
    async with RestClient(running.url, app_key=running.key) as rest:

        async def token(user_id: str) -> str:
            await rest.create_user(user_id, signed=True)
            session = await rest.create_token(user_id, "bench", "bot")
            return session.access_token

        found: list[str] = []
        for start in range(0, len(user_ids), 32):
            found += await asyncio.gather(*[token(user_id) for user_id in user_ids[start : start + 32]])
        return found


async def greeted(
    running: Server,
    token: str,
    on_text: Callable[[bytes], None],
    on_close: Callable[[int, str], None] = lambda code, reason: None,
) -> WebSocket:
    """A socket that has said hello; its welcome is among what `on_text` hears."""
    url = running.url.replace("http", "ws", 1) + "/v1/ws"
    socket = await open_websocket(url, on_text, on_close)
    socket.send_text(json.dumps({"op": "hello", "token": token}).encode())
    return socket


def table(title: str, columns: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
    """Print a table to stdout."""
    texts = [[str(cell) for cell in row] for row in (columns, *rows)]
    widths = [max(len(row[index]) for row in texts) for index in range(len(columns))]
    print(f"\n{title}")
    for number, row in enumerate(texts):
        print("  " + "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)))
        if number == 0:
            print("  " + "  ".join("-" * width for width in widths))


def percentile(values: Sequence[float], share: float) -> float:
    """The value below which `share` of the sorted values lie; 0 without values."""
    return values[min(len(values) - 1, int(len(values) * share))] if values else 0.0
