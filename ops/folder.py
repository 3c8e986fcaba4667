"""The data folder of the embedded server: its files, and the lock that keeps a second server out."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

_ADVICE = "mend that, or choose another folder with --data"


class FolderInUseError(Exception):
    """Another server holds the folder."""


class FolderUnusableError(Exception):
    """The folder cannot be made or written."""


@dataclass(frozen=True)
class DataFolder:
    """Paths below one folder."""

    root: Path

    @property
    def log(self) -> Path:
        """The event log: the only truth."""
        return self.root / "log.db"

    @property
    def arriving(self) -> Path:
        """A log that is being moved here and not whole yet."""
        return self.root / "log.db.moving"

    @property
    def secrets(self) -> Path:
        """Credentials and server keys."""
        return self.root / "secrets.db"

    @property
    def snapshots(self) -> Path:
        """Snapshots of aggregates; may be deleted."""
        return self.root / "snapshots.db"

    @property
    def views(self) -> Path:
        """Read models; may be deleted."""
        return self.root / "views"

    @property
    def reactions(self) -> Path:
        """The reactions' checkpoint; may be deleted."""
        return self.root / "reactions.json"

    @property
    def control(self) -> Path:
        """The socket through which commands ask the running server."""
        return self.root / "control.sock"

    @property
    def lock(self) -> Path:
        """The lock file."""
        return self.root / "lock"

    def prepare(self) -> None:
        """Make the folder, readable by its owner alone. Raises FolderUnusableError."""
        try:
            self.root.mkdir(parents=True, exist_ok=True, mode=0o700)
            if not os.access(self.root, os.W_OK | os.X_OK):
                raise FolderUnusableError(
                    f"{self.root} cannot be written: its disk is read-only or its permissions forbid it; {_ADVICE}"
                )
        except OSError as error:
            raise FolderUnusableError(f"{self.root}: {error.strerror}; {_ADVICE}") from None


class FolderLock:
    """An exclusive lock for the life of a process; the kernel releases it even after kill -9."""

    def __init__(self, folder: DataFolder) -> None:
        self._path = folder.lock
        self._descriptor = -1

    def acquire(self) -> None:
        """Raises FolderInUseError, FolderUnusableError."""
        try:
            self._descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT, 0o600)
        except OSError as error:
            raise FolderUnusableError(f"{self._path}: {error.strerror}; {_ADVICE}") from None
        try:
            fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            owner = os.pread(self._descriptor, 32, 0).decode("ascii", "replace").strip() or "unknown"
            os.close(self._descriptor)
            self._descriptor = -1
            raise FolderInUseError(
                f"{self._path.parent} is in use by the server with process id {owner}; stop it, or choose another folder with --data"
            ) from None
        os.ftruncate(self._descriptor, 0)
        os.pwrite(self._descriptor, f"{os.getpid()}\n".encode("ascii"), 0)

    def release(self) -> None:
        """Idempotent."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1


def remove_database(path: Path) -> None:
    """Remove an SQLite file, if it is there, with what SQLite keeps beside it."""
    for name in (path.name, f"{path.name}-wal", f"{path.name}-shm"):
        path.with_name(name).unlink(missing_ok=True)


@contextmanager
def held_folder(root: Path) -> Iterator[DataFolder]:
    """The folder, made if absent and this process's alone meanwhile. Raises FolderInUseError, FolderUnusableError."""
    folder = DataFolder(root)
    folder.prepare()
    lock = FolderLock(folder)
    lock.acquire()
    try:
        yield folder
    finally:
        lock.release()
