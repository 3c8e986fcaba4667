"""The client's end of a WebSocket: handshake by `websockets`, frames by hand.

The handshake is the library's sans-io core. The frames after it are read and written here, because the load
generator lives on one core: measured 9.5 us to receive and 5.1 us to send a frame of 250 bytes through the
library's core, 1.6 us and 2.6 us here. No extension is offered, so no frame is ever compressed.
"""

from __future__ import annotations

import asyncio
import os
import ssl
from collections.abc import Callable
from typing import cast
from urllib.parse import urlsplit

from typing_extensions import override
from websockets.client import ClientProtocol
from websockets.frames import Opcode
from websockets.protocol import State
from websockets.typing import Subprotocol
from websockets.uri import parse_uri

try:
    from websockets.speedups import apply_mask
except ImportError:  # a platform without the compiled extension
    from websockets.utils import apply_mask

from client.problem import ConnectionLostError

SUBPROTOCOL = "minutebook.v1.json"
HEAD_BYTES_MAX = 64 * 1024
MESSAGE_BYTES_MAX = 16 * 1024 * 1024
WRITE_BUFFER_BYTES_MAX = 256 * 1024
NO_CLOSE_FRAME = 1006


class WebSocket(asyncio.Protocol):
    """One connection. `on_text` gets each whole message in order, `on_closed` once the close code and reason.

    Frames sent in one turn of the loop leave in one write. Pings are answered here.
    """

    def __init__(
        self, url: str, on_text: Callable[[bytes], None], on_closed: Callable[[int, str], None]
    ) -> None:
        self._on_text = on_text
        self._on_closed = on_closed
        self._handshake: ClientProtocol | None = ClientProtocol(
            parse_uri(url), subprotocols=[Subprotocol(SUBPROTOCOL)], max_size=None
        )
        loop = asyncio.get_running_loop()
        self._loop = loop
        self.opened: asyncio.Future[None] = loop.create_future()
        self._transport: asyncio.Transport | None = None
        self._buffer = bytearray()
        self._parts: list[bytes] = []
        self._parts_bytes = 0
        self._out: list[bytes] = []
        self._writable = asyncio.Event()
        self._writable.set()
        self._close: tuple[int, str] | None = None
        self._ended = False

    # asyncio.Protocol

    @override
    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert self._handshake is not None
        self._transport = cast(asyncio.Transport, transport)  # uvloop's is one, but not by class
        self._transport.set_write_buffer_limits(high=WRITE_BUFFER_BYTES_MAX)
        self._handshake.send_request(self._handshake.connect())
        self._transport.write(b"".join(self._handshake.data_to_send()))

    @override
    def data_received(self, data: bytes) -> None:
        self._buffer += data
        if self._handshake is not None:
            self._read_handshake(self._handshake)
        if self._handshake is None and self._buffer:
            self._read_frames()

    @override
    def pause_writing(self) -> None:
        self._writable.clear()

    @override
    def resume_writing(self) -> None:
        self._writable.set()

    @override
    def connection_lost(self, exc: Exception | None) -> None:
        code, reason = self._close or (NO_CLOSE_FRAME, str(exc) if exc else "no close frame")
        self._end(code, reason)

    # sending

    @property
    def is_open(self) -> bool:
        """True between the handshake and the end."""
        return self._handshake is None and not self._ended and self._close is None

    async def writable(self) -> None:
        """Returns when the write buffer is below its bound, at once mostly.

        Also when the connection is lost.
        """
        await self._writable.wait()

    def send_text(self, payload: bytes) -> None:
        """Queues one text frame; ConnectionLostError if the connection has ended."""
        if not self.is_open:
            raise ConnectionLostError("socket is closed", NO_CLOSE_FRAME)
        self._send_frame(0x81, payload)

    def close(self, code: int = 1000, reason: str = "") -> None:
        """Sends a close frame and closes when it is written; `on_closed` follows."""
        if self._transport is None or self._ended or self._close is not None:
            return
        self._close = (code, reason)
        if self._handshake is None:
            self._send_frame(0x88, code.to_bytes(2, "big") + reason.encode()[:120])
            self._flush()
        self._transport.close()

    def abort(self) -> None:
        """Cuts the connection without a close frame."""
        if self._transport is not None:
            self._transport.abort()

    def _send_frame(self, first_byte: int, payload: bytes) -> None:
        size = len(payload)
        if size < 126:
            head = bytes((first_byte, 0x80 | size))
        elif size < 65536:
            head = bytes((first_byte, 0xFE)) + size.to_bytes(2, "big")
        else:
            head = bytes((first_byte, 0xFF)) + size.to_bytes(8, "big")
        mask = os.urandom(4)
        if not self._out:
            self._loop.call_soon(self._flush)
        self._out += (head, mask, apply_mask(payload, mask))

    def _flush(self) -> None:
        if self._out and self._transport is not None and not self._transport.is_closing():
            self._transport.write(b"".join(self._out))
        self._out.clear()

    # receiving

    def _read_handshake(self, handshake: ClientProtocol) -> None:
        end = self._buffer.find(b"\r\n\r\n")
        if end < 0:
            if len(self._buffer) > HEAD_BYTES_MAX:
                self._fail(NO_CLOSE_FRAME, "handshake answer too long")
            return
        head = bytes(self._buffer[: end + 4])
        del self._buffer[: end + 4]
        status = head.partition(b"\r\n")[0].decode("latin-1")
        if " 101" not in status:  # the library would wait for the body; its status line is all that matters
            self._fail(NO_CLOSE_FRAME, f"handshake refused: {status}")
            return
        handshake.receive_data(head)
        if handshake.state is not State.OPEN:
            self._fail(NO_CLOSE_FRAME, f"handshake refused: {handshake.handshake_exc}")
            return
        self._handshake = None
        if not self.opened.done():
            self.opened.set_result(None)

    def _read_frames(self) -> None:
        buffer = self._buffer
        available = len(buffer)
        start = 0
        while available - start >= 2 and not self._ended:
            first, size = buffer[start], buffer[start + 1]
            body = start + 2
            if size > 127:
                self._fail(1002, "masked frame from the server")
                return
            if size > 125:
                body = start + (4 if size == 126 else 10)
                if available < body:
                    break
                size = int.from_bytes(buffer[start + 2 : body], "big")
                if size + self._parts_bytes > MESSAGE_BYTES_MAX:
                    self._fail(1009, "message too large")
                    return
            if available < body + size:
                break
            start = body + size
            self._frame(first, bytes(buffer[body:start]))
        del buffer[:start]

    def _frame(self, first: int, payload: bytes) -> None:
        if first == 0x81 and not self._parts:
            self._on_text(payload)
            return
        opcode = first & 0x0F
        if opcode == Opcode.PING:
            if self.is_open:
                self._send_frame(0x8A, payload)
        elif opcode == Opcode.CLOSE:
            self._closed_by_peer(payload)
        elif opcode in {Opcode.TEXT, Opcode.CONT}:
            if (opcode == Opcode.CONT) is not bool(self._parts):
                self._fail(1002, "fragments out of order")
                return
            self._parts.append(payload)
            self._parts_bytes += (
                len(payload) + 1
            )  # empty fragments count too: they are bounded like the others
            if self._parts_bytes > MESSAGE_BYTES_MAX:
                self._fail(1009, "message too large")
                return
            if first & 0x80:
                whole = b"".join(self._parts)
                self._parts.clear()
                self._parts_bytes = 0
                self._on_text(whole)
        elif opcode != Opcode.PONG:
            self._fail(1003, "unexpected frame")

    def _closed_by_peer(self, payload: bytes) -> None:
        code = int.from_bytes(payload[:2], "big") if len(payload) >= 2 else 1005
        reason = payload[2:].decode("utf-8", "replace")
        if self._close is None:
            self._send_frame(0x88, payload[:2])
            self._flush()
            self._close = (code, reason)
        if self._transport is not None:
            self._transport.close()
        self._end(*self._close)

    def _fail(self, code: int, reason: str) -> None:
        self._end(code, reason)
        self.abort()

    def _end(self, code: int, reason: str) -> None:
        if self._ended:
            return
        self._ended = True
        self._writable.set()
        if not self.opened.done():
            self.opened.set_exception(ConnectionLostError(reason, code))
        else:
            self._on_closed(code, reason)


async def open_websocket(
    url: str, on_text: Callable[[bytes], None], on_closed: Callable[[int, str], None]
) -> WebSocket:
    """Connects and shakes hands. ConnectionError if refused; cancellation closes the connection."""
    parts = urlsplit(url)
    tls = ssl.create_default_context() if parts.scheme == "wss" else None
    port = parts.port or (443 if tls else 80)
    loop = asyncio.get_running_loop()
    transport, socket = await loop.create_connection(
        lambda: WebSocket(url, on_text, on_closed), parts.hostname or "127.0.0.1", port, ssl=tls
    )
    try:
        await socket.opened
    except BaseException:
        transport.abort()
        raise
    return socket
