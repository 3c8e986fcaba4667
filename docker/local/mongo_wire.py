"""Just enough of MongoDB's wire protocol to ask one server one command, without a driver.

This runs before any package is installed, and a driver would hide which node answered.
"""

from __future__ import annotations

import itertools
import socket
import struct
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

_OP_MSG = 2013
_HEADER = struct.Struct("<iiii")
_requests = itertools.count(1)

_STRING, _DOCUMENT, _ARRAY, _BINARY, _BOOLEAN, _NULL, _INT32, _INT64 = 2, 3, 4, 5, 8, 10, 16, 18
_DOUBLE, _OBJECT_ID, _DATE, _TIMESTAMP = 1, 7, 9, 17
_FIXED = {_DOUBLE: "<d", _BOOLEAN: "<?", _DATE: "<q", _INT32: "<i", _TIMESTAMP: "<Q", _INT64: "<q"}


def run_command(
    host: str, port: int, command: Mapping[str, Any], timeout_s: float, database: str = "admin"
) -> dict[str, Any]:
    """The server's reply, also when it is a refusal (`ok` is 0 then); OSError when it gives none in time."""
    body = encode({**command, "$db": database})
    payload = struct.pack("<IB", 0, 0) + body
    head = _HEADER.pack(_HEADER.size + len(payload), next(_requests), 0, _OP_MSG)
    with socket.create_connection((host, port), timeout_s) as connection:
        connection.sendall(head + payload)
        size = _HEADER.unpack(_exactly(connection, _HEADER.size))[0]
        return decode(_exactly(connection, size - _HEADER.size)[5:])


def _exactly(connection: socket.socket, size: int) -> bytes:
    received = b""
    while len(received) < size:
        chunk = connection.recv(size - len(received))
        if not chunk:
            raise ConnectionError("the server closed the connection")
        received += chunk
    return received


def encode(document: Mapping[str, Any]) -> bytes:
    """BSON of text, whole and broken numbers, truth values, nothing, documents and lists."""
    body = b"".join(_element(name, value) for name, value in document.items())
    return struct.pack("<i", len(body) + 5) + body + b"\0"


def _element(name: str, value: object) -> bytes:
    key = name.encode() + b"\0"
    match value:
        case bool():
            return bytes([_BOOLEAN]) + key + struct.pack("<?", value)
        case int():
            return bytes([_INT64]) + key + struct.pack("<q", value)
        case float():
            return bytes([_DOUBLE]) + key + struct.pack("<d", value)
        case str():
            text = value.encode() + b"\0"
            return bytes([_STRING]) + key + struct.pack("<i", len(text)) + text
        case None:
            return bytes([_NULL]) + key
        case Mapping():
            return bytes([_DOCUMENT]) + key + encode(value)
        case Sequence():
            return bytes([_ARRAY]) + key + encode({str(index): one for index, one in enumerate(value)})
        case _:
            raise TypeError(f"no BSON for {type(value).__name__}")


def decode(data: bytes) -> dict[str, Any]:
    """The document that `data` begins with."""
    return dict(_elements(data))


def _elements(data: bytes) -> Iterator[tuple[str, Any]]:
    end = struct.unpack_from("<i", data)[0] - 1
    offset = 4
    while offset < end:
        kind = data[offset]
        stop = data.index(b"\0", offset + 1)
        name = data[offset + 1 : stop].decode()
        value, offset = _value(kind, data, stop + 1)
        yield name, value


def _value(kind: int, data: bytes, offset: int) -> tuple[Any, int]:
    if kind in _FIXED:
        return struct.unpack_from(_FIXED[kind], data, offset)[0], offset + struct.calcsize(_FIXED[kind])
    if kind == _NULL:
        return None, offset
    if kind == _OBJECT_ID:
        return data[offset : offset + 12], offset + 12
    size = struct.unpack_from("<i", data, offset)[0]
    if kind == _STRING:
        return data[offset + 4 : offset + 3 + size].decode(), offset + 4 + size
    if kind == _BINARY:
        return data[offset + 5 : offset + 5 + size], offset + 5 + size
    if kind in {_DOCUMENT, _ARRAY}:
        inner = decode(data[offset : offset + size])
        return (list(inner.values()) if kind == _ARRAY else inner), offset + size
    raise ValueError(f"BSON element of kind {kind}")
