"""The log in one SQLite file: the record of the embedded server."""

from __future__ import annotations

import asyncio
import os
import sqlite3
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TypeVar

import structlog

from eventlog import sqlite_reads as reads
from eventlog.port import (
    READ_COMMITS_MAX,
    LogMismatchError,
    LogUnavailableError,
    OutcomeUnknownError,
    ShardOutcome,
    check_batches,
)
from eventlog.record import Commit, Head
from eventlog.sqlite_checkpoint import Checkpointer
from eventlog.sqlite_schema import (
    LogMeta,
    check_stays,
    connect_reader,
    connect_writer,
    prepare,
    read_meta,
)
from eventlog.sqlite_writer import LogWriter
from eventlog.worker import Workers, WorkersClosedError, WorkersFullError

__all__ = ["LogMismatchError", "SqliteLog"]

_log = structlog.get_logger(__name__)
R = TypeVar("R")

READERS_DEFAULT = 2
APPENDS_WAITING_MAX = 64
READS_WAITING_MAX = 10_000
BACKUP_PAGES_PER_STEP = 256
PROBE_ROOM_BYTES = 1024 * 1024
"""The room that a log must have to be called writable again after a refusal."""

Progress = Callable[[int, int], None]
"""(pages copied, pages altogether)"""


class SqliteLog:
    """WAL, synchronous FULL, one writer thread, a few reader threads with connections of their own.

    One process at a time writes a file; a second one is refused by the position index at worst, never
    silently wrong.
    """

    def __init__(
        self,
        path: Path,
        meta: LogMeta,
        writer: Workers[LogWriter] | None,
        readers: Workers[sqlite3.Connection],
    ) -> None:
        self._path = path
        self._meta = meta
        self._writer = writer
        self._readers = readers

    @classmethod
    async def open(
        cls,
        path: str | os.PathLike[str],
        shard_count: int | None = None,
        *,
        log_id: str | None = None,
        readers: int = READERS_DEFAULT,
    ) -> SqliteLog:
        """Open the log, or create it when `shard_count` is given and the file is not there (`log_id` names a
        new log).

        Raises LogMismatchError (another shard count, another schema, no log), LogUnavailableError.
        """
        return await asyncio.to_thread(cls._open, Path(path), shard_count, log_id, readers)

    @classmethod
    async def open_read_only(
        cls, path: str | os.PathLike[str], *, readers: int = READERS_DEFAULT
    ) -> SqliteLog:
        """Open an existing log for reading only; `append` raises LogUnavailableError. It may be served by
        another process meanwhile.

        Raises LogMismatchError, LogUnavailableError.
        """
        return await asyncio.to_thread(cls._open_read_only, Path(path), readers)

    @classmethod
    def _open(cls, path: Path, shard_count: int | None, log_id: str | None, readers: int) -> SqliteLog:
        if shard_count is None and not path.exists():
            raise LogMismatchError(f"there is no log at {path}")
        try:
            db = connect_writer(path)
        except sqlite3.Error as error:
            raise LogUnavailableError(f"{path}: {error}") from error
        try:
            meta = prepare(db, path, shard_count, log_id)
            check_stays(path, meta)
            # What a killed process had written but not yet synced is visible now; make it durable before
            # anybody reads it.
            db.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
            log_writer = LogWriter(db, Checkpointer(path))
            log_writer.probe(0)
            connections = [connect_reader(path) for _ in range(readers)]
        except sqlite3.DatabaseError as error:
            db.close()
            raise LogUnavailableError(f"{path}: {error}") from error
        except (LogUnavailableError, OutcomeUnknownError) as error:
            db.close()
            raise LogUnavailableError(f"{path} cannot be written: {error}") from error
        except BaseException:
            db.close()
            raise
        writer = Workers(
            "log-writer",
            [log_writer],
            jobs_max=APPENDS_WAITING_MAX,
            dispose=LogWriter.close,
            idle=LogWriter.idle,
        )
        return cls(path, meta, writer, _reader_threads(connections))

    @classmethod
    def _open_read_only(cls, path: Path, readers: int) -> SqliteLog:
        if not path.exists():
            raise LogMismatchError(f"there is no log at {path}")
        connections: list[sqlite3.Connection] = []
        try:
            connections += [connect_reader(path) for _ in range(readers)]
            prepare(connections[0], path, None, None)
            meta = read_meta(connections[0])
        except BaseException as error:
            for connection in connections:
                connection.close()
            if isinstance(error, sqlite3.Error):
                raise LogUnavailableError(f"{path}: {error}") from error
            raise
        return cls(path, meta, None, _reader_threads(connections))

    @property
    def log_id(self) -> str:
        """From the meta table."""
        return self._meta.log_id

    @property
    def former_log_ids(self) -> Sequence[str]:
        """From the meta table: what it was called before restores, the oldest first."""
        return self._meta.former_log_ids

    @property
    def shard_count(self) -> int:
        """From the meta table."""
        return self._meta.shard_count

    @property
    def meta(self) -> LogMeta:
        """The meta table, as it was when the log was opened."""
        return self._meta

    @property
    def path(self) -> Path:
        """The database file."""
        return self._path

    async def append(self, batches: Mapping[int, Sequence[Commit]]) -> Mapping[int, ShardOutcome]:
        """See the port. One transaction; shards behind a refused document go on.

        A cancelled append happens nevertheless.
        """
        check_batches(batches, self.shard_count)
        if self._writer is None:
            raise LogUnavailableError("the log is open for reading only")
        return await _run(self._writer, lambda writer: writer.append(batches))

    async def read_shard(self, shard: int, after_position: int, limit: int) -> Sequence[Commit]:
        """See the port."""
        return await self._read(lambda db: reads.shard_page(db, shard, after_position, _bounded(limit)))

    async def read_stream(self, shard: int, stream: str, after_version: int, limit: int) -> Sequence[Commit]:
        """See the port."""
        return await self._read(
            lambda db: reads.stream_page(db, shard, stream, after_version, _bounded(limit))
        )

    async def read_stream_tail(self, shard: int, stream: str, limit: int) -> Sequence[Commit]:
        """See the port."""
        return await self._read(lambda db: reads.stream_tail(db, shard, stream, _bounded(limit)))

    async def find_keys(self, keys: Sequence[tuple[int, bytes]]) -> Mapping[tuple[int, bytes], Commit]:
        """See the port."""
        if not keys:
            return {}
        return await self._read(lambda db: reads.by_keys(db, keys))

    async def heads(self) -> Mapping[int, Head]:
        """See the port."""
        return await self._read(lambda db: reads.heads(db, self.shard_count))

    async def backup(self, target: str | os.PathLike[str], progress: Progress | None = None) -> None:
        """Copy one durable moment of the log into a new file while serving; it appears at `target` only when
        it is whole.

        `progress` is called on the loop. The WAL cannot be emptied meanwhile. Cancelled, the copy goes on and
        its file appears all the same. Raises FileExistsError, LogUnavailableError.
        """
        loop = asyncio.get_running_loop()
        path = Path(target)

        def report(copied: int, pages: int) -> None:
            if progress is not None:
                loop.call_soon_threadsafe(progress, copied, pages)

        await self._read(lambda db: reads.copy_into(db, path, BACKUP_PAGES_PER_STEP, report))

    async def probe(self) -> None:
        """See the port. There must be room for PROBE_ROOM_BYTES."""
        if self._writer is None:
            raise LogUnavailableError("the log is open for reading only")
        await _run(self._writer, lambda writer: writer.probe(PROBE_ROOM_BYTES))

    async def close(self) -> None:
        """See the port."""
        await self._readers.close()
        if self._writer is not None:
            await self._writer.close()

    async def _read(self, call: Callable[[sqlite3.Connection], R]) -> R:
        try:
            return await _run(self._readers, call)
        except sqlite3.Error as error:
            raise LogUnavailableError(f"{type(error).__name__}: {error}") from error


T = TypeVar("T")


async def _run(workers: Workers[T], call: Callable[[T], R]) -> R:
    try:
        return await workers.run(call)
    except WorkersClosedError:
        raise LogUnavailableError("the log is closed") from None
    except WorkersFullError:
        raise LogUnavailableError("too much waits for the log already") from None


def _reader_threads(connections: list[sqlite3.Connection]) -> Workers[sqlite3.Connection]:
    return Workers("log-reader", connections, jobs_max=READS_WAITING_MAX, dispose=sqlite3.Connection.close)


def _bounded(limit: int) -> int:
    return max(0, min(limit, READ_COMMITS_MAX))
