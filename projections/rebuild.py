"""Rebuilding: a view's next version beside the present one, from the log, then compared and switched at once."""

from __future__ import annotations

import asyncio
import functools
import hashlib
import time
from collections.abc import AsyncIterator, Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, asynccontextmanager
from typing import TYPE_CHECKING, TypeVar

import msgspec

from domain.errors import Problem
from projections.projection import Projection
from projections.store import Snapshot

if TYPE_CHECKING:
    from projections.views import Views

SPAN_COMMITS = 5_000
SHARE = 0.5
"""How much of one core a rebuild takes beside the server's work."""
CATCH_UP_S = 60.0
"""How long the old version may take to come to where the new one stands."""

T = TypeVar("T")
_encode = msgspec.json.Encoder().encode


class Progress(msgspec.Struct, frozen=True):
    """How far a rebuild is: commits in the new version, of those known to be in the log."""

    name: str
    done_commits: int
    known_commits: int


class Rebuilt(msgspec.Struct, frozen=True, kw_only=True):
    """What a rebuild came to. `same`: every row of the old and the new version, at the same positions, byte for byte."""

    name: str
    old_version: int
    new_version: int
    events: int
    seconds: float
    same: bool
    old_digest: str
    new_digest: str
    switched: bool


class RolledBack(msgspec.Struct, frozen=True, kw_only=True):
    """The version that is current again, and how many events it had missed."""

    name: str
    old_version: int
    new_version: int
    events: int
    seconds: float


class VersionChange:
    """One change of the view `name` to another version; `run` it once. Interrupted or stopped by a poisoned event, the next one goes on
    where it ended.
    """

    def __init__(
        self,
        views: Views,
        name: str,
        *,
        progress: Callable[[Progress], None] | None = None,
        share: float = SHARE,
    ) -> None:
        if name not in views.names:
            raise Problem("not_found", "no such view")
        if not 0 < share <= 1:
            raise ValueError("a share is more than 0 and at most 1")
        self._views = views
        self._name = name
        self._progress = progress
        self._share = share
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="views-rebuild")

    async def _targets(self) -> Mapping[int, int]:
        """How far the new version is built first: to the end of the log, or where others write the old one too, to where that stands, so
        that both can be compared at a moment of it.
        """
        if self._views.shares:
            return await self._stands()
        return {shard: head.position for shard, head in (await self._views.log.heads()).items()}

    async def _stands(self) -> Mapping[int, int]:
        """Where the old version stands, whoever moved it on."""
        if self._views.shares:
            return (await self._views.standing([self._name]))[self._name]
        return dict(self._views.projection(self._name).positions)

    async def _catch_up(self, new: Projection, targets: Mapping[int, int]) -> None:
        """Bring the new version exactly to these positions, a span at a time, taking the bounded share."""
        known = sum(targets.values())
        for shard, target in sorted(targets.items()):
            while (after := new.positions.get(shard, 0)) < target:
                started = time.monotonic()
                commits = await self._views.log.read_shard(shard, after, min(SPAN_COMMITS, target - after))
                if not commits:
                    raise RuntimeError(f"the log of shard {shard} ends before position {target}")
                await self._in_thread(functools.partial(new.take_commits, commits, self._views.codec))
                if self._progress is not None:
                    self._progress(Progress(self._name, sum(new.positions.values()), known))
                await asyncio.sleep((time.monotonic() - started) * (1 / self._share - 1))
        await self._in_thread(new.flush_positions)

    @asynccontextmanager
    async def _beside(self, version: int) -> AsyncIterator[Projection]:
        """That version of the view, to be caught up; closed at the end unless `_switch` made it the current one."""
        new = None
        try:
            new = await self._in_thread(lambda: self._views.projection_beside(self._name, version))
            yield new
        finally:
            # First what the thread still does: a switch that was cancelled may have happened.
            await asyncio.to_thread(self._thread.shutdown)
            if new is not None and self._views.projection(self._name) is not new:
                new.store.close()

    async def _switch(self, new: Projection, version: int) -> None:
        await self._catch_up(new, await self._stands())
        async with self._views.runner.paused():
            await self._catch_up(new, await self._stands())
            await self._in_thread(lambda: self._views.switch(self._name, new, version))

    async def _in_thread(self, work: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._thread, work)


