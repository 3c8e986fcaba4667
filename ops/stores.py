"""Where a server keeps what it keeps: files in its data folder, or the servers of a cluster (`ops.cluster`). Everything after this is
the same.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from eventlog.carrier import Sender, Source
from eventlog.checkpoints import Checkpoint, FileCheckpoint
from eventlog.port import Log, LogMismatchError
from eventlog.secrets import Secrets
from eventlog.snapshots import Snapshots, SqliteSnapshots
from eventlog.sqlite import SqliteLog
from eventlog.sqlite_secrets import SqliteSecrets
from gateways.limits import Share
from gateways.presence import Presence
from ops.folder import DataFolder
from ops.settings import Settings
from projections.fast import FastRows
from projections.shelf import ViewShelf
from projections.sqlite_shelf import SqliteShelf

if TYPE_CHECKING:
    from gateways.redis_driver import FastStoreCounters


@dataclass(frozen=True, slots=True, kw_only=True)
class Carrier:
    """How commits reach other processes, where the relay stands, and how they come, from the carrier's end on or shared by a group."""

    sender: Sender
    checkpoint: Checkpoint
    partitions: int
    source: Callable[[], Source]
    shared_source: Callable[[str], Source]
    """One of the group of that name, which shares the partitions."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Shared:
    """What gateways share beside the record: who is online, limits by name and rate, and bells that some may not hear."""

    presence: Presence
    share: Share
    ring: Callable[[str, str], Awaitable[None]]
    """(channel, text); never raises."""
    hear: Callable[[str, Callable[[str], None]], Coroutine[Any, Any, None]]
    """Calls back for each text of a channel, for ever."""
    counters: FastStoreCounters | None = None
    """Of the calls behind all of these."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Stores:
    """All stores of a server, open. `carrier` and `shared` are there in a cluster only, `fast` unless it is switched off."""

    log: Log
    secrets: Secrets
    snapshots: Snapshots
    shelf: ViewShelf
    reactions: Checkpoint
    carrier: Carrier | None = None
    shared: Shared | None = None
    fast: FastRows | None = None


@asynccontextmanager
async def embedded_stores(settings: Settings, folder: DataFolder) -> AsyncIterator[Stores]:
    """Files in the data folder. Raises LogMismatchError, LogUnavailableError, SecretsUnavailableError."""
    if folder.arriving.exists():
        raise LogMismatchError(
            f"the log in {folder.root} is being moved there and is not whole: run the same `minutebook move` again, or delete the folder"
        )
    async with AsyncExitStack() as stack:
        secrets = await SqliteSecrets.open(folder.secrets)
        stack.push_async_callback(secrets.close)
        log = await SqliteLog.open(folder.log, settings.shards)
        stack.push_async_callback(log.close)
        snapshots = await SqliteSnapshots.open(folder.snapshots, log)
        stack.push_async_callback(snapshots.close)
        yield Stores(
            log=log,
            secrets=secrets,
            snapshots=snapshots,
            shelf=SqliteShelf(folder.views),
            reactions=FileCheckpoint(folder.reactions, log.log_id),
        )
