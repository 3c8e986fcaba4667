"""The sending half of a connection: one write per turn, a bound on what is unsent, an end to closing."""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from enum import Enum
from typing import TYPE_CHECKING, ClassVar, Final, cast

from gateways.socket.backlog import Backlog
from gateways.socket.frames import CloseCode, encode_close_frame
from gateways.socket.sweeper import NOT_IN_WHEEL

if TYPE_CHECKING:
    from gateways.socket.hub import SocketHub


class State(Enum):
    """Where a connection stands; it only ever moves down this list."""

    CONNECTING = "connecting"
    OPEN = "open"
    CLOSING = "closing"  # our close frame is on its way, the peer's is awaited
    ENDING = "ending"  # nothing more is read; output ends once what is pending is written
    ENDED = "ended"  # output has ended, the peer's end is awaited
    LOST = "lost"


# Reading an enumeration's member costs twice a global, and these are read per frame.
OPEN: Final = State.OPEN
CLOSING: Final = State.CLOSING
ENDING: Final = State.ENDING


class Outlet(asyncio.Protocol, ABC):
    """What a WebSocket sends with; one object with its reading half, as a second one would cost memory."""

    __slots__ = (
        "_backlog",
        "_deadline_tick",
        "_last_bytes",
        "_last_frames",
        "_marked",
        "_pending",
        "_pending_bytes",
        "_state",
        "_transport",
        "wheel_slot",
    )

    hub: ClassVar[SocketHub]

    def __init__(self) -> None:
        self._transport = cast("asyncio.Transport", None)  # until connection_made, which comes first
        self._state = State.CONNECTING
        self._pending: list[bytes] | None = None
        self._pending_bytes = 0
        self._backlog: Backlog | None = None
        self._last_bytes = 0  # of the last write
        self._last_frames = 0
        self._marked = False
        self._deadline_tick = 0  # of the next ping while open, of our patience after that
        self.wheel_slot = NOT_IN_WHEEL

    def send_frame(self, frame: bytes) -> None:
        """Queue ready wire bytes (see `encode_text_frame`); dropped once the socket is closing.

        Over the bound of unsent bytes or frames the socket closes with 4408 and drops what is not yet sent.
        """
        if self._state is not OPEN:
            return
        pending = self._pending
        if pending is None:
            self._pending = [frame]
            self._pending_bytes = len(frame)
            if not self._marked:
                self._marked = True
                self.hub.mark(self)
            return
        pending.append(frame)
        self._pending_bytes += len(frame)
        limits = self.hub.limits
        if len(pending) > limits.unsent_frames_max or self._pending_bytes > limits.unsent_bytes_max:
            self._cut_slow_reader()

    def close(self, code: int, reason: str) -> None:
        """Send a close frame after what is pending; drop everything later. Idempotent.

        A peer that has not answered, or not even taken the frame, within `close_s` is reset.
        """
        if self._state is OPEN:
            self.hub.closing(code)
            self._begin_close(code, reason, CLOSING)

    @property
    def unsent_bytes(self) -> int:
        """Bytes accepted from the handler and not yet taken by the kernel."""
        waiting = self._pending_bytes if self._pending is not None else 0
        return waiting + self._transport.get_write_buffer_size()

    @property
    def is_open(self) -> bool:
        """Whether frames are still taken."""
        return self._state is OPEN

    def abort(self) -> None:
        """Reset the connection; what is unsent is lost."""
        self._transport.abort()

    @abstractmethod
    def run_turn(self) -> None:
        """Called by the hub once per turn in which something happened: write, end, read on, tell."""

    @abstractmethod
    def on_due(self) -> None:
        """Called by the sweeper: heartbeat, silence, the end of patience with a closing peer."""

    def _mark(self) -> None:
        if not self._marked:
            self._marked = True
            self.hub.mark(self)

    def _begin_close(self, code: int, reason: str, state: State) -> None:
        frame = encode_close_frame(code, reason)
        self._pending = [frame] if self._pending is None else [*self._pending, frame]
        self._state = state
        hub = self.hub
        self._deadline_tick = hub.sweeper.now + hub.close_ticks
        hub.sweeper.schedule(self, hub.close_ticks)
        self._mark()

    def _cut_slow_reader(self) -> None:
        self._pending = None
        self._pending_bytes = 0
        self.close(CloseCode.SLOW_READER, "slow reader")

    def _write_pending(self) -> None:
        unsent_bytes = self._transport.get_write_buffer_size()
        if unsent_bytes and self._state is OPEN and self._is_over_bound(unsent_bytes):
            self._cut_slow_reader()
        frames, self._pending = self._pending, None
        if not frames:
            return
        data = frames[0] if len(frames) == 1 else b"".join(frames)
        self._last_bytes = len(data)
        self._last_frames = len(frames)
        if self._backlog is not None:
            self._note_backlog(unsent_bytes)
        self._transport.write(data)

    def _note_backlog(self, unsent_bytes: int) -> None:
        if self._backlog is not None and unsent_bytes:
            self._backlog.add(self._last_bytes, self._last_frames)
        else:
            self._backlog = None

    def _is_over_bound(self, unsent_bytes: int) -> bool:
        """Whether what the kernel has not taken and this turn's frames are together too much."""
        limits = self.hub.limits
        if self._backlog is None:
            self._backlog = Backlog()
            self._backlog.add(self._last_bytes, self._last_frames)
        self._backlog.trim(unsent_bytes)
        unsent_frames = self._backlog.frames + len(self._pending or ())
        return (
            unsent_frames > limits.unsent_frames_max
            or unsent_bytes + self._pending_bytes > limits.unsent_bytes_max
        )

    def _expire(self, now: int) -> None:
        if now >= self._deadline_tick:
            self.abort()
        else:
            self.hub.sweeper.schedule(self, self._deadline_tick - now)
