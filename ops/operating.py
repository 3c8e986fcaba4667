"""What a running server does for its operator, over its own parts."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import msgspec
from typing_extensions import override

from domain.errors import Problem
from eventlog.sqlite import SqliteLog
from ops.backup import BackupError, made_of, make_backup
from ops.control import ControlServer
from ops.faces import now_ms
from ops.operations import BackupMade, KeyMade, KeyRow, Progress, Report, Status
from ops.view_operations import ViewOperations
from ops.wiring import Server


class ServerOperations(ViewOperations):
    """See `ops.operations.Operations`. One rebuild and one backup at a time."""

    def __init__(self, server: Server) -> None:
        super().__init__(server.views)
        self._server = server
        self.url = ""
        """Where the server listens, once it does."""
        self._is_backing_up = False

    @override
    async def status(self) -> Status:
        """How it is."""
        node = self._server.node
        return msgspec.structs.replace(
            await super().status(), url=self.url, writable=node.writable, queued_orders=node.queued_orders
        )

    @override
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

    @override
    async def create_key(self, tenant: str, expires_at: int | None) -> KeyMade:
        """Make an app key."""
        key_id, secret = await self._server.faces.app_keys.create(tenant, expires_at)
        return KeyMade(tenant=tenant, key_id=key_id, secret=secret, expires_at=expires_at)

    @override
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

    @override
    async def revoke_key(self, tenant: str, key_id: str) -> bool:
        """End a key."""
        return (await self._server.faces.app_keys.revoke(tenant, key_id)).changed


@asynccontextmanager
async def controlled(server: Server, operations: ServerOperations) -> AsyncIterator[None]:
    """The control socket of a server, open."""
    async with ControlServer(server.folder.control, operations):
        yield
