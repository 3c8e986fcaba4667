"""What a running server does for its operator, over its own parts."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from importlib.metadata import version
from pathlib import Path

from domain.errors import Problem
from eventlog.sqlite import SqliteLog
from ops.backup import BackupError, made_of, make_backup
from ops.control import ControlServer
from ops.faces import now_ms
from ops.operations import BackupMade, KeyMade, KeyRow, Parked, Progress, Rebuilt, Report, RolledBack, Status
from ops.wiring import Server
from projections.projection import Poison
from projections.rebuild import Progress as RebuildProgress
from projections.rebuild import Rebuild, RollBack


class ServerOperations:
    """See `ops.operations.Operations`. One rebuild and one backup at a time."""

    def __init__(self, server: Server) -> None:
        self._server = server
        self.url = ""
        """Where the server listens, once it does."""
        self._rebuilding: str | None = None
        self._is_backing_up = False

    async def status(self) -> Status:
        """How it is."""
        server = self._server
        heads = await server.log.heads()
        return Status(
            version=version("minutebook"),
            process_id=os.getpid(),
            url=self.url,
            log_id=server.log.log_id,
            shards=server.log.shard_count,
            events=sum(head.number for head in heads.values()),
            writable=server.node.writable,
            queued_orders=server.node.queued_orders,
            view_lag_commits=server.views.lag_commits,
            parked=len(await server.views.parked()),
            read_models=list(server.views.names),
        )

    async def rebuild(self, name: str, report: Report, share: float, *, only_if_same: bool) -> Rebuilt:
        """Build a read model anew and switch to it."""
        views, tell = self._server.views, _reporting(report)
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
            back = await RollBack(self._server.views, name, progress=_reporting(report), share=share).run()
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
        if name not in self._server.views.names:
            known = ", ".join(self._server.views.names)
            raise Problem("validation_failed", f"there is no read model {name!r}; there are {known}")
        self._rebuilding = name
        try:
            yield
        except Poison as error:
            raise Problem("conflict", f"it stopped at an event that it cannot read: {error}") from None
        finally:
            self._rebuilding = None

    async def backup(self, target: Path, report: Report) -> BackupMade:
        """Write a backup while serving."""
        if self._is_backing_up:
            raise Problem("conflict", "a backup is being made; one at a time")
        server = self._server
        if not isinstance(server.log, SqliteLog):
            raise Problem(
                "unavailable",
                "a cluster is backed up with the tools of its MongoDB, such as mongodump --oplog",
            )
        self._is_backing_up = True
        try:
            manifest = await make_backup(
                server.log,
                server.folder.secrets,
                target,
                now_ms(),
                lambda done, total: report(Progress(done, total, "pages")),
            )
        except BackupError as error:
            raise Problem("validation_failed", str(error)) from None
        except OSError as error:
            raise Problem("unavailable", f"{target}: {error.strerror}") from None
        finally:
            self._is_backing_up = False
        return made_of(target, manifest)

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
            for row in await self._server.views.parked()
        ]

    async def retry(self, projection: str, stream: str, skip_because: str | None) -> bool:
        """Read a parked stream on."""
        return await self._server.views.retry(projection, stream, skip_because=skip_because)

    async def create_key(self, tenant: str, expires_at: int | None) -> KeyMade:
        """Make an app key."""
        key_id, secret = await self._server.faces.app_keys.create(tenant, expires_at)
        return KeyMade(tenant=tenant, key_id=key_id, secret=secret, expires_at=expires_at)

    async def keys(self, tenant: str) -> list[KeyRow]:
        """The tenant's keys."""
        return [
            KeyRow(
                tenant=tenant,
                key_id=key_id,
                created_at=key.created_at,
                expires_at=key.expires_at,
                revoked=key.revoked,
            )
            for key_id, key in (await self._server.faces.app_keys.list(tenant)).items()
        ]

    async def revoke_key(self, tenant: str, key_id: str) -> bool:
        """End a key."""
        return (await self._server.faces.app_keys.revoke(tenant, key_id)).changed


def _reporting(report: Report) -> Callable[[RebuildProgress], None]:
    return lambda progress: report(Progress(progress.done_commits, progress.known_commits, "commits"))


@asynccontextmanager
async def controlled(server: Server, operations: ServerOperations) -> AsyncIterator[None]:
    """The control socket of a server, open."""
    async with ControlServer(server.folder.control, operations):
        yield
