"""Snapshots of aggregates: a cache beside the log.

Whatever is wrong with one, it is discarded and the stream is folded from its start.
"""

from __future__ import annotations

import asyncio
import hashlib
import os
import sqlite3
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Protocol, TypeVar

import msgspec
import structlog

from domain.streams import shard_of
from eventlog.port import Log
from eventlog.worker import Workers, WorkersClosedError, WorkersFullError

R = TypeVar("R")
_log = structlog.get_logger(__name__)

FILE_VERSION = 1
CALLS_WAITING_MAX = 1_000
DIGEST_BYTES = 16
PARTS_MAX = 10_000

_TABLES = """
CREATE TABLE snapshots (
    stream TEXT PRIMARY KEY, log_id TEXT NOT NULL, version INTEGER NOT NULL, position INTEGER NOT NULL, schema
    INTEGER NOT NULL, digest BLOB NOT NULL ) STRICT, WITHOUT ROWID; CREATE TABLE parts ( stream TEXT NOT NULL,
    name TEXT NOT NULL, digest BLOB NOT NULL, data BLOB NOT NULL, PRIMARY KEY (stream, name) ) STRICT;
"""


class Snapshot(msgspec.Struct, frozen=True):
    """The state of a stream at a version, in named parts; `schema` is the version of the parts' encoding.

    `position` is that of the commit with the version, as far as the maker knew it (0: not known).
    """

    stream: str
    version: int
    position: int
    schema: int
    parts: Mapping[str, bytes]


class Snapshots(Protocol):
    """A store of at most one snapshot per stream. No call ever fails because of the store."""

    async def load(self, stream: str, schema: int | None = None) -> Snapshot | None:
        """The snapshot, None if there is none that can be trusted (or none of `schema`, when that is given)."""
        ...

    async def save(
        self, stream: str, version: int, position: int, schema: int, parts: Mapping[str, bytes]
    ) -> None:
        """Replace the stream's snapshot; parts that did not change are not written again.

        Cancelled, it may still happen.
        """
        ...

    async def close(self) -> None:
        """Release the store. Idempotent."""
        ...


class MemorySnapshots:
    """Snapshots in a dictionary."""

    def __init__(self) -> None:
        self._snapshots: dict[str, Snapshot] = {}

    async def load(self, stream: str, schema: int | None = None) -> Snapshot | None:
        """See the port."""
        found = self._snapshots.get(stream)
        return None if found is None or schema not in (None, found.schema) else found

    async def save(
        self, stream: str, version: int, position: int, schema: int, parts: Mapping[str, bytes]
    ) -> None:
        """See the port."""
        self._snapshots[stream] = Snapshot(stream, version, position, schema, dict(parts))

    async def close(self) -> None:
        """Nothing to release."""


class SqliteSnapshots:
    """Snapshots in a file of their own (WAL, synchronous NORMAL: losing the newest costs a longer fold,
    nothing else).

    A snapshot is discarded when it was made of another log, when its version lies beyond the log, when its
    digest does not fit, or when its parts are not all there. A file that is no such file, or damaged, is made
    anew.
    """

    def __init__(self, log: Log, worker: Workers[sqlite3.Connection]) -> None:
        self._log = log
        self._worker = worker

    @classmethod
    async def open(cls, path: str | os.PathLike[str], log: Log) -> SqliteSnapshots:
        """Open or create the file for the snapshots of this log.

        Raises sqlite3.Error or OSError if not even a new file can be made.
        """
        db = await asyncio.to_thread(_opened, Path(path))
        return cls(
            log, Workers("snapshots", [db], jobs_max=CALLS_WAITING_MAX, dispose=sqlite3.Connection.close)
        )

    async def load(self, stream: str, schema: int | None = None) -> Snapshot | None:
        """See the port. Raises LogUnavailableError when the log cannot be asked for the stream's head."""
        log_id = self._log.log_id
        snapshot = await self._run("load", lambda db: _read(db, stream, log_id, schema))
        if snapshot is None or await is_beyond_log(snapshot, self._log):
            return None
        return snapshot

    async def save(
        self, stream: str, version: int, position: int, schema: int, parts: Mapping[str, bytes]
    ) -> None:
        """See the port. A snapshot of more than PARTS_MAX parts is not kept."""
        if len(parts) > PARTS_MAX:
            _log.warning("snapshot not kept: too many parts", stream=stream, parts=len(parts))
            return
        snapshot = Snapshot(stream, version, position, schema, parts)
        log_id = self._log.log_id
        await self._run("save", lambda db: _write(db, snapshot, log_id))

    async def close(self) -> None:
        """See the port."""
        await self._worker.close()

    async def _run(self, doing: str, call: Callable[[sqlite3.Connection], R]) -> R | None:
        try:
            return await self._worker.run(call)
        except (sqlite3.Error, WorkersClosedError, WorkersFullError) as error:
            _log.warning("snapshots are not usable", doing=doing, error=type(error).__name__)
            return None


