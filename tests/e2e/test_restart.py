"""A server that is stopped or killed, seen from its sockets and from the client that reconnects by itself."""

from __future__ import annotations

import asyncio
import contextlib
import random
import socket
import time
from collections.abc import AsyncIterator
from pathlib import Path
from signal import SIGTERM

import httpx
import pytest

from client import ChatSession
from client.frames import Event
from client.rest import RestClient
from tests.e2e.process import ServerProcess
from tests.integration.house import Line

pytestmark = [pytest.mark.e2e, pytest.mark.slow, pytest.mark.timeout(120)]

PASSWORD = "a quiet afternoon"
PORTS = range(20_000, 32_000)


def free_port() -> int:
    """A port that nobody listens on, for a server that must come back to it.

    Below those that systems give to connections: one of these, a client's to the very port included, may take it in between.
    """
    for port in random.sample(PORTS, len(PORTS)):
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port
    raise AssertionError("no port is free")


@contextlib.asynccontextmanager
async def running(data: Path, port: int = 0, **environment: str) -> AsyncIterator[ServerProcess]:
    """A server process that does not outlive the test."""
    server = ServerProcess(data, port=port, environment=environment)
    await server.start()
    try:
        yield server
    finally:
        await server.kill()


async def test_every_port_is_printed_at_the_start(tmp_path: Path) -> None:
    async with (
        running(tmp_path / "data", MINUTEBOOK_METRICS_PORT="0") as server,
        httpx.AsyncClient() as client,
    ):
        words = (await server.said()).split()
        assert words[:-1] == ["Metrics", "are", "at"]
        assert (await client.get(words[-1])).text.startswith("# HELP")
        assert (await client.get(f"{server.url}/metrics")).status_code == 404


async def test_a_stop_asks_to_reconnect_then_closes_1012_and_keeps_what_was_acknowledged(
    tmp_path: Path,
) -> None:
    async with running(tmp_path / "data", MINUTEBOOK_DRAIN_S="0.5") as server:
        async with RestClient(server.url) as rest:
            await rest.create_user("ann", PASSWORD)
            token = (await rest.log_in("ann", PASSWORD, "d1")).access_token
        line, silent = Line(None), Line(None)
        for connecting in (line, silent):
            await connecting.connect(server.socket_url)
        line.say("hello", token=token)
        await line.next("welcome")
        ack = await line.ask("send", to="ann", client_msg_id="k", content={"kind": "text", "text": "x"})
        assert await server.stop() == 0
        assert 0 <= (await line.next("reconnect"))["after_ms"] <= 5_000
        assert (await line.ended(), await silent.ended()) == (1012, 1012)
        await server.start()
        async with RestClient(server.url) as rest:
            token = (await rest.log_in("ann", PASSWORD, "d1")).access_token
        again = Line(None)
        await again.connect(server.socket_url)
        again.say("hello", token=token, have={ack["conversation_id"]: 0})
        await again.next("events", complete=True)
        assert again.seqs(ack["conversation_id"]) == [1, 2]
        replay = await again.ask("send", to="ann", client_msg_id="k", content={"kind": "text", "text": "x"})
        assert replay == {**ack, "ref": replay["ref"], "replayed": True}
        again.close()


async def test_a_second_signal_does_not_wait_for_the_sockets(tmp_path: Path) -> None:
    async with running(tmp_path / "data", MINUTEBOOK_DRAIN_S="15", MINUTEBOOK_METRICS_PORT="0") as server:
        metrics = (await server.said()).split()[-1].removesuffix("/metrics")
        async with RestClient(server.url) as rest:
            await rest.create_user("ann", PASSWORD)
            token = (await rest.log_in("ann", PASSWORD, "d1")).access_token
        line = Line(None)
        await line.connect(server.socket_url)
        line.say("hello", token=token)
        await line.next("welcome")
        server.signal(SIGTERM)
        await line.next("reconnect")
        async with httpx.AsyncClient() as client:
            readiness = await client.get(f"{metrics}/readyz")
            assert (readiness.status_code, readiness.json()["errors"][0]["message"]) == (503, "stopping")
            assert (await client.get(f"{metrics}/livez")).status_code == 200
        began_s = time.monotonic()
        assert await server.stop() == 0
        assert time.monotonic() - began_s < 10
        assert await line.ended() == 1012


async def test_the_client_misses_nothing_and_sends_once_over_kills(tmp_path: Path) -> None:
    port = free_port()
    data = tmp_path / "data"
    async with running(data) as first:
        async with RestClient(first.url) as rest:
            for user_id in ("ann", "bob"):
                await rest.create_user(user_id, PASSWORD)
            tokens = await rest.log_in("ann", PASSWORD, "d0")
            group = str(
                (await rest.as_user(tokens.access_token).create_group("room", ["bob"])).conversation_id
            )
        assert await first.stop() == 0
    got: list[int] = []
    arrived = asyncio.Event()
    async with (
        running(data, port=port) as server,
        RestClient(f"http://127.0.0.1:{port}") as rest,
        ChatSession.by_password(rest, "ann", PASSWORD, "d1") as ann,
        ChatSession.by_password(rest, "bob", PASSWORD, "d1", have={group: 2}) as bob,
    ):

        async def listen() -> None:
            async for delivery in bob.events():
                if isinstance(delivery, Event) and delivery.conversation_id == group:
                    got.append(delivery.seq)
                    arrived.set()

        async with asyncio.TaskGroup() as tasks:
            listening = tasks.create_task(listen())
            seqs: list[int] = []
            for _ in range(3):
                sends = [tasks.create_task(ann.send(group, f"{len(seqs)}-{number}")) for number in range(30)]
                seqs.append((await sends[4]).seq)
                await server.kill()
                await server.start()
                seqs += [(await send).seq for send in sends[:4] + sends[5:]]
            async with asyncio.timeout(30):
                while max(seqs) not in got[-1:]:
                    arrived.clear()
                    await arrived.wait()
            listening.cancel()
    assert sorted(seqs) == list(range(3, 93))
    assert got == list(range(3, 93))
