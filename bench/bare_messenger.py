"""The reference of the direct messages: our raw socket layer, an SQLite table (or a collection of MongoDB), one paced flush, and nothing
else.

No identity, no validation, no aggregates, no views: what is left is receiving, one durable insert a message, and three frames out.
Prints its port; a user's token is his number, and his peer's is the number with the last bit turned. Its arguments: the path of an SQLite
database, or the URI of a MongoDB and the name of a database there.
"""

from __future__ import annotations

import asyncio
import json
import os
import sqlite3
import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Protocol

import msgspec
import uvicorn
import uvloop
from pymongo import AsyncMongoClient

from gateways.socket.handshake import Handshake
from gateways.socket.port import SocketLimits
from gateways.socket.websocket import WebSocket, build_websocket_protocol, encode_text_frame

PACE_S = 0.004


class _Frame(msgspec.Struct):
    op: str
    token: str = ""
    ref: str = ""
    client_msg_id: str = ""
    content: msgspec.Raw = msgspec.Raw(b"null")


_decode = msgspec.json.Decoder(_Frame).decode
Row = tuple[str, bytes]
"""A message's key and its content."""


class Store(Protocol):
    """Where messages are kept."""

    async def open(self) -> None:
        """Connect."""

    async def insert(self, rows: Sequence[Row]) -> None:
        """Durable when it returns."""


class SqliteStore:
    """A table."""

    def __init__(self, path: str) -> None:
        self._thread = ThreadPoolExecutor(1)
        self._database = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
        self._database.execute("PRAGMA journal_mode = WAL")
        self._database.execute("PRAGMA synchronous = FULL")
        self._database.execute("CREATE TABLE messages (id INTEGER PRIMARY KEY, key TEXT UNIQUE, body BLOB)")

    async def open(self) -> None:
        """It is."""

    async def insert(self, rows: Sequence[Row]) -> None:
        """One transaction, on a thread."""
        await asyncio.get_running_loop().run_in_executor(self._thread, self._insert, rows)

    def _insert(self, rows: Sequence[Row]) -> None:
        self._database.execute("BEGIN IMMEDIATE")
        self._database.executemany("INSERT INTO messages (key, body) VALUES (?, ?)", rows)
        self._database.execute("COMMIT")


class MongoStore:
    """A collection."""

    def __init__(self, uri: str, database: str) -> None:
        client: AsyncMongoClient[dict[str, Any]] = AsyncMongoClient(uri, w="majority", journal=True)
        self._collection = client[database]["commits"]

    async def open(self) -> None:
        """With the unique index that the table has."""
        await self._collection.create_index("key", unique=True)

    async def insert(self, rows: Sequence[Row]) -> None:
        """One ordered insert, journaled by a majority."""
        await self._collection.insert_many([{"key": key, "body": body} for key, body in rows])


class Messenger:
    """Everybody's sockets, the table and the flush."""

    def __init__(self, store: Store) -> None:
        self.people: dict[int, WebSocket] = {}
        self._store = store
        self._waiting: list[tuple[int, _Frame]] = []
        self._work = asyncio.Event()

    def accept(self, _handshake: Handshake) -> _Person:
        """Everybody is welcome."""
        return _Person(self)

    def take(self, number: int, frame: _Frame) -> None:
        """One for the next flush."""
        self._waiting.append((number, frame))
        self._work.set()

    async def run(self) -> None:
        """Flush at the pace of the server."""
        loop = asyncio.get_running_loop()
        due = 0.0
        await self._store.open()
        while True:
            await self._work.wait()
            await asyncio.sleep(max(0.0, due - loop.time()))
            due = loop.time() + PACE_S
            self._work.clear()
            batch, self._waiting = self._waiting, []
            await self._store.insert([(frame.client_msg_id, bytes(frame.content)) for _, frame in batch])
            for number, frame in batch:
                self._tell(number, frame)

    def _tell(self, number: int, frame: _Frame) -> None:
        event = encode_text_frame(
            b'{"op":"event","data":{"client_msg_id":"%b","content":%b}}'
            % (frame.client_msg_id.encode(), bytes(frame.content))
        )
        self.people[number].send_frame(encode_text_frame(b'{"op":"ack","ref":"%b"}' % frame.ref.encode()))
        self.people[number].send_frame(event)
        self.people[number ^ 1].send_frame(event)


class _Person:
    """One socket's handler."""

    def __init__(self, messenger: Messenger) -> None:
        self._messenger = messenger
        self._number = 0
        self._socket: WebSocket | None = None

    def opened(self, socket: WebSocket) -> None:
        """Remember it."""
        self._socket = socket

    def text(self, payload: bytes) -> None:
        """A hello or a send."""
        frame = _decode(payload)
        if frame.op == "send":
            self._messenger.take(self._number, frame)
        elif self._socket is not None:
            self._number = int(frame.token)
            self._messenger.people[self._number] = self._socket
            self._socket.send_frame(encode_text_frame(b'{"op":"welcome"}'))

    def binary(self, payload: bytes) -> None:
        """Not spoken here."""

    def closed(self) -> None:
        """Nothing to do."""


async def _main(arguments: Sequence[str]) -> None:
    store: Store = SqliteStore(*arguments) if len(arguments) == 1 else MongoStore(*arguments)
    messenger = Messenger(store)
    protocol = build_websocket_protocol(messenger, SocketLimits())

    async def nothing(scope: object, receive: object, send: object) -> None:
        """No HTTP here."""

    server = uvicorn.Server(
        uvicorn.Config(nothing, port=0, ws=protocol, loop="none", lifespan="off", log_level="error")
    )
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(messenger.run())
        serving = tasks.create_task(server.serve())
        while not server.started:
            await asyncio.sleep(0.01)
        port = server.servers[0].sockets[0].getsockname()[1]
        print(json.dumps({"url": f"http://127.0.0.1:{port}", "pid": os.getpid()}), flush=True)
        await serving


if __name__ == "__main__":
    uvloop.run(_main(sys.argv[1:]))
