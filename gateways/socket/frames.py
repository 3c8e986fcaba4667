"""RFC 6455 frames, server side: a strict incremental reader and the encoders; no I/O, no extensions.

One reader per connection holds only the bytes of an unfinished frame or message: an idle one is 96 bytes.
"""

from __future__ import annotations

import codecs
from enum import IntEnum
from typing import Final, Protocol

try:
    from websockets.speedups import apply_mask
except ImportError:  # no compiled wheel for this platform
    from websockets.utils import apply_mask

CONTINUATION: Final = 0x0
TEXT: Final = 0x1
BINARY: Final = 0x2
CLOSE: Final = 0x8
PING: Final = 0x9
PONG: Final = 0xA

FINAL_BIT: Final = 0x80
RESERVED_BITS: Final = 0x70
MASK_BIT: Final = 0x80
FINAL_TEXT: Final = FINAL_BIT | TEXT
MASK_BYTES: Final = 4
CONTROL_PAYLOAD_BYTES_MAX: Final = 125
CLOSE_REASON_BYTES_MAX: Final = CONTROL_PAYLOAD_BYTES_MAX - 2
HEADER_BYTES_MAX: Final = 14

PING_FRAME: Final = bytes((FINAL_BIT | PING, 0))


class CloseCode(IntEnum):
    """The close codes this server sends; 44xx are the wire contract's own."""

    NORMAL = 1000
    GOING_AWAY = 1001
    PROTOCOL_ERROR = 1002
    NO_STATUS = 1005
    INVALID_DATA = 1007
    TOO_BIG = 1009
    INTERNAL_ERROR = 1011
    SERVICE_RESTART = 1012
    SLOW_READER = 4408
    SILENT = 4410
    TOO_MANY_FRAMES = 4429


# What a peer may say (RFC 6455 7.4 and the IANA registry): the rest below 3000 is reserved.
_PEER_CLOSE_CODES: Final = frozenset((*range(1000, 1004), *range(1007, 1015)))


class ProtocolViolation(Exception):
    """The byte stream broke a rule; `code` and `reason` are what the close frame says."""

    def __init__(self, code: int, reason: str) -> None:
        super().__init__(code, reason)
        self.code = code
        self.reason = reason


class FrameSink(Protocol):
    """What a reader calls, in stream order. `accepts_frames` false stops it after the current frame."""

    accepts_frames: bool

    def on_text(self, payload: bytes) -> None: ...

    def on_binary(self, payload: bytes) -> None: ...

    def on_ping(self, payload: bytes) -> None: ...

    def on_pong(self) -> None: ...

    def on_close(self, code: int) -> None: ...


class EncodingCounter:
    """Counts encoded text frames, so that a test can prove one encoding per event."""

    __slots__ = ("frames",)

    def __init__(self) -> None:
        self.frames = 0


TEXT_FRAMES_ENCODED: Final = EncodingCounter()


def encode_text_frame(payload: bytes, counter: EncodingCounter = TEXT_FRAMES_ENCODED) -> bytes:
    """One final, unmasked text frame: header and payload in one bytes object, for any number of sockets.

    `payload` must be UTF-8; that is the caller's promise and not checked again.
    """
    counter.frames += 1
    return encode_frame(TEXT, payload)


def encode_frame(opcode: int, payload: bytes) -> bytes:
    """One final, unmasked frame of any opcode, with the shortest length field."""
    size = len(payload)
    first = FINAL_BIT | opcode
    if size <= CONTROL_PAYLOAD_BYTES_MAX:
        return bytes((first, size)) + payload
    if size <= 0xFFFF:
        return bytes((first, 126, size >> 8, size & 0xFF)) + payload
    return bytes((first, 127)) + size.to_bytes(8, "big") + payload


def text_of(frame: bytes) -> bytes:
    """The payload of a frame that `encode_text_frame` made."""
    size = frame[1]
    return frame[2:] if size <= CONTROL_PAYLOAD_BYTES_MAX else frame[4:] if size == 126 else frame[10:]


def encode_close_frame(code: int, reason: str = "") -> bytes:
    """A close frame; a reason over 123 bytes of UTF-8 is cut at a character. 1005 means no code at all."""
    if code == CloseCode.NO_STATUS:
        return encode_frame(CLOSE, b"")
    cut = reason.encode()[:CLOSE_REASON_BYTES_MAX].decode("utf-8", "ignore")
    return encode_frame(CLOSE, code.to_bytes(2, "big") + cut.encode())


