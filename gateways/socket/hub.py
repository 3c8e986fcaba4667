"""What all sockets of one server share: acceptor, limits, timer, and one callback per turn of the loop."""

from __future__ import annotations

import asyncio
import logging
import math
import traceback
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, cast

from gateways.socket.port import SocketLimits
from gateways.socket.sweeper import SocketSweeper

if TYPE_CHECKING:
    from gateways.socket.handshake import Acceptor
    from gateways.socket.outlet import Outlet
    from gateways.socket.websocket import WebSocket

logger = logging.getLogger("minutebook.socket")


def call_soon(callback: Callable[[], None]) -> None:
    """Schedule on the running loop."""
    asyncio.get_running_loop().call_soon(callback)


class SocketHub:
    """Shared by all sockets of one protocol class; only the wheel and the dirty list grow with them."""

    def __init__(
        self,
        acceptor: Acceptor,
        limits: SocketLimits,
        sweeper: SocketSweeper[Outlet],
        schedule: Callable[[Callable[[], None]], None] = call_soon,
    ) -> None:
        self.acceptor = acceptor
        self.limits = limits
        self.sweeper = sweeper
        self.heartbeat_ticks = math.ceil(limits.heartbeat_s / sweeper.tick_s)
        self.silence_ticks = math.ceil(limits.silence_s / sweeper.tick_s)
        # The running tick is already partly over, so one more makes the wait at least `close_s`.
        self.close_ticks = math.ceil(limits.close_s / sweeper.tick_s) + 1
        self.closes: dict[int, int] = {}
        """Sockets that were closed from here, by code."""
        self._schedule = schedule
        self._dirty: list[Outlet] = []

    def sockets(self) -> Iterable[WebSocket]:
        """The connections past their handshake and not yet lost; a snapshot."""
        return cast("list[WebSocket]", list(self.sweeper))

    def closing(self, code: int) -> None:
        """A socket is being closed with one of our codes."""
        self.closes[code] = self.closes.get(code, 0) + 1

    def mark(self, socket: Outlet) -> None:
        """Have `run_turn` called in the next turn; a socket marks itself once per turn."""
        dirty = self._dirty
        if not dirty:
            self._schedule(self._run_turn)
        dirty.append(socket)

    def _run_turn(self) -> None:
        dirty, self._dirty = self._dirty, []
        for socket in dirty:
            try:
                socket.run_turn()
            except Exception as error:  # noqa: BLE001 - one socket's failure must not cost the others their frames
                log_failure("turn", error)
                socket.abort()


def log_failure(what: str, error: BaseException) -> None:
    """Log where it happened, without the exception's text: that may quote a message or a token."""
    places = " < ".join(f"{f.name}:{f.lineno}" for f in reversed(traceback.extract_tb(error.__traceback__)))
    logger.error("socket %s failed: %s at %s", what, type(error).__name__, places)
