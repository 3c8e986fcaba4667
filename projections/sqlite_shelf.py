"""Views as files in a folder, `NAME-vVERSION.db`, and beside them which versions are current."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

import msgspec

from projections.shelf import FIRST_VERSION, SwitchRefusedError
from projections.sqlite import SqliteViewStore, is_view_of
from projections.store import Schema, ViewStore

VERSIONS_FILE = "current.json"
"""Which version of each view is current, where it is not the first."""


class SqliteShelf:
    """One folder, made if absent with the first view; one process at a time."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def current(self) -> Mapping[str, int]:
        """See the port."""
        path = self._folder / VERSIONS_FILE
        return msgspec.json.decode(path.read_bytes(), type=dict[str, int]) if path.exists() else {}

    def open(self, schema: Schema, version: int, log_id: str) -> ViewStore:
        """See the port."""
        return SqliteViewStore(self._path(schema.name, version), schema, log_id)

    def versions(self, name: str) -> frozenset[int]:
        """See the port."""
        return frozenset(_version_in(path) for path in self._folder.glob(f"{name}-v*.db"))

    def holds(self, schema: Schema, version: int, log_id: str) -> bool:
        """See the port."""
        path = self._path(schema.name, version)
        return path.exists() and is_view_of(path, schema, log_id)

    def switch(self, name: str, old: int, new: int) -> None:
        """See the port."""
        current = self.current()
        if current.get(name, FIRST_VERSION) != old:
            raise SwitchRefusedError(f"version {old} of {name} is not current")
        temporary = self._folder / (VERSIONS_FILE + ".new")
        with temporary.open("wb") as file:
            file.write(msgspec.json.encode({**current, name: new}))
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(self._folder / VERSIONS_FILE)

    def remove(self, name: str, version: int) -> None:
        """See the port."""
        for path in self._folder.glob(f"{name}-v{version}.db*"):
            path.unlink()

    def _path(self, name: str, version: int) -> Path:
        return self._folder / f"{name}-v{version}.db"


def _version_in(path: Path) -> int:
    """The version in the name of a view's file."""
    return int(path.name.partition(".")[0].rpartition("-v")[2])
