"""The reading half of the SQLite log: plain functions over a read-only connection, run on the readers'
threads.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from eventlog.record import Commit, Head
from eventlog.sqlite_schema import COLUMNS, commit_of, row_id

_SHARD_PAGE = f"SELECT {COLUMNS} FROM commits WHERE id > ? AND id < ? ORDER BY id LIMIT ?"
_STREAM_PAGE = f"""
SELECT {COLUMNS} FROM commits
WHERE shard = :shard AND stream = :stream AND first_version >= coalesce(
    (SELECT max(first_version) FROM commits WHERE shard = :shard AND stream = :stream AND first_version <=
    :after + 1), 0) AND first_version + events_count > :after + 1 ORDER BY first_version LIMIT :limit
"""
_STREAM_TAIL = (
    f"SELECT {COLUMNS} FROM commits WHERE shard = ? AND stream = ? ORDER BY first_version DESC LIMIT ?"
)
_BY_KEY = f"SELECT {COLUMNS} FROM commits WHERE shard = ? AND key = ?"
_LAST = f"SELECT {COLUMNS} FROM commits WHERE id > ? AND id < ? ORDER BY id DESC LIMIT 1"


def shard_page(db: sqlite3.Connection, shard: int, after_position: int, limit: int) -> Sequence[Commit]:
    """Commits of a shard behind a position."""
    bounds = (row_id(shard, max(after_position, 0)), row_id(shard + 1, 0), limit)
    return [commit_of(row) for row in db.execute(_SHARD_PAGE, bounds)]


def stream_page(
    db: sqlite3.Connection, shard: int, stream: str, after_version: int, limit: int
) -> Sequence[Commit]:
    """Commits of a stream that reach beyond a version."""
    values = {"shard": shard, "stream": stream, "after": after_version, "limit": limit}
    return [commit_of(row) for row in db.execute(_STREAM_PAGE, values)]


def stream_tail(db: sqlite3.Connection, shard: int, stream: str, limit: int) -> Sequence[Commit]:
    """The newest commits of a stream, ascending."""
    return [commit_of(row) for row in db.execute(_STREAM_TAIL, (shard, stream, limit))][::-1]


def by_keys(db: sqlite3.Connection, keys: Sequence[tuple[int, bytes]]) -> Mapping[tuple[int, bytes], Commit]:
    """The commits with these keys: one index probe each, a few microseconds."""
    found: dict[tuple[int, bytes], Commit] = {}
    for place in keys:
        row = db.execute(_BY_KEY, place).fetchone()
        if row is not None:
            found[place] = commit_of(row)
    return found


def heads(db: sqlite3.Connection, shard_count: int) -> Mapping[int, Head]:
    """The last commit of every shard, one probe of the primary key each."""
    found: dict[int, Head] = {}
    for shard in range(shard_count + 1):
        row = db.execute(_LAST, (row_id(shard, 0), row_id(shard + 1, 0))).fetchone()
        if row is not None:
            found[shard] = commit_of(row).head
    return found


def copy_into(
    db: sqlite3.Connection, target: Path, step_pages: int, report: Callable[[int, int], None]
) -> None:
    """Copy one snapshot into `target` by way of a file beside it, which is renamed when it is whole and
    synced.
    """
    if target.exists():
        raise FileExistsError(target)
    partial = target.with_name(target.name + ".partial")
    partial.unlink(missing_ok=True)
    copy = sqlite3.connect(partial)
    db.execute("BEGIN")
    try:
        # The open read transaction pins the snapshot; without it the copy would start over at each flush.
        db.execute("SELECT 1 FROM meta").fetchone()
        db.backup(
            copy,
            pages=step_pages,
            progress=lambda _, remaining, total: report(total - remaining, total),
            sleep=0,
        )
        # A copied file that is in WAL mode would need its own -shm to be read; as a plain file it can be
        # opened anywhere.
        copy.execute("PRAGMA journal_mode = DELETE").fetchone()
    finally:
        db.execute("ROLLBACK")
        copy.close()
    _sync(partial)
    partial.rename(target)
    _sync(target.parent)


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
