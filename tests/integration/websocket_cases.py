"""Conformance cases of RFC 6455: framing, pings, reserved bits, opcodes, fragmentation, UTF-8, closing,
limits, misuse of lengths. Each is what a client sends and what must come back.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from gateways.socket.frames import BINARY, CLOSE, CONTINUATION, PING, PONG, TEXT
from tests.integration.websocket_harness import client_frame, close_payload

Frame = tuple[int, bytes]
MESSAGE_BYTES_MAX = 64 * 1024
GREETING = "Hello-µ@ßöäüàá-UTF-8!!".encode()
KAPPA = "κόσμε".encode()


@dataclass(frozen=True)
class Case:
    """`closes` is the code of the server's close frame, which ends its output; None: it stays open."""

    name: str
    sent: tuple[bytes, ...]
    answered: tuple[Frame, ...]
    closes: int | None = None


def text(payload: bytes, **options: object) -> bytes:
    return client_frame(TEXT, payload, **options)  # type: ignore[arg-type]


def more(payload: bytes = b"", *, fin: bool = False) -> bytes:
    return client_frame(CONTINUATION, payload, fin=fin)


def ping(payload: bytes = b"") -> bytes:
    return client_frame(PING, payload)


BYE = client_frame(CLOSE, close_payload(1000))


def framing() -> Iterator[Case]:
    for opcode, name in ((TEXT, "text"), (BINARY, "binary")):
        for size in (0, 1, 125, 126, 127, 128, 65535, 65536):
            payload = b"*" * size
            yield Case(f"1 {name} of {size}", (client_frame(opcode, payload),), ((opcode, payload),))
        yield Case(f"1 {name} of 65537", (client_frame(opcode, b"*" * 65537),), (), 1009)
    yield Case("1 two in one segment", (text(b"a") + text(b"b"),), ((TEXT, b"a"), (TEXT, b"b")))
    yield Case("1 zero mask", (text(b"abc", mask=bytes(4)),), ((TEXT, b"abc"),))


def pings() -> Iterator[Case]:
    for payload in (b"", b"Hello, world!", b"\x00\xff\xfe\xfd\xfc\xfb\x00\xff", b"\xfe" * 125):
        yield Case(f"2 ping of {len(payload)}", (ping(payload),), ((PONG, payload),))
    yield Case("2 ping of 126", (ping(b"\xfe" * 126),), (), 1002)
    yield Case("2 unsolicited pong", (client_frame(PONG, b"x"), ping(b"y")), ((PONG, b"y"),))
    many = tuple(ping(b"payload-%d" % number) for number in range(10))
    yield Case("2 ten pings", many, tuple((PONG, b"payload-%d" % number) for number in range(10)))
    yield Case(
        "2 ten pings in one segment", (b"".join(many),), tuple((PONG, b"payload-%d" % n) for n in range(10))
    )


def reserved_bits() -> Iterator[Case]:
    for bits in range(1, 8):
        yield Case(f"3 bits {bits} alone", (client_frame(TEXT, b"small", reserved=bits),), (), 1002)
        yield Case(
            f"3 bits {bits} after a message",
            (text(b"first"), client_frame(TEXT, b"small", reserved=bits), ping()),
            ((TEXT, b"first"),),
            1002,
        )
    for opcode in (BINARY, PING, PONG, CLOSE):
        yield Case(f"3 bits 4 on opcode {opcode}", (client_frame(opcode, reserved=4),), (), 1002)


def opcodes() -> Iterator[Case]:
    for opcode in (3, 4, 5, 6, 7, 11, 12, 13, 14, 15):
        yield Case(f"4 opcode {opcode} empty", (client_frame(opcode),), (), 1002)
        yield Case(f"4 opcode {opcode} with payload", (client_frame(opcode, b"reserved"),), (), 1002)
        sent = (text(b"Hello"), client_frame(opcode, b"x"), ping())
        yield Case(f"4 opcode {opcode} after a message", sent, ((TEXT, b"Hello"),), 1002)


