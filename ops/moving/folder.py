"""A data folder as a place that a log is moved from or to. Its lock is held meanwhile."""

from __future__ import annotations

import asyncio
import socket
import sqlite3
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from pathlib import Path

from eventlog.port import LogMismatchError, LogUnavailableError
from eventlog.secrets import MemorySecrets, Secrets
from eventlog.sqlite import SqliteLog
from eventlog.sqlite_schema import mark_moved, remember_former_log_ids
from eventlog.sqlite_secrets import SqliteSecrets
from ops import backup
from ops.folder import DataFolder, held_folder, remove_database
from ops.moving.transfer import MoveRefusedError, Source, check_destination, nothing_arrived

_ARRIVING_SECRETS = "secrets.db.moving"


class FolderSource:
    """A folder that no server runs on."""

    def __init__(self, folder: DataFolder, log: SqliteLog, secrets: Secrets) -> None:
        self._folder = folder
        self.log = log
        self.secrets = secrets
        self.moved_to = log.meta.moved_to
        self.former_log_ids: Sequence[str] = log.meta.former_log_ids

    @property
    def place(self) -> str:
        """See the port."""
        return place_of(self._folder.root)

    async def close_for_writing(self, place: str) -> None:
        """See the port."""
        await asyncio.to_thread(_mark, self._folder.log, place)

    async def open_for_writing(self) -> None:
        """See the port."""
        await asyncio.to_thread(_mark, self._folder.log, None)


class FolderTarget:
    """A folder of which the log appears last: what is not whole is no log to anybody."""

    def __init__(self, folder: DataFolder, log: SqliteLog, secrets: SqliteSecrets, *, is_whole: bool) -> None:
        self._folder = folder
        self.log = log
        self.secrets = secrets
        self.is_whole = is_whole

    @property
    def place(self) -> str:
        """See the port."""
        return place_of(self._folder.root)

    async def call_whole(self, former_log_ids: Sequence[str]) -> None:
        """See the port. The log is opened again under its own name."""
        await self.log.close()
        await self.secrets.close()
        await asyncio.to_thread(_call_whole, self._folder, former_log_ids)
        self.log = await SqliteLog.open_read_only(self._folder.log)


@asynccontextmanager
async def folder_source(root: Path) -> AsyncIterator[FolderSource]:
    """The log and the secrets of a folder. Raises FolderInUseError, LogMismatchError, LogUnavailableError, SecretsUnavailableError."""
    if not DataFolder(root).log.exists():
        raise LogMismatchError(f"there is no log in {root}: name its folder with --from")
    async with AsyncExitStack() as stack:
        folder = stack.enter_context(held_folder(root))
        log = await SqliteLog.open_read_only(folder.log)
        stack.push_async_callback(log.close)
        if log.meta.moved_to is None:
            # What a killed server left is made durable, and a disk that could not be marked afterwards is known now.
            await (await SqliteLog.open(folder.log)).close()
        secrets: Secrets = MemorySecrets()
        if folder.secrets.exists():
            secrets = await SqliteSecrets.open(folder.secrets)
        stack.push_async_callback(secrets.close)
        yield FolderSource(folder, log, secrets)


@asynccontextmanager
async def folder_target(root: Path, source: Source, *, make: bool = True) -> AsyncIterator[FolderTarget]:
    """A folder that is absent, empty, or holds what an earlier move to it brought; only the latter unless it may be made.

    Raises MoveRefusedError and what opening files raises.
    """
    check_destination(source, place_of(root))
    folder = DataFolder(root)
    is_whole = await asyncio.to_thread(_holds_log, folder)
    if not (make or is_whole or folder.arriving.exists()):
        raise nothing_arrived(source, place_of(root))
    async with AsyncExitStack() as stack:
        stack.enter_context(held_folder(root))
        if is_whole:
            log = await SqliteLog.open_read_only(folder.log)
            secrets = await SqliteSecrets.open(folder.secrets)
        else:
            log = await SqliteLog.open(folder.arriving, source.log.shard_count, log_id=source.log.log_id)
            secrets_path = root / _ARRIVING_SECRETS
            await asyncio.to_thread(remove_database, secrets_path)
            secrets = await SqliteSecrets.open(secrets_path)
        target = FolderTarget(folder, log, secrets, is_whole=is_whole)
        stack.push_async_callback(lambda: target.log.close())  # noqa: PLW0108 - another one by then
        stack.push_async_callback(secrets.close)
        yield target


def place_of(root: Path) -> str:
    """A folder by its machine and its path."""
    return f"the folder {root.resolve()} on {socket.gethostname()}"


def _holds_log(folder: DataFolder) -> bool:
    """Whether a whole log is there. Raises MoveRefusedError if something else is."""
    if folder.log.exists():
        return True
    if folder.root.exists():
        _check_free(folder)
    return False


def _check_free(folder: DataFolder) -> None:
    ours = {folder.lock.name}
    if folder.arriving.exists():
        names = (folder.arriving.name, _ARRIVING_SECRETS, folder.secrets.name)
        ours |= {f"{name}{ending}" for name in names for ending in ("", "-wal", "-shm", "-journal")}
    others = sorted({path.name for path in folder.root.iterdir()} - ours)
    if others:
        raise MoveRefusedError(
            f"{folder.root} is not empty (it holds {others[0]}): choose a folder that is absent or empty"
        )


def _call_whole(folder: DataFolder, former_log_ids: Sequence[str]) -> None:
    secrets = folder.root / _ARRIVING_SECRETS
    with _speaking(folder.arriving):
        remember_former_log_ids(folder.arriving, former_log_ids)
        backup.settle(folder.arriving)
        backup.settle(secrets)
    secrets.replace(folder.secrets)
    backup.sync(folder.root)
    folder.arriving.replace(folder.log)
    backup.sync(folder.root)


def _mark(path: Path, place: str | None) -> None:
    with _speaking(path):
        mark_moved(path, place)


@contextmanager
def _speaking(path: Path) -> Iterator[None]:
    try:
        yield
    except sqlite3.Error as error:
        raise LogUnavailableError(f"{path}: {error}") from error
