"""Checkpoints of followers in MongoDB: one document per follower and log, which any number of processes share by shard."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from eventlog.mongo_driver import MongoDriver, MongoTimeouts
from eventlog.mongo_errors import MongoFailure, named
from eventlog.mongo_server import MongoPlace, connected
from eventlog.port import LogUnavailableError

CHECKPOINTS = "checkpoints"


class MongoCheckpoint:
    """One follower's checkpoint. A save touches only the shards it names, so that several processes may follow, each its own."""

    def __init__(self, driver: MongoDriver, name: str, log_id: str) -> None:
        self._driver = driver
        self._document = {"_id": f"{name}/{log_id}"}

    @classmethod
    async def open(
        cls,
        uri: MongoPlace,
        database: str,
        name: str,
        log_id: str,
        *,
        timeouts: MongoTimeouts | None = None,
        **driver_options: Any,
    ) -> MongoCheckpoint:
        """The checkpoint of the follower `name`, void for another log. Raises as `MongoLog.open`."""
        return cls(await connected(uri, database, timeouts, driver_options), name, log_id)

    async def load(self) -> Mapping[int, int]:
        """{shard: position}, empty when there is none for this log. Raises LogUnavailableError."""
        try:
            found = await self._driver.find_one(CHECKPOINTS, self._document)
        except MongoFailure as error:
            raise LogUnavailableError(named(error)) from error
        return (
            {} if found is None else {int(shard): position for shard, position in found["positions"].items()}
        )

    async def save(self, positions: Mapping[int, int]) -> None:
        """Remember these shards' positions, also lower ones. Raises LogUnavailableError; it may have happened then."""
        if not positions:
            return
        values = {f"positions.{shard}": position for shard, position in positions.items()}
        try:
            await self._driver.upsert(CHECKPOINTS, self._document, {"$set": values})
        except MongoFailure as error:
            raise LogUnavailableError(named(error)) from error

    async def close(self) -> None:
        """Let go of the connections. Idempotent."""
        await self._driver.close()
