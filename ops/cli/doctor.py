"""`minutebook doctor`: whether this machine and this folder are fit for the server."""

from __future__ import annotations

import os
import shutil
import socket
import sqlite3
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Annotated, Literal

import msgspec
import typer

from ops.cli.failing import NO
from ops.cli.options import Config, Data, Json, settings_of
from ops.cli.output import emit, table
from ops.folder import DataFolder, FolderInUseError, FolderLock, FolderUnusableError

Verdict = Literal["good", "warning", "bad"]
FREE_BYTES_WARN = 5 * 1024**3
FREE_BYTES_BAD = 200 * 1024**2
FSYNC_MS_WARN = 10.0
FSYNC_SAMPLES = 20
FSYNC_BLOCK_BYTES = 4_096
FILES_OPEN_WARN = 4_096
SQLITE_OLDEST = (3, 37, 0)
"""STRICT tables."""
PYTHON_OLDEST = (3, 11)


class Check(msgspec.Struct, frozen=True):
    """One thing looked at."""

    name: str
    verdict: Verdict
    found: str


def doctor_command(
    data: Data = None,
    config: Config = None,
    no_port: Annotated[bool, typer.Option("--no-port", help="Do not try to listen.")] = False,
    json: Json = False,
) -> None:
    """Check Python, SQLite, disk, permissions, lock and port before they matter.

    \b
    minutebook doctor
    minutebook doctor --data data --json

    Exit 1 if something is bad; warnings alone are 0.
    """
    settings = settings_of(config, data=data)
    checks = [*checks_of(settings.data)]
    if not no_port:
        checks.append(_port(settings.host, settings.port))
    if json:
        for check in checks:
            emit(check)
    else:
        table(("check", "verdict", "found"), [(c.name, c.verdict, c.found) for c in checks])
    if any(check.verdict == "bad" for check in checks):
        raise typer.Exit(NO)


def checks_of(root: Path) -> Iterator[Check]:
    """Everything but the port. Writes a small file beside or in the folder, and removes it."""
    yield _python()
    yield from _sqlite()
    yield _limits()
    place = next(parent for parent in (root.absolute(), *root.absolute().parents) if parent.is_dir())
    yield _permissions(root, place)
    yield _lock(DataFolder(root))
    if DataFolder(root).log.exists():
        yield _log(DataFolder(root).log)
    yield _room(place)
    yield _fsync(place)


def _python() -> Check:
    is_fit = sys.version_info[:2] >= PYTHON_OLDEST
    return Check("python", "good" if is_fit else "bad", sys.version.split()[0])


def _sqlite() -> Iterator[Check]:
    number = sqlite3.sqlite_version_info
    yield Check("sqlite", "good" if number >= SQLITE_OLDEST else "bad", sqlite3.sqlite_version)
    with closing(sqlite3.connect(":memory:")) as db:
        options = {row[0] for row in db.execute("PRAGMA compile_options")}
    has_search = "ENABLE_FTS5" in options
    yield Check(
        "full-text search", "good" if has_search else "bad", "FTS5" if has_search else "FTS5 is missing"
    )


def _limits() -> Check:
    import resource

    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    text = f"{soft} (hard limit {hard}); one for each socket"
    return Check("open files", "good" if soft >= FILES_OPEN_WARN else "warning", text)


def _permissions(root: Path, place: Path) -> Check:
    if root.exists() and not root.is_dir():
        return Check("data folder", "bad", f"{root} is no folder")
    if not os.access(place, os.W_OK | os.X_OK):
        return Check("data folder", "bad", f"{place} is not writable")
    if not root.is_dir():
        return Check("data folder", "good", f"{root} will be made")
    mode = root.stat().st_mode & 0o777
    if mode & 0o077:
        return Check("data folder", "warning", f"{root} can be entered by others (mode {mode:03o})")
    return Check("data folder", "good", f"{root}, mode {mode:03o}")


def _lock(folder: DataFolder) -> Check:
    if not folder.lock.exists():
        return Check("lock", "good", "free")
    lock = FolderLock(folder)
    try:
        lock.acquire()
    except FolderInUseError as error:
        return Check("lock", "warning", str(error))
    except FolderUnusableError as error:
        return Check("lock", "bad", str(error))
    lock.release()
    return Check("lock", "good", "free")


def _log(path: Path) -> Check:
    """Whether the file opens; whether the record is whole is for `audit verify`."""
    from eventlog.port import LogMismatchError
    from eventlog.sqlite_schema import connect_reader, prepare

    try:
        with closing(connect_reader(path)) as db:
            meta = prepare(db, path, None, None)
    except (sqlite3.Error, LogMismatchError) as error:
        return Check("event log", "bad", str(error))
    return Check("event log", "good", f"{meta.log_id}, {meta.shard_count} shards")


def _room(place: Path) -> Check:
    free = shutil.disk_usage(place).free
    verdict: Verdict = "bad" if free < FREE_BYTES_BAD else "warning" if free < FREE_BYTES_WARN else "good"
    return Check("disk space", verdict, f"{free / 1024**3:.1f} GiB free")


def _fsync(place: Path) -> Check:
    """How long an acknowledgement waits for the disk at least."""
    took: list[float] = []
    try:
        with tempfile.NamedTemporaryFile(dir=place, prefix=".doctor-") as file:
            for _ in range(FSYNC_SAMPLES):
                file.write(bytes(FSYNC_BLOCK_BYTES))
                file.flush()
                started = time.perf_counter()
                os.fdatasync(file.fileno())
                took.append((time.perf_counter() - started) * 1_000)
    except OSError as error:
        return Check("fsync", "bad", f"{place}: {error.strerror}")
    median, worst = statistics.median(took), max(took)
    verdict: Verdict = "good" if median < FSYNC_MS_WARN else "warning"
    return Check("fsync", verdict, f"median {median:.2f} ms, worst {worst:.2f} ms of {FSYNC_SAMPLES}")


def _port(host: str, port: int) -> Check:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            return Check("port", "warning", f"{host}:{port}: {error.strerror}")
    return Check("port", "good", f"{host}:{port} is free")
