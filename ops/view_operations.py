"""What a process that writes views does for its operator."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path
from typing import NoReturn

from domain.errors import Problem
from ops.operations import BackupMade, KeyMade, KeyRow, Parked, Progress, Rebuilt, Report, RolledBack, Status
from projections.projection import Poison
from projections.rebuild import Progress as RebuildProgress
from projections.rebuild import Rebuild, RollBack
from projections.shelf import SwitchRefusedError
from projections.store import StaleWriterError
from projections.views import Views


class ViewOperations:
    """See `ops.operations.Operations`: those of them that concern views. One rebuild at a time."""

    def __init__(self, views: Views) -> None:
        self._views = views
        self._rebuilding: str | None = None

    async def status(self) -> Status:
        """How it is."""
        views = self._views
        heads = await views.log.heads()
        return Status(
            version=version("minutebook"),
            process_id=os.getpid(),
            url="",
            log_id=views.log.log_id,
            shards=views.log.shard_count,
            events=sum(head.number for head in heads.values()),
            writable=not views.failing,
            queued_orders=0,
            view_lag_commits=views.lag_commits,
            parked=len(await views.parked()),
            read_models=list(views.names),
        )

    async def rebuild(self, name: str, report: Report, share: float, *, only_if_same: bool) -> Rebuilt:
        """Build a read model anew and switch to it."""
        views, tell = self._views, _reporting(report)
        with self._changing(name):
            built = await Rebuild(views, name, progress=tell, share=share, only_if_same=only_if_same).run()
        return Rebuilt(
            name=name,
            old_version=built.old_version,
            new_version=built.new_version,
            events=built.events,
            seconds=round(built.seconds, 3),
            same=built.same,
            switched=built.switched,
            digest=built.new_digest,
        )

    async def roll_back(self, name: str, report: Report, share: float) -> RolledBack:
        """Take the version before the last rebuild into use again."""
        with self._changing(name):
            back = await RollBack(self._views, name, progress=_reporting(report), share=share).run()
        return RolledBack(
            name=name,
            old_version=back.old_version,
            new_version=back.new_version,
            events=back.events,
            seconds=round(back.seconds, 3),
        )

    @contextmanager
    def _changing(self, name: str) -> Iterator[None]:
        """One read model changes its version at a time."""
        if self._rebuilding is not None:
            raise Problem("conflict", f"{self._rebuilding} is being rebuilt; one at a time")
        if name not in self._views.names:
            known = ", ".join(self._views.names)
            raise Problem("validation_failed", f"there is no read model {name!r}; there are {known}")
        self._rebuilding = name
        try:
            yield
        except Poison as error:
            raise Problem("conflict", f"it stopped at an event that it cannot read: {error}") from None
        except (StaleWriterError, SwitchRefusedError) as error:
            raise Problem(
                "conflict", f"another process changes the version of {name} at the same time: {error}"
            ) from None
        finally:
            self._rebuilding = None

    async def parked(self) -> list[Parked]:
        """The parked streams."""
        return [
            Parked(
                projection=row.projection,
                stream=row.stream,
                from_version=row.from_version,
                shard=row.shard,
                position=row.position,
                at=row.at,
                error=row.error,
            )
            for row in await self._views.parked()
        ]

    async def retry(self, projection: str, stream: str, skip_because: str | None) -> bool:
        """Read a parked stream on."""
        return await self._views.retry(projection, stream, skip_because=skip_because)

    async def backup(self, target: Path, report: Report) -> BackupMade:
        """Not here."""
        _not_here("a cluster is backed up with the tools of its MongoDB, such as mongodump --oplog")

    async def create_key(self, tenant: str, expires_at: int | None) -> KeyMade:
        """Not here."""
        _not_here("this process writes views only; keys are made by one that serves everything")

    async def keys(self, tenant: str) -> list[KeyRow]:
        """Not here."""
        _not_here("this process writes views only; keys are listed by one that serves everything")

    async def revoke_key(self, tenant: str, key_id: str) -> bool:
        """Not here."""
        _not_here("this process writes views only; keys are revoked by one that serves everything")


def _not_here(words: str) -> NoReturn:
    raise Problem("unavailable", words)


def _reporting(report: Report) -> Callable[[RebuildProgress], None]:
    return lambda progress: report(Progress(progress.done_commits, progress.known_commits, "commits"))