class FrameReader:
    """Turns received bytes into calls on a sink; how the bytes were split never changes the calls.

    Raises ProtocolViolation at the first byte that makes the stream invalid (text is checked as it arrives,
    so bad UTF-8 fails before its frame is complete). After a violation or a close frame every further byte
    is ignored.
    """

    __slots__ = ("_buffer", "_decoder", "_ended", "_message", "_opcode", "_partial_checked", "_wanted")

    def __init__(self) -> None:
        self._buffer: bytearray | None = None  # an unfinished frame, or whole frames not taken yet
        self._wanted = 0  # no frame can be complete before the buffer holds so many bytes
        self._message: bytearray | None = None  # payload of an unfinished fragmented message
        self._opcode = CONTINUATION  # of that message
        self._decoder: codecs.IncrementalDecoder | None = None  # of unfinished text
        self._partial_checked = 0  # payload bytes of the unfinished frame that the decoder has seen
        self._ended = False

    @property
    def buffered_bytes(self) -> int:
        """Bytes held: of an unfinished frame, of frames not taken yet, of an unfinished message."""
        return len(self._buffer or b"") + len(self._message or b"")

    def feed(self, data: bytes, sink: FrameSink, message_bytes_max: int, frames_max: int) -> bool:
        """Take `data`, deliver at most `frames_max` frames; True if a whole frame may be left.

        What is left is taken by a later call with b"". Memory: at most what was fed without being delivered.
        """
        if self._buffer is None and self._message is None and frames_max > 0 and sink.accepts_frames:
            text = self._sole_text(data, message_bytes_max)
            if text is not None:
                sink.on_text(text)
                return False
        if self._ended:
            return False
        buffer: bytes | bytearray = data
        if self._buffer is not None:
            buffer = self._buffer
            buffer += data
        try:
            position, more = self._take_frames(buffer, sink, message_bytes_max, frames_max)
        except ProtocolViolation:
            self._end()
            raise
        if position == len(buffer):
            self._buffer = None
        elif isinstance(buffer, bytearray):
            del buffer[:position]
        else:
            self._buffer = bytearray(buffer[position:])
        return more

    def _sole_text(self, data: bytes, message_bytes_max: int) -> bytes | None:
        """The payload if `data` is exactly one sound whole text frame, as nearly always; else None.

        Only a shortcut: it more than halves the reader's time; what it does not take is judged elsewhere.
        """
        if len(data) < 2 + MASK_BYTES or data[0] != FINAL_TEXT or self._ended:
            return None
        size = data[1] - MASK_BIT
        start = 2 + MASK_BYTES
        if size == 126:
            size = data[2] << 8 | data[3]
            start = 4 + MASK_BYTES
            if size <= CONTROL_PAYLOAD_BYTES_MAX:
                return None
        elif size == 127:
            return None
        if len(data) != start + size or size > message_bytes_max:
            return None
        payload = apply_mask(data[start:], data[start - MASK_BYTES : start])
        if not payload.isascii():
            try:
                payload.decode()
            except UnicodeDecodeError:
                return None
        return payload

    def _end(self) -> None:
        self._ended = True
        self._buffer = self._message = self._decoder = None

    def _take_frames(
        self, buffer: bytes | bytearray, sink: FrameSink, message_bytes_max: int, frames_max: int
    ) -> tuple[int, bool]:
        """Deliver whole frames from the front; where the rest starts, and whether to call again."""
        position = 0
        available = len(buffer)
        while available - position >= 2:
            if self._wanted > available - position:
                self._check_partial_text(buffer, position)
                return position, False
            first = buffer[position]
            size = buffer[position + 1] - MASK_BIT
            start = position + 2
            if first == FINAL_TEXT and 0 <= size <= CONTROL_PAYLOAD_BYTES_MAX and self._message is None:
                pass  # the common frame, already known to be sound: small whole text
            else:
                self._check_header(first, buffer[position + 1])
                if size > CONTROL_PAYLOAD_BYTES_MAX:
                    width = 2 if size == 126 else 8
                    if available - start < width:
                        return position, False
                    size = _long_size(buffer, start, width)
                    start += width
                if not first & CLOSE and size + len(self._message or b"") > message_bytes_max:
                    raise ProtocolViolation(CloseCode.TOO_BIG, f"message over {message_bytes_max} bytes")
            start += MASK_BYTES
            end = start + size
            if end > available:
                self._wanted = end - position
                self._check_partial_text(buffer, position)
                return position, False
            if frames_max <= 0 or not sink.accepts_frames:
                self._wanted = 0
                return position, True
            frames_max -= 1
            payload = apply_mask(buffer[start:end], buffer[start - MASK_BYTES : start])
            position = end
            self._wanted = 0
            self._deliver(first, payload, sink)
            if self._ended:
                return available, False
        return position, False

    def _check_header(self, first: int, second: int) -> None:
        """Every rule that the first two bytes can break."""
        if first & RESERVED_BITS:
            raise ProtocolViolation(CloseCode.PROTOCOL_ERROR, "reserved bits set without an extension")
        opcode = first & 0x0F
        if opcode >= CLOSE:
            if opcode > PONG:
                raise ProtocolViolation(CloseCode.PROTOCOL_ERROR, "unknown opcode")
            if not first & FINAL_BIT:
                raise ProtocolViolation(CloseCode.PROTOCOL_ERROR, "fragmented control frame")
            if second & 0x7F > CONTROL_PAYLOAD_BYTES_MAX:
                raise ProtocolViolation(CloseCode.PROTOCOL_ERROR, "control frame over 125 bytes")
        elif opcode > BINARY:
            raise ProtocolViolation(CloseCode.PROTOCOL_ERROR, "unknown opcode")
        elif opcode == CONTINUATION:
            if self._message is None:
                raise ProtocolViolation(CloseCode.PROTOCOL_ERROR, "continuation without a message")
        elif self._message is not None:
            raise ProtocolViolation(CloseCode.PROTOCOL_ERROR, "new message inside a fragmented one")
        if not second & MASK_BIT:
            raise ProtocolViolation(CloseCode.PROTOCOL_ERROR, "client frame without a mask")

    def _deliver(self, first: int, payload: bytes, sink: FrameSink) -> None:
        if first == FINAL_TEXT:
            if not payload.isascii():
                self._decode(payload[self._partial_checked :], final=True)
            self._decoder = None
            self._partial_checked = 0
            sink.on_text(payload)
        elif first & CLOSE:
            self._deliver_control(first & 0x0F, payload, sink)
        else:
            self._deliver_fragment(first, payload, sink)

    def _deliver_control(self, opcode: int, payload: bytes, sink: FrameSink) -> None:
        if opcode == PING:
            sink.on_ping(payload)
        elif opcode == PONG:
            sink.on_pong()
        else:
            code = _close_code(payload)
            self._end()
            sink.on_close(code)

    def _deliver_fragment(self, first: int, payload: bytes, sink: FrameSink) -> None:
        """A frame of a fragmented message, or a whole binary one."""
        final = bool(first & FINAL_BIT)
        opcode = first & 0x0F or self._opcode
        if opcode == TEXT:
            self._decode(payload[self._partial_checked :], final=final)
            self._partial_checked = 0
        if self._message is not None:
            self._message += payload
        elif not final:
            self._message = bytearray(payload)
            self._opcode = opcode
        if not final:
            return
        whole = payload if self._message is None else bytes(self._message)
        self._message = self._decoder = None
        self._opcode = CONTINUATION
        if opcode == TEXT:
            sink.on_text(whole)
        else:
            sink.on_binary(whole)

    def _decode(self, data: bytes, *, final: bool) -> None:
        """Check the next bytes of a text message; raises as soon as no continuation could make them valid."""
        if self._decoder is None:
            self._decoder = codecs.getincrementaldecoder("utf-8")()
        try:
            self._decoder.decode(data, final)
        except UnicodeDecodeError:
            raise ProtocolViolation(CloseCode.INVALID_DATA, "text is not UTF-8") from None

    def _check_partial_text(self, buffer: bytes | bytearray, position: int) -> None:
        """Check what has arrived of an unfinished text frame, each byte once."""
        first = buffer[position]
        if first & CLOSE or (first & 0x0F or self._opcode) != TEXT:
            return
        size = buffer[position + 1] & 0x7F
        start = position + 2 + MASK_BYTES + (0 if size < 126 else 2 if size == 126 else 8)
        fresh = start + self._partial_checked
        if fresh >= len(buffer):
            return
        mask = buffer[start - MASK_BYTES : start]
        turn = self._partial_checked % MASK_BYTES
        data = apply_mask(buffer[fresh:], mask[turn:] + mask[:turn])
        self._partial_checked += len(data)
        self._decode(data, final=False)


def _long_size(buffer: bytes | bytearray, start: int, width: int) -> int:
    """The extended length; RFC 6455 5.2 demands the shortest form and a clear top bit."""
    size = int.from_bytes(buffer[start : start + width], "big")
    if size < (126 if width == 2 else 0x1_0000) or size >> 63:
        raise ProtocolViolation(CloseCode.PROTOCOL_ERROR, "length not in its shortest form")
    return size


def _close_code(payload: bytes) -> int:
    """The code of a peer's close frame, 1005 if it has none; the reason only has to be UTF-8."""
    if not payload:
        return CloseCode.NO_STATUS
    if len(payload) == 1:
        raise ProtocolViolation(CloseCode.PROTOCOL_ERROR, "close frame of one byte")
    code = int.from_bytes(payload[:2], "big")
    if code not in _PEER_CLOSE_CODES and not 3000 <= code <= 4999:
        raise ProtocolViolation(CloseCode.PROTOCOL_ERROR, "close code not allowed")
    try:
        payload[2:].decode()
    except UnicodeDecodeError:
        raise ProtocolViolation(CloseCode.INVALID_DATA, "close reason is not UTF-8") from None
    return code
