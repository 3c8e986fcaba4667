"""The WebSocket layer's own rules, without a server: writes, bounds, heartbeat, any split, any garbage."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from typing_extensions import override

from gateways.socket.frames import CLOSE, PING, PONG, TEXT, encode_text_frame
from gateways.socket.port import SocketLimits
from gateways.socket.websocket import WebSocket
from tests.integration.websocket_harness import (
    SAMPLE_UPGRADE,
    Bench,
    Recorder,
    RecordingTransport,
    client_frame,
    close_code_of,
    close_payload,
    split_server_frames,
)

FRAME = encode_text_frame(b"event")
HELLO = client_frame(TEXT, b"hello")
BYE = client_frame(CLOSE, close_payload(1000))


def is_open(connection: WebSocket) -> bool:
    """Asked afresh each time, where a type checker would take the property for a constant."""
    return connection.is_open


def close_of(transport: RecordingTransport) -> int | None:
    return close_code_of(split_server_frames(b"".join(transport.writes)))


def test_frames_of_one_turn_leave_in_one_write() -> None:
    bench = Bench()
    connection, transport, _ = bench.opened()
    for _ in range(7):
        connection.send_frame(FRAME)
    assert transport.writes == []
    bench.turn()
    assert transport.writes == [FRAME * 7]
    connection.send_frame(FRAME)
    connection.close(4401, "bad token")
    bench.turn()
    assert transport.writes[1:] == [FRAME + b"\x88\x0b" + close_payload(4401, b"bad token")]


def test_a_lone_frame_is_written_without_a_copy() -> None:
    bench = Bench()
    written: list[bytes] = []
    for _ in range(3):
        connection, transport, _ = bench.opened()
        transport.write = written.append  # type: ignore[assignment]
        connection.send_frame(FRAME)
    bench.turn()
    assert all(data is FRAME for data in written)
    assert len(written) == 3


def test_all_sockets_of_a_turn_share_one_callback() -> None:
    bench = Bench()
    opened = [bench.opened() for _ in range(50)]
    for connection, _, _ in opened:
        connection.send_frame(FRAME)
        connection.send_frame(FRAME)
    assert len(bench.scheduled) == 1
    bench.turn()
    assert all(transport.writes == [FRAME * 2] for _, transport, _ in opened)


def test_one_sockets_broken_transport_costs_the_others_nothing(caplog: pytest.LogCaptureFixture) -> None:
    bench = Bench()
    opened = [bench.opened() for _ in range(3)]
    for connection, _, _ in opened:
        connection.send_frame(FRAME)
    opened[1][1].ended = True  # writing to it raises
    bench.turn()
    assert [transport.writes for _, transport, _ in opened] == [[FRAME], [], [FRAME]]
    assert opened[1][1].was_aborted()
    assert "socket turn failed: AssertionError" in caplog.text


def test_a_lagging_peer_is_cut_at_the_bound_of_frames() -> None:
    bench = Bench(limits=SocketLimits(unsent_frames_max=10))
    connection, transport, handler = bench.opened()
    transport.reads_at_once = False
    for _ in range(10):
        connection.send_frame(FRAME)
        bench.turn()
    assert is_open(connection)
    connection.send_frame(FRAME)
    bench.turn()
    assert not is_open(connection)
    assert close_of(transport) == 4408
    assert b"".join(transport.writes).count(FRAME) == 10
    assert handler.calls == [("opened", b""), ("closed", b"")]


def test_a_peer_that_lags_but_keeps_reading_is_not_cut() -> None:
    bench = Bench(limits=SocketLimits(unsent_frames_max=10))
    connection, transport, _ = bench.opened()
    transport.reads_at_once = False
    for _ in range(500):
        connection.send_frame(FRAME)
        connection.send_frame(FRAME)
        bench.turn()
        transport.unread = min(transport.unread, 8 * len(FRAME))
    assert is_open(connection)


def test_a_lagging_peer_is_cut_at_the_bound_of_bytes() -> None:
    bench = Bench(limits=SocketLimits(unsent_bytes_max=10 * len(FRAME)))
    connection, transport, _ = bench.opened()
    transport.reads_at_once = False
    for _ in range(10):
        connection.send_frame(FRAME)
        bench.turn()
    assert connection.unsent_bytes == 10 * len(FRAME)
    connection.send_frame(FRAME)
    bench.turn()
    assert close_of(transport) == 4408


@pytest.mark.parametrize("limits", [SocketLimits(unsent_frames_max=10), SocketLimits(unsent_bytes_max=70)])
def test_too_much_in_one_turn_is_cut_before_it_piles_up(limits: SocketLimits) -> None:
    bench = Bench(limits=limits)
    connection, transport, _ = bench.opened()
    for _ in range(1000):
        connection.send_frame(FRAME)
    assert not is_open(connection)
    assert connection.unsent_bytes <= 70
    bench.turn()
    assert split_server_frames(b"".join(transport.writes)) == [(CLOSE, close_payload(4408, b"slow reader"))]


def test_closed_is_told_once_and_never_from_inside_a_call() -> None:
    bench = Bench(limits=SocketLimits(unsent_frames_max=1))
    opened = [bench.opened() for _ in range(4)]
    for connection, transport, _ in opened:
        transport.reads_at_once = False
        connection.send_frame(FRAME)
        connection.send_frame(FRAME)
    opened[0][0].close(4401, "again")
    assert all(handler.calls == [("opened", b"")] for _, _, handler in opened)
    bench.turn()
    for connection, _, handler in opened:
        assert handler.calls == [("opened", b""), ("closed", b"")]
        connection.connection_lost(None)
        assert handler.calls == [("opened", b""), ("closed", b"")]
    assert not list(bench.protocol.hub.sockets())


def test_a_closing_peer_that_does_not_answer_is_reset_after_close_s() -> None:
    bench = Bench(limits=SocketLimits(close_s=5))
    connection, transport, _ = bench.opened()
    transport.reads_at_once = False
    connection.close(4401, "bad token")
    bench.turn()
    for _ in range(5):
        bench.sweeper.tick()
        assert not transport.was_aborted()
    bench.sweeper.tick()
    assert transport.was_aborted()


def test_the_answer_to_our_close_ends_the_output() -> None:
    bench = Bench()
    connection, transport, handler = bench.opened()
    connection.close(4403, "session ended")
    bench.turn()
    connection.data_received(HELLO)  # crossed ours on the way
    assert not transport.has_ended()
    connection.data_received(client_frame(CLOSE, close_payload(4403)))
    bench.turn()
    assert transport.has_ended()
    assert close_of(transport) == 4403
    assert ("text", b"hello") not in handler.calls
    connection.data_received(b"\xff" * 100)
    connection.send_frame(FRAME)
    bench.turn()
    assert close_of(transport) == 4403


def test_the_heartbeat_pings_and_any_byte_counts_as_life() -> None:
    bench = Bench(limits=SocketLimits(heartbeat_s=30, silence_s=75))
    connection, transport, _ = bench.opened()
    for second in range(1, 301):
        bench.sweeper.tick()
        bench.turn()
        if second % 74 == 0:
            connection.data_received(HELLO[:1] if second % 148 else HELLO[1:])
        assert (
            len([f for f in split_server_frames(b"".join(transport.writes)) if f[0] == PING]) == second // 30
        )
    assert is_open(connection)


def test_a_silent_peer_is_closed_in_the_seventy_fifth_second() -> None:
    bench = Bench(limits=SocketLimits(heartbeat_s=30, silence_s=75))
    connection, transport, handler = bench.opened()
    for _ in range(74):
        bench.sweeper.tick()
        bench.turn()
    assert is_open(connection)
    bench.sweeper.tick()
    bench.turn()
    assert close_of(transport) == 4410
    assert handler.calls[-1] == ("closed", b"")


def test_a_flood_of_control_frames_is_a_violation() -> None:
    bench = Bench(limits=SocketLimits(control_frames_per_tick_max=5))
    connection, transport, _ = bench.opened()
    for _ in range(3):
        connection.data_received(client_frame(PING, b"p") * 3 + client_frame(PONG) * 2)
        bench.turn()
        bench.sweeper.tick()
    assert is_open(connection)
    connection.data_received(client_frame(PING, b"p") * 60)
    bench.turn()
    frames = split_server_frames(b"".join(transport.writes))
    assert close_code_of(frames) == 4429
    assert frames.count((PONG, b"p")) == 9 + 5


def test_a_flood_of_messages_is_read_in_portions_in_order() -> None:
    bench = Bench(limits=SocketLimits(frames_per_turn_max=64))
    connection, transport, handler = bench.opened()
    handler.echoes = False
    connection.data_received(b"".join(client_frame(TEXT, b"%d" % number) for number in range(200)))
    assert len(handler.calls) == 1 + 64
    assert not transport.is_reading()
    bench.turn()
    assert transport.is_reading()
    assert handler.calls[1:] == [("text", b"%d" % number) for number in range(200)]


def test_a_handler_can_stop_reading_in_the_middle_of_a_segment() -> None:
    class OneAtATime(Recorder):
        @override
        def text(self, payload: bytes) -> None:
            super().text(payload)
            self.socket.pause_reading()

    bench = Bench(OneAtATime)
    connection, transport, handler = bench.opened()
    connection.data_received(HELLO * 3 + HELLO[:4])
    for count in (1, 2, 3):
        bench.turn()
        assert handler.calls.count(("text", b"hello")) == count
        assert not transport.is_reading()
        for _ in range(40):  # being held back by us is not silence
            bench.sweeper.tick()
            bench.turn()
        connection.resume_reading()
    bench.turn()
    assert transport.is_reading()
    connection.data_received(HELLO[4:])
    assert handler.calls.count(("text", b"hello")) == 4
    connection.close(4401, "bye")
    bench.turn()
    assert transport.is_reading(), "a paused socket still hears the peer's close"
    connection.data_received(BYE)
    bench.turn()
    assert transport.has_ended()


@pytest.mark.parametrize("failing", ["opened", "text", "binary", "closed"])
def test_a_failing_handler_loses_its_socket_and_nothing_else(
    failing: str, caplog: pytest.LogCaptureFixture
) -> None:
    class Failing(Recorder):
        @override
        def opened(self, socket: WebSocket) -> None:
            super().opened(socket)
            self.fail("opened")

        @override
        def text(self, payload: bytes) -> None:
            super().text(payload)
            self.fail("text")

        @override
        def binary(self, payload: bytes) -> None:
            super().binary(payload)
            self.fail("binary")

        @override
        def closed(self) -> None:
            super().closed()
            self.fail("closed")

        def fail(self, call: str) -> None:
            if call == failing:
                raise ValueError("body of a message")

    bench = Bench(Failing)
    connection, transport, handler = bench.opened()
    for data in (HELLO, client_frame(2, b"\x00"), BYE):
        connection.data_received(data)
        bench.turn()
    assert close_of(transport) == (1000 if failing == "closed" else 1011)
    assert handler.calls.count(("closed", b"")) == 1
    assert "ValueError" in caplog.text
    assert "body of a message" not in caplog.text


def test_a_refused_connection_hears_nothing_more() -> None:
    bench = Bench()
    connection, transport = bench.connect(SAMPLE_UPGRADE.replace(b"/v1/ws", b"/v1/no"))
    connection.data_received(SAMPLE_UPGRADE)
    connection.shutdown()
    connection.connection_lost(None)
    bench.turn()
    assert [write[:12] for write in transport.writes] == [b"HTTP/1.1 404"]
    assert transport.is_closing()
    assert bench.acceptor.handshakes == []


def test_shutdown_says_restart() -> None:
    bench = Bench()
    connection, transport, _ = bench.opened()
    connection.shutdown()
    connection.shutdown()
    bench.turn()
    assert close_of(transport) == 1012


def test_an_idle_socket_holds_no_buffer() -> None:
    bench = Bench()
    connection, _, _ = bench.opened()
    connection.data_received(HELLO[:3])
    connection.data_received(HELLO[3:])
    bench.turn()
    assert connection._reader is not None
    assert connection._reader.buffered_bytes == 0
    assert connection._pending is None
    assert not hasattr(connection, "__dict__")


PAYLOADS = st.one_of(
    st.binary(max_size=40), st.text(max_size=40).map(str.encode), st.binary(min_size=126, max_size=300)
)
ANY_FRAMES = st.builds(
    client_frame,
    st.sampled_from((0, 1, 1, 1, 2, 8, 9, 10, 3, 15)),
    PAYLOADS,
    fin=st.sampled_from((True, True, True, False)),
    reserved=st.sampled_from((0,) * 15 + (4,)),
    mask=st.one_of(st.binary(min_size=4, max_size=4), st.binary(min_size=4, max_size=4), st.none()),
)
GOOD_FRAMES = st.one_of(
    st.builds(client_frame, st.just(TEXT), st.text(max_size=50).map(str.encode)),
    st.builds(client_frame, st.sampled_from((2, 9, 10)), st.binary(max_size=125)),
)
STREAMS = st.lists(st.one_of(GOOD_FRAMES, GOOD_FRAMES, GOOD_FRAMES, ANY_FRAMES), max_size=9).map(b"".join)


def outcome(pieces: list[bytes]) -> tuple[list[tuple[str, bytes]], list[tuple[int, bytes]], bool]:
    """What the handler was called, what was answered, and whether output has ended."""
    bench = Bench(limits=SocketLimits(frames_per_turn_max=3))
    connection, transport, handler = bench.opened()
    for piece in pieces:
        connection.data_received(piece)
        bench.turn()
    return handler.calls, split_server_frames(b"".join(transport.writes)), transport.ended


@pytest.mark.slow
@given(STREAMS, st.lists(st.integers(min_value=0, max_value=3000), max_size=20))
@example(client_frame(TEXT, "κόσμε".encode() * 30), list(range(200)))
@example(client_frame(TEXT, b"ab\xff" + b"x" * 100)[:-5], [7, 8, 9])
@example(client_frame(TEXT, b"ab\xff"), [3])
@example(client_frame(TEXT, b"\xff" + b"y" * 200), [3])
def test_any_split_of_a_stream_gives_the_same_calls(stream: bytes, cuts: list[int]) -> None:
    edges = sorted({0, len(stream), *(cut % (len(stream) + 1) for cut in cuts)})
    pieces = [stream[start:end] for start, end in pairwise(edges)]
    assert outcome(pieces) == outcome([stream])


@pytest.mark.slow
@given(st.lists(st.one_of(st.binary(max_size=200), ANY_FRAMES), max_size=8))
def test_garbage_never_raises_and_ends_in_a_defined_close(pieces: list[bytes]) -> None:
    bench = Bench()
    connection, transport, handler = bench.opened()
    for piece in pieces:
        connection.data_received(piece)
        bench.turn()
    frames = split_server_frames(b"".join(transport.writes))
    assert transport.has_ended() == (close_code_of(frames) is not None)
    if not transport.has_ended():
        connection.data_received(client_frame(1, mask=None) * 2 + bytes(70_000))
        bench.turn()
        assert close_code_of(split_server_frames(b"".join(transport.writes))) in {
            1002,
            1007,
            1009,
            *range(1000, 5000),
        }
    assert handler.calls[-1] == ("closed", b"")
    connection.connection_lost(None)
    assert handler.calls.count(("closed", b"")) == 1
