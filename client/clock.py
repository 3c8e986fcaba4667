"""Time and patience: the clock the client reads, and the delay before a next attempt."""

from __future__ import annotations

import asyncio
import random
import time
from typing import Protocol

BACKOFF_FIRST_MS = 100
BACKOFF_LAST_MS = 10_000


class Clock(Protocol):
    """Unix time in seconds, and waiting. Tests inject their own."""

    def now(self) -> float:
        """Seconds since 1970."""
        ...

    async def sleep(self, seconds: float) -> None:
        """Returns after that long; cancellation leaves nothing behind."""
        ...


class SystemClock:
    """The machine's clock and the event loop's timers."""

    def now(self) -> float:
        """Seconds since 1970."""
        return time.time()

    async def sleep(self, seconds: float) -> None:
        """Returns after that long."""
        await asyncio.sleep(seconds)


def backoff_s(attempt: int, jitter: random.Random, hint_ms: int | None = None) -> float:
    """Seconds to wait before attempt number `attempt` (1 = the first repetition).

    Doubles from 100 ms to 10 s with half of it random, so that a crowd that lost its server at once does not
    come back at once; never shorter than the server's hint.
    """
    ceiling_ms = min(BACKOFF_LAST_MS, BACKOFF_FIRST_MS << min(attempt - 1, 10))
    waited_ms = ceiling_ms * (0.5 + 0.5 * jitter.random())
    if hint_ms is not None:
        waited_ms = max(waited_ms, hint_ms * (1.0 + 0.1 * jitter.random()))
    return waited_ms / 1000.0
