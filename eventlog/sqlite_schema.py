"""The file of the SQLite log: schema, pragmas, meta table, rows."""

from __future__ import annotations

import sqlite3
import time
import uuid
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec

from eventlog.port import LogMismatchError, LogUnavailableError
from eventlog.record import Commit

SCHEMA_VERSION = 1
POSITION_BITS = 48
PAGE_BYTES = 2048
"""A commit changes three pages at three places, and each goes to the disk whole: flushes of 80 commits took 110 µs a commit instead of
155 with pages of 4,096, and 1,024 gained no more.
"""
BUSY_TIMEOUT_MS = 5_000
CACHE_KIB = 32 * 1024
STATEMENTS_CACHED = 64

_TABLES = """
CREATE TABLE meta (name TEXT PRIMARY KEY, value TEXT NOT NULL) STRICT;
CREATE TABLE commits (
    id INTEGER PRIMARY KEY,
    shard INTEGER NOT NULL,
    epoch INTEGER NOT NULL,
    stream TEXT NOT NULL,
    first_version INTEGER NOT NULL,
    events_count INTEGER NOT NULL,
    first_number INTEGER NOT NULL,
    key BLOB NOT NULL,
    payload_digest BLOB NOT NULL,
    at INTEGER NOT NULL,
    frame BLOB NOT NULL
) STRICT;
CREATE UNIQUE INDEX commits_stream ON commits (shard, stream, first_version);
CREATE UNIQUE INDEX commits_key ON commits (shard, key);
"""

COLUMNS = (
    "id, shard, epoch, stream, first_version, events_count, first_number, key, payload_digest, at, frame"
)
_VALUES = "(?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
INSERTS = {
    rows: f"INSERT INTO commits ({COLUMNS}) VALUES {', '.join([_VALUES] * rows)}" for rows in (64, 16, 4, 1)
}
"""By the number of rows, the largest first; a few sizes, since each is a prepared statement of its own."""
INSERT = INSERTS[1]
PRESENT = "SELECT count(*) FROM commits WHERE id IN (SELECT value FROM json_each(?))"
PROBE = "INSERT OR REPLACE INTO meta (name, value) VALUES ('probe', ?)"
PROBE_END = "DELETE FROM meta WHERE name = 'probe'"
_FORMER = "former_log_ids"
_MOVED = "moved_to"
_PUT_META = "INSERT OR REPLACE INTO meta (name, value) VALUES (?, ?)"
_DROP_META = "DELETE FROM meta WHERE name = ?"
_POSITION_MASK = (1 << POSITION_BITS) - 1


class LogMeta(msgspec.Struct, frozen=True):
    """What the meta table says. `created_at`: milliseconds since 1970 UTC."""

    log_id: str
    shard_count: int
    created_at: int
    former_log_ids: tuple[str, ...] = ()
    """The ids under which the frames of a restored log were written, oldest first."""
    moved_to: str | None = None
    """Where the log went; it is not written here any more."""


def row_id(shard: int, position: int) -> int:
    """The primary key of a position; position 0 lies before the first one."""
    return shard << POSITION_BITS | position


def row_of(commit: Commit) -> tuple[Any, ...]:
    """The columns of a commit, in the order of COLUMNS."""
    return (
        commit.shard << POSITION_BITS | commit.position,
        commit.shard,
        commit.epoch,
        commit.stream,
        commit.first_version,
        commit.events_count,
        commit.first_number,
        commit.key,
        commit.payload_digest,
        commit.at,
        commit.frame,
    )


def commit_of(row: tuple[Any, ...]) -> Commit:
    """The commit of a row in the order of COLUMNS."""
    packed, shard, epoch, stream, first_version, count, first_number, key, payload_digest, at, frame = row
    return Commit(
        shard,
        packed & _POSITION_MASK,
        epoch,
        stream,
        first_version,
        first_number,
        key,
        payload_digest,
        at,
        count,
        frame,
    )


def connect_writer(path: Path, synchronous: str = "FULL") -> sqlite3.Connection:
    """A connection that writes or checkpoints: the writer's, and the checkpointer's beside it, which says why the two may.

    None makes checkpoints at moments of its own choosing: they would stall flushes.
    """
    db = _connect(f"file:{_quoted(path)}")
    db.execute(f"PRAGMA page_size = {PAGE_BYTES}")
    if db.execute("PRAGMA journal_mode = WAL").fetchone()[0] != "wal":
        db.close()
        raise LogUnavailableError(f"{path} cannot be put into WAL mode")
    db.execute(f"PRAGMA synchronous = {synchronous}")
    db.execute("PRAGMA wal_autocheckpoint = 0")
    db.execute("PRAGMA foreign_keys = ON")
    return db


def connect_reader(path: Path) -> sqlite3.Connection:
    """A connection that only reads: it can neither write nor checkpoint.

    A file without a WAL on a read-only disk is read as one that nobody changes: SQLite would want to make a WAL beside it.
    """
    uri = f"file:{_quoted(path)}?mode=ro"
    try:
        return _connect(uri)
    except sqlite3.OperationalError as error:
        is_shut = path.is_file() and not path.with_name(path.name + "-wal").exists()
        if not is_shut or error.sqlite_errorcode & 0xFF != sqlite3.SQLITE_CANTOPEN:
            raise
        return _connect(f"{uri}&immutable=1")


