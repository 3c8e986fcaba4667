"""A loop on a thread of its own, for synchronous callers of the asynchronous log."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Coroutine
from typing import Any, TypeVar

R = TypeVar("R")


class LoopThread:
    """Runs coroutines for any number of threads; each caller blocks until its own is done.

    Never to be used from a running event loop: it would block that loop.
    """

    def __init__(self, name: str = "log-loop") -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name=name, daemon=True)
        self._thread.start()

    @property
    def is_open(self) -> bool:
        """Whether `run` may be called."""
        return not self._loop.is_closed()

    def run(self, work: Coroutine[Any, Any, R]) -> R:
        """The result of `work`, or its exception."""
        return asyncio.run_coroutine_threadsafe(work, self._loop).result()

    def close(self) -> None:
        """End the loop; what still runs there is abandoned. Idempotent."""
        if not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._loop.stop)
            self._thread.join()
            self._loop.close()
