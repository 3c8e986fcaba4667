"""The reader pool: questions to view files are answered by a few threads, off the loop, from snapshots."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import TYPE_CHECKING, TypeVar

from domain.errors import Problem, invalid
from projections.fast_moment import NotHeldError
from projections.store import Snapshot, ViewStore

if TYPE_CHECKING:
    from projections.fast_reading import FastReads

READER_THREADS = 2
READS_WAITING_MAX = 1_000
RETRY_AFTER_MS = 200
LIMIT_DEFAULT = 50
LIMIT_MAX = 200

T = TypeVar("T")
Source = Callable[[], ViewStore]
"""Gives the store that is current: a rebuild switches it."""
Freshen = Callable[[], Awaitable[None]]
"""Waits until everything that was received when it is called is in the views that its reader reads."""
Names = Callable[[str, Sequence[str]], dict[str, str]]
"""Blocking: the names of users of a tenant; unknown ones are called by their id."""


class Reads:
    """At most `threads` reads at a time and `waiting_max` waiting; more are refused with `overloaded`."""

    def __init__(self, threads: int = READER_THREADS, waiting_max: int = READS_WAITING_MAX) -> None:
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix="views-read")
        self._waiting_max = waiting_max
        self.waiting = 0

    async def run(self, read: Callable[[], T]) -> T:
        """The answer of `read`, called on a reader thread. A cancelled caller's read still runs to its end."""
        if self.waiting >= self._waiting_max:
            raise Problem("overloaded", "too many reads are waiting", retry_after_ms=RETRY_AFTER_MS)
        self.waiting += 1
        try:
            return await asyncio.get_running_loop().run_in_executor(self._pool, read)
        finally:
            self.waiting -= 1

    async def close(self) -> None:
        """Wait for the reads that run."""
        await asyncio.to_thread(self._pool.shutdown)


class Reader:
    """A reader of one view; `fast` holds copies of what is asked most, for what `_read` is told how to ask of it."""

    def __init__(self, reads: Reads, source: Source, fast: FastReads | None = None) -> None:
        self._reads = reads
        self._source = source
        self._fast = fast

    async def _read(
        self, question: Callable[[Snapshot], T], fast: Callable[[FastReads], T] | None = None
    ) -> T:
        def answer() -> T:
            if fast is not None and self._fast is not None:
                with suppress(NotHeldError):
                    return fast(self._fast)
            with self._source().snapshot() as snapshot:
                return question(snapshot)

        return await self._reads.run(answer)


def checked_limit(limit: int, limit_max: int = LIMIT_MAX) -> int:
    """The limit. Raises `validation_failed` outside 1 to `limit_max`."""
    if not 1 <= limit <= limit_max:
        raise invalid("limit", f"must be 1 to {limit_max}")
    return limit
