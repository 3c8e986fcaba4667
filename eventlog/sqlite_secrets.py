"""Secrets in an SQLite file of their own: mode 0600, WAL, synchronous FULL, one thread.

Calls that wait at the same time share one transaction, and so one sync. What was deleted is wiped: from the database by
`secure_delete`, from the WAL by emptying it.
"""

from __future__ import annotations

import asyncio
import os
import sqlite3
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, TypeVar

import structlog

from eventlog.secrets import LIST_MAX, SecretsUnavailableError, check_value
from eventlog.worker import Workers, WorkersClosedError, WorkersFullError

_log = structlog.get_logger(__name__)

R = TypeVar("R")

SCHEMA_VERSION = 1
CALLS_WAITING_MAX = 10_000
CALLS_TOGETHER_MAX = 256
"""Calls of one transaction, at most."""
FILE_MODE = 0o600

_TABLE = """
CREATE TABLE IF NOT EXISTS secrets (
    kind TEXT NOT NULL, subject TEXT NOT NULL, name TEXT NOT NULL, value BLOB NOT NULL, PRIMARY KEY (kind,
    subject, name) ) STRICT, WITHOUT ROWID
"""
_DELETE = "DELETE FROM secrets"
_PLACE = "kind = ? AND subject = ? AND name = ?"
_KINDS = "SELECT DISTINCT kind FROM secrets ORDER BY kind"
_PUT = "INSERT INTO secrets (kind, subject, name, value) VALUES (?, ?, ?, ?)"
_LIST = (
    "SELECT subject, name, value FROM secrets WHERE kind = :kind AND (:subject IS NULL OR subject = :subject)"
    " AND (subject, name) > (:after_subject, :after_name) ORDER BY subject, name LIMIT :limit"
)


class _Call:
    """One call on its way: `work` runs on the thread, then `result` or `error` is set. `wipes`: it deletes something."""

    __slots__ = ("error", "result", "wipes", "work")

    def __init__(self, work: Callable[[sqlite3.Connection], Any], *, wipes: bool) -> None:
        self.work = work
        self.wipes = wipes
        self.result: Any = None
        self.error: BaseException | None = None