def fragmentation() -> Iterator[Case]:
    for opcode, name in ((PING, "ping"), (PONG, "pong"), (CLOSE, "close")):
        yield Case(
            f"5 fragmented {name}", (client_frame(opcode, b"fr", fin=False), more(b"ag", fin=True)), (), 1002
        )
    first, last = text(b"frag1", fin=False), more(b"frag2", fin=True)
    whole = (TEXT, b"frag1frag2")
    yield Case("5 two fragments", (first, last), (whole,))
    yield Case("5 two fragments in one segment", (first + last,), (whole,))
    yield Case("5 ping between", (first, ping(b"p"), last), ((PONG, b"p"), whole))
    yield Case("5 ping between, one segment", (first + ping(b"p") + last,), ((PONG, b"p"), whole))
    yield Case(
        "5 binary fragments",
        (client_frame(BINARY, b"\xff", fin=False), more(b"\x00", fin=True)),
        ((2, b"\xff\0"),),
    )
    yield Case("5 continuation first, final", (more(b"x", fin=True), text(b"y")), (), 1002)
    yield Case("5 continuation first, not final", (more(b"x"), text(b"y")), (), 1002)
    yield Case("5 continuation after a message", (text(b"a"), more(b"x", fin=True)), ((TEXT, b"a"),), 1002)
    yield Case("5 text inside a message", (first, text(b"frag2")), (), 1002)
    yield Case("5 binary inside a message", (first, client_frame(BINARY, b"frag2")), (), 1002)
    yield Case("5 unfinished text inside a message", (first, text(b"x", fin=False)), (), 1002)
    five = (
        text(b"a", fin=False),
        more(b"b"),
        ping(b"1"),
        more(b"c"),
        more(b"d"),
        ping(b"2"),
        more(b"e", fin=True),
    )
    yield Case("5 pings among five fragments", five, ((PONG, b"1"), (PONG, b"2"), (TEXT, b"abcde")))
    yield Case("5 empty fragments", (text(b"", fin=False), more(), more(fin=True)), ((TEXT, b""),))
    yield Case("5 empty around full", (text(b"", fin=False), more(b"m"), more(fin=True)), ((TEXT, b"m"),))
    yield Case("5 close inside a message", (first, BYE), (), 1000)


VALID_TEXT = (
    GREETING,
    KAPPA,
    "\U00010000\U0010ffff".encode(),
    "\u0000\u0080\u07ff\u0800\uffff".encode(),
    "\ud7ff\ue000\ufffd".encode(),
    b"\xf4\x8f\xbf\xbf",
    b"\xef\xbf\xbe\xef\xbf\xbf",
    b"\xf0\x9f\xbf\xbe",
)
INVALID_TEXT = (
    KAPPA + b"\xed\xa0\x80" + b"edited",
    b"\xf4\x90\x80\x80",
    b"\x80",
    b"\xbf",
    b"\x80\xbf\x80\xbf\x80\xbf",
    bytes(range(0x80, 0xC0)),
    b" ".join(bytes((byte,)) for byte in range(0xC0, 0xE0)),
    b" ".join(bytes((byte,)) for byte in range(0xE0, 0xF0)),
    b"\xf5 \xf6 \xf7",
    b"\xf8\x88\x80\x80\x80",
    b"\xfc\x84\x80\x80\x80\x80",
    b"\xfe",
    b"\xff",
    b"\xfe\xfe\xff\xff",
    b"\xc0\xaf",
    b"\xe0\x80\xaf",
    b"\xf0\x80\x80\xaf",
    b"\xc1\xbf",
    b"\xe0\x9f\xbf",
    b"\xf0\x8f\xbf\xbf",
    b"\xc0\x80",
    b"\xed\xad\xbf",
    b"\xed\xae\x80",
    b"\xed\xbf\xbf",
    b"\xed\xa0\x80\xed\xb0\x80",
    b"\xed\xaf\xbf\xed\xbf\xbf",
)
CUT_TEXT = (b"\xc3", b"\xe2\x82", b"\xf0\x9f\x98", b"ab\xce")


def utf8() -> Iterator[Case]:
    for payload in VALID_TEXT:
        answer = ((TEXT, payload),)
        yield Case(f"6 valid {payload.hex()}", (text(payload),), answer)
        pieces = [payload[position : position + 1] for position in range(len(payload))]
        bytewise = (text(pieces[0], fin=False), *map(more, pieces[1:]), more(fin=True))
        yield Case(f"6 valid {payload.hex()} in fragments of one byte", bytewise, answer)
    for payload in INVALID_TEXT + CUT_TEXT:
        yield Case(f"6 invalid {payload.hex()}", (text(payload),), (), 1007)
        yield Case(
            f"6 invalid {payload.hex()} in the last fragment",
            (text(b"ok", fin=False), more(payload, fin=True)),
            (),
            1007,
        )
    for payload in INVALID_TEXT:
        yield Case(
            f"6 fails fast at a fragment {payload.hex()}",
            (text(KAPPA, fin=False), more(payload + b"  ")),
            (),
            1007,
        )
        unfinished = text(KAPPA + payload + b"  " + b"x" * 50)[:-20]
        yield Case(f"6 fails fast inside a frame {payload.hex()}", (unfinished,), (), 1007)
    split = (text(KAPPA[:3], fin=False), ping(b"between"), more(KAPPA[3:], fin=True))
    yield Case("6 a character across fragments and a ping", split, ((PONG, b"between"), (TEXT, KAPPA)))
    yield Case("6 binary need not be text", (client_frame(BINARY, b"\xff\xfe"),), ((BINARY, b"\xff\xfe"),))


