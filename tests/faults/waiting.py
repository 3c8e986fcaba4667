"""Waiting for conditions, each with a bound and a word about what did not come."""

from __future__ import annotations

import asyncio
from collections.abc import Callable


class NotReachedError(Exception):
    """A condition did not come true in time; the text says which, and how things stood."""


class Bell:
    """Rung by whoever changes something that others wait for."""

    def __init__(self) -> None:
        self._rung = asyncio.Event()

    def ring(self) -> None:
        """Have everybody who waits look again."""
        self._rung.set()

    async def until(self, true: Callable[[], bool], timeout_s: float, words: Callable[[], str]) -> None:
        """Return as soon as `true()` is. Raises NotReachedError after `timeout_s`, with `words()`."""
        try:
            async with asyncio.timeout(timeout_s):
                while not true():
                    self._rung.clear()
                    await self._rung.wait()
        except TimeoutError:
            raise NotReachedError(f"after {timeout_s:g} s {words()}") from None


async def pause(seconds: float) -> None:
    """Let time pass: the pace of a load or the length of a fault, never in place of a condition."""
    loop = asyncio.get_running_loop()
    passed: asyncio.Future[None] = loop.create_future()
    timer = loop.call_later(seconds, passed.set_result, None)
    try:
        await passed
    finally:
        timer.cancel()