class SqliteSecrets:
    """The durable adapter of the secrets port."""

    def __init__(self, worker: Workers[sqlite3.Connection]) -> None:
        self._worker = worker
        self._calls: deque[_Call] = deque()

    @classmethod
    async def open(cls, path: str | os.PathLike[str]) -> SqliteSecrets:
        """Open or create the file. An existing file that others may read is narrowed to mode 0600.

        Raises SecretsUnavailableError.
        """
        try:
            db = await asyncio.to_thread(_opened, Path(path))
        except (sqlite3.Error, OSError) as error:
            raise SecretsUnavailableError(f"{path}: {error}") from error
        return cls(Workers("secrets", [db], jobs_max=CALLS_WAITING_MAX, dispose=sqlite3.Connection.close))

    async def get(self, kind: str, subject: str, name: str) -> bytes | None:
        """See the port."""
        return await self._run(lambda db: _value(db, (kind, subject, name)))

    async def put(self, kind: str, subject: str, name: str, value: bytes) -> None:
        """See the port."""
        check_value(value)
        statement = f"{_PUT} ON CONFLICT DO UPDATE SET value = excluded.value"
        await self._run(lambda db: db.execute(statement, (kind, subject, name, value)).rowcount)

    async def put_if_absent(self, kind: str, subject: str, name: str, value: bytes) -> bytes:
        """See the port."""
        check_value(value)

        def call(db: sqlite3.Connection) -> bytes:
            db.execute(f"{_PUT} ON CONFLICT DO NOTHING", (kind, subject, name, value))
            present = _value(db, (kind, subject, name))
            assert present is not None, "this thread alone writes the file"
            return present

        return await self._run(call)

    async def compare_and_swap(
        self, kind: str, subject: str, name: str, expected: bytes | None, value: bytes | None
    ) -> bool:
        """See the port."""
        check_value(value)
        place = (kind, subject, name)

        def call(db: sqlite3.Connection) -> bool:
            if expected is None and value is None:
                return _value(db, place) is None
            if expected is None:
                return db.execute(f"{_PUT} ON CONFLICT DO NOTHING", (*place, value)).rowcount == 1
            if value is None:
                return db.execute(f"{_DELETE} WHERE {_PLACE} AND value = ?", (*place, expected)).rowcount == 1
            changed = f"UPDATE secrets SET value = ? WHERE {_PLACE} AND value = ?"
            return db.execute(changed, (value, *place, expected)).rowcount == 1

        return await self._run(call, wipes=value is None)

    async def delete(self, kind: str, subject: str, name: str) -> bool:
        """See the port. The bytes are overwritten in the files."""
        statement = f"{_DELETE} WHERE {_PLACE}"
        return await self._run(
            lambda db: db.execute(statement, (kind, subject, name)).rowcount == 1, wipes=True
        )

    async def list(
        self, kind: str, subject: str | None = None, after: tuple[str, str] = ("", ""), limit: int = LIST_MAX
    ) -> Mapping[tuple[str, str], bytes]:
        """See the port."""
        values = {
            "kind": kind,
            "subject": subject,
            "after_subject": after[0],
            "after_name": after[1],
            "limit": max(0, min(limit, LIST_MAX)),
        }
        rows = await self._run(lambda db: db.execute(_LIST, values).fetchall())
        return {(found, name): value for found, name, value in rows}

    async def kinds(self) -> Sequence[str]:
        """See the port."""
        rows = await self._run(lambda db: db.execute(_KINDS).fetchall())
        return [kind for (kind,) in rows]

    async def close(self) -> None:
        """See the port."""
        await self._worker.close()

    async def _run(self, work: Callable[[sqlite3.Connection], R], *, wipes: bool = False) -> R:
        call = _Call(work, wipes=wipes)
        self._calls.append(call)
        try:
            # Each call brings a job, and a job runs all calls that wait: when ours has ended, so has our call.
            await self._worker.run(self._run_waiting)
        except (WorkersClosedError, WorkersFullError) as error:
            with suppress(ValueError):
                self._calls.remove(call)
            closed = isinstance(error, WorkersClosedError)
            why = "the secrets are closed" if closed else "too much waits for the secrets already"
            raise SecretsUnavailableError(why) from None
        if isinstance(call.error, sqlite3.Error):
            raise SecretsUnavailableError(f"{type(call.error).__name__}: {call.error}") from call.error
        if call.error is not None:
            raise call.error
        result: R = call.result
        return result

    def _run_waiting(self, db: sqlite3.Connection) -> None:
        """On the thread: one transaction for what waits; if it fails, all of its calls do."""
        calls = [self._calls.popleft() for _ in range(min(len(self._calls), CALLS_TOGETHER_MAX))]
        if not calls:
            return
        try:
            _in_one_transaction(db, calls)
        except BaseException as error:  # noqa: BLE001 - handed to the callers, whatever it is
            for call in calls:
                call.error = error


def _opened(path: Path) -> sqlite3.Connection:
    # The mode is set before SQLite sees the file, so that the -wal and -shm it makes beside it inherit it and no
    # moment is open to others.
    os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, FILE_MODE))
    path.chmod(FILE_MODE)
    db = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
    try:
        db.execute("PRAGMA journal_mode = WAL").fetchone()
        db.execute("PRAGMA synchronous = FULL")
        db.execute("PRAGMA secure_delete = ON").fetchone()
        version = db.execute("PRAGMA user_version").fetchone()[0]
        if version not in (0, SCHEMA_VERSION):
            raise SecretsUnavailableError(
                f"{path} has schema version {version}, this program knows {SCHEMA_VERSION}"
            )
        db.execute(_TABLE)
        db.execute(f"PRAGMA user_version = {SCHEMA_VERSION}")
    except BaseException:
        db.close()
        raise
    return db


def _in_one_transaction(db: sqlite3.Connection, calls: list[_Call]) -> None:
    if db.in_transaction:  # A rollback failed before.
        db.execute("ROLLBACK")
    db.execute("BEGIN IMMEDIATE")
    try:
        for call in calls:
            call.result = call.work(db)
        db.execute("COMMIT")
    except BaseException:
        if db.in_transaction:
            db.execute("ROLLBACK")
        raise
    if any(call.wipes for call in calls):
        _empty_wal(db)


def _empty_wal(db: sqlite3.Connection) -> None:
    """Old pages with deleted bytes stand in the WAL until it is emptied; if that fails, the next deletion does it."""
    try:
        db.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
    except sqlite3.Error as error:
        _log.warning("deleted secrets are not wiped yet", error=f"{type(error).__name__}: {error}")


def _value(db: sqlite3.Connection, place: tuple[str, str, str]) -> bytes | None:
    row = db.execute(f"SELECT value FROM secrets WHERE {_PLACE}", place).fetchone()
    return None if row is None else bytes(row[0])