def closing() -> Iterator[Case]:
    yield Case("7 message, then close", (text(b"Hello"), BYE), ((TEXT, b"Hello"),), 1000)
    yield Case("7 two closes", (BYE + BYE,), (), 1000)
    yield Case("7 ping after close", (BYE + ping(b"x"),), (), 1000)
    yield Case("7 text after close", (BYE + text(b"x"),), (), 1000)
    yield Case(
        "7 rest of a message after close", (text(b"f", fin=False), BYE + more(b"x", fin=True)), (), 1000
    )
    yield Case("7 garbage after close", (BYE + b"\xff" * 2000,), (), 1000)
    yield Case("7 large message, then close", (text(b"*" * 65536) + BYE,), ((TEXT, b"*" * 65536),), 1000)
    yield Case("7 close without a code", (client_frame(CLOSE),), (), 1005)
    yield Case("7 close of one byte", (client_frame(CLOSE, b"a"),), (), 1002)
    yield Case("7 close with a reason", (client_frame(CLOSE, close_payload(1000, b"Hello")),), (), 1000)
    yield Case("7 reason of 123 bytes", (client_frame(CLOSE, close_payload(1000, b"*" * 123)),), (), 1000)
    yield Case("7 reason of 124 bytes", (client_frame(CLOSE, close_payload(1000, b"*" * 124)),), (), 1002)
    yield Case(
        "7 reason that is not UTF-8", (client_frame(CLOSE, close_payload(1000, INVALID_TEXT[0])),), (), 1007
    )
    for code in (
        1000,
        1001,
        1002,
        1003,
        1007,
        1008,
        1009,
        1010,
        1011,
        1012,
        1013,
        1014,
        3000,
        3999,
        4000,
        4999,
    ):
        yield Case(f"7 code {code}", (client_frame(CLOSE, close_payload(code)),), (), code)
    for code in (0, 999, 1004, 1005, 1006, 1015, 1016, 1100, 2000, 2999, 5000, 65535):
        yield Case(f"7 code {code} not allowed", (client_frame(CLOSE, close_payload(code)),), (), 1002)


def limits() -> Iterator[Case]:
    for fragment in (64, 256, 1024, 4096, 16384):
        for opcode in (TEXT, BINARY):
            count = MESSAGE_BYTES_MAX // fragment
            body = b"x" * fragment
            middle = (more(body),) * (count - 2)
            sent = (client_frame(opcode, body, fin=False), *middle, more(body, fin=True))
            yield Case(
                f"9 opcode {opcode} in fragments of {fragment}", (b"".join(sent),), ((opcode, body * count),)
            )
            over = (client_frame(opcode, body, fin=False), *middle, more(body), more(b"x", fin=True))
            yield Case(
                f"9 opcode {opcode} over the limit in fragments of {fragment}", (b"".join(over),), (), 1009
            )
    burst = b"".join(text(b"message %d" % number) for number in range(500))
    yield Case(
        "9 many messages at once", (burst,), tuple((TEXT, b"message %d" % number) for number in range(500))
    )
    huge = b"\x81\xff" + (1 << 40).to_bytes(8, "big") + bytes(4)
    yield Case("9 a terabyte announced", (huge,), (), 1009)
    chopped = text(b"y" * 65536)
    yield Case(
        "9 chopped", tuple(chopped[i : i + 997] for i in range(0, len(chopped), 997)), ((TEXT, b"y" * 65536),)
    )


def misuse() -> Iterator[Case]:
    yield Case(
        "10 payload in 1300 byte segments",
        tuple(text(b"*" * 60000)[i : i + 1300] for i in range(0, 60014, 1300)),
        ((TEXT, b"*" * 60000),),
    )
    for opcode in (TEXT, BINARY, PING, CLOSE, CONTINUATION):
        yield Case(f"11 opcode {opcode} without a mask", (client_frame(opcode, b"", mask=None),), (), 1002)
    yield Case("11 message without a mask", (text(b"ok"), text(b"bare", mask=None)), ((TEXT, b"ok"),), 1002)
    yield Case("11 length 5 in two bytes", (b"\x81\xfe\x00\x05" + bytes(4) + b"12345",), (), 1002)
    yield Case(
        "11 length 5 in eight bytes", (b"\x81\xff" + bytes(7) + b"\x05" + bytes(4) + b"12345",), (), 1002
    )
    yield Case("11 length 65535 in eight bytes", (b"\x81\xff" + bytes(6) + b"\xff\xff" + bytes(4),), (), 1002)
    yield Case("11 length with the top bit", (b"\x81\xff" + b"\x80" + bytes(7) + bytes(4),), (), 1002)
    yield Case("11 long ping in two bytes", (b"\x89\xfe\x00\x7e" + bytes(4) + b"1" * 126,), (), 1002)
    yield Case("11 HTTP instead of frames", (b"GET / HTTP/1.1\r\nHost: x\r\n\r\n",), (), 1002)


CASES = (
    *framing(),
    *pings(),
    *reserved_bits(),
    *opcodes(),
    *fragmentation(),
    *utf8(),
    *closing(),
    *limits(),
    *misuse(),
)
