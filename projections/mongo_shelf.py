"""Views as collections of a database, `NAME.vVERSION.…`, and in one collection more which versions are current."""

from __future__ import annotations

from collections.abc import Mapping

from projections.mongo import MongoViewStore, prefix_of, version_prefix
from projections.mongo_driver import ViewDatabase
from projections.mongo_writing import POSITIONS
from projections.shelf import FIRST_VERSION, SwitchRefusedError
from projections.store import Schema, ViewStore

CURRENT = "current_views"
"""One document for each view that was ever switched: its name and its version."""


class MongoShelf:
    """One database. Any number of processes: of those that switch the same view at once, one does."""

    def __init__(self, database: ViewDatabase) -> None:
        self._database = database

    def current(self) -> Mapping[str, int]:
        """See the port."""
        return {str(one["_id"]): int(one["version"]) for one in self._database.find(CURRENT, {})}

    def open(self, schema: Schema, version: int, log_id: str) -> ViewStore:
        """See the port."""
        return MongoViewStore(self._database, schema, version, log_id)

    def versions(self, name: str) -> frozenset[int]:
        """See the port."""
        found = self._database.collections(f"{name}.v")
        return frozenset(int(collection.removeprefix(f"{name}.v").partition(".")[0]) for collection in found)

    def holds(self, schema: Schema, version: int, log_id: str) -> bool:
        """See the port."""
        whole = prefix_of(schema, version, log_id) + POSITIONS
        return whole in self._database.collections(whole)

    def switch(self, name: str, old: int, new: int) -> None:
        """See the port."""
        if old == FIRST_VERSION and self._database.insert_one(CURRENT, {"_id": name, "version": new}):
            return
        if not self._database.change_one(CURRENT, {"_id": name, "version": old}, {"$set": {"version": new}}):
            raise SwitchRefusedError(f"version {old} of {name} is not current")

    def remove(self, name: str, version: int) -> None:
        """See the port."""
        self._database.drop(reversed(self._database.collections(version_prefix(name, version))))
