"""Secrets in an SQLite file of their own: mode 0600, synchronous FULL, one thread."""

from __future__ import annotations

import asyncio
import os
import sqlite3
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TypeVar

from eventlog.secrets import LIST_MAX, SecretsUnavailableError, check_value
from eventlog.worker import Workers, WorkersClosedError, WorkersFullError

R = TypeVar("R")

SCHEMA_VERSION = 1
CALLS_WAITING_MAX = 10_000
FILE_MODE = 0o600

_TABLE = """
CREATE TABLE IF NOT EXISTS secrets (
    kind TEXT NOT NULL, subject TEXT NOT NULL, name TEXT NOT NULL, value BLOB NOT NULL, PRIMARY KEY (kind,
    subject, name) ) STRICT, WITHOUT ROWID
"""
_PLACE = "kind = ? AND subject = ? AND name = ?"
_PUT = "INSERT INTO secrets (kind, subject, name, value) VALUES (?, ?, ?, ?)"
_LIST = (
    "SELECT subject, name, value FROM secrets WHERE kind = :kind AND (:subject IS NULL OR subject = :subject)"
    " AND (subject, name) > (:after_subject, :after_name) ORDER BY subject, name LIMIT :limit"
)


class SqliteSecrets:
    """The durable adapter of the secrets port."""

    def __init__(self, worker: Workers[sqlite3.Connection]) -> None:
        self._worker = worker

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
                return (
                    db.execute(
                        f"DELETE FROM secrets WHERE {_PLACE} AND value = ?", (*place, expected)
                    ).rowcount
                    == 1
                )
            changed = f"UPDATE secrets SET value = ? WHERE {_PLACE} AND value = ?"
            return db.execute(changed, (value, *place, expected)).rowcount == 1

        return await self._run(call)

    async def delete(self, kind: str, subject: str, name: str) -> bool:
        """See the port. The bytes are overwritten in the file (secure_delete)."""
        statement = f"DELETE FROM secrets WHERE {_PLACE}"
        return await self._run(lambda db: db.execute(statement, (kind, subject, name)).rowcount == 1)

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

    async def close(self) -> None:
        """See the port."""
        await self._worker.close()

    async def _run(self, call: Callable[[sqlite3.Connection], R]) -> R:
        try:
            return await self._worker.run(call)
        except WorkersClosedError:
            raise SecretsUnavailableError("the secrets are closed") from None
        except WorkersFullError:
            raise SecretsUnavailableError("too much waits for the secrets already") from None
        except sqlite3.Error as error:
            raise SecretsUnavailableError(f"{type(error).__name__}: {error}") from error


def _opened(path: Path) -> sqlite3.Connection:
    # The mode is set before SQLite sees the file, so that the -journal it makes beside it inherits it and no
    # moment is open to others.
    os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, FILE_MODE))
    path.chmod(FILE_MODE)
    db = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
    try:
        db.execute("PRAGMA journal_mode = TRUNCATE").fetchone()
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


def _value(db: sqlite3.Connection, place: tuple[str, str, str]) -> bytes | None:
    row = db.execute(f"SELECT value FROM secrets WHERE {_PLACE}", place).fetchone()
    return None if row is None else bytes(row[0])
