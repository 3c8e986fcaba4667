"""Just enough of Kafka's wire protocol to ask one broker whom it knows (Metadata, version 1)."""

from __future__ import annotations

import socket
import struct
from dataclasses import dataclass

REPLY_S_MAX = 1.0
_METADATA, _VERSION, _CORRELATION = 3, 1, 7


@dataclass(frozen=True)
class Metadata:
    """The brokers in service by id, and the leader (-1: none) of each (topic, partition) asked for."""

    brokers: frozenset[int]
    leaders: dict[tuple[str, int], int]


def metadata(host: str, port: int, topics: tuple[str, ...] = ()) -> Metadata:
    """What the broker knows; OSError when it gives no answer in time."""
    request = struct.pack(">hhi", _METADATA, _VERSION, _CORRELATION) + _text("minutebook-local")
    request += struct.pack(">i", len(topics)) + b"".join(map(_text, topics))
    with socket.create_connection((host, port), REPLY_S_MAX) as connection:
        connection.sendall(struct.pack(">i", len(request)) + request)
        size = struct.unpack(">i", _exactly(connection, 4))[0]
        return parse(_exactly(connection, size))


def _text(value: str) -> bytes:
    return struct.pack(">h", len(value.encode())) + value.encode()


def _exactly(connection: socket.socket, size: int) -> bytes:
    received = b""
    while len(received) < size:
        chunk = connection.recv(size - len(received))
        if not chunk:
            raise ConnectionError("the broker closed the connection")
        received += chunk
    return received


class _Reader:
    def __init__(self, data: bytes) -> None:
        self._data = data
        self._offset = 0

    def number(self, form: str) -> int:
        value: int = struct.unpack_from(form, self._data, self._offset)[0]
        self._offset += struct.calcsize(form)
        return value

    def int32(self) -> int:
        return self.number(">i")

    def text(self) -> str:
        size = max(0, self.number(">h"))
        self._offset += size
        return self._data[self._offset - size : self._offset].decode()

    def int32s(self) -> list[int]:
        return [self.int32() for _ in range(self.int32())]


def parse(reply: bytes) -> Metadata:
    """A reply without its length."""
    reader = _Reader(reply)
    reader.int32()  # Correlation id.
    brokers = set()
    for _ in range(reader.int32()):
        brokers.add(reader.int32())
        reader.text(), reader.int32(), reader.text()  # Host, port, rack.
    reader.int32()  # Controller.
    leaders: dict[tuple[str, int], int] = {}
    for _ in range(reader.int32()):
        reader.number(">h")  # Error.
        topic = reader.text()
        reader.number(">b")  # Internal.
        for _ in range(reader.int32()):
            reader.number(">h")  # Error.
            partition, leader = reader.int32(), reader.int32()
            reader.int32s(), reader.int32s()  # Replicas, those in sync.
            leaders[topic, partition] = leader
    return Metadata(frozenset(brokers), leaders)