def _connect(uri: str) -> sqlite3.Connection:
    db = sqlite3.connect(
        uri,
        uri=True,
        isolation_level=None,
        check_same_thread=False,
        timeout=BUSY_TIMEOUT_MS / 1000,
        cached_statements=STATEMENTS_CACHED,
    )
    try:
        db.execute(f"PRAGMA cache_size = -{CACHE_KIB}")
        db.execute("SELECT 1 FROM sqlite_schema").fetchone()
    except BaseException:
        db.close()
        raise
    return db


def _quoted(path: Path) -> str:
    return str(path.absolute()).replace("%", "%25").replace("?", "%3f").replace("#", "%23")


def prepare(db: sqlite3.Connection, path: Path, shard_count: int | None, log_id: str | None) -> LogMeta:
    """Create the tables of a new file, or check those of an old one. Raises LogMismatchError."""
    version = db.execute("PRAGMA user_version").fetchone()[0]
    if version == 0:
        if db.execute("SELECT count(*) FROM sqlite_schema").fetchone()[0]:
            raise LogMismatchError(f"{path} is a database, but not a log")
        if shard_count is None:
            raise LogMismatchError(f"{path} holds no log")
        _create(db, shard_count, log_id or uuid.uuid4().hex)
    elif version != SCHEMA_VERSION:
        raise LogMismatchError(f"{path} has schema version {version}, this program knows {SCHEMA_VERSION}")
    meta = read_meta(db)
    if shard_count is not None and meta.shard_count != shard_count:
        raise LogMismatchError(
            f"{path} was made with {meta.shard_count} shards and cannot be opened with {shard_count}"
        )
    return meta


def _create(db: sqlite3.Connection, shard_count: int, log_id: str) -> None:
    created_at = time.time_ns() // 1_000_000
    db.execute("BEGIN IMMEDIATE")
    try:
        for statement in _TABLES.split(";")[:-1]:
            db.execute(statement)
        values = {"log_id": log_id, "shard_count": str(shard_count), "created_at": str(created_at)}
        db.executemany("INSERT INTO meta (name, value) VALUES (?, ?)", values.items())
        db.execute(f"PRAGMA user_version = {SCHEMA_VERSION}")
        db.execute("COMMIT")
    except BaseException:
        if db.in_transaction:
            db.execute("ROLLBACK")
        raise


def read_meta(db: sqlite3.Connection) -> LogMeta:
    """The meta table. Raises LogMismatchError when something is missing."""
    values = dict(db.execute("SELECT name, value FROM meta").fetchall())
    try:
        log_id, shard_count, created_at = values["log_id"], values["shard_count"], values["created_at"]
        former = tuple(values.get(_FORMER, "").split())
        return LogMeta(log_id, int(shard_count), int(created_at), former, values.get(_MOVED))
    except (KeyError, ValueError) as error:
        raise LogMismatchError(f"the meta table of the log is damaged: {error}") from error


def renew_log_id(path: Path) -> tuple[str, str]:
    """Give a log that nobody has open a new id, as every restore does; (old id, new id).

    Frames keep theirs; what comes after carries the new one, and everything derived from the old log is void. It may be written, also
    if the old one was moved away. Durable when it returns. Raises LogMismatchError, sqlite3.Error.
    """
    db = connect_writer(path)
    try:
        meta = prepare(db, path, None, None)
        renewed = uuid.uuid4().hex
        former = " ".join((*meta.former_log_ids, meta.log_id))
        db.execute("BEGIN IMMEDIATE")
        db.execute(_PUT_META, (_FORMER, former))
        db.execute(_DROP_META, (_MOVED,))
        db.execute("UPDATE meta SET value = ? WHERE name = 'log_id'", (renewed,))
        db.execute("COMMIT")
        db.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
    finally:
        db.close()
    return meta.log_id, renewed


def remember_former_log_ids(path: Path, log_ids: Sequence[str]) -> None:
    """Say under which ids the frames of a log were written that was filled from elsewhere, oldest first. Nobody has it open.

    Raises LogMismatchError, sqlite3.Error.
    """
    _put_meta(path, _FORMER, " ".join(log_ids))


def mark_moved(path: Path, place: str | None) -> None:
    """Say where the log went, so that nobody writes it here again; None: it stays after all. Nobody has it open.

    Durable when it returns. Raises LogMismatchError, sqlite3.Error.
    """
    _put_meta(path, _MOVED, place)


def _put_meta(path: Path, name: str, value: str | None) -> None:
    db = connect_writer(path)
    try:
        prepare(db, path, None, None)
        if value is None:
            db.execute(_DROP_META, (name,))
        else:
            db.execute(_PUT_META, (name, value))
        db.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
    finally:
        db.close()


def check_stays(path: Path, meta: LogMeta) -> None:
    """Raises LogMismatchError for a log that was moved away: whoever wrote here would fork it."""
    if meta.moved_to is not None:
        raise LogMismatchError(
            f"the log at {path} was moved to {meta.moved_to}: serve that one; this folder is only read, and may be deleted"
        )
