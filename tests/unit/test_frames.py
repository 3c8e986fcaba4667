"""Frames against the `websockets` library's own reading of them, and the small parts beside."""

from __future__ import annotations

import asyncio
from collections.abc import Generator

import pytest
from hypothesis import given
from hypothesis import strategies as st
from typing_extensions import override
from websockets.frames import Close, Frame

from gateways.socket.backlog import Backlog
from gateways.socket.frames import (
    TEXT_FRAMES_ENCODED,
    EncodingCounter,
    FrameReader,
    encode_close_frame,
    encode_frame,
    encode_text_frame,
)
from gateways.socket.sweeper import NOT_IN_WHEEL, WHEEL_SLOTS, SocketSweeper


def parsed(data: bytes) -> Frame:
    """The frame as an independent client sees it; fails on bytes too few or too many."""
    position = 0

    def read_exact(size: int) -> Generator[None, None, bytes]:
        nonlocal position
        yield from ()
        position += size
        assert position <= len(data)
        return data[position - size : position]

    try:
        next(reading := Frame.parse(read_exact, mask=False))
    except StopIteration as stop:
        assert position == len(data)
        frame: Frame = stop.value
        return frame
    raise AssertionError(f"{reading} waits for more")


@pytest.mark.parametrize("size", [0, 1, 125, 126, 127, 65535, 65536, 70000])
def test_a_text_frame_reads_as_it_was_written(size: int) -> None:
    frame = parsed(encode_text_frame(b"x" * size))
    assert (frame.opcode, bytes(frame.data), frame.fin) == (1, b"x" * size, True)


@given(st.sampled_from((1, 2, 9, 10)), st.binary(max_size=125))
def test_any_small_frame_reads_as_it_was_written(opcode: int, payload: bytes) -> None:
    frame = parsed(encode_frame(opcode, payload))
    assert (frame.opcode, bytes(frame.data)) == (opcode, payload)


@given(st.integers(min_value=3000, max_value=4999), st.text(max_size=100))
def test_a_close_frame_is_always_valid(code: int, reason: str) -> None:
    close = Close.parse(parsed(encode_close_frame(code, reason)).data)
    assert close.code == code
    assert reason.startswith(close.reason)
    assert close.reason == reason or len(close.reason.encode()) > 119


def test_a_close_without_a_code_is_empty() -> None:
    assert encode_close_frame(1005) == b"\x88\x00"


def test_encodings_are_counted_where_the_caller_says() -> None:
    counter = EncodingCounter()
    before = TEXT_FRAMES_ENCODED.frames
    frames = [encode_text_frame(b"x", counter) for _ in range(3)]
    assert counter.frames == len(frames)
    assert before == TEXT_FRAMES_ENCODED.frames
    encode_text_frame(b"x")
    assert before + 1 == TEXT_FRAMES_ENCODED.frames


def test_a_reader_holds_an_unfinished_frame_and_nothing_else() -> None:
    class Sink:
        accepts_frames = True

        def __init__(self) -> None:
            self.texts: list[bytes] = []

        def on_text(self, payload: bytes) -> None:
            self.texts.append(payload)

        def on_binary(self, payload: bytes) -> None:
            raise AssertionError(payload)

        def on_ping(self, payload: bytes) -> None:
            raise AssertionError(payload)

        def on_pong(self) -> None:
            raise AssertionError

        def on_close(self, code: int) -> None:
            raise AssertionError(code)

    reader, sink = FrameReader(), Sink()
    frame = b"\x81\x82\x00\x00\x00\x00hi"
    assert not reader.feed(frame + frame[:3], sink, 100, 10)
    assert reader.buffered_bytes == 3
    assert reader.feed(frame[3:] + frame * 3, sink, 100, 2)
    assert len(sink.texts) == 3
    assert reader.buffered_bytes == 2 * len(frame)
    sink.accepts_frames = False
    assert reader.feed(b"", sink, 100, 10)
    sink.accepts_frames = True
    assert not reader.feed(b"", sink, 100, 10)
    assert sink.texts == [b"hi"] * 5
    assert reader.buffered_bytes == 0


@pytest.mark.slow
@given(st.lists(st.tuples(st.integers(1, 50), st.integers(1, 5), st.integers(0, 60)), max_size=40))
def test_a_backlog_counts_the_frames_of_every_write_that_is_not_wholly_gone(
    steps: list[tuple[int, int, int]],
) -> None:
    backlog = Backlog()
    writes: list[tuple[int, int]] = []
    unsent = 0
    for byte_count, frame_count, taken in steps:
        backlog.add(byte_count, frame_count)
        writes.append((byte_count, frame_count))
        unsent = max(0, unsent + byte_count - taken)
        backlog.trim(unsent)
        tail, waiting = 0, 0
        for size, frames in reversed(writes):
            if tail < unsent:
                waiting += frames
            tail += size
        assert backlog.frames == waiting


class Member:
    """Notes the ticks at which it is due, and wants to be due again after `every`."""

    def __init__(self, sweeper: SocketSweeper[Member], every: int) -> None:
        self.wheel_slot = NOT_IN_WHEEL
        self.sweeper = sweeper
        self.every = every
        self.due: list[int] = []
        sweeper.schedule(self, every)

    def on_due(self) -> None:
        self.due.append(self.sweeper.now)
        if self.every:
            self.sweeper.schedule(self, self.every)


def test_the_sweeper_calls_each_member_when_it_is_due() -> None:
    sweeper: SocketSweeper[Member] = SocketSweeper(ticks_itself=False)
    members = [Member(sweeper, every) for every in (1, 30, 75, WHEEL_SLOTS - 1)]
    for _ in range(300):
        sweeper.tick()
    for member in members:
        assert member.due == list(range(member.every, 301, member.every))
    assert len(sweeper) == len(list(sweeper)) == 4
    sweeper.schedule(members[0], 5)
    sweeper.discard(members[1])
    sweeper.discard(members[1])
    assert len(sweeper) == len(list(sweeper)) == 3
    due_before = len(members[0].due)
    for _ in range(4):
        sweeper.tick()
    assert len(members[0].due) == due_before


async def test_the_sweepers_timer_runs_only_while_there_are_members() -> None:
    called = asyncio.Event()
    running: list[bool] = []

    class Waiting(Member):
        @override
        def on_due(self) -> None:
            super().on_due()
            called.set()

    sweeper: SocketSweeper[Member] = SocketSweeper(tick_s=0.0)
    running.append(sweeper.is_running)
    member = Waiting(sweeper, 0)
    running.append(sweeper.is_running)
    await called.wait()
    running.append(sweeper.is_running)
    other = Member(sweeper, 1)
    sweeper.close()
    running.append(sweeper.is_running)
    assert running == [False, True, False, False]
    assert member.due == [1]
    assert list(sweeper) == [other]