class Rebuild(VersionChange):
    """A new version made from the log."""

    def __init__(
        self,
        views: Views,
        name: str,
        *,
        progress: Callable[[Progress], None] | None = None,
        share: float = SHARE,
        only_if_same: bool = False,
    ) -> None:
        super().__init__(views, name, progress=progress, share=share)
        self._only_if_same = only_if_same

    async def run(self) -> Rebuilt:
        """Build, compare, switch. Raises Poison at an event that cannot be applied. Cancellation leaves the unfinished version."""
        started = time.monotonic()
        old_version = self._views.version_of(self._name)
        new_version = old_version + 1
        switched = False
        async with self._beside(new_version) as new:
            skipped = self._views.projection(self._name).skipped
            await self._in_thread(lambda: new.leave_out(skipped()))
            await self._catch_up(new, await self._targets())
            digests = self._digests_at_moment if self._views.shares else self._digests
            old_digest, new_digest = await digests(new)
            if old_digest == new_digest or not self._only_if_same:
                await self._switch(new, new_version)
                switched = True
        return Rebuilt(
            name=self._name,
            old_version=old_version,
            new_version=new_version,
            events=new.applied_events,
            seconds=time.monotonic() - started,
            same=old_digest == new_digest,
            old_digest=old_digest,
            new_digest=new_digest,
            switched=switched,
        )

    async def _digests(self, new: Projection) -> tuple[str, str]:
        """The digests of both versions at the same positions. Live applying waits only while the snapshots are taken.

        The old one may lie behind what the new one was made of, as a lazy view does: it catches up first. Raises `unavailable` if it
        does not.
        """
        await self._views.runner.caught_up(dict(new.positions), CATCH_UP_S, names=(self._name,))
        old = self._views.projection(self._name)
        await self._catch_up(new, dict(old.positions))
        with ExitStack() as snapshots:
            async with self._views.runner.paused():
                await self._catch_up(new, dict(old.positions))

                def enter() -> tuple[Snapshot, Snapshot]:
                    return (
                        snapshots.enter_context(old.store.snapshot()),
                        snapshots.enter_context(new.store.snapshot()),
                    )

                before, after = await self._in_thread(enter)
            digests = await self._in_thread(lambda: (digest_of(before), digest_of(after)))
            await self._in_thread(snapshots.close)
        return digests

    async def _digests_at_moment(self, new: Projection) -> tuple[str, str]:
        """As `_digests`, where others go on writing the old version: a moment of it is kept, and the new one brought exactly there."""
        await self._catch_up(new, await self._stands())
        old = self._views.projection(self._name).store
        with ExitStack() as snapshots:
            before = await self._in_thread(lambda: snapshots.enter_context(old.snapshot()))
            await self._catch_up(new, before.positions())
            after = await self._in_thread(lambda: snapshots.enter_context(new.store.snapshot()))
            digests = await self._in_thread(lambda: (digest_of(before), digest_of(after)))
            await self._in_thread(snapshots.close)
        return digests


class RollBack(VersionChange):
    """Back to the version that the last rebuild left behind; the one that was current is thrown away."""

    async def run(self) -> RolledBack:
        """Catch up, switch. Raises Problem when no version is kept that can be used, Poison at an event that cannot be applied.

        Cancellation leaves the current version current.
        """
        started = time.monotonic()
        old_version, new_version = self._views.version_of(self._name), self._views.kept_version(self._name)
        async with self._beside(new_version) as new:
            await self._catch_up(new, await self._targets())
            await self._switch(new, new_version)
        return RolledBack(
            name=self._name,
            old_version=old_version,
            new_version=new_version,
            events=new.applied_events,
            seconds=time.monotonic() - started,
        )


def digest_of(snapshot: Snapshot) -> str:
    """SHA-256 over all rows in canonical order."""
    digest = hashlib.sha256()
    for table, row in snapshot.dump():
        digest.update(_encode((table, row)))
        digest.update(b"\n")
    return digest.hexdigest()
