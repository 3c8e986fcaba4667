"""Servers that only say what they are: an old MongoDB, an old Redis, an old Kafka, for the first words that a client asks."""

from __future__ import annotations

import socket
import socketserver
import struct
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from typing_extensions import override

from docker.local.mongo_wire import decode, encode

Talk = Callable[[socket.socket], None]
_MESSAGE, _QUERY = 2013, 2004
_API_VERSIONS, _METADATA, _FETCH = 18, 3, 1


@contextmanager
def serving(talk: Talk) -> Iterator[int]:
    """The port at which each connection is talked to so."""

    class Handler(socketserver.BaseRequestHandler):
        @override
        def handle(self) -> None:
            try:
                talk(self.request)
            except OSError:
                return

    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), Handler) as server:
        server.daemon_threads = True
        thread = threading.Thread(target=server.serve_forever, args=(0.02,))
        thread.start()
        try:
            yield int(server.server_address[1])
        finally:
            server.shutdown()
            thread.join()


def exactly(connection: socket.socket, size: int) -> bytes:
    """So many bytes. Raises OSError at the end."""
    received = b""
    while len(received) < size:
        chunk = connection.recv(size - len(received))
        if not chunk:
            raise ConnectionError
        received += chunk
    return received


def mongodb(version: tuple[int, int, int]) -> Talk:
    """A replica set of one of that version."""

    def talk(connection: socket.socket) -> None:
        host, port = connection.getsockname()
        me = f"{host}:{port}"
        hello: Mapping[str, Any] = {
            "ok": 1.0,
            "ismaster": True,
            "isWritablePrimary": True,
            "setName": "rs0",
            "me": me,
            "primary": me,
            "hosts": [me],
            "minWireVersion": 0,
            "maxWireVersion": 13,
            "maxBsonObjectSize": 16 * 1024 * 1024,
            "maxMessageSizeBytes": 48_000_000,
            "maxWriteBatchSize": 100_000,
            "readOnly": False,
        }
        build = {"ok": 1.0, "version": ".".join(map(str, version)), "versionArray": [*version, 0]}
        while True:
            size, request, _, kind = struct.unpack("<iiii", exactly(connection, 16))
            body = exactly(connection, size - 16)
            if kind == _QUERY:  # The first word of a driver that does not know yet whom it speaks to.
                payload = struct.pack("<iqii", 8, 0, 0, 1) + encode(hello)
                answer = 1
            else:
                asked = next(iter(decode(body[5:])))
                payload = struct.pack("<IB", 0, 0) + encode(build if asked == "buildInfo" else hello)
                answer = _MESSAGE
            connection.sendall(struct.pack("<iiii", 16 + len(payload), 0, request, answer) + payload)

    return talk


def redis(version: str) -> Talk:
    """A Redis of that version."""

    def talk(connection: socket.socket) -> None:
        with connection.makefile("rb") as lines:
            while head := lines.readline():
                words = []
                for _ in range(int(head[1:])):
                    size = int(lines.readline()[1:])
                    words.append(lines.read(size + 2)[:-2].upper())
                info = f"# Server\r\nredis_version:{version}\r\n".encode()
                told = b"$%d\r\n%b\r\n" % (len(info), info) if words[0] == b"INFO" else b"+OK\r\n"
                connection.sendall(told)

    return talk


def kafka(fetch_version: int) -> Talk:
    """A broker that knows fetch requests up to that version."""

    def talk(connection: socket.socket) -> None:
        host, port = connection.getsockname()
        name = host.encode()
        while True:
            (size,) = struct.unpack(">i", exactly(connection, 4))
            key, _, request = struct.unpack(">hhi", exactly(connection, size)[:8])
            if key == _API_VERSIONS:
                known = [(_API_VERSIONS, 0, 0), (_METADATA, 0, 1), (_FETCH, 0, fetch_version)]
                body = struct.pack(">hi", 0, len(known)) + b"".join(
                    struct.pack(">hhh", *one) for one in known
                )
            else:
                broker = struct.pack(">ih", 1, len(name)) + name + struct.pack(">ih", port, -1)
                body = struct.pack(">i", 1) + broker + struct.pack(">ii", 1, 0)
            connection.sendall(struct.pack(">ii", 4 + len(body), request) + body)

    return talk
