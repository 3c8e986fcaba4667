"""Backup and restore of the embedded server.

A backup is a folder: `log.db` (one durable moment of the log), `secrets.db` (mode 0600) and, written last,
`manifest.json` with digests and heads. Views and snapshots are not in it: they are made from the log. A
restore gives the log a new id, as PostgreSQL begins a new timeline: frames keep theirs, what comes after
carries the new one, and cursors, checkpoints and views of the old one are void.
"""

from __future__ import annotations

import asyncio
import functools
import hashlib
import os
import sqlite3
from collections.abc import Callable, Mapping
from contextlib import closing
from importlib.metadata import version
from pathlib import Path

import msgspec

from eventlog.port import LogUnavailableError
from eventlog.record import Head
from eventlog.sqlite import SqliteLog
from eventlog.sqlite_schema import renew_log_id
from ops.folder import DataFolder, FolderLock
from ops.operations import BackupMade

FORMAT = 1
MANIFEST = "manifest.json"
LOG = "log.db"
SECRETS = "secrets.db"
FILE_MODE = 0o600
"""Messages and credentials are nobody else's business."""
COPY_BYTES = 1024 * 1024
BACKUP_PAGES_PER_STEP = 64
SECRETS_BUSY_S = 10.0

Report = Callable[[int, int], None]
"""(pages copied, pages altogether)"""


class BackupError(Exception):
    """The folder holds no whole backup, or the target is not free."""


class FileMark(msgspec.Struct, frozen=True):
    """What a file of the backup was when it was made."""

    bytes: int
    sha256: str


class HeadMark(msgspec.Struct, frozen=True):
    """The head of a shard; `digest` is that of its last frame, in hex."""

    position: int
    epoch: int
    number: int
    at: int
    digest: str


class Manifest(msgspec.Struct, frozen=True, kw_only=True):
    """What a backup says about itself. `made_at`: milliseconds since 1970 UTC."""

    format: int
    program: str
    made_at: int
    log_id: str
    shards: int
    events: int
    heads: dict[int, HeadMark]
    files: dict[str, FileMark]

    def expected(self) -> Mapping[int, Head]:
        """The heads, for `audit verify`."""
        return {
            shard: Head(mark.position, mark.epoch, mark.number, mark.at, bytes.fromhex(mark.digest))
            for shard, mark in self.heads.items()
        }


class Restored(msgspec.Struct, frozen=True, kw_only=True):
    """A data folder made from a backup."""

    data: str
    log_id: str
    former_log_id: str
    events: int


async def make_backup(
    log: SqliteLog, secrets: Path, target: Path, now_ms: int, report: Report | None = None
) -> Manifest:
    """Write a backup into `target`, which is made or must be empty; the log may be written meanwhile.

    The secrets are copied after the log: a key is stored before the event that tells of it. Without a
    manifest, as an interruption leaves it, the folder is no backup. Raises BackupError, LogUnavailableError,
    OSError.
    """
    await asyncio.to_thread(_prepare, target)
    await log.backup(target / LOG, report)
    await asyncio.to_thread((target / LOG).chmod, FILE_MODE)
    await asyncio.to_thread(_copy_secrets, secrets, target / SECRETS)
    heads = await _heads_of(target / LOG)
    files = {name: await asyncio.to_thread(_mark_of, target / name) for name in (LOG, SECRETS)}
    manifest = Manifest(
        format=FORMAT,
        program=version("minutebook"),
        made_at=now_ms,
        log_id=log.log_id,
        shards=log.shard_count,
        events=sum(head.number for head in heads.values()),
        heads=heads,
        files=files,
    )
    await asyncio.to_thread(_write, target / MANIFEST, msgspec.json.format(msgspec.json.encode(manifest)))
    return manifest


def made_of(target: Path, manifest: Manifest) -> BackupMade:
    """What to tell of a backup that was made."""
    return BackupMade(
        target=str(target),
        log_id=manifest.log_id,
        events=manifest.events,
        bytes=sum(mark.bytes for mark in manifest.files.values()),
    )


