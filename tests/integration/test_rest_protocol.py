"""The HTTP protocol on a real socket: heads that are too large, never end, or are no HTTP."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

import pytest
from starlette.types import Receive, Scope, Send
from uvicorn import Config
from uvicorn.server import ServerState

from gateways.rest.protocol import HEAD_BYTES_MAX, BoundedHttpProtocol

pytestmark = pytest.mark.slow


async def _app(scope: Scope, receive: Receive, send: Send) -> None:
    read = 0
    while (message := await receive())["type"] == "http.request":
        read += len(message.get("body", b""))
        if not message.get("more_body"):
            break
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"2")]})
    await send({"type": "http.response.body", "body": b"ok"})


@pytest.fixture
async def port() -> AsyncIterator[int]:
    """Where the protocol listens."""
    config = Config(_app, log_config=None, lifespan="off", ws="none")
    config.load()
    state = ServerState()

    def protocol() -> BoundedHttpProtocol:
        return BoundedHttpProtocol(config=config, server_state=state, app_state={})

    server = await asyncio.get_running_loop().create_server(protocol, "127.0.0.1", 0)
    yield server.sockets[0].getsockname()[1]
    server.close()
    await server.wait_closed()


async def _answer(port: int, *parts: bytes) -> tuple[int, Any]:
    """(status, JSON body) of what comes back until the connection ends."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        for part in parts:
            writer.write(part)
            await writer.drain()
    except ConnectionError:
        pass  # Refused before all was written; the answer is there to be read.
    head, _, body = (await reader.read()).partition(b"\r\n\r\n")
    writer.close()
    assert b"application/problem+json" in head
    return int(head.split()[1]), json.loads(body)


@pytest.mark.parametrize(
    "garbage", [b"nonsense\r\n\r\n", b"GET / HTTP/9.9\r\n\r\n", b"\x16\x03\x01\x02\x00" * 20]
)
async def test_what_is_no_http_is_malformed(port: int, garbage: bytes) -> None:
    status, problem = await _answer(port, garbage)
    assert (status, problem["code"]) == (400, "malformed")


async def test_an_endless_head_is_cut(port: int) -> None:
    line = b"X-More: " + b"x" * 4_000 + b"\r\n"
    count = HEAD_BYTES_MAX // len(line) + 2
    status, problem = await _answer(port, b"GET / HTTP/1.1\r\nHost: a\r\n", *[line] * count)
    assert (status, problem["code"]) == (431, "headers_too_large")


async def test_an_endless_line_is_cut(port: int) -> None:
    status, problem = await _answer(port, b"GET /", *[b"x" * 8_000] * 10)
    assert (status, problem["code"]) == (431, "headers_too_large")


async def test_requests_of_one_connection_count_apart(port: int) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    head = b"POST / HTTP/1.1\r\nHost: a\r\nX-More: " + b"x" * 20_000 + b"\r\nContent-Length: 100000\r\n\r\n"
    for _ in range(4):
        writer.write(head + b"b" * 100_000)
        assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 200")
        assert await reader.readexactly(2) == b"ok"
    writer.close()
    await writer.wait_closed()


async def test_a_silent_connection_ends(port: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gateways.rest.protocol.HEAD_S", 0.0)
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    assert await reader.read() == b""
    writer.close()
    await writer.wait_closed()
