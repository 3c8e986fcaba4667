"""Calls in flight, for stores that must finish them before they close."""

from __future__ import annotations

import asyncio
from types import TracebackType


class InFlight:
    """`with` around each call; `closed` is for the caller to look at first."""

    def __init__(self) -> None:
        self.closed = False
        self._calls = 0
        self._idle = asyncio.Event()
        self._idle.set()

    def __enter__(self) -> None:
        self._calls += 1
        self._idle.clear()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._calls -= 1
        if not self._calls:
            self._idle.set()

    async def close(self) -> None:
        """Set `closed` and wait for what was begun. Idempotent; a call that begins nevertheless is waited for, too."""
        self.closed = True
        await self._idle.wait()
