"""Who waits until views hold some positions."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping

from domain.errors import Problem
from projections.projection import Projection


class Waiters:
    """Those of one runner."""

    def __init__(self) -> None:
        self._waiting: list[tuple[dict[int, int], tuple[Projection, ...], asyncio.Future[None]]] = []

    async def wait(
        self, awaited: tuple[Projection, ...], positions: Mapping[int, int], timeout_s: float, again_ms: int
    ) -> None:
        """Until these projections hold the positions. Raises Problem("unavailable") after `timeout_s`."""
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        waiter = (dict(positions), awaited, future)
        self._waiting.append(waiter)
        try:
            async with asyncio.timeout(timeout_s):
                await future
        except TimeoutError:
            raise Problem("unavailable", "the views are behind", retry_after_ms=again_ms) from None
        finally:
            if waiter in self._waiting:
                self._waiting.remove(waiter)

    def tell(self) -> None:
        """End the waits that are over."""
        if not self._waiting:
            return
        waiting = []
        for waiter in self._waiting:
            positions, awaited, future = waiter
            if future.done():
                continue
            if hold(awaited, positions):
                future.set_result(None)
            else:
                waiting.append(waiter)
        self._waiting = waiting

    def end(self) -> None:
        """Nothing will be applied any more."""
        for _, _, future in self._waiting:
            if not future.done():
                future.set_exception(Problem("unavailable", "the views are closed"))
        self._waiting.clear()


def hold(projections: Iterable[Projection], positions: Mapping[int, int]) -> bool:
    """Whether all of them have applied all of that."""
    return all(
        projection.positions.get(shard, 0) >= position
        for projection in projections
        for shard, position in positions.items()
    )
