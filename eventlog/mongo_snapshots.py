"""Snapshots in MongoDB: a cache that every owner of a shard shares, so that a takeover folds little."""

from __future__ import annotations

from collections.abc import Awaitable, Mapping
from typing import Any, TypeVar

import structlog
from pymongo.operations import DeleteOne, ReplaceOne

from eventlog.mongo_driver import Document, MongoDriver, MongoTimeouts, WriteOperation
from eventlog.mongo_errors import MongoFailure, named
from eventlog.mongo_server import MongoPlace, connected, opening_failure
from eventlog.port import Log
from eventlog.snapshots import PARTS_MAX, Snapshot, digest_of, is_beyond_log, whole_digest

_log = structlog.get_logger(__name__)

R = TypeVar("R")

SNAPSHOTS = "snapshots"
PARTS = "snapshot_parts"
PARTS_INDEX = "snapshot_parts_place"


class MongoSnapshots:
    """The adapter of the snapshot port for a cluster.

    Parts are written first, then the document that vouches for them by a digest of all: a snapshot that was interrupted, or that two
    owners wrote at once, does not fit its digest and is discarded.
    """

    def __init__(self, log: Log, driver: MongoDriver) -> None:
        self._log = log
        self._driver = driver

    @classmethod
    async def open(
        cls,
        uri: MongoPlace,
        database: str,
        log: Log,
        *,
        timeouts: MongoTimeouts | None = None,
        **driver_options: Any,
    ) -> MongoSnapshots:
        """Open or create the collections, which may stand beside those of the log. Raises as `MongoLog.open`."""
        driver = await connected(uri, database, timeouts, driver_options)
        try:
            await driver.create_index(PARTS, PARTS_INDEX, ("stream", "name"), unique=True)
        except MongoFailure as error:
            await driver.close()
            raise opening_failure(error) from error
        except BaseException:
            await driver.close()
            raise
        return cls(log, driver)

    async def load(self, stream: str, schema: int | None = None) -> Snapshot | None:
        """See the port. Raises LogUnavailableError when the log cannot be asked for the stream's head."""
        snapshot = await self._usable("load", self._read(stream, schema))
        if snapshot is None or await is_beyond_log(snapshot, self._log):
            return None
        return snapshot

    async def save(
        self, stream: str, version: int, position: int, schema: int, parts: Mapping[str, bytes]
    ) -> None:
        """See the port. A snapshot of more than PARTS_MAX parts is not kept."""
        if len(parts) > PARTS_MAX:
            _log.warning("snapshot not kept: too many parts", stream=stream, parts=len(parts))
            return
        await self._usable("save", self._write(Snapshot(stream, version, position, schema, parts)))

    async def close(self) -> None:
        """See the port."""
        await self._driver.close()

    async def _usable(self, doing: str, call: Awaitable[R]) -> R | None:
        try:
            return await call
        except MongoFailure as error:
            _log.warning("snapshots are not usable", doing=doing, error=named(error))
            return None

    async def _read(self, stream: str, schema: int | None) -> Snapshot | None:
        log_id = self._log.log_id
        head = await self._driver.find_one(SNAPSHOTS, {"_id": stream, "log_id": log_id})
        if head is None or schema not in (None, head["schema"]):
            return None
        found = await self._driver.find(PARTS, {"stream": stream}, limit=PARTS_MAX + 1)
        parts: dict[str, bytes] = {part["name"]: part["data"] for part in found}
        snapshot = Snapshot(stream, head["version"], head["position"], head["schema"], parts)
        digests = {name: digest_of(data) for name, data in parts.items()}
        if whole_digest(snapshot, log_id, digests) != head["digest"]:
            _log.warning("a damaged snapshot is discarded", stream=stream)
            return None
        return snapshot

    async def _write(self, snapshot: Snapshot) -> None:
        stream, log_id = snapshot.stream, self._log.log_id
        digests = {name: digest_of(data) for name, data in snapshot.parts.items()}
        fields = ("name", "digest")
        found = await self._driver.find(PARTS, {"stream": stream}, limit=PARTS_MAX + 1, fields=fields)
        present = {part["name"]: part["digest"] for part in found}
        operations: list[WriteOperation] = [
            DeleteOne({"stream": stream, "name": name}) for name in present if name not in digests
        ]
        for name, digest in digests.items():
            if present.get(name) != digest:
                place = {"stream": stream, "name": name}
                part: Document = {**place, "digest": digest, "data": snapshot.parts[name]}
                operations.append(ReplaceOne(place, part, upsert=True))
        if operations:
            await self._driver.bulk_write(PARTS, operations)
        head = {
            "log_id": log_id,
            "version": snapshot.version,
            "position": snapshot.position,
            "schema": snapshot.schema,
            "digest": whole_digest(snapshot, log_id, digests),
        }
        await self._driver.upsert(SNAPSHOTS, {"_id": stream}, {"$set": head})
