"""Signals to stop, and the bound on how long a stop takes."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import threading
import traceback
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import structlog

_log = structlog.get_logger(__name__)

STOP_SIGNALS = (signal.SIGTERM, signal.SIGINT)
STOP_S = 29.0
"""From the first signal to the end of the process, whatever hangs: orchestrators kill after 30."""
HURRY_S = 3.0
"""The same from a second signal on."""
TOO_LATE = 1
"""The exit code of a stop that took longer. Nothing acknowledged is lost by it: that is in the log."""


class Stop:
    """What was asked for: `asked` by the first signal, `hurry` by a second one.

    A thread ends the process when it is not over in time; it is none of the loop's business, since the loop may be what hangs.
    """

    def __init__(self, end: Callable[[int], object] = os._exit, stop_s: float = STOP_S) -> None:
        self.asked = asyncio.Event()
        self.hurry = asyncio.Event()
        self._end = end
        self._stop_s = stop_s
        self._timer: threading.Timer | None = None
        self._main = threading.get_ident()

    def signalled(self) -> None:
        """Once more."""
        if self.asked.is_set():
            self.hurry.set()
        self.asked.set()
        self._bound(HURRY_S if self.hurry.is_set() else self._stop_s)

    def over(self) -> None:
        """Everything is closed. Idempotent."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _bound(self, seconds: float) -> None:
        self.over()
        self._timer = threading.Timer(seconds, self._too_late, (seconds,))
        self._timer.daemon = True
        self._timer.start()

    def _too_late(self, seconds: float) -> None:
        frame = sys._current_frames().get(self._main)  # noqa: SLF001 - the only way to see what hangs
        places = [] if frame is None else traceback.extract_stack(frame)[-8:]
        where = " < ".join(f"{place.name}:{place.lineno}" for place in reversed(places))
        _log.critical("stopped before everything was closed", seconds=seconds, loop_at=where)
        self._end(TOO_LATE)


@asynccontextmanager
async def stop_signals() -> AsyncIterator[Stop]:
    """Signals become a `Stop`, until the end of the block, within which everything is closed."""
    stop = Stop()
    loop = asyncio.get_running_loop()
    for number in STOP_SIGNALS:
        loop.add_signal_handler(number, stop.signalled)
    try:
        yield stop
    finally:
        for number in STOP_SIGNALS:
            loop.remove_signal_handler(number)
        stop.over()