def _opened(path: Path) -> sqlite3.Connection:
    try:
        return _connected(path)
    except sqlite3.DatabaseError as error:
        _log.warning("snapshots are made anew", error=f"{type(error).__name__}: {error}")
        for suffix in ("", "-wal", "-shm"):
            Path(f"{path}{suffix}").unlink(missing_ok=True)
        return _connected(path)


def _connected(path: Path) -> sqlite3.Connection:
    db = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
    try:
        db.execute("PRAGMA journal_mode = WAL").fetchone()
        db.execute("PRAGMA synchronous = NORMAL")
        version = db.execute("PRAGMA user_version").fetchone()[0]
        if version != FILE_VERSION:
            if version:
                raise sqlite3.DatabaseError(f"snapshots of file version {version}")
            db.executescript(f"BEGIN IMMEDIATE; {_TABLES} PRAGMA user_version = {FILE_VERSION}; COMMIT;")
        db.execute("SELECT count(*) FROM snapshots").fetchone()
    except BaseException:
        db.close()
        raise
    return db


def _read(db: sqlite3.Connection, stream: str, log_id: str, schema: int | None) -> Snapshot | None:
    row = db.execute(
        "SELECT version, position, schema, digest FROM snapshots WHERE stream = ? AND log_id = ?",
        (stream, log_id),
    ).fetchone()
    if row is None or schema not in (None, row[2]):
        return None
    found = db.execute("SELECT name, data FROM parts WHERE stream = ?", (stream,))
    parts = {name: bytes(data) for name, data in found}
    snapshot = Snapshot(stream, row[0], row[1], row[2], parts)
    digests = {name: digest_of(data) for name, data in parts.items()}
    if whole_digest(snapshot, log_id, digests) != row[3]:
        _log.warning("a damaged snapshot is discarded", stream=stream)
        return None
    return snapshot


def _write(db: sqlite3.Connection, snapshot: Snapshot, log_id: str) -> None:
    stream = snapshot.stream
    digests = {name: digest_of(data) for name, data in snapshot.parts.items()}
    db.execute("BEGIN IMMEDIATE")
    try:
        present = dict(db.execute("SELECT name, digest FROM parts WHERE stream = ?", (stream,)).fetchall())
        gone = [(stream, name) for name in present if name not in digests]
        dirty = [name for name, digest in digests.items() if present.get(name) != digest]
        db.executemany("DELETE FROM parts WHERE stream = ? AND name = ?", gone)
        db.executemany(
            "INSERT OR REPLACE INTO parts (stream, name, digest, data) VALUES (?, ?, ?, ?)",
            [(stream, name, digests[name], snapshot.parts[name]) for name in dirty],
        )
        db.execute(
            "INSERT OR REPLACE INTO snapshots (stream, log_id, version, position, schema, digest) VALUES (?, ?, ?, ?, ?, ?)",
            (
                stream,
                log_id,
                snapshot.version,
                snapshot.position,
                snapshot.schema,
                whole_digest(snapshot, log_id, digests),
            ),
        )
        db.execute("COMMIT")
    except BaseException:
        if db.in_transaction:
            db.execute("ROLLBACK")
        raise


async def is_beyond_log(snapshot: Snapshot, log: Log) -> bool:
    """Whether a snapshot says more than the log holds. Raises LogUnavailableError."""
    tail = await log.read_stream_tail(shard_of(snapshot.stream, log.shard_count), snapshot.stream, 1)
    return not tail or tail[0].first_version + tail[0].events_count - 1 < snapshot.version


def digest_of(data: bytes) -> bytes:
    """The digest of one part."""
    return hashlib.blake2b(data, digest_size=DIGEST_BYTES).digest()


def whole_digest(snapshot: Snapshot, log_id: str, digests: Mapping[str, bytes]) -> bytes:
    """Over everything the snapshot says, so that a part, a row or a number from elsewhere does not pass."""
    place = (snapshot.stream, log_id, snapshot.version, snapshot.position, snapshot.schema)
    whole = hashlib.blake2b(repr(place).encode(), digest_size=DIGEST_BYTES)
    for name in sorted(digests):
        whole.update(repr((name, digests[name])).encode())
    return whole.digest()