def read_manifest(source: Path) -> Manifest:
    """The manifest of a backup. Raises BackupError."""
    try:
        manifest = msgspec.json.decode((source / MANIFEST).read_bytes(), type=Manifest)
    except OSError:
        raise BackupError(f"{source} holds no backup: there is no {MANIFEST}") from None
    except msgspec.DecodeError as error:
        raise BackupError(f"{source / MANIFEST} cannot be read: {error}") from None
    if manifest.format != FORMAT:
        raise BackupError(f"{source} is a backup of format {manifest.format}, this program knows {FORMAT}")
    return manifest


def restore(source: Path, data: Path, report: Callable[[int, int], None] | None = None) -> Restored:
    """Make a new data folder from a backup, and give its log a new id.

    `data` is made or must be empty. Every file is compared with the manifest first. The log appears last, so
    an interrupted restore leaves a folder without one. `report`: (bytes copied, bytes altogether). Raises
    BackupError, FolderInUseError, FolderUnusableError, OSError.
    """
    manifest = read_manifest(source)
    for name, mark in manifest.files.items():
        if not (source / name).is_file() or _mark_of(source / name) != mark:
            raise BackupError(f"{source / name} is not the file that the manifest tells of")
    folder = DataFolder(data)
    if data.exists() and any(data.iterdir()):
        raise BackupError(f"{data} is not empty")
    folder.prepare()
    lock = FolderLock(folder)
    lock.acquire()
    try:
        total = sum(mark.bytes for mark in manifest.files.values())
        copied = _copy(source / SECRETS, folder.secrets, FILE_MODE, 0, total, report)
        partial = folder.log.with_name("log.db.restoring")
        _copy(source / LOG, partial, FILE_MODE, copied, total, report)
        former, log_id = renew_log_id(partial)
        settle(partial)
        partial.replace(folder.log)
        sync(data)
    finally:
        lock.release()
    return Restored(data=str(data), log_id=log_id, former_log_id=former, events=manifest.events)


def _prepare(target: Path) -> None:
    target.mkdir(parents=True, exist_ok=True, mode=0o700)
    if any(target.iterdir()):
        raise BackupError(f"{target} is not empty")


async def _heads_of(path: Path) -> dict[int, HeadMark]:
    log = await SqliteLog.open_read_only(path, readers=1)
    try:
        heads = await log.heads()
    finally:
        await log.close()
    return {
        shard: HeadMark(head.position, head.epoch, head.number, head.at, head.digest.hex())
        for shard, head in sorted(heads.items())
    }


def _copy_secrets(source: Path, target: Path) -> None:
    """A consistent copy, made with the right mode from the first byte on."""
    os.close(os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL, FILE_MODE))
    if not source.exists():
        raise BackupError(f"there are no secrets at {source}")
    uri = f"{source.absolute().as_uri()}?mode=ro"
    try:
        with (
            closing(sqlite3.connect(uri, uri=True, timeout=SECRETS_BUSY_S)) as db,
            closing(sqlite3.connect(target)) as copy,
        ):
            db.backup(copy, pages=BACKUP_PAGES_PER_STEP)
            # The copy would be in WAL mode and want a -shm beside it to be read.
            copy.execute("PRAGMA journal_mode = DELETE").fetchone()
    except sqlite3.Error as error:
        raise LogUnavailableError(f"{source}: {error}") from error
    sync(target)


def settle(path: Path) -> None:
    """Leave WAL mode, so that the file can be renamed alone."""
    with closing(sqlite3.connect(path, isolation_level=None)) as db:
        db.execute("PRAGMA journal_mode = DELETE").fetchone()
    sync(path)


def _mark_of(path: Path) -> FileMark:
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
        return FileMark(file.tell(), digest)


def _copy(source: Path, target: Path, mode: int, before: int, total: int, report: Report | None) -> int:
    done = before
    descriptor = os.open(target, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, mode)
    with source.open("rb") as reader, os.fdopen(descriptor, "wb") as writer:
        for block in iter(functools.partial(reader.read, COPY_BYTES), b""):
            writer.write(block)
            done += len(block)
            if report is not None:
                report(done, total)
        writer.flush()
        os.fsync(writer.fileno())
    return done


def _write(path: Path, text: bytes) -> None:
    partial = path.with_name(path.name + ".partial")
    with partial.open("wb") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    partial.replace(path)
    sync(path.parent)


def sync(path: Path) -> None:
    """Put a file, or what a folder lists, on the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
