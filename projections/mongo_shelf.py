"""Views as collections of a database, `NAME.vVERSION.…`, and in one collection more which versions are current."""

from __future__ import annotations

from collections.abc import Mapping

from projections.mongo import VIEWS, MongoViewStore, place_of
from projections.mongo_driver import ViewDatabase
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
        places = (str(one["_id"]).rpartition(".v") for one in self._database.find(VIEWS, {}))
        return frozenset(int(version) for view, _, version in places if view == name)

    def holds(self, schema: Schema, version: int, log_id: str) -> bool:
        """See the port."""
        identity = {"_id": place_of(schema.name, version), "log_id": log_id, "schema": schema.version}
        return self._database.find_one(VIEWS, identity) is not None

    def switch(self, name: str, old: int, new: int) -> None:
        """See the port."""
        if old == FIRST_VERSION and self._database.insert_one(CURRENT, {"_id": name, "version": new}):
            return
        if not self._database.change_one(CURRENT, {"_id": name, "version": old}, {"$set": {"version": new}}):
            raise SwitchRefusedError(f"version {old} of {name} is not current")

    def remove(self, name: str, version: int) -> None:
        """See the port."""
        place = place_of(name, version)
        self._database.remove_one(VIEWS, place)
        self._database.drop(self._database.collections(f"{place}."))
