"""The read side of a process that writes no views: it reads those that projectors keep, and looks how far they are."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Mapping

import msgspec
import structlog
from typing_extensions import override

from domain.errors import Problem
from eventlog.port import Log
from projections.fast import FastRows
from projections.reading import Reads, Source
from projections.shelf import FIRST_VERSION, ViewShelf
from projections.store import ViewStore, ViewUnavailableError
from projections.views import READ_MODELS, ReadSide, ViewsSettings

_log = structlog.get_logger(__name__)

LAZY_S = 5.0
"""The least time that a wait for a lazy view gets: its writer may not hear that somebody waits, and gathers for two seconds."""
RETIRED_MAX = 16
"""Stores of versions that are current no longer, kept open for reads that had begun."""
Positions = Mapping[str, Mapping[int, int]]
"""Of each view."""


class LookSettings(msgspec.Struct, frozen=True, kw_only=True):
    """`look_ms`: how often the views are looked at while somebody waits; `idle_look_ms`: while nobody does."""

    look_ms: int = 10
    idle_look_ms: int = 1_000


class ViewsElsewhere(ReadSide):
    """Open with `open`. `heads` tells what this process knows of the record: {shard: position}. `hurry` is called again and again while
    somebody waits, with whether that is for lazy views; it asks the writers, as far as it can reach them, not to linger.
    """

    def __init__(
        self,
        shelf: ViewShelf,
        log: Log,
        heads: Callable[[], Mapping[int, int]],
        hurry: Callable[[bool], None],
        opened: Mapping[str, tuple[int, ViewStore]],
        settings: ViewsSettings,
        looks: LookSettings,
        fast: FastRows | None = None,
    ) -> None:
        super().__init__(log, settings, self._source, fast)
        self._shelf = shelf
        self._log_id = log.log_id
        self._heads = heads
        self._hurry = hurry
        self._opened = dict(opened)
        self._retired: list[ViewStore] = []
        self._looks = looks
        self._looking = Reads(threads=1)
        """Apart from readers, however many wait."""
        self._positions: Positions = {}
        self._failing = False
        self._waiting = 0
        self._wanted = asyncio.Event()
        self._looked = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    @classmethod
    async def open(
        cls,
        shelf: ViewShelf,
        log: Log,
        heads: Callable[[], Mapping[int, int]],
        hurry: Callable[[bool], None],
        settings: ViewsSettings | None = None,
        looks: LookSettings | None = None,
        fast: FastRows | None = None,
    ) -> ViewsElsewhere:
        """Open the current versions for reading; those that no projector has made yet are made, empty.

        Raises ViewUnavailableError; also for a version that another release made, which is left alone.
        """
        opened = await asyncio.to_thread(_opened, shelf, log.log_id)
        settings, looks = settings or ViewsSettings(), looks or LookSettings()
        views = cls(shelf, log, heads, hurry, opened, settings, looks, fast)
        views._task = asyncio.get_running_loop().create_task(views._look_for_ever(), name="views-elsewhere")
        return views

    async def close(self) -> None:
        """End the looking, wait for reads, close the stores. Idempotent."""
        task, self._task = self._task, None
        if task is not None:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
            await self._looking.close()
            await self._end_reads()
            for store in (*self._retired, *(store for _, store in self._opened.values())):
                store.close()

    @property
    @override
    def failing(self) -> bool:
        return self._failing

    @property
    @override
    def lag_commits(self) -> int:
        held = [self._positions.get(name, {}) for name in READ_MODELS]
        return sum(
            max(position - min(view.get(shard, 0) for view in held), 0)
            for shard, position in self._heads().items()
        )

    @override
    async def caught_up(
        self, positions: Mapping[int, int], timeout_s: float = 2.0, names: Collection[str] | None = None
    ) -> None:
        awaited = [
            name
            for name, model in READ_MODELS.items()
            if (not model.lazy if names is None else name in names)
        ]
        if self._hold(awaited, positions):
            return
        lazy = any(READ_MODELS[name].lazy for name in awaited)
        if lazy:
            timeout_s = max(timeout_s, LAZY_S)
        self._waiting += 1
        self._wanted.set()
        try:
            async with asyncio.timeout(timeout_s):
                while not self._hold(awaited, positions):
                    self._hurry(lazy)
                    await self._looked.wait()
        except TimeoutError:
            raise Problem("unavailable", "the views are behind", retry_after_ms=50) from None
        finally:
            self._waiting -= 1

    @override
    async def freshen(self, names: Collection[str] | None = None) -> None:
        await self.caught_up(dict(self._heads()), names=names)

    def _hold(self, names: Collection[str], positions: Mapping[int, int]) -> bool:
        held = [self._positions.get(name, {}) for name in names]
        return all(view.get(shard, 0) >= position for view in held for shard, position in positions.items())

    def _source(self, name: str) -> Source:
        return lambda: self._opened[name][1]

    @override
    def _current(self, name: str) -> tuple[ViewStore, int]:
        version, store = self._opened[name]
        return store, version

    @override
    def _held(self, name: str) -> Mapping[int, int]:
        return self._positions.get(name, {})

    # How far they are

    async def _look_for_ever(self) -> None:
        while True:
            try:
                await self._look()
                self._failing = False
            except Exception as error:  # noqa: BLE001 - whatever it is, who waits is told and it is tried again
                if not self._failing:
                    _log.warning("the views cannot be read", error=f"{type(error).__name__}: {error}")
                self._failing = True
            looked, self._looked = self._looked, asyncio.Event()
            looked.set()
            await self._pause()

    async def _pause(self) -> None:
        """A short one while somebody waits; whoever comes cuts a long one short."""
        if self._waiting:
            await asyncio.sleep(self._looks.look_ms / 1_000)
            return
        self._wanted.clear()
        try:
            async with asyncio.timeout(self._looks.idle_look_ms / 1_000):
                await self._wanted.wait()
        except TimeoutError:
            return

    async def _look(self) -> None:
        """Take versions into use that a rebuild made current, and ask all where they stand."""

        def look() -> tuple[Mapping[str, tuple[int, ViewStore]], Positions]:
            changed = _changed(self._shelf, self._log_id, self._opened)
            stores = {**self._opened, **changed}
            return changed, {name: store.positions() for name, (_, store) in stores.items()}

        changed, positions = await self._looking.run(look)
        for name, opened in changed.items():
            self._retired.append(self._opened[name][1])
            self._opened[name] = opened
        while len(self._retired) > RETIRED_MAX:
            self._retired.pop(0).close()
        self._positions = positions


def _opened(shelf: ViewShelf, log_id: str) -> dict[str, tuple[int, ViewStore]]:
    """The current version of each view. Blocks."""
    current = shelf.current()
    return {name: _open(shelf, name, current.get(name, FIRST_VERSION), log_id) for name in READ_MODELS}


def _changed(
    shelf: ViewShelf, log_id: str, opened: Mapping[str, tuple[int, ViewStore]]
) -> dict[str, tuple[int, ViewStore]]:
    """The current version of each view of which another one is open. Blocks."""
    current = shelf.current()
    return {
        name: _open(shelf, name, version, log_id)
        for name, version in current.items()
        if name in opened and opened[name][0] != version
    }


def _open(shelf: ViewShelf, name: str, version: int, log_id: str) -> tuple[int, ViewStore]:
    schema = READ_MODELS[name].schema
    if version in shelf.versions(name) and not shelf.holds(schema, version, log_id):
        raise ViewUnavailableError(
            f"version {version} of {name} is of another log or another release; let its projectors make it anew first"
        )
    return version, shelf.open(schema, version, log_id)
