"""A watch over a bus of everybody's commits: is it whole, and since when was it? What the carrier lost or delays is read from the log."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence

import structlog
from typing_extensions import override

from commands.tasks import TaskOwner
from eventlog.port import Log
from eventlog.record import Commit
from eventlog.tail import LogTail
from gateways.push.settings import PushSettings
from gateways.routes import STALE, EverythingHere

_log = structlog.get_logger(__name__)

LOOK_S = 0.5
"""Twice that is how late a commit may come when the carrier is away."""


class RecordWatch(EverythingHere):
    """Looks at the log beside whoever feeds the bus. `positions` and `take` are the bus's; `take` drops what it has. `start`, then `close`.

    It is also the routes of a gateway that is fed by that bus.
    """

    def __init__(
        self,
        log: Log,
        positions: Callable[[], Mapping[int, int]],
        take: Callable[[Sequence[Commit]], None],
        now_s: Callable[[], float],
        settings: PushSettings,
    ) -> None:
        self._tail = LogTail(log, positions, take, now_s)
        self._now_s = now_s
        self._settings = settings
        self._began_s = now_s()
        self._tasks = TaskOwner("record-watch", 1)
        self.problem: str | None = None
        """Why the log could not be looked at."""

    def start(self) -> None:
        """Begin to look."""
        self._tasks.start(self._look_for_ever())

    async def close(self) -> None:
        """Look no more. Idempotent."""
        await self._tasks.close()

    def age_s(self) -> float:
        """For how long something may have been missed."""
        return self._now_s() - max(self._tail.proven_s(), self._began_s)

    @property
    @override
    def stale(self) -> bool:
        return self.age_s() > self._settings.silence_s

    @override
    async def settled(self) -> Mapping[int, int]:
        if self.stale:
            raise STALE
        return {}

    @override
    def proven_s(self) -> float:
        return self._tail.proven_s()

    @property
    def refills(self) -> tuple[int, int]:
        """(times that the log was read, commits of that)."""
        return self._tail.refills, self._tail.refilled

    async def _look_for_ever(self) -> None:
        while True:
            await self.look()
            await asyncio.sleep(LOOK_S)

    async def look(self) -> None:
        """Once. Raises nothing of the log's."""
        try:
            await self._tail.look(patient=True)
            self.problem = None
        except Exception as error:  # noqa: BLE001 - whatever it is, it is tried again; after a while nobody trusts this record
            if self.problem is None:
                _log.warning("the log cannot be looked at", error=f"{type(error).__name__}: {error}")
            self.problem = type(error).__name__
