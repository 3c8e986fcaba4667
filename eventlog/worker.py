"""Threads for blocking stores: a few threads with a resource each (a connection), one queue, answers on the
caller's loop.

Cheaper than `run_in_executor`: one `SimpleQueue` put, one `call_soon_threadsafe`, no intermediate
`concurrent.futures` future.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from queue import Empty, SimpleQueue
from typing import Any, Generic, TypeVar

import structlog

_log = structlog.get_logger(__name__)

R = TypeVar("R")
T = TypeVar("T")

_Job = tuple[asyncio.AbstractEventLoop, "asyncio.Future[Any]", Callable[[Any], Any]]


class WorkersClosedError(Exception):
    """The threads were told to end."""


class WorkersFullError(Exception):
    """Too many jobs wait."""


class Workers(Generic[T]):
    """One thread per resource; jobs run in the order of `run` calls (with one thread) and answer on the loop
    that asked.

    `idle(resource)` runs on the thread whenever nothing arrived for `idle_s` after a job. `dispose(resource)`
    runs there at the end.
    """

    def __init__(
        self,
        name: str,
        resources: Sequence[T],
        *,
        jobs_max: int,
        dispose: Callable[[T], None],
        idle: Callable[[T], None] | None = None,
        idle_s: float = 0.05,
    ) -> None:
        self._queue: SimpleQueue[_Job | None] = SimpleQueue()
        self._name = name
        self._jobs_max = jobs_max
        self._dispose = dispose
        self._idle = idle
        self._idle_s = idle_s
        self._closed = False
        self._ended: list[Future[None]] = []
        for index, resource in enumerate(resources):
            ended: Future[None] = Future()
            ended.set_running_or_notify_cancel()
            self._ended.append(ended)
            threading.Thread(
                target=self._serve, args=(resource, ended), name=f"{name}-{index}", daemon=True
            ).start()

    def run(self, call: Callable[[T], R]) -> asyncio.Future[R]:
        """Run `call(resource)` on a thread. Cancelling the future does not stop the call: it happens and its
        result is dropped.

        Raises WorkersClosedError after `close`, WorkersFullError when `jobs_max` jobs wait.
        """
        if self._closed:
            raise WorkersClosedError(self._name)
        if self._queue.qsize() >= self._jobs_max:
            raise WorkersFullError(self._name)
        loop = asyncio.get_running_loop()
        future: asyncio.Future[R] = loop.create_future()
        self._queue.put((loop, future, call))
        return future

    async def close(self) -> None:
        """Finish what was asked for, dispose of the resources and end the threads. Idempotent; every caller
        waits for the end.
        """
        if not self._closed:
            self._closed = True
            for _ in self._ended:
                self._queue.put(None)
        await asyncio.gather(*[asyncio.wrap_future(ended) for ended in self._ended])

    def _serve(self, resource: T, ended: Future[None]) -> None:
        try:
            while (job := self._next(resource)) is not None:
                _run(resource, *job)
                del job
            self._dispose(resource)
        except BaseException as error:  # noqa: BLE001 - the thread's end must reach whoever waits in `close`
            ended.set_exception(error)
        else:
            ended.set_result(None)

    def _next(self, resource: T) -> _Job | None:
        if self._idle is not None:
            try:
                return self._queue.get(timeout=self._idle_s)
            except Empty:
                self._idle(resource)
        return self._queue.get()


def _run(
    resource: Any, loop: asyncio.AbstractEventLoop, future: asyncio.Future[Any], call: Callable[[Any], Any]
) -> None:
    result: Any = None
    failure: BaseException | None = None
    try:
        result = call(resource)
    except BaseException as error:  # noqa: BLE001 - handed to the caller, whatever it is
        failure = error
    try:
        loop.call_soon_threadsafe(_resolve, future, result, failure)
    except RuntimeError:
        _log.warning("a loop was closed while a store worked for it")


def _resolve(future: asyncio.Future[Any], result: Any, failure: BaseException | None) -> None:
    if future.done():
        return
    if failure is not None:
        future.set_exception(failure)
    else:
        future.set_result(result)
