"""Where view stores are kept, for the tests that all of them must pass."""

from __future__ import annotations

from abc import ABC, abstractmethod
from pathlib import Path

from typing_extensions import override

from projections.memory import MemoryView, MemoryViewStore
from projections.mongo import MongoViewStore
from projections.mongo_driver import ViewDatabase
from projections.mongo_writing import MARK
from projections.sqlite import SqliteViewStore
from projections.store import Schema, ViewStore


class ViewPlace(ABC):
    """Keeps one view, which can be opened again and again."""

    @abstractmethod
    def open(self, schema: Schema, log_id: str = "log-1") -> ViewStore:
        """The view's store, made anew for another schema version or log."""

    @abstractmethod
    def empty(self) -> None:
        """Forget everything; no store is open."""


class MemoryPlace(ViewPlace):
    """A view in memory."""

    def __init__(self) -> None:
        self._view: MemoryView | None = None

    @override
    def open(self, schema: Schema, log_id: str = "log-1") -> ViewStore:
        view = self._view
        if view is None or (view.schema.version, view.log_id) != (schema.version, log_id):
            view = self._view = MemoryView(schema, log_id)
        return MemoryViewStore(view)

    @override
    def empty(self) -> None:
        self._view = None


class SqlitePlace(ViewPlace):
    """A view file."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._count = 0

    @override
    def open(self, schema: Schema, log_id: str = "log-1") -> ViewStore:
        return SqliteViewStore(self._folder / f"sample{self._count}.db", schema, log_id)

    @override
    def empty(self) -> None:
        self._count += 1


class MongoPlace(ViewPlace):
    """A view's collections."""

    def __init__(self, database: ViewDatabase) -> None:
        self.database = database

    @override
    def open(self, schema: Schema, log_id: str = "log-1") -> ViewStore:
        return MongoViewStore(self.database, schema, 1, log_id)

    @override
    def empty(self) -> None:
        for name in self.database.collections("sample."):
            self.database._database[name].delete_many({"_id": {"$ne": MARK["_id"]}})
