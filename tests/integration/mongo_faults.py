"""A MongoDB that fails on command, and a wire to it that is cut on command."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Self

from pymongo import MongoClient

CHUNK_BYTES = 64 * 1024


@contextmanager
def failing(uri: str, point: str = "failCommand", mode: Any = None, **data: Any) -> Iterator[None]:
    """A fail point of the server, on inside the block; `times=1` unless `mode` says otherwise. Only Minutebook's own calls meet it."""
    name = {"appName": "minutebook"} if point == "failCommand" else {}
    with MongoClient[dict[str, Any]](uri) as client:
        switch = {"mode": mode or {"times": 1}, **({"data": {**name, **data}} if data else {})}
        client.admin.command({"configureFailPoint": point, **switch})
        try:
            yield
        finally:
            client.admin.command({"configureFailPoint": point, "mode": "off"})


class CutWire:
    """A TCP proxy to one mongod. With `cut_replies` set, the next reply to an insert is swallowed and its connection cut: the write
    happened, and nobody is told.
    """

    def __init__(self, host: str, port: int) -> None:
        self._host = host
        self._port = port
        self.cut_replies = 0
        """How many replies are still to be cut."""
        self.cuts = 0
        self._server: asyncio.Server | None = None
        self._writers: set[asyncio.StreamWriter] = set()

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._server is not None
        self._server.close()
        for writer in tuple(self._writers):
            writer.close()
        await self._server.wait_closed()

    @property
    def uri(self) -> str:
        """Of the server, by way of this wire."""
        assert self._server is not None
        port = self._server.sockets[0].getsockname()[1]
        return f"mongodb://127.0.0.1:{port}/?directConnection=true"

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there, back = await asyncio.open_connection(self._host, self._port)
        self._writers |= {writer, back}
        inserting = asyncio.Event()
        try:
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(self._forward(reader, back, inserting))
                tasks.create_task(self._return(there, writer, inserting))
        finally:
            for one in (writer, back):
                one.close()
                self._writers.discard(one)

    async def _forward(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, inserting: asyncio.Event
    ) -> None:
        while data := await _some(reader):
            if b"\x02insert\x00" in data:
                inserting.set()
            writer.write(data)
        writer.close()

    async def _return(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, inserting: asyncio.Event
    ) -> None:
        while data := await _some(reader):
            if inserting.is_set():
                inserting.clear()
                if self.cut_replies:
                    self.cut_replies -= 1
                    self.cuts += 1
                    break
            writer.write(data)
        writer.close()


async def _some(reader: asyncio.StreamReader) -> bytes:
    try:
        return await reader.read(CHUNK_BYTES)
    except ConnectionError:
        return b""
