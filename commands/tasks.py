"""Owned tasks: for work that outlives the call that started it, and ends with its owner."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any

import structlog

_log = structlog.get_logger(__name__)


class TaskOwner:
    """Keeps every task it starts until it ends; `close` cancels the rest and waits for them.

    An exception that nobody awaited is logged with its type and ends only its task.
    """

    def __init__(self, name: str, tasks_max: int) -> None:
        self._name = name
        self._tasks_max = tasks_max
        self._tasks: set[asyncio.Task[Any]] = set()
        self._closed = False

    @property
    def full(self) -> bool:
        """Whether `start` would refuse."""
        return self._closed or len(self._tasks) >= self._tasks_max

    def start(self, work: Coroutine[Any, Any, None]) -> None:
        """Run `work`. Raises RuntimeError when closed or when `tasks_max` run already."""
        if self.full:
            work.close()
            raise RuntimeError(f"{self._name} runs {len(self._tasks)} tasks and takes no more")
        task = asyncio.get_running_loop().create_task(work, name=self._name)
        self._tasks.add(task)
        task.add_done_callback(self._ended)

    async def wait(self, timeout_s: float) -> None:
        """Let what runs now end by itself, for so long."""
        if self._tasks:
            await asyncio.wait(tuple(self._tasks), timeout=timeout_s)

    def _ended(self, task: asyncio.Task[Any]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            _log.error("task failed", owner=self._name, error=type(error).__name__, exc_info=error)

    async def close(self) -> None:
        """Cancel what still runs and wait for it. Idempotent."""
        self._closed = True
        tasks = tuple(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
