"""Checkpoints in MongoDB, for followers that another process may take over: {shard: position}, void for another log.

Followers share one as long as they are in charge of different shards.
"""

from __future__ import annotations

from collections.abc import Mapping

from eventlog.mongo_driver import MongoDriver, MongoTimeouts
from eventlog.mongo_errors import MongoFailure, named
from eventlog.mongo_server import connected
from eventlog.port import LogUnavailableError

CHECKPOINTS = "checkpoints"


class MongoCheckpoint:
    """One follower's checkpoint, a document. It may lag: what it does not say yet is looked at again."""

    def __init__(self, driver: MongoDriver, name: str, log_id: str) -> None:
        self._driver = driver
        self._name = name
        self._log_id = log_id

    @classmethod
    async def open(
        cls, uri: str, database: str, name: str, log_id: str, *, timeouts: MongoTimeouts | None = None
    ) -> MongoCheckpoint:
        """Connect. Raises as `MongoLog.open`."""
        return cls(await connected(uri, database, timeouts, {}), name, log_id)

    async def load(self) -> Mapping[int, int]:
        """The positions, empty when there are none for this log. Raises LogUnavailableError."""
        try:
            found = await self._driver.find_one(CHECKPOINTS, {"_id": self._name, "log_id": self._log_id})
        except MongoFailure as error:
            raise LogUnavailableError(named(error)) from error
        return {} if found is None else {int(shard): int(at) for shard, at in found["positions"].items()}

    async def save(self, positions: Mapping[int, int]) -> None:
        """Write the positions of these shards; those of others stay. Raises OSError."""
        if not positions:
            return
        place = {"_id": self._name, "log_id": self._log_id}
        values = {f"positions.{shard}": position for shard, position in positions.items()}
        try:
            await self._driver.delete_many(CHECKPOINTS, {"_id": self._name, "log_id": {"$ne": self._log_id}})
            await self._driver.upsert(CHECKPOINTS, place, {"$set": values})
        except MongoFailure as error:
            raise OSError(named(error)) from error

    async def close(self) -> None:
        """Hang up. Idempotent."""
        await self._driver.close()
